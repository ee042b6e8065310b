r"""A user's module and batch in the one form that probes take: rows in one tensor, a row of outputs for each sample.

Of a language model, whose outputs are logits (n, s, vocabulary), the outputs that are looked at are the log-odds of the
right token, $m = z_y - \log \sum_{k \ne y} e^{z_k}$, at a few positions of each sample. The cross-entropy of a token is
$\log(1 + e^{-m})$, exactly, so that kernel, residual and linearization mean the same as for any other network, and
cost as many backward passes as there are positions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parallel import DataParallel, DistributedDataParallel

from gramian.arch.inputs import Form, Inputs, leaves, rows, several
from gramian.empirical.modules.calling import call
from gramian.empirical.modules.checks import whole
from gramian.errors import BadArgument, BadData
from gramian.train.forward import evaluating
from gramian.train.module_of_rows import called_otherwise
from gramian.train.objective import Loss, Objective, Samples

IGNORED_TARGET = -100  # torch's mark of a position without a target
LARGEST_EXACT_INTEGER = 2**24  # whole numbers up to here are exact in float32
# numbers of logits that one number of a packed row stands for: `rows_per_pass` then keeps to memory
LOGITS_PER_NUMBER = 256


@dataclass(frozen=True, eq=False)
class View:
    """What probes, curvature and advice look at.

    Attributes:
        module: the user's, with its parameters and their names; takes `x`, gives one tensor.
        x: one tensor, a row a sample.
        y: targets of `loss`.
        loss: as training computes it: `loss(module(x), y)`.
        watched: None, or for tokens the same network with outputs (n, positions), log-odds of the right token.
        x_watched: its rows.
        positions: how many a sample; 0 without tokens.
    """

    module: nn.Module
    x: Tensor
    y: Tensor
    loss: Loss
    watched: nn.Module | None = None
    x_watched: Tensor | None = None
    positions: int = 0


def unwrapped(module: nn.Module) -> nn.Module:
    """The module inside DataParallel, DistributedDataParallel and torch.compile.

    Raises:
        BadArgument: its parameters are spread over processes.
    """
    while True:
        if isinstance(module, DataParallel | DistributedDataParallel):
            module = module.module
        elif isinstance(inner := getattr(module, "_orig_mod", None), nn.Module):
            module = inner
        else:
            break
    whole(module)
    return module


def view(module: nn.Module, loss: Loss | None, x: Inputs, y: Tensor | None, *, tokens: int = 8) -> View:
    """The module and the batch as probes take them.

    Args:
        module: any module that returns a tensor, or an object or dict with `logits`.
        loss: as training computes it, of the outputs and `y`; None: the model's own, which it returns as `.loss` when
            it is called with `labels`.
        x: one tensor, or several in a tuple or dict; `labels` in a dict are taken as `y`.
        y: targets; for tokens (n, s), -100 where there is none.
        tokens: positions of each sample that are looked at.
    """
    module = unwrapped(module)
    device = next(module.parameters()).device
    if isinstance(x, Mapping):
        x = {name: torch.as_tensor(t).to(device) for name, t in x.items()}
        y = x.pop("labels", None) if y is None else y
    elif several(x):
        x = tuple(torch.as_tensor(t).to(device) for t in x)
    else:
        x = torch.as_tensor(x).to(device)
    if y is None:
        raise _no_targets()
    y = torch.as_tensor(y).to(device)
    if loss is None:
        loss, y = _own_loss(module, x, y)
    out = _called(module, x)
    logits = logits_of(out)
    if several(x) or not isinstance(out, Tensor):
        plain, packed = _packed(module, x), _rows(module, x)
    else:
        plain, packed = module, leaves(x)[0]
    if not _are_tokens(logits, y):
        return View(plain, packed, y, loss)
    at, right = _positions(y, logits.shape[2], tokens)
    return View(
        plain,
        packed,
        y,
        _of_tokens(loss),
        watched=_packed(module, x, log_odds, [at, right]),
        x_watched=_rows(module, x, [at, right], numbers=logits.shape[1] * logits.shape[2]),
        positions=at.shape[1],
    )


def logits_of(out: Any) -> Any:
    """A model's output tensor: itself, or its `logits`."""
    if isinstance(out, Tensor):
        return out
    if isinstance(out, Mapping):
        return out.get("logits")
    return getattr(out, "logits", out)


def token_samples(seen: View) -> tuple[nn.Module, Samples, Objective]:
    """For a view of tokens: the network, its samples, and the cross-entropy of a sample as probes take it."""
    assert seen.watched is not None
    assert seen.x_watched is not None
    targets = seen.x_watched.new_zeros(len(seen.x_watched), seen.positions)
    # p (1 - p) <= 1/4 is the curvature of one token; a sample has the mean of its tokens
    goal = Objective("cross-entropy of tokens", _token_loss, 0.25 / seen.positions)
    return seen.watched, Samples(seen.x_watched, targets, None, targets), goal


def _token_loss(odds: Tensor, _targets: Tensor) -> Tensor:
    """Sum over samples of the mean cross-entropy of their tokens, from log-odds."""
    # with odds log(p / (1 - p)) the cross-entropy -log p is softplus(-odds)
    return F.softplus(-odds).mean(1).sum()


def _called(module: nn.Module, x: Inputs, **more: Any) -> Any:
    few = rows(x, slice(0, 2))
    with torch.no_grad(), evaluating(module):
        try:
            if isinstance(few, Mapping):
                return call(module, **few, **more)
            if isinstance(few, Tensor):
                return call(module, few, **more)
            return call(module, *few, **more)
        except (RuntimeError, IndexError, ValueError, TypeError) as error:
            shapes = ", ".join(str(tuple(t.shape)) for t in leaves(x))
            raise BadData(
                f"The module does not take inputs of shape {shapes}: {(str(error) or 'error').splitlines()[0]}",
                where=f"{type(module).__name__}, called on two rows",
                why="the shape of one sample is not the one that the first layer expects, or an input is missing",
                fix="x as the module is called in training; several inputs as a tuple, or a dict by name",
            ) from None


def _own_loss(module: nn.Module, x: Inputs, y: Tensor) -> tuple[Loss, Tensor]:
    """The model's own loss as one of its logits, with the targets that it takes; a causal model shifts them."""
    out = _called(module, x, labels=y[:2])
    if isinstance(out, Mapping):
        own = out.get("loss")
    else:
        own = getattr(out, "loss", None)
    logits = logits_of(out)
    tried: list[tuple[Loss, Tensor]] = []
    if isinstance(own, Tensor) and isinstance(logits, Tensor):
        if y.ndim == 2 and not y.is_floating_point() and logits.shape[:2] == y[:2].shape:
            shifted = torch.cat([y[:, 1:], y.new_full((len(y), 1), IGNORED_TARGET)], 1)
            tried = [(mean_of_tokens, y), (mean_of_tokens, shifted)]
        else:
            if y.is_floating_point():
                tried = [(nn.MSELoss(), y.reshape(-1, *logits.shape[1:]))]
            if y.ndim == 1 and not y.is_floating_point():
                tried += [(nn.CrossEntropyLoss(), y)]
            if y.is_floating_point():
                tried += [(nn.BCEWithLogitsLoss(), y)]
        for loss, targets in tried:
            assert callable(loss)
            if torch.allclose(loss(logits, targets[:2]), own, rtol=1e-3, atol=1e-5):
                return loss, targets
    what = "The model gives no loss."
    if isinstance(own, Tensor):
        what = "The model's own loss is none that is known here."
    raise BadArgument(
        what,
        where=f"{type(module).__name__}, called with labels",
        why="it is no cross-entropy of its logits, shifted or not, and no mean square",
        fix="the loss as a function of logits and labels: lambda logits, labels: ...",
    )


def mean_of_tokens(logits: Tensor, y: Tensor) -> Tensor:
    """Mean cross-entropy over all positions that have a target."""
    return F.cross_entropy(logits.flatten(0, 1), y.flatten(), ignore_index=IGNORED_TARGET)


def sum_of_tokens(logits: Tensor, y: Tensor) -> Tensor:
    """Summed cross-entropy over all positions that have a target."""
    return F.cross_entropy(logits.flatten(0, 1), y.flatten(), ignore_index=IGNORED_TARGET, reduction="sum")


def _are_tokens(logits: Any, y: Tensor) -> bool:
    whole = not y.is_floating_point() and y.dtype != torch.bool
    return isinstance(logits, Tensor) and whole and logits.ndim == 3 and y.ndim == 2 and logits.shape[1] == y.shape[1]


def _positions(y: Tensor, vocabulary: int, most: int) -> tuple[Tensor, Tensor]:
    """Positions with a target, the same number in each sample, drawn once; and the tokens that are right there."""
    has = y != IGNORED_TARGET
    if not bool(has.any(1).all()):
        raise BadData(
            f"Sample {int((~has.any(1)).nonzero()[0])} has no target at any position.",
            where="the targets of tokens",
            fix="samples with one target or more; -100 marks positions without",
        )
    low, high = int(y[has].min()), int(y[has].max())
    if low < 0 or high >= vocabulary:
        raise BadData(
            f"Targets are {low} to {high}; the module has logits of {vocabulary} tokens.",
            where="the targets of tokens",
            fix="token numbers from 0; -100 marks positions without a target",
        )
    # the largest of independent uniform numbers are a uniform draw without repetition; -1 is below all of them
    chance = torch.rand(y.shape, generator=torch.Generator().manual_seed(0)).to(y.device).masked_fill(~has, -1.0)
    at = chance.topk(min(most, int(has.sum(1).min())), 1).indices.sort(1).values
    return at, y.gather(1, at)


def log_odds(out: Any, extra: list[Tensor]) -> Tensor:
    """Log-odds of the right tokens at some positions; shape (n, positions)."""
    at, right = extra
    logits = logits_of(out)
    z = logits.gather(1, at[:, :, None].expand(-1, -1, logits.shape[2]))
    mine = z.gather(2, right[:, :, None])
    # log p - log(1 - p): the normalization of the softmax cancels, and 1 - p has all its digits from the other logits
    return mine[:, :, 0] - z.scatter(2, right[:, :, None], -math.inf).logsumexp(2)


def _of_tokens(loss: Loss) -> Loss:
    """torch's cross-entropy, which takes classes on axis 1, on logits that have them last."""
    if loss == "cross-entropy":
        return sum_of_tokens
    if isinstance(loss, nn.CrossEntropyLoss):
        given = loss
        return lambda logits, y: given(logits.flatten(0, 1), y.flatten())
    return loss


def _packed(
    module: nn.Module,
    like: Inputs,
    then: Callable[[Any, list[Tensor]], Tensor] = lambda out, _: logits_of(out),
    extra: Sequence[Tensor] = (),
) -> nn.Module:
    """The module as one of rows, with its parameters and their names."""
    form = Form.of(like, "argument `x`")
    kept = [t.dtype for t in leaves(like)] + [t.dtype for t in extra]
    shapes = [leaf.shape for leaf in form.leaves] + [tuple(t.shape[1:]) for t in extra]
    sizes = [math.prod(shape) for shape in shapes]

    def run(packed: Tensor, own: nn.Module) -> Tensor:
        parts = packed.flatten(1)[:, : sum(sizes)].split(sizes, 1)
        originals = []
        for part, shape, dtype in zip(parts, shapes, kept, strict=True):
            original = part.reshape(len(packed), *shape)
            if not dtype.is_floating_point:
                original = original.to(dtype)
            originals.append(original)
        args, kwargs = form.call(originals[: len(form.leaves)])
        return then(own(*args, **kwargs), originals[len(form.leaves) :])

    return called_otherwise(module, run)


def _rows(module: nn.Module, x: Inputs, extra: Sequence[Tensor] = (), *, numbers: int = 0) -> Tensor:
    """All that a sample is in one row, in the precision of the module; shape (n, 1, k).

    k is at least what says how much a pass of this sample holds: `numbers` that it makes on the way count too.
    """
    dtype = next(p.dtype for p in module.parameters() if p.is_floating_point())
    given = [*leaves(x), *extra]
    exact = {torch.float32: LARGEST_EXACT_INTEGER, torch.float64: 2**53}.get(dtype, 2**8)
    for t in given:
        if not t.is_floating_point() and t.dtype != torch.bool and int(t.abs().max()) > exact:
            raise BadArgument(
                f"The whole number {int(t.abs().max())} among the inputs is not exact in {dtype}.",
                where="inputs of several tensors, or tokens",
                why="the tensors of a sample are carried in the module's precision here",
                fix="a module in float32 (half precision by torch.autocast), and token numbers below 2^24",
            )
    row = torch.cat([t.reshape(len(t), -1).to(dtype) for t in given], 1)
    return F.pad(row, (0, max(numbers // LOGITS_PER_NUMBER - row.shape[1], 0)))[:, None]


def _no_targets() -> BadArgument:
    return BadArgument(
        "There are no targets.",
        where="Monitor(module, optimizer, loss, x, y)",
        why="y is None, and x is no dict with labels",
        fix="y, or x as the batch that the model is called with, labels among it",
    )
