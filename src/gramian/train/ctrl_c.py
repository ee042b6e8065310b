"""Ctrl-C asks a run to end after its current step; a second one ends it at once."""

from __future__ import annotations

import signal
import threading
from typing import Any


class CtrlC:
    """While entered, the first SIGINT sets `asked`, the second raises KeyboardInterrupt. In the main thread only.

    Example:
        >>> with CtrlC() as interrupt:
        ...     signal.raise_signal(signal.SIGINT)
        ...     interrupt.asked
        True
    """

    def __init__(self) -> None:
        self.asked = False
        self._before: Any = None

    def __enter__(self) -> CtrlC:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.getsignal(signal.SIGINT)
            signal.signal(signal.SIGINT, self._take)
        return self

    def _take(self, signum: int, frame: object) -> None:
        # the commands end a process that does not hear the signal
        heard = getattr(self._before, "heard", None)
        if heard is not None:
            heard()
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True

    def __exit__(self, *exception: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
            self._before = None
