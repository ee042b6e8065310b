"""The user's module as one that takes row numbers or rows, and gives the tensor that is looked at."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from gramian.monitor.batch_rows import BatchRows, called


class Seen(nn.Module):
    """A module around another whose parameters, buffers and children it shares, under the same names.

    The inner one is called, not its class's `forward`: so an instance's own `forward` (mixed precision of accelerate),
    hooks and compiled calls are what is measured. The containers are the inner module's own, so that derivatives that
    put other tensors into them reach it. A module of torch.jit has none; it is a child here, with its name.

    Args:
        module: the user's.
        rows: its inputs; None where it takes the tensor that this module is called with.
        how: it takes them: see `rows.called`.
        then: what is looked at, of the output and what this module was called with.
    """

    def __init__(
        self, module: nn.Module, rows: BatchRows | None, how: str, then: Callable[[Any, Tensor], Tensor]
    ) -> None:
        self.__dict__["_inner"], mode = module, module.training
        super().__init__()
        self.__dict__["_rows"], self.__dict__["_how"], self.__dict__["_then"] = rows, how, then
        if isinstance(module, torch.jit.ScriptModule):
            self.scripted = module
        else:
            for name in ("_parameters", "_buffers", "_modules", "_non_persistent_buffers_set"):
                self.__dict__[name] = module.__dict__[name]
        self.training = mode

    @property
    def training(self) -> bool:
        """The inner module's mode."""
        return bool(self.__dict__["_inner"].training)

    @training.setter
    def training(self, mode: bool) -> None:
        self.__dict__["_inner"].training = mode

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "training":
            self.__dict__["_inner"].training = value
        else:
            super().__setattr__(name, value)

    def forward(self, x: Tensor) -> Tensor:
        """The rows that are looked at; shape (n, columns)."""
        me = self.__dict__
        if me["_rows"] is None:
            given = x
        else:
            given = me["_rows"].at(x.reshape(len(x), -1)[:, 0])
        return me["_then"](called(me["_inner"], given, me["_how"]), x)


class OutputColumns(Seen):
    """A module with some columns of its outputs only."""

    def __init__(self, module: nn.Module, columns: Tensor) -> None:
        super().__init__(module, None, "one", lambda out, _: out.reshape(len(out), -1)[:, columns])
