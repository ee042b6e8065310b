"""Measures claims, one process a measurement if asked for, and keeps each in the ledger as soon as it is finished."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from multiprocessing import connection

from gramian.claims.claim import SCALES, Measured
from gramian.claims.ledger import Ledger, LedgerKey
from gramian.claims.outcomes import Outcome, outcome
from gramian.claims.registry import CLAIMS, chosen
from gramian.claims.versions import code_version
from gramian.data.sources import VARIABLE
from gramian.errors import BadArgument
from gramian.timing import Stopwatch

# Thresholds are written after looking at seeds below this one; verdicts are judged on five seeds from here on.
FIRST_SEED = 1001


@dataclass(frozen=True)
class Measurement:
    """One thing to be measured: a claim at a scale with a seed, with its premises or with one broken."""

    claim: str
    scale: str
    seed: int
    broken: bool = False

    def key(self) -> LedgerKey:
        """Its key in the ledger."""
        version = code_version(CLAIMS[self.claim], self.scale, self.broken)
        return LedgerKey(self.claim, self.scale, self.seed, self.broken, version)


@dataclass(frozen=True)
class Progress:
    """How far a run is: measurements done of those asked for, and an estimate of the seconds that are left."""

    done: int
    total: int
    last: str
    seconds_left: float


def run(
    keys: str | Sequence[str] = (),
    *,
    scale: str = "smoke",
    seeds: int = 5,
    jobs: int = 1,
    ledger: Ledger | str | os.PathLike[str] | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    first_seed: int = FIRST_SEED,
    news: Callable[[Progress], None] | None = None,
) -> list[Outcome]:
    """Measure claims and judge them on all seeds.

    Args:
        keys: of claims or of papers, "arora2019fine.measure" or "arora2019fine"; () takes all.
        scale: "smoke", which needs no data but scikit-learn's, "paper" or "tiny".
        seeds: how many, from `first_seed` on.
        jobs: processes; each computes with one thread.
        ledger: a file, where finished measurements are kept and looked up; None keeps nothing.
        data_dir: folder of MNIST and the like, for scale "paper"; default the environment variable GRAMIAN_DATA.
        first_seed: thresholds were written on seeds below the default.
        news: called after each measurement.

    Returns:
        One outcome a claim, in the registry's order.

    Raises:
        BadArgument: an unknown key or scale; fewer than one seed or process.
        BadData: a data set of the claim is not there.

    Example:
        >>> [one.claim for one in run("liu2022nesterov.rates", scale="tiny", seeds=2)]
        ['liu2022nesterov.rates']
    """
    if isinstance(keys, str):
        keys = (keys,)
    claims = chosen(keys)
    _check(scale, seeds, jobs)
    if not isinstance(ledger, Ledger):
        ledger = Ledger(ledger)
    wanted = range(first_seed, first_seed + seeds)
    todo = [Measurement(c.key, scale, seed, broken) for c in claims for broken in (False, True) for seed in wanted]
    left = [one for one in todo if one.key() not in ledger.measured]
    with _data_folder(data_dir):
        _measure_all(left, len(todo), jobs, ledger, news)
    judged = [outcome(claim, scale, ledger, wanted) for claim in claims]
    return [one for one in judged if one is not None]


def measure(one: Measurement) -> Measured:
    """One measurement, with one thread, so that its numbers do not depend on the machine's number of cores."""
    claim = CLAIMS[one.claim]
    with one_thread():
        return claim.measure(claim.setting(one.scale, one.broken), one.seed)


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """One thread for torch and for the linear algebra below NumPy and SciPy; then as many as before."""
    import torch
    from threadpoolctl import threadpool_limits

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(threads)


def _measure_all(
    left: list[Measurement], total: int, jobs: int, ledger: Ledger, news: Callable[[Progress], None] | None
) -> None:
    watch, finished = Stopwatch(), 0

    def keep(one: Measurement, measured: Measured) -> None:
        nonlocal finished
        ledger.add(one.key(), CLAIMS[one.claim].setting(one.scale, one.broken), measured)
        finished += 1
        if news is None:
            return
        remaining = len(left) - finished
        seconds = watch.seconds / finished * remaining
        news(Progress(total - remaining, total, f"{one.claim}, seed {one.seed}", seconds))

    if jobs == 1 or len(left) < 2:
        for one in left:
            keep(one, measure(one))
        return
    context = multiprocessing.get_context("spawn")  # a forked torch may hang on its threads' locks
    with ProcessPoolExecutor(min(jobs, len(left)), context, initializer=_end_with_the_parent) as pool:
        try:
            _collect({pool.submit(measure, one): one for one in left}, keep)
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _end_with_the_parent() -> None:
    """A process of a killed run ends at once; without this it would wait for work for ever."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            connection.wait([parent.sentinel])
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _collect(waiting: dict[Future[Measured], Measurement], keep: Callable[[Measurement, Measured], None]) -> None:
    """Keeps each measurement as soon as it is finished."""
    while waiting:
        done, _ = wait(waiting, return_when=FIRST_COMPLETED)
        for future in done:
            keep(waiting.pop(future), future.result())


@contextlib.contextmanager
def _data_folder(data_dir: str | os.PathLike[str] | None) -> Iterator[None]:
    """The data folder in the environment for a while: a setting says which data, never where they lie."""
    if data_dir is None:
        yield
        return
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = str(data_dir)
    try:
        yield
    finally:
        if before is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = before


def _check(scale: str, seeds: int, jobs: int) -> None:
    if scale not in SCALES:
        raise BadArgument(f"scale={scale!r} is not known.", where="claims.run", fix=f"one of {', '.join(SCALES)}")
    for name, value in (("seeds", seeds), ("jobs", jobs)):
        if value < 1:
            raise BadArgument(f"{name}={value} makes no sense.", where="claims.run", fix=f"{name}=2")
