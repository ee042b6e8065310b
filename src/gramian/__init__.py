"""Will gradient descent find the global minimum? Kernels, Gram matrices and convergence certificates for PyTorch."""

from __future__ import annotations

import importlib
import inspect
import sys
import types
from typing import TYPE_CHECKING, Any

from gramian.version import __version__

if TYPE_CHECKING:
    from gramian import bounds, claims, predicted
    from gramian.certify import Certificate, Certification, Condition, Description, certify
    from gramian.empirical import (
        EmpiricalNTK,
        GaussNewton,
        Sketch,
        empirical_ntk,
        linearize,
        projected_gradients,
        quadratic,
    )
    from gramian.gram import Gram
    from gramian.monitor import LightningMonitor, Monitor, TrainerMonitor
    from gramian.network import Architecture, architecture
    from gramian.network.sampling import MonteCarlo, monte_carlo
    from gramian.prove import prove
    from gramian.solve import Solution, attribution, solve
    from gramian.train import Advice, Settings, Trace, suggest, train

_PACKAGES = {
    "Advice": "train",
    "Architecture": "network",
    "Certificate": "certify",
    "Certification": "certify",
    "Condition": "certify",
    "Description": "certify",
    "EmpiricalNTK": "empirical",
    "GaussNewton": "empirical",
    "Gram": "gram",
    "LightningMonitor": "monitor",
    "Monitor": "monitor",
    "MonteCarlo": "network.sampling",
    "Settings": "train",
    "Sketch": "empirical",
    "Solution": "solve",
    "Trace": "train",
    "TrainerMonitor": "monitor",
    "architecture": "network",
    "attribution": "solve",
    "certify": "certify",
    "empirical_ntk": "empirical",
    "linearize": "empirical",
    "monte_carlo": "network.sampling",
    "prove": "prove",
    "projected_gradients": "empirical",
    "quadratic": "empirical",
    "solve": "solve",
    "suggest": "train",
    "train": "train",
}
_CALLABLE = ("certify", "prove", "solve", "train")  # packages, and functions of these packages
_MODULES = ("bounds", "claims", "predicted")
__all__ = sorted({*_PACKAGES, *_MODULES})


def __getattr__(name: str) -> Any:
    """Public names on first use, so that `gramian --help` does not wait for torch."""
    if name in _MODULES or name in _CALLABLE:
        return importlib.import_module(f"gramian.{name}")
    if name not in _PACKAGES:
        raise AttributeError(f"module 'gramian' has no attribute {name!r}")
    return getattr(importlib.import_module(f"gramian.{_PACKAGES[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


class _CallablePackage(types.ModuleType):
    """A package that can be called as the function of its name: `gramian.train(...)` is `gramian.train.train(...)`.

    So every form of import works: `from gramian import train`, `import gramian.train`, `import gramian.solve.rates`.
    """

    @property
    def _function(self) -> Any:
        return getattr(self, self.__name__.rsplit(".", 1)[-1])

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._function(*args, **kwargs)

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(self._function)

    def __reduce__(self) -> Any:
        return importlib.import_module, (self.__name__,)


class _Package(types.ModuleType):
    """`gramian`, whose packages `train`, `solve`, `prove` and `certify` can be called."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _CALLABLE and isinstance(value, types.ModuleType):
            value.__class__ = _CallablePackage  # the import system sets a package here once it is loaded
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
