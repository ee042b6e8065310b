"""Will gradient descent find the global minimum? Kernels, Gram matrices and convergence certificates for PyTorch."""

from __future__ import annotations

import importlib
import sys
import types
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gramian.arch import Architecture, architecture
    from gramian.certify import Certificate, Certification, Condition, certify  # type: ignore[no-redef]
    from gramian.certify.monitor import LightningMonitor, Monitor, TrainerMonitor
    from gramian.empirical import (
        EmpiricalNTK,
        GaussNewton,
        MonteCarlo,
        Sketch,
        empirical_ntk,
        linearize,
        monte_carlo,
        projected_gradients,
        quadratic,
    )
    from gramian.gram import Gram
    from gramian.solve import Solution, attribution, gradient_descent, gradient_flow, momentum, nesterov, solve
    from gramian.train import Advice, Trace, suggest, train

__version__ = "0.1.0"

_ROOMS = {
    "Advice": "train",
    "Architecture": "arch",
    "Certificate": "certify",
    "Certification": "certify",
    "Condition": "certify",
    "EmpiricalNTK": "empirical",
    "GaussNewton": "empirical",
    "Gram": "gram",
    "LightningMonitor": "certify.monitor",
    "Monitor": "certify.monitor",
    "MonteCarlo": "empirical",
    "Sketch": "empirical",
    "Solution": "solve",
    "Trace": "train",
    "TrainerMonitor": "certify.monitor",
    "architecture": "arch",
    "attribution": "solve",
    "certify": "certify",
    "empirical_ntk": "empirical",
    "gradient_descent": "solve",
    "gradient_flow": "solve",
    "linearize": "empirical",
    "momentum": "solve",
    "monte_carlo": "empirical",
    "nesterov": "solve",
    "projected_gradients": "empirical",
    "quadratic": "empirical",
    "solve": "solve",
    "suggest": "train",
    "train": "train",
}
__all__ = sorted(_ROOMS)


def __getattr__(name: str) -> Any:
    """Public names on first use, so that `gramian --help` does not wait for torch."""
    if name not in _ROOMS:
        raise AttributeError(f"module 'gramian' has no attribute {name!r}")
    return getattr(importlib.import_module(f"gramian.{_ROOMS[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


class _Package(types.ModuleType):
    """`gramian.train`, `gramian.solve` and `gramian.certify` are functions; the rooms of the same names stay importable
    (`from gramian.train import Trace`), but importing one must not hide the function.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _ROOMS and isinstance(value, types.ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
