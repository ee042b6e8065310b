"""What the limit kernel will cost, before it is computed; and its computation in pieces that can be stopped."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from gramian.errors import BadArgument
from gramian.gram import Gram
from gramian.predict.cost import MEMORY_SHARE, free_memory
from gramian.timing import seconds_of

Kernel = Callable[[Tensor, Tensor | None], Tensor]
TILE_SECONDS = 0.5  # seconds between two looks at Ctrl-C and two moves of the bar
MOST_TEST_SECONDS = 60.0  # seconds; a kernel between training and test rows that takes longer gets fewer test rows
TEST_ROW_COUNTS = (1000, 500, 200, 100, 50, 20)
COLUMNS_TOGETHER = 16  # columns that an engine computes together
TRIED_ROWS = 1000  # whose spectrum is timed before that of more than twice as many
LEAST_TRIAL_SECONDS = 0.02  # seconds that a trial must take to be a measurement


def seconds_per_pair(kernel: Kernel, x: Tensor) -> float:
    """Time of one entry of a kernel, from blocks of 16 columns and more whose rows grow until they take 20 ms.

    Engines compute 16 columns at a time, also where there are fewer: two rows against themselves take the time of 32
    pairs, and made seconds look like minutes.

    The first call, which may make tables and programs, is not counted. What this time decides must not depend on what
    else the machine does: on a CPU the process's own time counts where it is the shorter, and a block that seems long
    is taken twice. (A pause of 20 ms in a block of two rows made a kernel of 80 rows "costly".)
    """
    rows, columns = 1, min(COLUMNS_TOGETHER, len(x))
    kernel(x[:1], x[-1:])
    while True:
        block = x[:rows], x[-columns:]
        took = _seconds(kernel, *block)
        if LEAST_TRIAL_SECONDS <= took < TILE_SECONDS:
            took = min(took, _seconds(kernel, *block))
        if took >= LEAST_TRIAL_SECONDS or rows == len(x) or rows >= 256:
            return took / (rows * columns)
        rows = min(2 * rows, len(x))
        columns = max(columns, rows)


def _seconds(kernel: Kernel, x: Tensor, x2: Tensor) -> float:
    return seconds_of(partial(kernel, x, x2), on_cpu=x.device.type == "cpu")


def matrix(kernel: Kernel, x: Tensor, x2: Tensor | None, per_pair: float, tell: Callable[[int, int], object]) -> Tensor:
    """`kernel(x, x2)`; in tiles of about half a second where the whole takes longer."""
    columns = x if x2 is None else x2
    if per_pair * len(x) * len(columns) <= TILE_SECONDS:
        return kernel(x, x2)
    # a tile of s x s entries takes s^2 times the time of one
    tile = max(1, int((TILE_SECONDS / per_pair) ** 0.5))
    if tile >= COLUMNS_TOGETHER // 2:  # whole groups of columns
        tile = max(COLUMNS_TOGETHER, tile // COLUMNS_TOGETHER * COLUMNS_TOGETHER)
    gram = Gram(lambda a, b=None: kernel(a, b), x, x2, tile=tile, keep=False)
    out: Tensor | None = None
    done = 0
    for rows, cols, part in gram.tiles():
        if out is None:
            out = torch.empty(gram.shape, dtype=part.dtype, device=part.device)
        out[rows, cols] = part
        done += part.numel()
        tell(done, out.numel())
    assert out is not None
    return out


def spectrum_seconds(theta: Tensor, timed: Callable[..., float] = seconds_of) -> float:
    """What the eigenvalues and eigenvectors of this matrix will take: LAPACK's time for its first 1,000 rows, cubed up.

    `timed(work, on_cpu=False)` gives the seconds that `work()` takes.

    Measured on one core beside other work: 6.1 s for 3,000 rows, predicted 4.4 s. 0 of few rows, which take about 2 s.
    """
    n = len(theta)
    if n <= 2 * TRIED_ROWS:
        return 0.0
    # eigenvalues and eigenvectors take time in proportion to n^3
    few = theta[:TRIED_ROWS, :TRIED_ROWS].double()
    return timed(partial(torch.linalg.eigh, few), on_cpu=False) * (n / TRIED_ROWS) ** 3


def memory(n: int) -> float:
    """Bytes of the limit kernel of n rows with its eigenvectors, its factor and LAPACK's work space, at their peak.

    Measured: 5.4 and 5.5 matrices of n x n float64 numbers at 4,000 and 2,500 rows.
    """
    return 5.5 * 8.0 * n**2


def check_memory(n: int) -> str:
    """What the limit kernel of n rows takes in memory, in words; "" where that is little.

    Raises:
        BadArgument: more than this machine has free.
    """
    needed, free = memory(n), free_memory()
    if needed <= MEMORY_SHARE * free:
        if needed > 2**30:
            return f"limit kernel of {n:,} rows: about {needed / 2**30:.1f} GiB of memory"
        return ""
    # memory(n) is memory(1) n^2
    most = int((MEMORY_SHARE * free / memory(1)) ** 0.5)
    raise BadArgument(
        f"The limit kernel of {n:,} rows and its spectrum take {needed / 2**30:.1f} GiB; {free / 2**30:.1f} are free.",
        where="the training rows of certify",
        why="n rows give several matrices of n x n numbers, "
        f"and at most {MEMORY_SHARE:.0%} of the free memory is taken",
        fix=f"fewer rows: x[:{most // 100 * 100}], or --n {most // 100 * 100}",
    )


def test_rows(n: int, n_test: int, per_pair: float) -> int:
    """How many test rows the kernel between them and n training rows can have in `MOST_TEST_SECONDS` seconds.

    Example:
        >>> test_rows(500, 1000, 1e-6), test_rows(100, 1000, 0.013), test_rows(100, 7, 10.0)
        (1000, 20, 7)
    """
    if per_pair * n * n_test <= MOST_TEST_SECONDS:
        return n_test
    fewer = [m for m in TEST_ROW_COUNTS if m < n_test and per_pair * n * m <= MOST_TEST_SECONDS]
    return min(n_test, fewer[0] if fewer else TEST_ROW_COUNTS[-1])


test_rows.__test__ = False  # type: ignore[attr-defined]  # pytest: not a test


def words(seconds: float) -> str:
    """A time to wait, roughly.

    Example:
        >>> words(4.2), words(200), words(9000)
        ('about 4 s', 'about 3 min', 'about 2.5 h')
    """
    if seconds < 100:
        return f"about {seconds:.0f} s"
    if seconds < 6000:
        return f"about {seconds / 60:.0f} min"
    return f"about {seconds / 3600:.1f} h"


def affordable_test_rows(n: int, n_test: int, per_pair: float, seed: int) -> tuple[Tensor | None, str]:
    """Which test rows, drawn by the seed, the limit kernel can have, and a note; None where it can have all of them."""
    count = test_rows(n, n_test, per_pair)
    if count == n_test:
        return None, ""
    keep = torch.randperm(n_test, generator=torch.Generator().manual_seed(seed))[:count].sort().values
    note = (
        f"Only {count:,} of {n_test:,} test rows were used, because the limit kernel between all of them and the "
        f"training rows would take {words(per_pair * n * n_test)}."
    )
    return keep, note
