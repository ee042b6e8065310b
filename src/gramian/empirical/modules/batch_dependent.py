"""Whether an output depends on its own sample alone, on the samples beside it, or on numbers that are drawn.

Outputs tell most of it: those of a sample on its own against those of the same sample between two others. What is
behind a gate that is zero (LayerScale at its start, a residual branch that begins with zero) shows in the gradient by
the parameters only. So both are compared.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from gramian.empirical.modules.arguments import Samples, Several, changed, joined, tensors_of
from gramian.empirical.modules.calling import call_at
from gramian.empirical.modules.plain_gradients import differs, gradients_along, marks, tolerance
from gramian.errors import GramianError
from gramian.module_state.random_numbers import random_states

INDEPENDENT, RANDOM, BATCH_DEPENDENT = "independent", "random", "batch-dependent"
FEW_NUMBERS = 2**14  # numbers of a parameter up to which its gradient is compared in any case
SMALL_OUTPUT = 1e-2  # of an output below which its terms may cancel
# root mean square of a parameter below which it may close a branch: LayerScale begins at 1e-6 to 0.1
CLOSED_GATE = 1e-3
ORDINARY_SEEDS = 24  # forward passes that look for an effect of Python's or NumPy's random numbers

Run = Callable[[Samples, dict[str, Tensor] | None], Any]
Scores = Callable[[Any], Tensor]


@dataclass(frozen=True, eq=False)
class SmallBatches:
    """A module on one sample and on small batches.

    Attributes:
        run: what the module returns for a batch, with other values of some parameters and buffers.
        scores: of the output for a batch of one the numbers to differentiate, flat.
        x: the inputs.
        theta: the parameters that train.
        state: these and all else that has to change its dtype with them.
        plain: the module's output is a tensor, whose scores are its numbers.
        by_frequency: gradients are divided by how often a token is in the batch, so they cannot be compared.
        hidden: the output is so small that its terms may cancel.
    """

    run: Run
    scores: Scores
    x: Samples
    theta: dict[str, Tensor]
    state: dict[str, Tensor]
    plain: bool
    by_frequency: bool = False
    hidden: bool = False

    def gates(self) -> list[Tensor]:
        """The parameters whose gradients are compared: those that can hide in the output what is behind them.

        That is where they are small or zero, or where all that is added up in the output cancels. Those with few
        numbers always count: their gradients cost next to nothing.
        """
        if self.hidden:
            return list(self.theta.values())
        return [p for p in self.theta.values() if p.numel() <= FEW_NUMBERS or _is_small(p)]

    def in_float64(self) -> SmallBatches:
        """The same with all numbers in float64."""
        wide = {name: _wide(t) for name, t in self.state.items()}
        theta = {name: wide[name].detach().requires_grad_() for name in self.theta}
        wide |= theta

        def run(x: Samples, values: dict[str, Tensor] | None) -> Any:
            return self.run(x, wide)

        return SmallBatches(
            run, self.scores, changed(self.x, _wide), theta, wide, self.plain, self.by_frequency, self.hidden
        )

    def middle(self, batch: Samples) -> Tensor | None:
        """The scores of the second sample of a batch; None if they cannot be told from the others'."""
        out = self.run(batch, None)
        if self.plain:
            whole = out.reshape(-1)
            if whole.numel() % len(batch):
                return None
            return whole.reshape(len(batch), -1)[1]
        first = [t.ndim > 0 and len(t) == len(batch) for t in tree_leaves(out) if isinstance(t, Tensor)]
        if not first or not all(first):
            return None
        return self.scores(tree_map(lambda t: t[1:2] if isinstance(t, Tensor) else t, out))


def dependence(module: nn.Module, x: Samples) -> str:
    """What an output of a module that returns one tensor depends on: `INDEPENDENT`, `RANDOM` or `BATCH_DEPENDENT`."""
    theta: dict[str, Tensor] = {name: p for name, p in module.named_parameters() if p.requires_grad}
    state: dict[str, Tensor] = {**dict(module.named_parameters()), **dict(module.named_buffers())}

    def run(rows: Samples, values: dict[str, Tensor] | None = None) -> Any:
        return call_at(module, values or {}, rows)

    trial = SmallBatches(run, lambda out: out.reshape(-1), x, theta, state, plain=True)
    first = trial.scores(run(x[:1])).detach()
    before = random_states(x.device)
    again = trial.scores(run(x[:1]))
    drawn = [a != b for a, b in zip(before, random_states(x.device), strict=True)]
    return depends(trial, first, again, drawn)


def depends(trial: SmallBatches, first: Tensor, again: Tensor, drawn: Sequence[bool]) -> str:
    """`INDEPENDENT`, `RANDOM` or `BATCH_DEPENDENT`.

    Args:
        trial: the module and its inputs.
        first, again: scores of the first sample on its own from two passes, the second ones with their graph.
        drawn: whether numbers were drawn from torch's, Python's and NumPy's random states in the second pass.
    """
    allowed = torch.finfo(first.dtype).eps ** 0.5
    trial = replace(trial, hidden=float(first.abs().max()) < SMALL_OUTPUT)
    if drawn[0] or not torch.allclose(first, again, rtol=allowed, atol=allowed * float(first.abs().max())):
        return RANDOM
    # a direction that no symmetry of the outputs is blind to
    w = torch.linspace(1, 2, len(first), dtype=torch.float64).sqrt().to(first)
    if (drawn[1] or drawn[2]) and draws_matter(trial, w):
        return RANDOM
    gradient = marks(gradients_along(again, w, trial.gates(), keep_graph=True))
    if not is_batch_dependent(trial, first, gradient, w):
        return INDEPENDENT
    third = marks(gradients_along(trial.scores(trial.run(trial.x[:1], None)), w, trial.gates()))
    if differs(third, gradient, tolerance(first.dtype)):
        return RANDOM
    return BATCH_DEPENDENT


def is_batch_dependent(trial: SmallBatches, alone: Tensor, gradient: list[Tensor], w: Tensor) -> bool:
    r"""Whether the first sample's scores, or their gradient, change with the samples beside it.

    Args:
        trial: the module and its inputs.
        alone: scores of the first sample on its own; shape (C,).
        gradient: marks of the gradient of $\langle w, f(x_0) \rangle$, one a parameter.
        w: direction in the space of the scores; shape (C,).
    """
    suspected = _suspected(trial, alone, gradient, w)
    if not suspected or alone.dtype == torch.float64:
        return suspected
    try:  # rounding of low precision is not mixing
        wide = trial.in_float64()
        scores = wide.scores(wide.run(wide.x[:1], None)).reshape(-1)
        if scores.dtype != torch.float64:
            return suspected
        gradient = marks(gradients_along(scores, w.double(), wide.gates()))
        return _suspected(wide, scores.detach(), gradient, w.double())
    except torch.OutOfMemoryError:
        raise
    except Exception:  # a module that has one precision only
        return suspected


def _suspected(trial: SmallBatches, alone: Tensor, gradient: list[Tensor], w: Tensor) -> bool:
    parameters = trial.gates()
    of_batches = []
    for batch, real in _batches(trial.x):
        try:
            scores = trial.middle(batch)
        except (GramianError, RuntimeError, IndexError, ValueError, TypeError):
            if len(trial.x) > 1 and len(batch) == 2:
                raise  # the caller's own samples
            continue
        if scores is None:
            continue
        if scores.numel() != alone.numel():
            return len(trial.x) > 1
        if not bool(scores.isfinite().all()):  # a neighbor that was made up is outside the module's domain
            continue
        scores = scores.reshape(-1)
        if _outputs_differ(trial, scores.detach(), alone, w):
            return True
        if trial.by_frequency or not all(bool(g.isfinite().all()) for g in gradient):
            return False
        of_batches.append(marks(gradients_along(scores, w.to(scores.dtype), parameters)))
        if not all(bool(g.isfinite().all()) for g in of_batches[-1]):
            of_batches.pop()
            continue
        if len(of_batches) == 2:  # a rule of torch that is wrong for batches does not look at the neighbors' numbers
            return bool(differs(of_batches[1], of_batches[0], tolerance(alone.dtype)))
        if real and not differs(of_batches[0], gradient, tolerance(alone.dtype)):
            return False  # neighbors that were made up may be blind to it
    return False


def _outputs_differ(trial: SmallBatches, scores: Tensor, alone: Tensor, w: Tensor) -> bool:
    """Beyond rounding, which is relative to the terms that an output is a sum of: they may cancel in it."""
    allowed = torch.finfo(alone.dtype).eps ** 0.5
    gap = float((scores - alone).abs().max())
    if gap <= allowed * float(alone.abs().max()):
        return False
    parameters = list(trial.theta.values())
    gradient = gradients_along(trial.scores(trial.run(trial.x[:1], None)).reshape(-1), w, parameters)
    # |theta| |d f / d theta| is how far an output moves if each term moves by its own size
    terms = sum(float((p.detach() * g).abs().sum()) for p, g in zip(parameters, gradient, strict=True))
    return gap > allowed * (float(alone.abs().max()) + terms / max(1, len(alone)) ** 0.5)


def _batches(x: Samples) -> Iterator[tuple[Samples, bool]]:
    """Batches with the first sample in second place, and whether the others in it are the caller's.

    It lies between two others, of which none is like it, where it can be.
    """
    row = x[:1]
    others = [x[i : i + 1] for i in {len(x) - 1, len(x) // 2} - {0}]
    near = [other for other in others if not _nearly_equal(other, row)][:2]
    first = near + [changed_row(row, seed) for seed in range(2 - len(near))]
    yield joined([first[0], row, first[1]]), len(near) == 2
    yield joined([changed_row(row, 2, grow=True), row, changed_row(row, 3, grow=True)]), False
    if len(x) > 1:  # the samples as they are, where none but those will do
        yield joined([others[0], row]), True


def _nearly_equal(a: Samples, b: Samples) -> bool:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return _tensors_nearly_equal(a, b)
    return all(_tensors_nearly_equal(s, t) for s, t in zip(tensors_of(a), tensors_of(b), strict=True))


def _tensors_nearly_equal(a: Tensor, b: Tensor) -> bool:
    if a.dtype == torch.bool or not a.is_floating_point():
        return torch.equal(a, b)
    return bool((a - b).abs().max() <= 1e-2 * b.abs().max())


def changed_row(row: Samples, seed: int, *, grow: bool = False) -> Samples:
    """Another sample that a module which takes this one is likely to take; of several tensors those with fractions."""
    fractions = [t.is_floating_point() and bool((t != t.round()).any()) for t in tensors_of(row)]
    if isinstance(row, Tensor) or not any(fractions):
        return changed(row, lambda t: _changed_tensor(t, seed, grow))
    numbers = zip(row.tensors, fractions, strict=True)
    return Several(tuple(_changed_tensor(t, seed, grow) if some else t for t, some in numbers), row.names)


def _changed_tensor(row: Tensor, seed: int, grow: bool) -> Tensor:
    """Another tensor that a module which takes this one is likely to take.

    Fractions move by up to a third and keep their sign; with `grow` all become larger. Whole numbers may be tokens,
    also in a tensor of floats: they come in another order, or are one smaller where they are all the same.
    """
    draw = torch.Generator().manual_seed(seed)
    if row.is_floating_point():
        change = (torch.rand(row.shape, generator=draw) * 2 - 1).to(row)
        fraction = row != row.round()
        if bool(fraction.any()):
            return torch.where(fraction, row * (1 + (change.abs() if grow else change) / 3), row)
        if bool((row == row.reshape(-1)[0]).all()):
            return row + change / 2
    flat = row.reshape(-1)
    if flat.numel() > 1 and not bool((flat == flat[0]).all()):
        return flat[torch.randperm(flat.numel(), generator=draw).to(flat.device)].reshape(row.shape)
    if row.dtype == torch.bool:
        return ~row
    return torch.where(row > 0, row - 1, row)


def _is_small(p: Tensor) -> bool:
    some = p.detach().reshape(-1)[:1024]
    return float(some.norm()) < CLOSED_GATE * len(some) ** 0.5


def _wide(t: Tensor) -> Tensor:
    if t.is_floating_point():
        return t.double()
    return t


def draws_matter(trial: SmallBatches, w: Tensor) -> bool:
    """Whether numbers drawn from Python's or NumPy's state change the scores or their gradient.

    Some networks draw them in any mode and use them in training only.
    """
    parameters, seen = trial.gates(), []
    for seed in _seeds():
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        scores = trial.scores(trial.run(trial.x[:1], None)).reshape(-1)
        seen.append([scores.detach(), *marks(gradients_along(scores, w, parameters))])
        if differs(seen[-1], seen[0], tolerance(scores.dtype)):
            return True
    return False


def _seeds() -> list[int]:
    """Seeds whose first number is extreme, which a rare event needs, and some others."""
    firsts = {seed: (random.Random(seed).random(), np.random.RandomState(seed).rand()) for seed in range(500)}
    extreme = [choose(firsts, key=lambda seed: firsts[seed][i]) for i in (0, 1) for choose in (min, max)]
    return extreme + list(range(500, 500 + ORDINARY_SEEDS))
