"""The user's module as one that takes the tensors of its inputs, and gives the tensor that is looked at."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from gramian.monitor.batch_rows import BatchRows, called, filled, tensors


class SameNames(nn.Module):
    """A module around another whose parameters, buffers and children it shares, under the same names.

    The inner one is called, not its class's `forward`: so an instance's own `forward` (mixed precision of accelerate),
    hooks and compiled calls are what is measured. The containers are the inner module's own, so that derivatives that
    put other tensors into them reach it. A module of torch.jit has none; it is a child here, with its name.
    """

    def __init__(self, module: nn.Module) -> None:
        self.__dict__["_inner"], mode = module, module.training
        super().__init__()
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


class Seen(SameNames):
    """The user's module, of the tensors of its inputs and of others beside them.

    Args:
        module: the user's.
        rows: inputs; their structure and what is no tensor of rows in them goes to the module as it is.
        how: it takes them: see `batch_rows.called`.
        then: what is looked at, of the output and the tensors beside the inputs; shape (n, columns).
    """

    def __init__(self, module: nn.Module, rows: BatchRows, how: str, then: Callable[..., Tensor]) -> None:
        super().__init__(module)
        self.__dict__["_rows"], self.__dict__["_how"], self.__dict__["_then"] = rows, how, then

    def forward(self, *given: Tensor) -> Tensor:
        """The rows that are looked at; shape (n, columns)."""
        me = self.__dict__
        structure = me["_rows"].given
        count = len(tensors(structure))
        out = called(me["_inner"], filled(structure, given[:count]), me["_how"])
        return me["_then"](out, *given[count:])


class OutputColumns(SameNames):
    """A module with some columns of its outputs only."""

    def __init__(self, module: nn.Module, columns: Tensor) -> None:
        super().__init__(module)
        self.__dict__["_columns"] = columns

    def forward(self, *given: Tensor) -> Tensor:
        """These columns; shape (n, columns)."""
        out = self.__dict__["_inner"](*given)
        return out.reshape(len(out), -1)[:, self.__dict__["_columns"]]
