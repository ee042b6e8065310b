"""Reads a torch module into an Architecture: `torch.export`, then one op per aten call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import nn

from gramian.arch.inputs import Form, Inputs
from gramian.arch.law import Law, Pair, Rates, multipliers, names_exactly, resolve, resolve_entries
from gramian.arch.ops import Affine, Embedding, Normalization
from gramian.arch.ops.learned import Learned
from gramian.arch.ops.norm import ChannelScale
from gramian.arch.structure import Step
from gramian.errors import NoLimit
from gramian.module_state.untouched import untouched
from gramian.network.architecture_type import Architecture
from gramian.network.parametrization import check_depth, check_name
from gramian.network.reader.export import export
from gramian.network.reader.graph_reader import GraphReader


def architecture(
    module: nn.Module,
    like: Inputs,
    law: Law = "he",
    *,
    parametrization: str = "ntk",
    rates: Rates | None = None,
) -> Architecture:
    r"""The architecture of a torch module, with the law of its random weights.

    The module is read, not changed: its own weights do not matter (but for BatchNorm's initial state), only its
    graph, shapes and which parameters train.

    Args:
        module: any module whose ops have a limit; put it in eval mode first if it has dropout or BatchNorm.
        like: an example input; shape (n, *in_shape), n at least 1, channels first. A tuple of tensors for a module that
            takes several, or a dict for one that takes them by keyword; kernels then take the same structure. Tensors
            of whole numbers or booleans are tokens, lengths and masks: the network may look up rows of an embedding
            and compute factors from them.
        law: standard deviations after the fan-in scaling: "he" (sigma_w = sqrt 2, sigma_b = 0), "lecun" (1, 0),
            "torch" (PyTorch's default initialization), a pair (sigma_w, sigma_b), or a mapping from module paths or
            patterns to these; "readout" names the last affine layer, (1, 0) under "he" and "lecun". A number may be a
            tensor that requires a gradient: then kernels are differentiable in it.
        parametrization: "ntk"; "standard", where the NTK is that of the module's own widths; "mup", the maximal-update
            parametrization, or "mean_field", the same for one hidden layer, where the kernel is that of the first step
            alone: see docs/parametrizations.md.
        rates: multipliers of the learning rate, by which each parameter's part of the NTK is multiplied: a mapping from
            names or patterns such as "layers.*.bias" to numbers, 1 for the others; or the user's optimizer, whose
            groups give their rate over the first group's, and what is in none of them does not train.

    Raises:
        NoLimit: a call has no infinite-width limit, or no rule here; names the user's line and a way out.
        BadArgument: `law` or `parametrization` makes no sense.
        BadData: the module does not run on `like`.

    Example:
        >>> net = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.ReLU(), torch.nn.Linear(5, 1))
        >>> architecture(net, torch.zeros(1, 3)).depth
        2
    """
    check_name(parametrization)
    form = Form.of(like, "argument `like` of architecture")
    parameters = dict(module.named_parameters(remove_duplicate=False))
    with untouched(module):
        program = export(module, form, like)
    steps, output = _used(*GraphReader(program, form, parameters, module.training).read_graph())
    arch = Architecture(form, tuple(steps), output, parametrization)
    _refuse(arch)
    check_depth(arch)
    chosen = multipliers(rates, parameters)
    return replace(arch, steps=tuple(_with_law(arch, number, law, chosen) for number in range(len(steps))))


def _used(steps: list[Step], output: int) -> tuple[list[Step], int]:
    """The steps that the output needs: what was fused leaves its parts behind."""
    needed = {output}
    for number in range(output, -1, -1):
        if number in needed:
            needed.update(steps[number].inputs)
    place = {old: new for new, old in enumerate(sorted(n for n in needed if n >= 0))}
    moved = [replace(steps[n], inputs=tuple(place.get(i, i) for i in steps[n].inputs)) for n in place]
    return moved, place[output]


def _with_law(arch: Architecture, number: int, law: Law, rates: Mapping[str, float]) -> Step:
    step, op = arch.steps[number], arch.steps[number].op
    if isinstance(op, Normalization):
        scale, shift = rates.get(op.scale_name or "", 1.0), rates.get(op.shift_name or "", 1.0)
        if isinstance(op, ChannelScale):
            scale = scale / op.factor**2
        return replace(step, op=replace(op, rate_scale=scale, rate_shift=shift))
    if not isinstance(op, Affine):
        return step
    if isinstance(op, Learned) and not (op.bias_of and not names_exactly(law, op.path)):
        sigma_w, sigma_b = resolve_entries(law, op.path), 0.0
    elif isinstance(op, Learned):
        sigma_w, sigma_b = _pair(arch, _layer_of(arch, op.bias_of), law)[1], 0.0
    else:
        sigma_w, sigma_b = _pair(arch, number, law)
    if not op.bias_name:
        sigma_b = 0.0
    law_and_rates = {
        "sigma_w": sigma_w,
        "sigma_b": sigma_b,
        "standard": arch.parametrization == "standard",
        "rate_w": rates.get(op.weight_name, 1.0),
        "rate_b": rates.get(op.bias_name or "", 1.0),
    }
    return replace(step, op=replace(op, **law_and_rates))  # type: ignore[arg-type]


def _layer_of(arch: Architecture, weight: str) -> int:
    """The step of the layer with this weight."""
    ops = [step.op for step in arch.steps]
    return next(k for k, op in enumerate(ops) if isinstance(op, Affine) and op.weight_name == weight)


def _pair(arch: Architecture, number: int, law: Law) -> Pair:
    """The law's two numbers for an affine layer."""
    op = arch.steps[number].op
    assert isinstance(op, Affine)
    embedding = isinstance(op, Embedding)
    readout = not arch.hidden(number) and not embedding
    return resolve(law, op.path, readout=readout, embedding=embedding, fan_in=op.fan_in, torch_fan=op.torch_fan)


def _refuse(arch: Architecture) -> None:
    seen: dict[str, Affine] = {}
    taken: dict[str, list[tuple[int, ...]]] = {}
    for step in arch.steps:
        if not isinstance(step.op, Affine):
            continue
        first = seen.setdefault(step.op.weight_name, step.op)
        zero_rows = {op.zero_row for op in (first, step.op) if isinstance(op, Embedding)}
        if (type(first), first.turned) != (type(step.op), step.op.turned) or len(zero_rows) > 1:
            raise NoLimit(
                f"The weight `{step.op.weight_name}` is used twice, once transposed or in a layer of another kind.",
                where=step.where,
                why="a weight and its transpose are not independent, and the rules here need that they are",
                fix="give each layer its own weight",
            )
        if first.weight_trains != step.op.weight_trains:
            raise NoLimit(
                f"The weight `{step.op.weight_name}` is used twice, once with gradients and once without.",
                where=step.where,
                why="the two uses share their numbers and not their gradients, and there is no rule for that",
                fix="freeze it, requires_grad_(False), or use it under gradients alone",
            )
        rows = taken.setdefault(step.op.weight_name, [])
        for other in rows:
            if other != step.op.rows and not (other and step.op.rows and set(other).isdisjoint(step.op.rows)):
                raise NoLimit(
                    f"Channels of the layer of `{step.op.weight_name}` are taken apart in parts that overlap.",
                    where=step.where,
                    why="there is a rule for parts that are equal, or have no channel in common",
                    fix="cut them once, such as by chunk, and use the parts",
                )
        rows.append(step.op.rows)
    if not seen:
        raise NoLimit(
            "The module has no layer with weights between its input and its output.",
            why="nothing in it is random, so there is no width to let grow",
            fix="a module with at least one nn.Linear or nn.Conv2d",
        )
