"""Where the time of a study went."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Clock:
    """Seconds by name: `with clock("training"): ...`; the same name adds up.

    With `aloud` each name is said on stderr when its work begins.
    """

    def __init__(self, *, aloud: bool = False) -> None:
        self.seconds: dict[str, float] = {}
        self.aloud = aloud

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        if self.aloud and name not in self.seconds:
            print(f"{name} ...", file=sys.stderr)
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - began
