"""The compiled library of hot loops, where this installation has one."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType


@dataclass(frozen=True)
class Library:
    """What was found: the module and the instructions that it runs on; or neither, and why.

    Args:
        module: `gramian._native`; None where it was not built.
        isa: "AVX-512", "AVX2", "SSE2" or "NEON"; "" without the module.
        why: why there is none, and what to type; "" with the module.
    """

    module: ModuleType | None
    isa: str = ""
    why: str = ""


@lru_cache(maxsize=1)
def library() -> Library:
    """The library, loaded once."""
    try:
        module = importlib.import_module("gramian._native")
    except ModuleNotFoundError as error:
        if error.name != "gramian._native":
            raise
        return Library(None, why="not built: install from source where there is a C++ compiler, or take a wheel")
    except ImportError as error:  # built for another Python or another machine
        return Library(None, why=f"cannot be loaded: {error}; build it again")
    return Library(module, isa=module.isa())
