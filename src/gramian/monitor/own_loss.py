"""A model's own loss, which it returns when it is called with labels, as one of its outputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gramian.empirical.modules.calling import call as call_once
from gramian.errors import BadArgument
from gramian.monitor.batch_rows import BatchRows, called
from gramian.monitor.losses import IGNORED
from gramian.monitor.watched_outputs import Path, main_of, part
from gramian.train.token_losses import mean_of_tokens

LABELS = ("start_positions", "end_positions")  # of question answering
SPANS = ("start_logits", "end_logits")
TRIAL_ROWS = 8
NEAR, NEAR_HALF = 1e-3, 3e-2  # how near a known loss must be, relative: half precision has two digits


@dataclass(frozen=True, eq=False)
class OwnLoss:
    """A loss that equals the model's own.

    Attributes:
        loss: of the tensor at the one path, or of the whole output.
        targets: as it takes them.
        paths: of the tensors that it looks at.
        whole: whether it takes the whole output.
    """

    loss: Any
    targets: BatchRows
    paths: tuple[Path, ...]
    whole: bool = False


def own_loss(module: nn.Module, rows: BatchRows, targets: BatchRows, how: str) -> OwnLoss:
    """The known loss that gives the model's own number on a few rows.

    Raises:
        BadArgument: none does, or the model gives none.
    """
    few = torch.arange(min(TRIAL_ROWS, rows.n), device=_device(targets))
    out = _with_labels(module, rows.at(few), targets.at(few), how)
    if isinstance(out, Mapping):
        own = out.get("loss")
    else:
        own = getattr(out, "loss", None)
    if isinstance(own, Tensor):
        if own.dtype in (torch.bfloat16, torch.float16) or _half(module):
            near = NEAR_HALF
        else:
            near = NEAR
        for known in _known(out, targets):
            if known.whole:
                first = out
            else:
                first = part(out, known.paths[0])
            try:
                value = known.loss(first, known.targets.at(few))
            except Exception:  # it takes other targets
                continue
            if torch.allclose(value.float(), own.float(), rtol=near, atol=1e-2 * near):
                return known
    raise BadArgument(
        "The model's own loss is none that is known here." if isinstance(own, Tensor) else "The model gives no loss.",
        where=f"{type(module).__name__}, called with labels",
        why="it is no cross-entropy of its logits, shifted or not, and no mean square",
        fix="the loss as a function of logits and labels: lambda logits, labels: ...",
    )


def span_loss(out: Any, y: Mapping[str, Tensor]) -> Tensor:
    """Mean of the cross-entropies of the first and the last token of the answer."""
    total: Any = 0.0
    for place, name in zip(SPANS, LABELS, strict=True):
        logits = part(out, (place,))
        last = logits.shape[1]  # a position behind the end stands for none
        right = y[name].reshape(len(logits)).clamp(0, last)
        total = total + F.cross_entropy(logits, right, ignore_index=last) / 2
    return total


def _known(out: Any, targets: BatchRows) -> Iterator[OwnLoss]:
    y = targets.given
    if isinstance(y, Mapping):
        if set(LABELS) <= set(y):
            yield OwnLoss(span_loss, targets, tuple((place,) for place in SPANS), whole=True)
        return
    path = main_of(out)
    if path is None:
        logits = None
    else:
        logits = part(out, path)
    if path is None or not isinstance(logits, Tensor) or not isinstance(y, Tensor):
        return
    whole = not y.is_floating_point()
    if y.ndim == 2 and whole and logits.ndim == 3 and logits.shape[1] == y.shape[1]:
        shifted = torch.cat([y[:, 1:], y.new_full((len(y), 1), IGNORED)], 1)
        for labels in (y, shifted):
            yield OwnLoss(mean_of_tokens, BatchRows(labels, y.device), (path,))
    elif whole and y.numel() == len(y) and logits.ndim == 2:
        yield OwnLoss(nn.CrossEntropyLoss(), BatchRows(y.reshape(-1), y.device), (path,))
    if whole and y.ndim > 1 and logits.ndim == y.ndim + 1:  # pixels
        yield OwnLoss(nn.CrossEntropyLoss(), targets, (path,))
    if y.is_floating_point() and y.numel() == len(y) * logits[0].numel():
        same = BatchRows(y.reshape(len(y), *logits.shape[1:]), y.device)
        yield OwnLoss(nn.MSELoss(), same, (path,))
        yield OwnLoss(nn.BCEWithLogitsLoss(), same, (path,))


def _with_labels(module: nn.Module, given: Any, y: Any, how: str) -> Any:
    if isinstance(y, Mapping):
        more = dict(y)
    else:
        more = {"labels": y}
    with torch.no_grad():
        if how == "names":
            return called(partial(call_once, module), {**given, **more}, how)
        if how == "order":
            return call_once(module, *given, **more)
        return call_once(module, given, **more)


def _device(targets: BatchRows) -> Any:
    from gramian.monitor.batch_rows import tensors

    return tensors(targets.given)[0].device


def _half(module: nn.Module) -> bool:
    """Weights in half precision, or a forward of the instance's own, as accelerate's mixed precision has it."""
    return "forward" in vars(module) or any(p.dtype in (torch.bfloat16, torch.float16) for p in module.parameters())
