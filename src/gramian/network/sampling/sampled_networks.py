"""Networks drawn again and again: a copy of the user's own module, or an architecture's network at a given width."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn

from gramian.arch.law import Law
from gramian.arch.ops.affine import Linear
from gramian.empirical.contraction.ntk import empirical_ntk, empirical_ntk_by_layer
from gramian.empirical.modules.arguments import Samples, description, inputs_of, joined
from gramian.empirical.modules.batch_dependent import BATCH_DEPENDENT, INDEPENDENT
from gramian.empirical.modules.calling import call_at
from gramian.empirical.modules.module_copy import copied
from gramian.empirical.modules.readout import find_readouts
from gramian.errors import BadArgument, BadData
from gramian.module_state.random_numbers import random_numbers_apart
from gramian.network.architecture_type import Architecture
from gramian.network.sampling import batch_kernels
from gramian.network.sampling.parameter_laws import Draw, redraw, rules

ROWS_AT_ONCE = 256  # samples in one forward pass, for modules that treat samples on their own


@dataclass(frozen=True, eq=False)
class Sampler:
    """A module whose parameters can be drawn anew, in place.

    Args:
        module: ours to change.
        redraw: draws every parameter from a generator.
        gains: factor of each parameter's share of the NTK, by name; None: all are 1.
        last: path of a Linear that makes the module's output, with the variances of its weights and biases; None if
            there is no such layer.
        samples: "independent", "random" or "batch-dependent", as `batch_kernels.samples_are` says.
    """

    module: nn.Module
    redraw: Callable[[Generator], None]
    gains: dict[str, float] | None
    last: tuple[str, float, float] | None
    samples: str

    def ntk(self, x: Samples, x2: Samples | None) -> Tensor:
        """Tangent kernel of the present draw, mean over outputs; shape (n, m)."""
        if self.samples != INDEPENDENT:
            return self._together(x, x2, lambda z: batch_kernels.ntk_together(self.module, z, self._gains()))
        given = inputs_of(x), None if x2 is None else inputs_of(x2)
        gains = set(self._gains().values())
        if len(gains) == 1:
            return gains.pop() * empirical_ntk(self.module, *given)
        shares = empirical_ntk_by_layer(self.module, *given)
        return sum(
            (self._gains()[name] * shares.pop(name) for name in list(shares)),
            start=torch.zeros(()),
        )

    def nngp(self, x: Samples, x2: Samples | None) -> Tensor:
        """Second moment of the present draw's outputs, or of its readout given the layers below; shape (n, m)."""
        if self.samples != INDEPENDENT:
            return self._together(x, x2, self._gram)
        return self._gram(x, x2)

    def _gains(self) -> dict[str, float]:
        trainable = [name for name, p in self.module.named_parameters() if p.requires_grad]
        if not trainable:
            return {"": 1.0}
        if self.gains is None:
            return dict.fromkeys(trainable, 1.0)
        return {name: self.gains[name] for name in trainable}

    def _together(self, x: Samples, x2: Samples | None, kernel: Callable[[Samples], Tensor]) -> Tensor:
        if x2 is None:
            return kernel(x)
        return kernel(joined([x, x2]))[: len(x), len(x) :]

    def _gram(self, x: Samples, x2: Samples | None = None) -> Tensor:
        a = self._values(x)
        if x2 is None:
            b = a
        else:
            b = self._values(x2)
        if self.last is None:
            return a @ b.mT / a.shape[1]
        # given the layers below, E f f' over the last layer's weights and bias is var_w h . h' + var_b
        return self.last[1] * (a @ b.mT) + self.last[2]

    def _values(self, x: Samples) -> Tensor:
        """Inputs of the last layer, or the module's outputs; shape (n, features)."""
        kept: list[Tensor] = []
        if self.last is None:
            layer = None
        else:
            layer = self.module.get_submodule(self.last[0])
        hook = None
        if layer is not None:
            hook = layer.register_forward_hook(lambda _m, args, _out: kept.append(args[0]))
        try:
            with torch.no_grad():
                if self.samples == INDEPENDENT:
                    step = ROWS_AT_ONCE
                else:
                    step = len(x)
                for start in range(0, len(x), step):
                    out = call_at(self.module, {}, x[start : start + step])
                    if layer is None:
                        kept.append(out)
        finally:
            if hook is not None:
                hook.remove()
        return torch.cat([k.flatten(1) for k in kept])


def own_sampler(
    module: nn.Module, x: Samples, law: Law, *, standard: bool, draw: Draw | None, dtype: torch.dtype
) -> Sampler:
    """Draws for a copy of the module at its own widths."""
    try:
        module = copied(module).to(x.device, dtype)
    except BadArgument as error:
        fix = "monte_carlo(make, x, width=...), where make(width) returns a new module"
        raise BadArgument(error.what, where=error.where, why=error.why, fix=fix) from error
    _run(module, x)
    samples = batch_kernels.samples_are(module, x)
    trains = {name: p.requires_grad for name, p in module.named_parameters()}
    tried = x
    if samples != BATCH_DEPENDENT:
        tried = x[:2]
    readouts = find_readouts(module, tried)
    laws = rules(module, readouts, law, standard=standard, draw=draw)
    counts = {name for name in trains if trains[name] and laws[name].gain > 0}
    if not counts:  # if all gains are zero, the kernel is
        counts = {name for name in trains if trains[name]}
    for name, p in module.named_parameters():
        p.requires_grad_(name in counts)
    last = None
    if readouts.last is not None:
        weight, bias = (laws.get(f"{readouts.last}.{part}".lstrip(".")) for part in ("weight", "bias"))
        if weight is not None and weight.std >= 0 and (bias is None or bias.std >= 0):  # not from the caller's `draw`
            bias_variance = 0.0
            if bias is not None:
                bias_variance = bias.std * bias.std
            last = (readouts.last, weight.std * weight.std, bias_variance)
    return Sampler(
        module, lambda g: redraw(module, laws, g, draw), {name: r.gain for name, r in laws.items()}, last, samples
    )


def arch_sampler(arch: Architecture, width: int | None, x: Samples, dtype: torch.dtype) -> Sampler:
    """Draws of an architecture's network at a width, or its own."""
    network = arch.network(width, dtype=dtype, device=x.device)
    module: nn.Module = network
    scale = network.output_scale**2  # of the outputs' second moment
    op, last = arch.steps[arch.output].op, None
    if isinstance(op, Linear) and op.standard:
        layer = module.get_submodule(f"layers.{op.path}")
        assert isinstance(layer, nn.Linear)
        last = (f"layers.{op.path}", op.sigma_w**2 / layer.in_features, op.sigma_b**2)
    elif isinstance(op, Linear):  # its inputs come multiplied by sigma_w / sqrt(fan-in)
        last = (f"layers.{op.path}.layer", scale**2, scale * op.sigma_b**2)  # its weights have variance `scale`

    def again(generator: Generator) -> None:
        module.load_state_dict(arch.network(width, dtype=dtype, generator=generator).state_dict())

    return Sampler(module, again, None, last, batch_kernels.samples_are(module, x))


def _run(module: nn.Module, x: Samples) -> None:
    """One forward pass on all of x, as a check."""
    try:
        with torch.no_grad(), random_numbers_apart(x.device):
            out = call_at(module, {}, x)
    except Exception as error:
        raise BadData(
            f"The module failed on `x` of {description(x)}.",
            where=type(module).__name__,
            why=f"{type(error).__name__}: {(str(error).strip().splitlines() or ['(no text)'])[0]}",
            fix="`x` such that module(x) works, of shape (n, ...)",
        ) from error
    if not isinstance(out, Tensor) or not out.is_floating_point() or out.ndim < 1 or len(out) != len(x):
        if isinstance(out, Tensor):
            has = f"shape {tuple(out.shape)}, {out.dtype}"
        else:
            has = f"type {type(out).__name__}"
        raise BadArgument(
            f"The module returns {has}, for {len(x)} inputs.",
            where=type(module).__name__,
            why="a kernel needs one real tensor with a row for each input",
            fix="wrap the module in one whose forward returns a tensor of shape (n, outputs)",
        )
