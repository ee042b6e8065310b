"""Passes on trial: whether a module is random, mixes samples or changes its buffers, and what its output is.

`try_model` takes four passes; `observed_pass.py` has most of this from one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from operator import itemgetter
from typing import Any

import torch
from torch import Tensor, nn

from gramian.empirical.modules.arguments import Samples
from gramian.empirical.modules.batch_dependent import BATCH_DEPENDENT, INDEPENDENT, RANDOM, SmallBatches, depends
from gramian.empirical.modules.calling import call_at
from gramian.empirical.modules.checks import error_text, kind_of_output, random_module, taken
from gramian.empirical.modules.gradient_hooks import checked_backward
from gramian.empirical.modules.output_functions import Batch, Model
from gramian.errors import BadArgument, BadData
from gramian.module_state.random_numbers import kept_random_states, random_states


def try_module(module: nn.Module, name: str, x: Samples) -> tuple[Tensor, int]:
    """The output on the first sample, shape (C,), and the bytes that a backward pass keeps for it."""
    return try_model(Model(module), name, Batch(x))


class Forward:
    """A module's forward pass, with copies of its buffers in their places, and errors that say of which inputs."""

    def __init__(self, module: nn.Module, name: str) -> None:
        self.module, self.name = module, name
        self.buffers = {key: b.clone() for key, b in module.named_buffers()}

    def __call__(
        self,
        rows: Samples,
        values: dict[str, Tensor] | None = None,
        watched: AbstractContextManager | None = None,
    ) -> Any:
        """What the module returns, with other values of some parameters and buffers."""
        with taken(self.module, self.name, rows):
            return call_at(self.module, self.buffers | (values or {}), rows, watched)

    def check_buffers(self) -> None:
        """Raises BadArgument if a pass wrote into a buffer."""
        for key, b in self.module.named_buffers():
            if not torch.equal(self.buffers[key], b):
                raise BadArgument(
                    f"A forward pass changes the module's buffer `{key}`: the kernel would depend on the samples' "
                    "order.",
                    where=f"{type(self.module).__name__}.{key}",
                    why="running statistics or power iteration in training mode",
                    fix="module.eval()",
                )


def check_finite(model: Model, scores: Tensor, which: str) -> None:
    """Raises BadData if the numbers to differentiate of one sample are not finite."""
    if not bool(torch.isfinite(scores).all()):
        raise BadData(
            f"The module's output on the {which} sample is NaN or infinite.",
            where=type(model.module).__name__,
            why=f"overflow in {scores.dtype}, or a parameter that is NaN",
            fix="all(p.isfinite().all() for p in module.parameters()) to check; module.double() against overflow",
        )


def trial_of(model: Model, run: Forward, x: Batch, plain: bool) -> SmallBatches:
    """The module on one sample and on small batches; `plain`: it returns one tensor."""
    module = model.module
    named = dict(module.named_parameters())
    theta: dict[str, Tensor] = {key: p for key, p in named.items() if p.requires_grad}
    state: dict[str, Tensor] = {**named, **run.buffers}
    counts = any(getattr(m, "scale_grad_by_freq", False) for m in module.modules())
    return SmallBatches(
        run, lambda out: scores_of(model, out, x[:1]), x.x, theta, state, plain and model.of is None, counts
    )


def try_model(model: Model, name: str, x: Batch) -> tuple[Tensor, int]:
    """The numbers to differentiate at the first sample, shape (C,), and the bytes that a backward pass keeps for it."""
    run, device = Forward(model.module, name), x.x.device
    with kept_random_states(device):  # the caller's random states stay as they were
        out = run(x.x[:1])
        scores = scores_of(model, out, x[:1]).detach()
        before = random_states(device)
        again, saved = _second_pass(model, run, x[:1].clone())  # autograd keeps the whole of a view
        drawn = [a != b for a, b in zip(before, random_states(device), strict=True)]
        run.check_buffers()
        check_finite(model, scores, "first")
        _check_alone(trial_of(model, run, x, isinstance(out, Tensor)), scores, again, drawn, model.module)
    return scores, saved


def _second_pass(model: Model, run: Forward, row: Batch) -> tuple[Tensor, int]:
    """The scores of the first sample with their graph, and the bytes that this keeps."""
    kept: dict[int, int] = {}
    # a module with torch.func inside cannot be counted in this way; what was counted until there is a bound below
    with suppress(BadData), counted(model.module, kept):
        return scores_of(model, run(row.x), row), sum(kept.values())
    return scores_of(model, run(row.x), row), sum(kept.values())


def _check_alone(trial: SmallBatches, scores: Tensor, again: Tensor, drawn: list[bool], module: nn.Module) -> None:
    """Raises unless the first sample's scores, and their gradient, are its own and the same at each call."""
    kind = depends(trial, scores, again, drawn)
    path = type(module).__name__
    if kind != INDEPENDENT:  # gradient hooks that are not linear, or draw numbers, are told as what they are
        checked_backward(module, trial.x[:1], trial.scores)
    if kind == RANDOM:
        if any(drawn):
            said = "a forward pass draws random numbers"
        else:
            said = "two forward passes on the same sample differ"
        raise random_module(f"{path}: {said}")
    if kind == BATCH_DEPENDENT:
        raise BadArgument(
            "The module mixes the samples of a batch, so its kernel at a pair of samples is not defined.",
            where=f"{path}: the output at the first sample changes when a second one is beside it",
            why="a mean, a norm or an attention over the batch axis",
            fix="the first axis must count samples: batch_first=True in torch's attention and recurrent layers",
        )


def scores_of(model: Model, out: Any, x: Batch) -> Tensor:
    """The numbers to differentiate, of what the module returned for a batch of one; shape (C,)."""
    if model.of is None:
        if not isinstance(out, Tensor) or not out.is_floating_point() or out.numel() == 0:
            raise BadArgument(
                f"The module returns {kind_of_output(out)}; the kernel needs one real tensor.",
                where=type(model.module).__name__,
                why="a tuple or dictionary of outputs, or class numbers instead of scores",
                fix="outputs=lambda out: ..., which takes the tensor to differentiate from what the module returns",
            )
        return out.reshape(-1)
    where = f"outputs={getattr(model.of, '__name__', type(model.of).__name__)}, on the output for a batch of one"
    try:
        scores = model.apply(out, x)
    except Exception as error:
        raise BadArgument(
            f"`outputs` failed on the module's output, {kind_of_output(out)}.",
            where=where,
            why=error_text(error),
            fix="outputs=lambda out: ... on shape (1, ...); with targets=, outputs=lambda out, target: ...",
        ) from error
    if not isinstance(scores, Tensor) or not scores.is_floating_point() or scores.numel() == 0:
        raise BadArgument(
            f"`outputs` returns {kind_of_output(scores)}; the kernel needs one real tensor.",
            where=where,
            why="a number that is no tensor, class numbers, or several tensors",
            fix="outputs=lambda out: ..., which returns a scalar tensor or a vector of several numbers",
        )
    return scores.reshape(-1)


@contextmanager
def counted(module: nn.Module, kept: dict[int, int]) -> Iterator[None]:
    """Puts the bytes that autograd keeps meanwhile into `kept`, by storage; parameters aside."""
    own = {p.untyped_storage().data_ptr() for p in module.parameters()}

    def keep(t: Tensor) -> tuple[Tensor]:
        if t.layout is torch.strided and t.untyped_storage().data_ptr() not in own:
            kept[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return (t,)

    with torch.autograd.graph.saved_tensors_hooks(keep, itemgetter(0)):
        yield
