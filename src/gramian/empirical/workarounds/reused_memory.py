"""Memory that is taken again and again: a fresh page costs the system as long as a thousand multiplications.

On Linux; elsewhere nothing is done.
"""

from __future__ import annotations

import ctypes
import sys
from functools import cache

import numpy as np
from torch import Tensor

from gramian.empirical.workarounds.switch import workarounds_are_on

MOST_BYTES = 2**25 - 2**15  # bytes; the largest block for which glibc raises its threshold is 32 MiB
HUGE_PAGE = 2**21  # bytes of a huge page
MADV_HUGEPAGE = 14


def keep_freed_blocks() -> None:
    """Lets the C library keep what is freed for the next tensor, where it would give each back to the system.

    glibc keeps blocks up to the largest that was ever freed. Nothing is written, so this takes microseconds.
    """
    if sys.platform == "linux" and workarounds_are_on():
        np.empty(MOST_BYTES, np.uint8)


def room(like: Tensor, n: int) -> Tensor:
    """An empty tensor of n rows of the same kind, in huge pages where the system has them."""
    out = like.new_empty(n, *like.shape[1:])
    if out.device.type == "cpu" and workarounds_are_on():
        advise = _madvise()
    else:
        advise = None
    if advise is not None:
        start = -(-out.data_ptr() // HUGE_PAGE) * HUGE_PAGE
        length = (out.data_ptr() + out.nbytes - start) // HUGE_PAGE * HUGE_PAGE
        if length > 0:
            advise(start, length, MADV_HUGEPAGE)  # advice: where it is refused, the pages are small
    return out


@cache
def _madvise() -> ctypes._NamedFuncPointer | None:
    """The C library's call, where there is one."""
    if sys.platform != "linux":
        return None
    call = ctypes.CDLL(None).madvise
    call.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    return call
