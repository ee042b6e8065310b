"""The version of a claim's code: measurements of one version are never mixed with those of another.

It is a digest of the source of `measure`, of the functions of this package that it calls, of the constants that these
read, of the setting, and of the claim's `revision`. Comments and judgements do not count: a claim can be judged
anew on what was measured. The text is taken rather than the syntax tree, whose form changes between versions of Python.
"""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Callable
from types import CodeType, FunctionType

from gramian.claims.claim import Claim

PACKAGE = "gramian.claims."
DIGITS = 12  # hexadecimal ones: 48 bits for a few hundred settings


def code_version(claim: Claim, scale: str, broken: bool) -> str:
    """The version of what measures this claim at this scale."""
    setting = json.dumps(claim.setting(scale, broken), sort_keys=True)
    parts = [f"revision {claim.revision}", setting, *_sources(claim.measure)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:DIGITS]


def _sources(function: Callable) -> list[str]:
    """The text of a function and of what it uses of this package, each once, in the order of their names."""
    seen: dict[str, str] = {}
    assert isinstance(function, FunctionType), "a claim is measured by a plain function"
    waiting: list[FunctionType] = [function]
    while waiting:
        current = waiting.pop()
        seen[current.__name__] = _text(current)
        for name in sorted(_names(current.__code__) - seen.keys()):
            value = current.__globals__.get(name)
            if isinstance(value, FunctionType) and value.__module__.startswith(PACKAGE):
                waiting.append(value)
            elif isinstance(value, bool | int | float | str | tuple):
                seen[name] = repr(value)
    return [f"{name}: {seen[name]}" for name in sorted(seen)]


def _text(function: FunctionType) -> str:
    """Its source without comments of whole lines and without empty lines."""
    lines = [line.rstrip() for line in inspect.getsource(function).splitlines()]
    return "\n".join(line for line in lines if line and not line.lstrip().startswith("#"))


def _names(code: CodeType) -> set[str]:
    """Global names that a function reads, those of functions inside it too."""
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names |= _names(constant)
    return names
