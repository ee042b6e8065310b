"""How the user's module is called on the watched rows, what it returns, and where in that the loss looks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from gramian.empirical.modules.arguments import Samples, Several
from gramian.empirical.modules.calling import call as call_once
from gramian.errors import BadData
from gramian.monitor.batch_rows import BatchRows, called, changed, tensors, ways
from gramian.monitor.losses import (
    CLASSWISE,
    CLASSWISE_FUNCTIONS,
    IGNORED,
    NUMBERWISE,
    NUMBERWISE_FUNCTIONS,
    number_of,
    quiet,
)
from gramian.monitor.own_loss import LABELS, own_loss
from gramian.monitor.watched_outputs import Look, main_of, part, tensors_of

TRIAL_ROWS = 8  # rows of a trial


@dataclass(frozen=True, eq=False)
class ModuleCall:
    """The user's module with its inputs and targets.

    Attributes:
        module, loss: the user's; the loss takes what `look` says.
        rows, targets: inputs and targets by number.
        numbers: of these rows among the user's.
        how: the inputs are passed: see `rows.called`.
        look: at what the module returns.
        example: an output of a few rows.
    """

    module: nn.Module
    loss: Any
    rows: BatchRows
    targets: BatchRows
    numbers: Tensor
    how: str
    look: Look
    example: Any

    @property
    def n(self) -> int:
        """How many rows."""
        return self.rows.n

    @property
    def device(self) -> torch.device:
        return tensors(self.rows.given)[0].device

    @property
    def picture(self) -> Tensor | None:
        """The inputs where they are one tensor."""
        if isinstance(self.rows.given, Tensor):
            return self.rows.given
        return None

    @property
    def plain(self) -> bool:
        """Whether the module itself takes the rows and gives one row of numbers for each."""
        out, module = self.example, self.module
        given = isinstance(out, Tensor) and out.dtype in (torch.float32, torch.float64) and out.ndim > 1
        own = "forward" in vars(module) or getattr(module, "_compiled_call_impl", None) is not None
        scripted = isinstance(module, torch.jit.ScriptModule)
        return given and not own and not scripted and self.picture is not None and self.look.axis == 0

    def output(self, rows: Tensor) -> Any:
        """What the module returns for these rows; where the loss needs no more of it than is looked at, an example."""
        with torch.no_grad():
            return called(partial(call_once, self.module), self.rows.at(rows), self.how)

    def template(self, rows: Tensor) -> Any:
        """An output whose tensors that are not looked at are those of these rows."""
        if set(tensors_of(self.example)) <= set(self.look.paths):
            return self.example
        return self.output(rows)

    def outputs(self, rows: Tensor) -> Tensor:
        """The watched outputs, flattened; shape (n, columns)."""
        return self.look.flat(self.output(rows))

    def x(self, n: int, beside: Sequence[Tensor] = ()) -> Samples:
        """The first n rows as a network of `Seen` takes them: the tensors of the inputs, and others beside them."""
        leaves = [t[:n] for t in (*tensors(self.rows.given), *beside)]
        if len(leaves) == 1:
            return leaves[0]
        return Several(tuple(leaves))

    def same(self, x: Any, y: Any) -> ModuleCall:
        """Other rows, called and looked at alike."""
        x, y = _with_labels(x, y)
        given = x
        if isinstance(self.rows.given, Mapping) and isinstance(x, Mapping):
            labels = dict.fromkeys(self.rows.given.keys() & {"labels"}, y)
            if y is not None:
                given = {**x, **labels}
            else:
                given = dict(x)
        rows = _like(BatchRows(given, self.device, name="x_test"), self.rows)
        targets = BatchRows(y, self.device, n=rows.n, name="y_test")
        return _counted(replace(self, rows=rows, targets=targets, numbers=torch.arange(rows.n, device=self.device)))


def call_of(module: nn.Module, loss: Any, x: Any, y: Any) -> ModuleCall:
    """The module, called on the rows in the first way that works.

    Raises:
        BadData: it takes them in none, or gives no row of numbers for each; there are no targets.
        BadArgument: the model's own loss is none that is known.
    """
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    given, y = _with_labels(x, y)
    torchs = isinstance(loss, (str, *NUMBERWISE, *CLASSWISE)) or loss in (*CLASSWISE_FUNCTIONS, *NUMBERWISE_FUNCTIONS)
    if y is None and (loss is None or torchs):  # a function of the user's own may need none
        raise _no_targets()
    targets = BatchRows(y, device, n=BatchRows(given, device).n, name="y")
    rows, how, out = _taken(module, given, targets, device)
    few = torch.arange(min(TRIAL_ROWS, rows.n), device=device)
    if loss is None:
        own = own_loss(module, rows, targets, how)
        look = Look.at(out, own.paths, whole=own.whole)
        module_call = ModuleCall(
            module, own.loss, rows, own.targets, torch.arange(rows.n, device=device), how, look, out
        )
        return _counted(module_call)
    module_call = ModuleCall(
        module, loss, rows, targets, torch.arange(rows.n, device=device), how, _main(out, len(few)), out
    )
    return _counted(_with_whole(module_call, few))


def _taken(module: nn.Module, given: Any, targets: BatchRows, device: torch.device) -> tuple[BatchRows, str, Any]:
    """Inputs, the way, and an output: as they are, in the module's precision, and with the labels among them."""
    first: Exception | None = None
    for data in _tries(module, given, targets, device):
        few = data.at(torch.arange(min(TRIAL_ROWS, data.n), device=device))
        for how in ways(data.given):
            try:
                with torch.no_grad():
                    return data, how, called(partial(call_once, module), few, how)
            except Exception as error:
                first = first or error
    assert first is not None
    shapes = ", ".join(str(tuple(t.shape)) for t in tensors(BatchRows(given).given))
    raise BadData(
        f"The module does not take inputs of shape {shapes}: {(str(first).strip().splitlines() or ['error'])[0]}",
        where=f"{type(module).__name__}, called on {min(TRIAL_ROWS, BatchRows(given).n)} rows",
        why="the shape of one sample is not the one that the first layer expects, or an input is missing",
        fix="x as the module is called in training; several inputs as a tuple, or a dict by name",
    ) from first


def _tries(module: nn.Module, given: Any, targets: BatchRows, device: torch.device) -> Iterator[BatchRows]:
    data = BatchRows(given, device)
    kinds = [p.dtype for p in module.parameters() if p.is_floating_point()]
    floating = {t.dtype for t in tensors(data.given) if t.is_floating_point()}
    yield data
    if kinds and floating - {kinds[0]}:
        yield data.cast(kinds[0])
    if isinstance(data.given, Mapping) and isinstance(targets.given, Tensor) and "labels" not in data.given:
        # encoder and decoder: inputs come of the labels
        yield BatchRows({**data.given, "labels": targets.given}, device)


def _with_labels(x: Any, y: Any) -> tuple[Any, Any]:
    """Inputs, and targets that may lie among them by a name."""
    if y is not None or not isinstance(x, Mapping):
        return x, y
    if all(name in x for name in LABELS):  # question answering
        return x, {name: x[name] for name in LABELS}
    if "labels" in x:
        return {name: value for name, value in x.items() if name != "labels"}, x["labels"]
    return x, y


def _main(out: Any, n: int) -> Look:
    path = main_of(out)
    if path is None:
        t = None
    else:
        t = part(out, path)
    if not isinstance(t, Tensor) or not t.is_floating_point() or n not in t.shape[:2]:
        shape: str | tuple[int, ...]
        if isinstance(t, Tensor):
            shape = tuple(t.shape)
        else:
            shape = type(out).__name__
        raise BadData(
            f"The module gives {shape} for {n} inputs.",
            where="Monitor(module, optimizer, loss, x, y)",
            why="it gives no row of numbers for each input: one number for all, class numbers, or no tensor",
            fix="a module whose output has the samples on its first axis",
        )
    assert path is not None
    return Look.at(out, (path,), 0 if t.shape[0] == n else 1)


def _with_whole(call: ModuleCall, few: Tensor) -> ModuleCall:
    """A loss of the user's own that takes the whole output gets it, and all that it uses of it is looked at."""
    known = isinstance(call.loss, (str, *NUMBERWISE, *CLASSWISE)) or call.loss in CLASSWISE_FUNCTIONS
    if isinstance(call.example, Tensor) or known:
        return call
    with torch.enable_grad():
        out = called(partial(call_once, call.module), call.rows.at(few), call.how)
        places = {path: t for path, t in tensors_of(out).items() if t.is_floating_point() and t.requires_grad}
        try:
            with quiet():
                value = number_of(call.loss(out, call.targets.at(few))).sum()
        except Exception:  # it takes the one tensor
            return call
        if not value.requires_grad or not places:
            return call
        slopes = torch.autograd.grad(value, list(places.values()), allow_unused=True)
    used = [path for (path, _), g in zip(places.items(), slopes, strict=True) if g is not None]
    apart = [path for path in used if not places[path].ndim or len(places[path]) != len(few)]
    if apart:
        names = ", ".join(".".join(map(str, path)) for path in apart)
        raise BadData(
            f"The loss uses a part of the output that has no row for each sample: {names}.",
            where="Monitor(module, optimizer, loss, x, y)",
            why="what is watched is a function of rows of outputs; a term for the whole batch is none",
            fix="loss=lambda out, y: ... without this term, to watch the rest",
        )
    look = Look.at(call.example, tuple(used), whole=True)
    return replace(call, look=look)


def _counted(call: ModuleCall) -> ModuleCall:
    """Without the rows whose targets do not count at all."""
    y, loss = call.targets.given, call.loss
    ignored = getattr(loss, "ignore_index", IGNORED)
    classes = isinstance(y, Tensor) and y.ndim > 0 and not y.is_floating_point() and y.dtype != torch.bool
    by_class = isinstance(loss, CLASSWISE) or loss in CLASSWISE_FUNCTIONS or loss == "cross-entropy"
    if not classes or not (by_class or (ignored == IGNORED and y.ndim == 2)):
        return call
    has = (y != ignored).reshape(len(y), -1).any(1)
    if bool(has.all()):
        return call
    if not bool(has.any()):
        raise BadData(
            f"Sample 0 has no target at any position: all {len(y)} rows have {ignored}.",
            where="Monitor(module, optimizer, loss, x, y)",
            why=f"{ignored} marks what has no target",
            fix="rows with one target or more",
        )
    kept = has.nonzero().flatten()
    rows, targets = (
        BatchRows(changed(r.given, lambda t: t[kept]), call.device, n=len(kept)) for r in (call.rows, call.targets)
    )
    return replace(call, rows=rows, targets=targets, numbers=call.numbers[kept])


def _like(rows: BatchRows, other: BatchRows) -> BatchRows:
    """Tensors in the precision of the other's tensors."""
    kinds = {t.dtype for t in tensors(other.given) if t.is_floating_point()}
    if len(kinds) == 1:
        return rows.cast(kinds.pop())
    return rows


def _no_targets() -> BadData:
    return BadData(
        "There are no targets.",
        where="Monitor(module, optimizer, loss, x, y)",
        why="y is None, and x is no dict with labels",
        fix="y, or x as the batch that the model is called with, labels among it",
    )
