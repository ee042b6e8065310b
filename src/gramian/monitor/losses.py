"""A loss of the user's own, whatever it takes and gives, as one number of the rows that are looked at."""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gramian.data import one_hot
from gramian.errors import BadArgument, BadData
from gramian.monitor.batch_rows import BatchRows
from gramian.monitor.monitor_warnings import tell
from gramian.monitor.watched_outputs import Look, replaced
from gramian.train.objective import cross_entropy, squared

IGNORED = -100  # torch's mark of a target that does not count
NUMBERWISE = (  # these compare outputs and targets number by number
    nn.MSELoss, nn.L1Loss, nn.SmoothL1Loss, nn.HuberLoss, nn.BCELoss, nn.BCEWithLogitsLoss, nn.PoissonNLLLoss,
    nn.SoftMarginLoss, nn.MultiLabelSoftMarginLoss,
)  # fmt: skip
NUMBERWISE_FUNCTIONS = (
    F.mse_loss, F.l1_loss, F.smooth_l1_loss, F.huber_loss, F.binary_cross_entropy,
    F.binary_cross_entropy_with_logits, F.poisson_nll_loss, F.soft_margin_loss, F.multilabel_soft_margin_loss,
)  # fmt: skip
CLASSWISE = (nn.CrossEntropyLoss, nn.NLLLoss, nn.MultiMarginLoss)
CLASSWISE_FUNCTIONS = (F.cross_entropy, F.nll_loss, F.multi_margin_loss)
ROWS_TRIED = 64  # rows
EQUAL_LOSSES = 1e-3  # relative: how near the loss of every row twice must be to the loss, or to twice it


class UserLoss:
    """`loss(outputs, targets)` of rows of `Look.flat`, as the loop computes it.

    Attributes:
        name: the loss's own.
        kind: "mean" or "sum" over the rows; "rows": it gives a number for each, whose mean is taken here; "neither".
        unit: what turns its value into a sum over rows: their number, or 1 for a sum.
        ignored: the class number that does not count, for losses that have one.
    """

    def __init__(
        self, loss: Any, look: Look, targets: BatchRows, *, template: Callable[[Tensor], Any] | None = None
    ) -> None:
        self.loss, self.look, self.template = loss, look, template
        if isinstance(loss, str):
            self.name = loss
        else:
            self.name = getattr(loss, "__name__", type(loss).__name__)
        self.kind, self._targets, self._test = "mean", targets, targets
        self._fit: Callable[[Any, Tensor], Any] = _as_it_is
        self.by_number = isinstance(loss, NUMBERWISE) or loss in NUMBERWISE_FUNCTIONS or loss == "squared"
        self.by_class = isinstance(loss, CLASSWISE) or loss in CLASSWISE_FUNCTIONS or loss == "cross-entropy"
        self.by_logit = isinstance(loss, nn.BCEWithLogitsLoss) or loss is F.binary_cross_entropy_with_logits
        self.ignored = getattr(loss, "ignore_index", IGNORED if self.by_class else None)

    def with_test(self, targets: BatchRows) -> None:
        """Row numbers from n on are those of a test set."""
        self._test = targets

    def targets(self, rows: Tensor) -> Any:
        """The user's targets of these rows."""
        n = self._targets.n
        if len(rows) and int(rows[0]) >= n:
            return self._test.at(rows - n)
        return self._targets.at(rows)

    def raw(self, f: Tensor, rows: Tensor) -> Any:
        """What the loss gives, as it is."""
        y = self.targets(rows)
        outputs = self.look.tensors(f)
        only = outputs[self.look.paths[0]]
        out: Any = only
        if self.look.whole:
            assert self.template is not None
            out = replaced(self.template(rows), outputs)
        y = self._fit(y, only)
        if self.loss == "squared":
            return squared(out.reshape(len(f), -1), y)
        if self.loss == "cross-entropy":
            return cross_entropy(out, y)
        return self.loss(out, y)

    def value(self, f: Tensor, rows: Tensor) -> Tensor:
        """One number: the loss of these rows as a batch."""
        number = number_of(self.raw(f, rows))
        if number.numel() == 1:
            return number
        return number.float().mean()

    def summed(self, f: Tensor, rows: Tensor) -> Tensor:
        """The same as probes take it, a sum over rows: a mean times their number."""
        value = self.value(f, rows).reshape(())
        if self.kind == "sum":
            return value
        return len(f) * value

    @property
    def unit(self) -> int:
        """What a sum over all watched rows is divided by to be the user's own loss."""
        if self.kind == "sum":
            return 1
        return self._targets.n

    def fit(self, f: Tensor, rows: Tensor) -> None:
        """Finds the form in which the loss takes these targets, and whether it is a mean or a sum.

        Raises:
            BadData: it takes them in none.
            BadArgument: it gives no number.
        """
        self._fit = self._form(f, rows)
        with torch.no_grad(), quiet():
            once = number_of(self.raw(f, rows))
            alone = once.numel() == 1 and getattr(self.loss, "reduction", "") != "none"
            if alone:
                self.kind = self._kind(f, rows, float(once))
            else:
                self.kind = "rows"

    def _form(self, f: Tensor, rows: Tensor) -> Callable[[Any, Tensor], Any]:
        y, only = self.targets(rows), next(iter(self.look.tensors(f).values()))
        if isinstance(y, Tensor) and self.by_number:
            return self._numbers(y, only)
        first: Exception | None = None
        for form in (_as_it_is, _classes, _numbers_like):
            if form is not _as_it_is and not isinstance(y, Tensor):
                continue
            self._fit = form
            try:
                with torch.no_grad(), quiet():
                    value = self.raw(f, rows)
            except Exception as error:
                first = first or error
            else:
                number_of(value)
                if form is _as_it_is:
                    return self._paired(f, rows, value)
                return form
        assert first is not None
        raise _no_loss(self.name, only, y, first) from first

    def _paired(self, f: Tensor, rows: Tensor, value: Any) -> Callable[[Any, Tensor], Any]:
        """The loss as it is, unless torch pairs outputs with the targets of other rows: (n, 1) against (n,) is (n, n).

        A loss of all pairs is another one than that of the outputs' shape, and does not depend on the targets' order.
        """
        y, only = self.targets(rows), next(iter(self.look.tensors(f).values()))
        if not isinstance(y, Tensor) or not y.is_floating_point():
            return _as_it_is
        if y.shape == only.shape or y.numel() != only.numel() or len(y) < 2:
            return _as_it_is
        values = [float(number_of(value).float().mean())]
        try:
            with torch.no_grad(), quiet():
                for self._fit in (_numbers_like, _turned):
                    values.append(float(number_of(self.raw(f, rows)).float().mean()))
        except Exception:  # it wants another shape than the outputs', and knows why
            return _as_it_is
        crossed, one_by_one, turned = values
        if not abs(crossed - one_by_one) > EQUAL_LOSSES * abs(one_by_one) or abs(crossed - turned) > 1e-5 * abs(
            crossed
        ):
            return _as_it_is
        tell(
            f"The loss pairs outputs {tuple(only.shape)} with the targets {tuple(y.shape)} of other rows.",
            where=f"Monitor(module, optimizer, loss={self.name}, x, y)",
            why="torch broadcasts the one shape to the other; what is measured here pairs them row by row, and a "
            "training loop that does not minimizes another loss",
            fix="y[:, None] or module(x).squeeze(-1), so that both have one shape, here and in the training loop",
        )
        return _numbers_like

    def _numbers(self, y: Tensor, only: Tensor) -> Callable[[Any, Tensor], Any]:
        classes = not y.is_floating_point() and y.dtype != torch.bool and y.ndim == 1 and only[0].numel() > 1
        if self.loss == "squared" and classes:
            return lambda y, f: one_hot(y, f[0].numel(), dtype=f.dtype)
        if y.numel() != only.numel():
            c = only[0].numel()
            if classes:
                said = f"class numbers in shape {tuple(y.shape)}"
            else:
                said = f"shape {tuple(y.shape)}"
            raise BadData(
                f"{self.name} compares numbers; y has {said}, the outputs have shape {tuple(only.shape)}.",
                where="Monitor(module, optimizer, loss, x, y)",
                why="each output needs a number to be compared with",
                fix=f"torch.nn.functional.one_hot(y, {c}).float()" if classes else "y of the outputs' shape",
            )
        return _numbers_like

    def _kind(self, f: Tensor, rows: Tensor, once: float) -> str:
        if self.by_number or self.by_class:
            if isinstance(self.loss, str):
                return "sum"
            return _reduction(self.loss)
        if not math.isfinite(once) or once == 0:  # says nothing: ask at other outputs
            draw = torch.Generator().manual_seed(0)
            f = f + torch.randn(f.shape, generator=draw).to(f)
            once = float(self.value(f, rows))
        # every row twice leaves a mean as it is and doubles a sum
        twice = float(self.value(torch.cat([f, f]), torch.cat([rows, rows])))
        for kind, factor in (("mean", 1.0), ("sum", 2.0)):
            if abs(twice - factor * once) <= EQUAL_LOSSES * abs(once):
                return kind
        return "neither"


def is_classification(user: UserLoss, y: Tensor, c: int, offset: int = 0) -> bool:
    """Whether outputs that say the right class have less loss than those that say the next one."""
    few = y[:ROWS_TRIED]
    rows = torch.arange(len(few), device=y.device) + offset
    try:
        with torch.no_grad(), quiet():
            right, wrong = (5 * F.one_hot(one, c).float() for one in (few, (few + 1) % c))
            return float(user.value(right, rows)) < float(user.value(wrong, rows)) - EQUAL_LOSSES
    except Exception:  # a loss of something else
        return False


def _reduction(loss: Any) -> str:
    """The reduction of torch's own losses; functions have a mean by default."""
    if getattr(loss, "reduction", "mean") == "sum":
        return "sum"
    return "mean"


def number_of(value: Any) -> Tensor:
    """The loss among what a loss gives: itself, the first of a tuple, `loss` of a dict or an object."""
    if isinstance(value, Mapping):
        if "loss" in value:
            value = value["loss"]
        else:
            value = next(iter(value.values()), None)
    elif isinstance(value, tuple | list) and value:
        value = value[0]
    elif not isinstance(value, Tensor | int | float):
        value = getattr(value, "loss", value)
    if not isinstance(value, Tensor):
        raise BadArgument(
            f"The loss gives {type(value).__name__}, no tensor.",
            where="the loss, called with the module's outputs and the targets",
            why="a number that came out of the graph (.item()), or nothing",
            fix="lambda outputs, targets: ... that returns a tensor",
        )
    return value


def _as_it_is(y: Any, _f: Tensor) -> Any:
    return y


def _turned(y: Tensor, _f: Tensor) -> Tensor:
    """The targets of other rows."""
    return y.roll(1, 0)


def _classes(y: Tensor, _f: Tensor) -> Tensor:
    """Class numbers in a column, or of another type than torch wants."""
    if y.ndim > 1 and y.shape[-1] == 1:
        y = y.squeeze(-1)
    return y.long()


def _numbers_like(y: Tensor, f: Tensor) -> Tensor:
    """The outputs' type and, if there are as many numbers, their shape."""
    y = y.to(f.dtype)
    if y.numel() == f.numel():
        return y.reshape(f.shape)
    return y


class quiet(warnings.catch_warnings):
    """Trials are ours: what torch says of them is none of the user's."""

    def __enter__(self) -> None:
        super().__enter__()
        warnings.simplefilter("ignore")


def _no_loss(name: str, f: Tensor, y: Any, error: Exception) -> BadData:
    if isinstance(y, Tensor):
        shape = f"shape {tuple(y.shape)}, {y.dtype}"
    else:
        shape = type(y).__name__
    return BadData(
        f"The loss {name} does not take outputs of shape {tuple(f.shape)} with targets of {shape}.",
        where="Monitor(module, optimizer, loss, x, y)",
        why=f"{type(error).__name__}: {(str(error).strip().splitlines() or ['no text'])[0]}",
        fix="loss=lambda outputs, targets: ... as your loop calls it, with what the module returns",
    )


def modules_in(loss: Any) -> list[nn.Module]:
    """Modules that a loss calls: itself, or what a function holds, such as the other network of two."""
    modules: list[nn.Module] = []
    for value in (loss, *_held(loss)):
        if isinstance(value, nn.Module):
            modules.append(value)
    return modules


def _held(loss: Any) -> Iterator[Any]:
    if hasattr(loss, "func"):  # functools.partial
        yield from (*loss.args, *loss.keywords.values())
        loss = loss.func
    yield getattr(loss, "__self__", None)
    function = inspect.unwrap(getattr(loss, "__func__", loss))
    code = getattr(function, "__code__", None)
    if code is None:
        return
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # not filled yet
            continue
    yield from (function.__globals__[name] for name in code.co_names if name in function.__globals__)
    yield from function.__defaults__ or ()
