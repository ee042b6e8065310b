"""Ctrl-C while compiled code runs: Python's own handler waits until that returns, which may take minutes."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType

from gramian.cli.show import INTERRUPTED, talk

PATIENCE = 1.0  # seconds that Python gets to see the signal itself


def watch() -> None:
    """From now on, an interruption that Python doesn't see within a second ends the process with exit code 130.

    The system's own handler writes a byte into a pipe at once, also during a call into compiled code; a thread waits
    for it. Where Python's handler runs in time, KeyboardInterrupt is raised as always, and what was computed so far
    can be kept. Files are written under temporary names and renamed, so nothing is left half-written.
    """
    if os.name != "posix" or threading.current_thread() is not threading.main_thread():
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    seen = threading.Event()
    before = signal.getsignal(signal.SIGINT)

    def handler(number: int, frame: FrameType | None) -> None:
        seen.set()
        if callable(before):
            before(number, frame)

    handler.heard = seen.set  # type: ignore[attr-defined]  # for whoever takes its place for a while: see `CtrlC`
    signal.signal(signal.SIGINT, handler)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)

    def wait() -> None:
        while True:
            byte = os.read(reader, 1)
            if not byte or byte[0] != signal.SIGINT:
                continue
            if not seen.wait(PATIENCE):
                talk("Interrupted in the middle of a computation: nothing more was written.")
                os._exit(INTERRUPTED)
            seen.clear()

    threading.Thread(target=wait, daemon=True, name="gramian-interrupt").start()
