"""A module's graph by `torch.export`, or why there is none, with the user's own line."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from gramian.arch.inputs import Form, Inputs, leaves
from gramian.errors import BadData, NoLimit


def export(module: nn.Module, form: Form, like: Inputs) -> torch.export.ExportedProgram:
    """The module's graph, traced on two samples in the module's own precision."""
    given = [t[:2] if len(t) > 1 else torch.cat([t, t]) for t in leaves(like)]
    first = next((p for p in module.parameters()), None)
    if first is not None:
        given = [t.to(first.device, first.dtype if t.is_floating_point() else t.dtype) for t in given]
    args, kwargs = form.call(given)
    with _quiet():
        try:
            return torch.export.export(module, args, kwargs, strict=False)
        except Exception as error:
            lines = str(error).strip().splitlines() or [""]
            try:
                with torch.no_grad():
                    module(*args, **kwargs)
            except Exception as plain:
                shapes = ", ".join(str(tuple(t.shape)) for t in given)
                first_line = (str(plain).strip().splitlines() or [""])[0]
                raise BadData(
                    f"The module does not run on an input of shape {shapes}: {first_line}",
                    where=_deepest(plain, module),
                    why="the input's shape or type is not the one that the module expects",
                    fix="run module(like) by itself; images are (n, channels, height, width)",
                ) from plain
            raise NoLimit(
                f"torch.export can't read the module: {lines[0]}",
                where=_deepest(error, module),
                why="its forward branches on the values of tensors, or calls code that torch can't trace",
                fix="write the forward without data-dependent branches; gramian.monte_carlo takes any module",
            ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Without torch's own words about its export format, and its log of an op that fails: our error says it."""
    log = logging.getLogger("torch._subclasses.fake_tensor")
    was, log.disabled = log.disabled, True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.disabled = was


def _deepest(error: BaseException, module: nn.Module) -> str:
    """The last line of the user's own code in a traceback."""
    place, tb = type(module).__name__, error.__traceback__
    while tb is not None:
        name = tb.tb_frame.f_code.co_filename
        if "site-packages" not in name and "/gramian/" not in name and not name.startswith("<"):
            place = f"{name}:{tb.tb_lineno}"
        tb = tb.tb_next
    return place
