"""What `suggest` is asked with, checked: the batch in the form that the loss takes, and the loss before any step."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gramian.arch.inputs import Inputs, leaves, several
from gramian.arch.inputs import samples as samples_in
from gramian.data import as_tensors, check
from gramian.data.tensors import as_array
from gramian.empirical.modules.arguments import Samples
from gramian.empirical.modules.calling import call_at
from gramian.errors import BadArgument, BadData, GramianError
from gramian.train.batch_view import view
from gramian.train.curvature import LossOf, loss_value
from gramian.train.objective import Loss, objective, squared

PAIRED_TOLERANCE = 1e-4  # relative: from where on two losses of the same numbers are not the same by rounding
WHERE = "suggest(module, (x, y), ...)"


def check_settings(target: object, budget: object, rehearse: object, batch_size: object) -> None:
    """Raises BadArgument for numbers that make no sense."""
    known = isinstance(target, int | float) and math.isfinite(target)
    if target is not None and not known:
        raise BadArgument(
            f"target={target!r} makes no sense.",
            where="suggest(..., target=)",
            why="it is the loss to reach",
            fix="target=0.01, or None: a hundredth of the present loss",
        )
    if not _counts(budget, 1):
        raise BadArgument(
            f"budget={budget!r} makes no sense.",
            where="suggest(..., budget=)",
            why="it counts the steps that are forecast",
            fix="budget=10_000",
        )
    if not _counts(rehearse, 0):
        raise BadArgument(
            f"rehearse={rehearse!r} makes no sense.",
            where="suggest(..., rehearse=)",
            why="it counts the steps that copies make to try a learning rate",
            fix="rehearse=100, or 0: none is tried",
        )
    if batch_size is not None and not _counts(batch_size, 1):
        raise BadArgument(
            f"batch_size={batch_size!r} makes no sense.",
            where="suggest(..., batch_size=)",
            why="it counts the rows of a training batch, where `batch` holds more than one",
            fix="batch_size=32, or None: the rows given are one batch",
        )


def _counts(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def checked(
    module: nn.Module, batch: Any, loss: Loss | None, optimizer: Optimizer | str
) -> tuple[nn.Module, Samples, Tensor, LossOf]:
    """Module, rows, targets and loss as curvature and trials take them.

    Raises:
        BadArgument, BadData: what no learning rate can be said of, in four parts.
    """
    if torch.is_inference_mode_enabled():
        raise BadArgument(
            "Inference mode is on.",
            where=WHERE,
            why="a learning rate needs gradients, and torch makes none there",
            fix="call suggest outside of torch.inference_mode()",
        )
    _check_module(module)
    _check_instances(loss, optimizer)
    dtype = next(p.dtype for p in module.parameters() if p.is_floating_point())
    x, y = _pair(batch, dtype)
    for t in leaves(x):
        if t.is_floating_point() and t.ndim:
            check(t, name="x")
    if isinstance(y, Tensor) and y.ndim and samples_in(x) != len(y):
        raise BadArgument(
            f"x has {samples_in(x)} rows, y has {len(y)}.",
            where=WHERE,
            why="the loss pairs row by row",
            fix="one target a row",
        )
    if not samples_in(x):
        raise BadData("The batch has no rows.", where=WHERE, why="len(x) is 0", fix="a training batch")
    if isinstance(x, Tensor) and x.is_floating_point() and x.dtype != dtype:
        raise BadData(
            f"x is {x.dtype}, the module's parameters are {dtype}.",
            where=WHERE,
            why="torch multiplies tensors of one dtype only",
            fix=f"x.to({dtype}), or module.to({x.dtype})",
        )
    if loss is not None:
        objective(loss)
    seen = view(module, loss, x, y)
    return seen.module, seen.x, seen.y, objective(seen.loss).function


def _check_module(module: object) -> None:
    if not isinstance(module, nn.Module):
        if isinstance(module, type):
            given = f"the class {module.__name__}"
            why = "it has no weights yet"
            fix = "an instance, such as nn.Linear(5, 2)"
        else:
            given = type(module).__name__
            why = "a learning rate is one of the parameters of a torch.nn.Module"
            fix = "a torch.nn.Module that owns its parameters"
        raise BadArgument(
            f"The module is {given}.",
            where="suggest(module, ...)",
            why=why,
            fix=fix,
        )
    where, moving = (
        f"suggest(module, ...): {type(module).__name__}",
        [p for p in module.parameters() if p.requires_grad],
    )
    if not moving:
        raise BadArgument(
            "The module has no trainable parameters, so that there is no learning rate.",
            where=where,
            why="it has no parameters at all, or all have requires_grad=False",
            fix="module.requires_grad_(True), or a module with weights",
        )
    for name, p in module.named_parameters():
        if p.is_meta:
            raise BadArgument(
                f"The parameter `{name}` is on the device meta, and has no values.",
                where=where,
                why="torch.device('meta') makes shapes alone",
                fix="module.to_empty(device='cpu') and weights, or a module made on a real device",
            )
        if p.requires_grad and not p.is_floating_point():
            raise BadArgument(
                f"The parameter `{name}` is {p.dtype}.",
                where=where,
                why="curvature and steps are those of real parameters",
                fix="real and imaginary part as two real parameters",
            )


def _check_instances(loss: object, optimizer: object) -> None:
    """A class in place of an instance is a frequent slip, and torch says something else about it."""
    if isinstance(loss, type):
        raise BadArgument(
            f"The loss is the class {loss.__name__}, not an instance.",
            where="suggest(module, batch, loss, ...)",
            why="calling it with outputs and targets makes a loss and computes none",
            fix=f"{loss.__name__}()",
        )
    if isinstance(optimizer, type):
        raise BadArgument(
            f"The optimizer is the class {optimizer.__name__}, not an instance.",
            where="suggest(..., optimizer)",
            why="momentum, weight decay and groups are those of an instance",
            fix=f'{optimizer.__name__}(module.parameters(), lr=...), or a name such as "sgd" or "adam"',
        )


def _pair(batch: Any, dtype: torch.dtype) -> tuple[Inputs, Tensor | None]:
    """Rows and targets as tensors; arrays, frames and lists in the module's dtype."""
    if not (isinstance(batch, tuple | list) and len(batch) == 2):
        raise BadArgument(
            f"The batch is {type(batch).__name__}, not a pair.",
            where="suggest(module, batch, ...)",
            why="the loss is computed as loss(module(x), y)",
            fix="suggest(module, (x, y), loss, optimizer); x may be a dict with labels, and y None",
        )
    x, y = batch
    if not isinstance(x, Tensor) and not several(x):
        x = as_tensors(x).x
        if x.is_floating_point():
            x = x.to(dtype)
        else:
            x = x
    if y is None and not (isinstance(x, Mapping) and "labels" in x):
        raise BadArgument(
            "There are no targets.",
            where=WHERE,
            why="y is None, and x is no dict with labels",
            fix="y, or x as the batch that the model is called with, labels among it",
        )
    if y is None or isinstance(y, Tensor):
        return x, y
    column = as_array(y, "y")
    if column.dtype.kind == "f":
        return x, torch.from_numpy(np.array(column)).to(dtype)
    if column.dtype.kind in "iu":
        return x, torch.from_numpy(column.astype(np.int64))
    return x, as_tensors(x, y).y


def _outputs(module: nn.Module, x: Samples) -> Tensor:
    """Outputs of all rows, in the mode in which the module trains: batch normalization takes no single row."""
    try:
        return call_at(module, {}, x)
    except ValueError as error:
        if isinstance(error, GramianError):
            raise
        raise BadData(
            f"The module does not take these {len(x)} rows: {(str(error) or 'error').splitlines()[0]}",
            where=WHERE,
            why="of one row batch normalization in training mode has no statistics",
            fix="a batch as in training, or module.eval()",
        ) from None


def _pairs_other_rows(loss: LossOf, out: Tensor, y: Tensor, value: float) -> bool:
    """Whether targets with as many numbers as outputs are broadcast against them: (n, 1) against (n,).

    The loss is then one of all pairs of rows, which the order of the targets does not change.
    """
    if not y.is_floating_point() or y.shape == out.shape or y.numel() != out.numel() or len(out) < 2:
        return False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            one_by_one = float(loss_value(loss, out, y.reshape(out.shape)))
            turned = float(loss_value(loss, out, y.roll(1, 0)))
    except (RuntimeError, IndexError, ValueError, TypeError):  # it wants another shape, and knows why
        return False
    return abs(value - one_by_one) > PAIRED_TOLERANCE * abs(one_by_one) and abs(
        value - turned
    ) <= PAIRED_TOLERANCE / 10 * abs(value)


def first_loss(module: nn.Module, x: Samples, y: Tensor, loss: LossOf) -> tuple[Tensor, float]:
    """Outputs and loss at the weights as they stand.

    Raises:
        BadData: outputs and targets that do not go together, for torch or one against one.
        BadArgument: a loss that is not finite.
    """
    with torch.no_grad():
        out = _outputs(module, x)
        value, why = math.nan, ""
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            try:
                value = float(loss_value(loss, out, y))
            except (RuntimeError, IndexError, ValueError, TypeError) as error:
                if isinstance(error, GramianError | torch.OutOfMemoryError):
                    raise
                why = (str(error) or "error").splitlines()[0]
    spread = any("Using a target size" in str(w.message) for w in said)  # of mse_loss, l1_loss, huber_loss
    crossed = not why and math.isfinite(value) and _pairs_other_rows(loss, out, y, value)
    if spread or crossed or (loss is squared and out.shape != y.shape and not why):
        raise BadData(
            f"The loss takes each of the outputs {tuple(out.shape)} with several of the targets {tuple(y.shape)}.",
            where="loss(module(x), y)",
            why="torch broadcasts the one shape to the other, and pairs rows with the targets of other rows",
            fix="targets of the outputs' shape: y[:, None]; of classes nn.functional.one_hot(y).float()",
        )
    if why:
        shapes = f"outputs {tuple(out.shape)}, {out.dtype}, and targets {tuple(y.shape)}, {y.dtype}"
        raise BadData(
            f"The loss fails on the module's outputs and the targets: {why}",
            where=f"loss(module(x), y) with {shapes}",
            why="targets of another shape or dtype than the loss takes, or outputs outside of its domain",
            fix="targets as in the training loop: class numbers int64 (n,), real ones of the outputs' shape",
        ) from None
    if not math.isfinite(value):
        lost = y.is_floating_point() and not bool(y.isfinite().all())
        if lost:
            why = "targets that are not finite"
            fix = "y.isfinite() shows which"
        else:
            why = "outputs that are not finite, or no target that counts"
            fix = "module(x).isfinite().all() shows whether"
        raise BadArgument(
            f"The loss on the batch is {value}.",
            where="suggest(module, (x, y), loss)",
            why=why,
            fix=fix,
        )
    return out.detach(), value
