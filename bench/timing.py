"""How the benchmarks measure, and what a row keeps. No torch here: the rival's environment imports it too."""

from __future__ import annotations

import ctypes
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).resolve().parent
RIVAL = HERE.parent / ".venv-bench" / "bin" / "python"


def measure(work: Callable[[], object], repeats: int = 5) -> dict:
    """CPU seconds of a call after two warm ones, and how far its peak of memory lies above the start.

    Seconds are of the whole process on one thread: what others do on the machine hardly counts. The smallest of the
    repeats; the median too where it is more than 10 % above.
    """
    start, seconds = _reset_peak(), []
    work(), work()
    for _ in range(repeats):
        before = time.process_time()
        work()
        seconds.append(time.process_time() - before)
    least, middle = min(seconds), statistics.median(seconds)
    row = {"seconds": round(least, 5), "repeats": repeats, "peak_mib": _peak_above(start)}
    return row | ({"median": round(middle, 5)} if middle > 1.1 * least else {})


def keep(bench: str, **row: object) -> None:
    """Prints one row as JSON and appends it to bench/results."""
    row = {"bench": bench, **row} | {key: said for key, said in made().items() if key not in row}
    line = json.dumps(row)
    print(line, flush=True)
    results = HERE / "results"
    results.mkdir(exist_ok=True)
    with (results / f"{bench}.jsonl").open("a", encoding="utf-8") as file:
        file.write(line + "\n")


def ratios(title: str, rows: dict[str, dict]) -> None:
    """One line of talk: each engine's seconds, and how many times gramian's they are."""
    ours = rows["gramian"]["seconds"]
    told = [f"{name} {row['seconds']:.3f} s ({row['seconds'] / ours:.2f} x)" for name, row in rows.items()]
    print(f"{title}: " + ", ".join(told), file=sys.stderr, flush=True)


def ask_rival(spec: object, inputs: Path, answer: Path, script: str = "rival.py") -> dict | None:
    """Runs a script of bench/ in the rival's own environment; None, and why, where there is none."""
    if not RIVAL.exists():
        print("neural-tangents: no .venv-bench here; `make bench` makes it", file=sys.stderr)
        return None
    one_thread = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    quiet = {"XLA_FLAGS": one_thread, "OMP_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3", "JAX_PLATFORMS": "cpu"}
    command = [str(RIVAL), str(HERE / script), json.dumps(spec), str(inputs), str(answer)]
    done = subprocess.run(command, env=os.environ | quiet, capture_output=True, text=True)
    if done.returncode:
        said = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        print(f"neural-tangents does not run here: {said}", file=sys.stderr)
        return None
    return json.loads(done.stdout.strip().splitlines()[-1])


def made() -> dict:
    """What a row says of the machine and of the code."""
    commit = _git("rev-parse", "--short=10", "HEAD")
    if _git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!bench/results"):
        commit += "-dirty"
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return {"threads": 1, "device": _processor(), "python": platform.python_version(), "commit": commit, "date": now}


def _git(*words: str) -> str:
    return subprocess.run(["git", *words], cwd=HERE.parent, capture_output=True, text=True).stdout.strip()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _reset_peak() -> int | None:
    """Resident bytes now, the kernel's record of the peak set back to them; None where there is no such record."""
    try:
        ctypes.CDLL(None).malloc_trim(0)  # else what earlier work freed is used again, and not seen
        Path("/proc/self/clear_refs").write_text("5")
        return _status("VmRSS")
    except (OSError, AttributeError):
        return None


def _peak_above(start: int | None) -> float | None:
    return None if start is None else round((_status("VmHWM") - start) / 2**20, 1)


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))
