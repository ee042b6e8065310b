"""The line of Python that runs a study again: every setting that is not a default is in it."""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import Any

from gramian.certify.finished_run import FinishedRun
from gramian.certify.request import Request
from gramian.train.settings import Settings

OWN_DEFAULTS = {"optimizer": "sgd", "accuracy": 0.01}  # of `certify`, in place of those of `Settings`


def defaults() -> dict[str, Any]:
    """Default of each keyword of `certify`, settings included."""
    of_request = {field.name: field.default for field in fields(Request) if field.default is not MISSING}
    of_settings = {field.name: field.default for field in fields(Settings)}
    return {**of_request, **of_settings, **OWN_DEFAULTS}


def call(network: str, x: str, y: str, arguments: dict[str, Any], *, test: tuple[str, str] | None = None) -> str:
    """`gramian.certify(...)` with the arguments that are not defaults, each as Python writes it.

    Example:
        >>> call("net", "x", "y", {"optimizer": "gd", "seed": 0, "width": 64, "law": (1.4, 0.1)})
        "gramian.certify(net, x, y, optimizer='gd', width=64, law=(1.4, 0.1))"
    """
    known = defaults()
    parts = [network, x, y]
    if test is not None:
        parts += [f"x_test={test[0]}", f"y_test={test[1]}"]
    parts += [f"{name}={value!r}" for name, value in arguments.items() if value != known[name]]
    return f"gramian.certify({', '.join(parts)})"


def python_line(run: FinishedRun) -> str:
    """The line for a finished run, with the learning rate and the width that were chosen.

    `module`, `x`, `y` and the test rows are the caller's; a module that is trained in place has to be at its start.
    """
    request, settings = run.data.request, run.data.request.settings
    # the network keeps the widths of a module as it stands, and a width would make it another
    width: int | str = "auto"
    if not run.data.setup.fixed_width:
        width = run.width.width
    arguments = {
        "law": request.law,
        "parametrization": request.parametrization,
        "width": width,
        "tolerance": request.tolerance,
        "targets": request.targets,
        "dtype": request.dtype,
        "device": request.device,
        "prove": request.prove,
        **{field.name: getattr(settings, field.name) for field in fields(Settings)},
        "lr": run.plan.lr,
    }
    return call("module", "x", "y", arguments, test=("x_test", "y_test") if run.data.has_test else None)
