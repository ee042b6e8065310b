"""A user's module is lent: whatever is done with it, it is afterwards what it was, errors and Ctrl-C included."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.utils._python_dispatch import TorchDispatchMode

from gramian.errors import BadArgument
from gramian.module_state.attributes import Attributes

MOST_COPIED_BYTES = 2**27  # bytes of parameters up to which a module that is lent is copied


class _Values:
    """What a tensor is beside its numbers: whether it requires a gradient, its gradient and its gradient hooks.

    The gradient is laid aside, so that what a backward pass may add up goes into another one.
    """

    def __init__(self, t: Tensor) -> None:
        self.tensor, self.leaf, self.wanted = t, t.is_leaf, t.requires_grad
        self.numbers: Tensor | None = None
        self.touched = False  # an operation of the first call wrote into its memory
        # the memory, should `t.data = ...` go on
        if torch.nn.parameter.is_lazy(t):
            self.place = None
        else:
            self.place = t.detach()
        self.hooks: list[tuple[str, dict | None]] = []
        for name in ("_backward_hooks", "_post_accumulate_grad_hooks"):
            hooks = getattr(t, name, None)
            self.hooks.append((name, None if hooks is None else dict(hooks)))
        if self.leaf:
            self.grad = t.grad
        else:
            self.grad = None
        if self.grad is not None:
            t.grad = None

    def keep(self) -> None:
        if self.numbers is None:
            self.numbers = _copied(self.tensor)

    @property
    def changed(self) -> bool:
        return self.numbers is not None and not _same(self.tensor, self.numbers)

    @property
    def moved(self) -> bool:
        """Whether the tensor has other memory than it had."""
        return (
            self.place is not None
            and self.tensor.layout is torch.strided
            and (self.tensor.shape != self.place.shape or self.tensor.data_ptr() != self.place.data_ptr())
        )

    def renew(self) -> None:
        """The numbers as they were."""
        t, numbers = self.tensor, self.numbers
        if numbers is None:
            return
        with torch.inference_mode(t.is_inference()), torch.no_grad():
            t.copy_(numbers)

    def bring_back(self) -> bool:
        """Whether the numbers were others."""
        t = self.tensor
        if self.leaf and not t.is_leaf:  # written into without no_grad: a graph hangs on it now
            t.detach_()
        if self.leaf and t.requires_grad != self.wanted:
            t.requires_grad_(self.wanted)
        moved = self.moved
        if moved:
            t.data = self.place  # type: ignore[assignment]
        changed = self.changed
        if changed:
            self.renew()
        if self.leaf and t.grad is not self.grad:
            t.grad = self.grad
        for name, hooks in self.hooks:
            now = getattr(t, name, None)
            if now is not None and dict(now) != (hooks or {}):
                now.clear()
                now.update(hooks or {})
        return moved or changed


def _copied(t: Tensor) -> Tensor | None:
    """The numbers again; on the CPU where the device has no room; None of a tensor that has none of its own."""
    if t.is_meta or torch.nn.parameter.is_lazy(t):
        return None
    with torch.no_grad():
        try:
            return t.detach().clone()
        except torch.OutOfMemoryError:
            return t.detach().cpu()
        except (RuntimeError, NotImplementedError):  # some subclasses cannot be copied
            return None


def _same(t: Tensor, numbers: Tensor) -> bool:
    t = t.detach()
    if t.shape != numbers.shape:
        return False
    with torch.no_grad():
        numbers = numbers.to(t.device)
        if t.layout is torch.strided and not t.is_quantized:
            return torch.equal(t, numbers) or bool(((t == numbers) | ((t != t) & (numbers != numbers))).all())
        if t.layout is torch.sparse_coo:
            return torch.equal(t.to_dense(), numbers.to_dense())
        return True


def _bytes(t: Tensor) -> int:
    if torch.nn.parameter.is_lazy(t) or t.layout is not torch.strided:
        return 0
    return t.numel() * t.element_size()


def _version(t: Tensor) -> int:
    if t.is_inference():
        return -1
    return t._version


class Loan:
    """A module while it is lent: what it was, and which of its tensors its own forward pass writes into.

    Buffers and plain tensors are copied at the start, and parameters too where they are no more than `most` bytes. Of
    a larger module a parameter is copied when the first call is about to write into it: copies of all would double its
    memory.

    Attributes:
        copied: bytes of parameters that were copied at the start.
        late: the error to raise at the end, if a parameter was written into after the first call.
    """

    def __init__(self, module: nn.Module, quiet: bool, most: int) -> None:
        self.attributes = Attributes(module)
        self.tried = quiet
        self.names = {id(p): name for name, p in module.named_parameters()}
        self.written: set[int] = set()  # ids of tensors
        self.generators = [(g, g.get_state()) for g in self.attributes.generators]
        self.values: list[_Values] = []
        self.cached = parametrize._cache_enabled
        self.copied, self.most = 0, most
        self.late: BadArgument | None = None
        self.called: set[int] = set()  # ids of parameters with which the module was called, and not with others

    def begin(self) -> None:
        """The copies; the cache of `parametrize` is off, as it knows nothing of other values."""
        parametrize._cache_enabled = 0
        for t in self.attributes.tensors:
            self.values.append(_Values(t))
        if self.tried:
            self.called = {id(t) for t in self.attributes.tensors}
        size = sum(_bytes(value.tensor) for value in self.values if isinstance(value.tensor, nn.Parameter))
        if size <= self.most:
            self.copied = size
        else:
            self.copied = 0
        for value in self.values:
            if value.leaf and (size <= self.most or not isinstance(value.tensor, nn.Parameter)):
                value.keep()
        for part in self.attributes.parts:  # an embedding that scales down the rows that it looks up
            if getattr(part, "max_norm", None) is not None:
                own = {id(t) for t in part._parameters.values()}
                self.written |= own
                for value in self.values:
                    if id(value.tensor) in own:
                        value.keep()

    @contextmanager
    def one_call(self, replaced: Collection[int] = ()) -> Iterator[None]:
        """Around each call: what it writes into buffers is taken back, what into parameters at the end.

        Args:
            replaced: ids of the tensors in whose places the module has others during this call. Such a call does not
                show what a forward at the module's own parameters writes into.
        """
        before = [_version(value.tensor) for value in self.values]
        watch: AbstractContextManager[Any] = nullcontext()
        if not self.tried:
            watch = _CopyOnWrite(self.values)
        try:
            with watch:
                yield
        finally:
            self._after(before, replaced)

    def _after(self, before: list[int], replaced: Collection[int]) -> None:
        first, self.tried = not self.tried, True
        for value, version in zip(self.values, before, strict=True):
            t = value.tensor
            seen = value.touched or not isinstance(t, nn.Parameter)
            written = version != _version(t) or (first and seen and value.changed)
            if not value.leaf or not written:
                continue
            if not isinstance(t, nn.Parameter):
                self.written.add(id(t))
                value.renew()
            elif first or value.moved or id(t) not in self.called:
                self.written.add(id(t))
            elif id(t) not in self.written:
                raise _written_late(self.attributes.parts[0], self.names.get(id(t), "?"), value)
        self.called.update(id(value.tensor) for value in self.values if id(value.tensor) not in replaced)

    def end(self) -> None:
        """Everything as it was; may be repeated."""
        parametrize._cache_enabled = self.cached
        self.attributes.bring_back()
        for value in self.values:
            late = isinstance(value.tensor, nn.Parameter) and id(value.tensor) not in self.written
            if value.bring_back() and late:  # `.data` is written without a trace in the tensor's version
                name = self.names.get(id(value.tensor), "?")
                self.late = self.late or _written_late(self.attributes.parts[0], name, value)
        for generator, state in self.generators:
            generator.set_state(state)


class _CopyOnWrite(TorchDispatchMode):
    """Copies a tensor's numbers when an operation is about to write into its memory."""

    def __init__(self, values: list[_Values]) -> None:
        super().__init__()
        self.by_memory: dict[int, list[_Values]] = {}
        for value in values:
            if value.place is not None and value.place.layout is torch.strided and not value.place.is_meta:
                self.by_memory.setdefault(_memory(value.place), []).append(value)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        if func._schema.is_mutable:
            for place, argument in enumerate(func._schema.arguments):
                if argument.alias_info is None or not argument.alias_info.is_write:
                    continue
                if place < len(args):
                    given = args[place]
                else:
                    given = kwargs.get(argument.name)
                if not isinstance(given, list | tuple):
                    given = (given,)
                for t in given:
                    if isinstance(t, Tensor) and t.layout is torch.strided and not t.is_meta:
                        for value in self.by_memory.get(_memory(t), ()):
                            value.keep()
                            value.touched = True
        return func(*args, **kwargs)


def _memory(t: Tensor) -> int:
    return t.untyped_storage().data_ptr()


def _written_late(module: nn.Module, name: str, value: _Values) -> BadArgument:
    t = value.tensor
    if value.numbers is not None:
        fate = "it is put back"
    else:
        fate = "this change stays, as no copy of them was kept"
    return BadArgument(
        f"A forward pass wrote into the module's parameter `{name}`, which the first one had left alone.",
        where=f"{type(module).__name__}.{name}, shape {tuple(t.shape)}",
        why=f"the forward changes its own weights for some inputs only, or not at each call; {fate}",
        fix="write into a copy in the forward (weight = self.weight.clamp(...)), or after the optimizer's step",
    )


_lent: dict[int, Loan] = {}  # by the id of each part


def loan_of(attributes: Attributes) -> Loan | None:
    """The loan under which a module is, if it is under one."""
    return next((_lent[id(part)] for part in attributes.parts if id(part) in _lent), None)


@contextmanager
def untouched(module: Any, quiet: bool = False, most: int = MOST_COPIED_BYTES) -> Iterator[Loan | None]:
    """Afterwards the module is what it was, bit for bit and object for object.

    That is: parameters and buffers (which objects they are, their numbers, `requires_grad`, `grad`), modes, hooks, all
    attributes and what lies in lists and dicts among them, and torch's random state. Meanwhile gradients are laid
    aside. Inside another `untouched` of the same module it does nothing.

    Args:
        module: what is lent.
        quiet: a call of the same kind was watched before, and did not write into the module's tensors.
        most: bytes of parameters up to which they are copied at the start.
    """
    if not isinstance(module, nn.Module) or id(module) in _lent:
        yield None
        return
    loan = Loan(module, quiet, most)
    mine = [id(part) for part in loan.attributes.parts if id(part) not in _lent]
    if not mine or loan_of(loan.attributes) is not None:  # a wrapper of ours around a module that is lent already
        yield None
        return
    devices = sorted({t.device.index or 0 for t in loan.attributes.tensors if t.device.type == "cuda"})
    try:
        _lent.update(dict.fromkeys(mine, loan))
        loan.begin()
        with torch.random.fork_rng(devices=devices):
            yield loan
    finally:

        def back() -> None:
            loan.end()
            for part in mine:
                _lent.pop(part, None)

        surely(back)
    if loan.late is not None:
        raise loan.late


def surely(act: Callable[[], None]) -> None:
    """Runs an action that may be repeated until it has come to its end: Ctrl-C waits for it."""
    interrupted: KeyboardInterrupt | None = None
    while True:
        try:
            act()
            break
        except KeyboardInterrupt as error:
            interrupted = error
    if interrupted is not None:
        raise interrupted
