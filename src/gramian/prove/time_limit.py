"""A proof's time: what it may take, and what is said when that is over."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field


@dataclass(frozen=True)
class TimeLimit:
    """So many seconds from now on."""

    seconds: float = math.inf
    began: float = field(default_factory=time.perf_counter)

    @property
    def used(self) -> float:
        return time.perf_counter() - self.began

    @property
    def over(self) -> bool:
        return self.used > self.seconds
