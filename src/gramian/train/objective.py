"""What is minimized: the loss as a sum over samples, and the samples in the form that the loss takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gramian.arch.inputs import one_tensor, shape_or_type
from gramian.data import check, one_hot
from gramian.empirical.modules.arguments import Samples as Rows
from gramian.empirical.modules.calling import call
from gramian.errors import BadArgument, BadData
from gramian.train.forward import evaluating

Loss = str | Callable[[Tensor, Tensor], Tensor]


def squared(outputs: Tensor, targets: Tensor) -> Tensor:
    r"""$\tfrac12 \sum_i \|f(x_i) - y_i\|^2$."""
    return (outputs - targets).square().sum() / 2


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    r"""$-\sum_i \log \mathrm{softmax}(f(x_i))_{y_i}$."""
    return F.cross_entropy(outputs, targets, reduction="sum")


@dataclass(frozen=True)
class Objective:
    """A loss, summed over samples, with what is known about it.

    Attributes:
        name: "squared", "cross-entropy" or the callable's own name.
        function: (outputs (n, C), targets) -> scalar sum over the n samples.
        curvature: bound on the eigenvalues of its Hessian in the outputs of one sample; None if not known. It is 1 for
            the squared loss and 1/2 for the cross-entropy, whose Hessian is diag(p) - p p^T.
    """

    name: str
    function: Callable[[Tensor, Tensor], Tensor]
    curvature: float | None

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        value = self.function(outputs, targets)
        if value.numel() != 1:
            raise BadArgument(
                f"The loss {self.name!r} gives a tensor of shape {tuple(value.shape)}.",
                where="train(..., loss=...)",
                why="a loss per sample, not their sum",
                fix="lambda outputs, targets: loss(outputs, targets).sum()",
            )
        return value


def objective(loss: Loss) -> Objective:
    """The objective that `loss` names or is.

    Raises:
        BadArgument: an unknown name.
    """
    if loss == "squared":
        return Objective("squared", squared, 1.0)
    if loss == "cross-entropy":
        return Objective("cross-entropy", cross_entropy, 0.5)
    if callable(loss):
        return Objective(getattr(loss, "__name__", type(loss).__name__), loss, None)
    raise BadArgument(
        f"loss={loss!r} is no loss that is known here.",
        where="train(..., loss=...)",
        fix='"squared", "cross-entropy", or a function (outputs, targets) -> scalar sum over the samples',
    )


@dataclass(frozen=True, eq=False)
class Samples:
    """Inputs with their targets.

    Attributes:
        x: inputs; shape (n, *in_shape), or several tensors.
        targets: what the loss takes; shape (n, C), or (n,) class numbers.
        labels: class numbers (n,), or signs -1 and 1 for one output; None for regression.
        matrix: targets as real numbers; shape (n, C). Centered one-hot rows for class numbers.
    """

    x: Rows
    targets: Tensor
    labels: Tensor | None
    matrix: Tensor

    def __len__(self) -> int:
        return len(self.x)

    def correct(self, outputs: Tensor) -> Tensor:
        """Which samples are classified correctly, shape (n,), booleans."""
        assert self.labels is not None
        if outputs.shape[1] == 1:
            return (outputs[:, 0] > 0) == (self.labels > 0)
        return outputs.argmax(1) == self.labels


def samples(module: nn.Module, x: Tensor, y: Tensor, loss: Objective, *, name: str = "") -> Samples:
    """Inputs and targets, checked, on the module's device and in the form that the loss takes.

    Args:
        module: the network; called once on the first two rows.
        x: inputs; shape (n, *in_shape), the dtype of the module's parameters.
        y: class numbers, int64 (n,), or real targets, (n, C) or (n,) for one output.
        loss: the objective.
        name: suffix of the arguments' names in errors: "" or "_test".

    Raises:
        BadData: not finite, empty, lengths or shapes that do not match, labels outside the network's outputs.
    """
    parameter = next(module.parameters())
    one_tensor(x, "train")
    x, y = torch.as_tensor(x).to(parameter.device), torch.as_tensor(y).to(parameter.device)
    if x.is_floating_point():  # whole numbers are tokens for an Embedding
        check(x, name="x" + name)
    where = f"train(module, x{name}, y{name})"
    if len(x) != len(y):
        raise BadData(
            f"x{name} has {len(x)} rows, y{name} has {len(y)}.", where=where, fix="one target for each input row"
        )
    if x.dtype != parameter.dtype and x.is_floating_point():
        raise BadData(
            f"x{name} is {x.dtype}, the module's parameters are {parameter.dtype}.",
            where=where,
            fix=f"x{name}.to({parameter.dtype}), or module.to({x.dtype})",
        )
    n_outputs = n_outputs_of(module, x, where)
    if y.is_floating_point():
        targets = _as_outputs(y.to(parameter.dtype), len(x), n_outputs, name, where)
        # real targets 1 and -1 of a single output are two classes, and have an accuracy
        signs = n_outputs == 1 and bool((targets.abs() == 1).all())
        check(x, targets, name="x" + name)
        if loss.name == "cross-entropy":
            raise BadData(
                f"The cross-entropy takes class numbers, y{name} is {y.dtype}.",
                where=where,
                fix=f'y{name} as int64 of shape (n,), or loss="squared"',
            )
        if signs:
            return Samples(x, targets, targets[:, 0], targets)
        return Samples(x, targets, None, targets)
    labels = _labels(y, n_outputs, name, where)
    if not name and len(labels) > 1:  # a test set may well be of one class
        check(x.new_zeros(len(x), 1, dtype=parameter.dtype), labels, name="x")
    matrix = one_hot(labels, n_outputs, dtype=parameter.dtype)
    if loss.name == "squared":
        return Samples(x, matrix, labels, matrix)
    return Samples(x, labels, labels, matrix)


def n_outputs_of(module: nn.Module, x: Tensor, where: str) -> int:
    rows = x[:2]
    try:
        with torch.no_grad(), evaluating(module):
            out = call(module, rows)
    except (RuntimeError, IndexError, ValueError, TypeError) as error:
        raise BadData(
            f"The module does not take inputs of shape {tuple(x.shape)}: {str(error).splitlines()[0]}",
            where=where,
            why="the shape of one sample is not the one that the first layer expects",
            fix="x of shape (n, features) for a Linear (nn.Flatten() before it for images), (n, c, h, w) for a Conv2d",
        ) from None
    if not isinstance(out, Tensor) or out.ndim == 0 or out.shape[0] != len(rows):
        shape = shape_or_type(out)
        raise BadData(
            f"The module gives {shape} for {len(rows)} inputs.",
            where=where,
            fix="one row of outputs for each input row",
        )
    return out.numel() // len(rows)


def _as_outputs(y: Tensor, n: int, n_outputs: int, name: str, where: str) -> Tensor:
    if y.numel() != n * n_outputs:
        raise BadData(
            f"y{name} has shape {tuple(y.shape)}, the module's outputs have shape ({n}, {n_outputs}).",
            where=where,
            why="the number of outputs of the last layer is not the number of target columns",
            fix=f"y{name} of shape ({n}, {n_outputs}), or class numbers as int64 of shape ({n},)",
        )
    return y.reshape(n, n_outputs)


def _labels(y: Tensor, n_outputs: int, name: str, where: str) -> Tensor:
    labels = y.to(torch.int64)
    low, high = int(labels.min()), int(labels.max())
    if labels.ndim != 1 or low < 0 or high >= max(n_outputs, 2) or n_outputs == 1:
        outputs = f"{n_outputs} outputs"
        if n_outputs == 1:
            outputs = "1 output"
        raise BadData(
            f"y{name} has class numbers {low} to {high} in shape {tuple(y.shape)}; the module has {outputs}.",
            where=where,
            why="class numbers count the outputs from 0, one output per class",
            fix=f"a last layer with {high + 1} outputs, or real targets: y{name}.to(x.dtype)",
        )
    return labels
