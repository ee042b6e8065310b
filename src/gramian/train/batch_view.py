"""A user's module and batch as curvature and trials take them: samples of one or several tensors, one output tensor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from gramian.arch.inputs import Inputs, several
from gramian.empirical.modules.arguments import Samples, arguments_of, samples, tensors_of
from gramian.empirical.modules.calling import call
from gramian.empirical.modules.checks import whole
from gramian.empirical.modules.composed_outputs import Wrapper
from gramian.errors import BadArgument, BadData
from gramian.train.forward import evaluating
from gramian.train.objective import Loss
from gramian.train.token_losses import IGNORED_TARGET, are_tokens, check_tokens, loss_of_tokens, mean_of_tokens


@dataclass(frozen=True, eq=False)
class View:
    """What curvature and advice look at.

    Attributes:
        module: gives one tensor for `x`.
        x: the samples, each tensor in its own dtype; floating ones in that of the module.
        y: targets of `loss`.
        loss: as training computes it, of the module's outputs and `y`.
    """

    module: nn.Module
    x: Samples
    y: Tensor
    loss: Loss


class Logits(Wrapper):
    """A module that returns an object or dict with `logits`, as one that returns them."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The logits."""
        return logits_of(self.module(*args, **kwargs))


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


def view(module: nn.Module, loss: Loss | None, x: Inputs, y: Tensor | None) -> View:
    """The module and the batch as curvature and trials take them.

    Args:
        module: any module that returns a tensor, or an object or dict with `logits`.
        loss: as training computes it, of the outputs and `y`; None: the model's own, which it returns as `.loss` when
            it is called with `labels`.
        x: one tensor, or several in a tuple or dict; `labels` in a dict are taken as `y`.
        y: targets; for tokens (n, s), -100 where there is none.
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
    assert y is not None  # `suggest_inputs` refuses a batch without targets
    y = torch.as_tensor(y).to(device)
    rows = samples(module, x, None)[0]
    if loss is None:
        loss, y = _own_loss(module, rows, y)
    out = _called(module, rows)
    logits = logits_of(out)
    if are_tokens(logits, y):
        check_tokens(y, logits.shape[2])
        loss = loss_of_tokens(loss)
    if isinstance(out, Tensor):
        return View(module, rows, y, loss)
    return View(Logits(module), rows, y, loss)


def logits_of(out: Any) -> Any:
    """A model's output tensor: itself, or its `logits`."""
    if isinstance(out, Tensor):
        return out
    if isinstance(out, Mapping):
        return out.get("logits")
    return getattr(out, "logits", out)


def _called(module: nn.Module, x: Samples, **more: Any) -> Any:
    args, kwargs = arguments_of(x[:2])
    with torch.no_grad(), evaluating(module):
        try:
            return call(module, *args, **kwargs, **more)
        except (RuntimeError, IndexError, ValueError, TypeError) as error:
            shapes = ", ".join(str(tuple(t.shape)) for t in tensors_of(x))
            raise BadData(
                f"The module does not take inputs of shape {shapes}: {(str(error) or 'error').splitlines()[0]}",
                where=f"{type(module).__name__}, called on two rows",
                why="the shape of one sample is not the one that the first layer expects, or an input is missing",
                fix="x as the module is called in training; several inputs as a tuple, or a dict by name",
            ) from None


def _own_loss(module: nn.Module, x: Samples, y: Tensor) -> tuple[Loss, Tensor]:
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
