"""What `Monitor.prove` proves: of the watched module and rows, for the losses whose minimum is known."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gramian.data import one_hot
from gramian.empirical.modules.module_copy import copied
from gramian.errors import BadArgument
from gramian.monitor.measuring import Measuring
from gramian.prove.proof import Proof
from gramian.prove.prove import prove

WHERE = "Monitor.prove"
# each is 0 where outputs and targets are equal, and nowhere else
ZERO_WHERE_EQUAL = (nn.MSELoss, nn.L1Loss, nn.SmoothL1Loss, nn.HuberLoss)
ZERO_WHERE_EQUAL_FUNCTIONS = (F.mse_loss, F.l1_loss, F.smooth_l1_loss, F.huber_loss)


def prove_watched(measuring: Measuring, loss: Any, statement: str, keywords: dict[str, Any]) -> Proof:
    """The proof for a copy of the watched module as it is now; the module stays as it is.

    Raises:
        BadArgument: a loss whose minimum has no proof here; outputs that are no row of numbers for each sample.
        Unsupported: a layer without a rule, by name.
    """
    kind = _kind_of(loss, statement)
    module = measuring.module
    x, y = measuring.seen.pictures
    if measuring.seen.module is not module or x is None or not isinstance(y, Tensor):
        raise BadArgument(
            "The module does not give one row of numbers for each row of one tensor x.",
            where=WHERE,
            why="a proof is about module(x) and targets y of the same rows, as numbers",
            fix="gramian.prove with a module that takes x (n, ...) and returns its outputs (n, C)",
        )
    training = module.training
    with measuring.undisturbed():
        copy = copied(module)
        targets = _targets(copy, loss, x, y)
        copy.train(training)  # so that the certificate says that it is about evaluation mode
        return prove(copy, x, targets, statement, loss=kind, **keywords)


def _kind_of(loss: Any, statement: str) -> str:
    """ "squared" or "cross-entropy".

    Every loss that is 0 exactly where outputs are targets has the minimum of the squared one; a descent is about the
    gradient as well.
    """
    if isinstance(loss, ZERO_WHERE_EQUAL) or loss in ZERO_WHERE_EQUAL_FUNCTIONS or loss == "squared":
        squared = isinstance(loss, nn.MSELoss) or loss in (F.mse_loss, "squared")
        if squared or statement == "minimum":
            return "squared"
        raise BadArgument(
            f"{_name(loss)} has no proof of {statement!r}.",
            where=WHERE,
            why="the statement is about gradient descent on the squared loss",
            fix='statement="minimum", which holds for every loss that is 0 where outputs and targets are equal',
        )
    if loss in ("cross-entropy", F.cross_entropy) or isinstance(loss, nn.CrossEntropyLoss):
        if getattr(loss, "weight", None) is None and not getattr(loss, "label_smoothing", 0.0):
            return "cross-entropy"
        raise BadArgument(
            f"{_name(loss)} with class weights or label smoothing has no proof.",
            where=WHERE,
            why="with smoothed labels the infimum of the cross-entropy is not 0; with weights the bound is another one",
            fix='gramian.prove(module, x, y, loss="cross-entropy"), which is about the plain cross-entropy',
        )
    raise BadArgument(
        f"The loss {_name(loss)} has no proof.",
        where=WHERE,
        why="a proof needs to know where the loss has its minimum; that is known for squared errors (nn.MSELoss, and "
        "for minima nn.L1Loss, nn.SmoothL1Loss and nn.HuberLoss) and for the cross-entropy of class numbers",
        fix='gramian.prove(module, x, y), if outputs equal to y are the minimum of your loss; loss="cross-entropy", if '
        "y are class numbers",
    )


def _name(loss: Any) -> str:
    if isinstance(loss, str):
        return loss
    return getattr(loss, "__name__", type(loss).__name__)


def _targets(module: nn.Module, loss: Any, x: Tensor, y: Tensor) -> Tensor:
    """Targets as the loop's loss compares them with the outputs."""
    classes = not y.is_floating_point()
    if loss in ("cross-entropy", F.cross_entropy) or isinstance(loss, nn.CrossEntropyLoss):
        if classes:
            return y.reshape(len(y)).long()
        raise BadArgument(
            f"The targets of the cross-entropy are {y.dtype}, probabilities of classes.",
            where=WHERE,
            why="its infimum is 0 for class numbers alone",
            fix="y of class numbers, integers of shape (n,)",
        )
    with torch.no_grad():
        outputs = module(x[:1])
    columns = outputs.numel()
    if classes and y.numel() == len(y) and columns > 1:
        return one_hot(y.reshape(len(y)).long(), columns, dtype=torch.float64)
    return y.reshape(len(y), columns).double()
