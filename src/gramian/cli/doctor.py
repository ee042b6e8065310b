"""`gramian doctor`: what is here and what is missing, with what to type."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
from pathlib import Path

from gramian.cli import options as opt
from gramian.cli import show
from gramian.errors import GramianError, Unsupported

PACKAGES = (
    "torch", "numpy", "scipy", "scikit-learn", "safetensors", "python-flint", "pandas", "pyarrow", "typer",
    "rich", "plotly", "jinja2",
)  # fmt: skip
IMPORTED_AS = {"scikit-learn": "sklearn", "python-flint": "flint"}


def doctor(data_dir: opt.DataDir = None) -> None:
    """What this machine has: versions, devices, threads, engines, data; and what is missing, with what to type.

    In Python: gramian.data.available() for the data, torch.__config__.show() for the rest.
    """
    console = show.out()
    missing: list[tuple[str, str]] = []
    sections = (
        ("Versions", _versions(missing)),
        ("Machine", _machine(missing)),
        ("Engines", _engines(missing)),
        ("Data", _data(data_dir, missing)),
    )
    for title, pairs in sections:
        console.print(show.heading(title))
        show.rows(pairs, console)
        console.print()
    console.print(show.heading("Missing"))
    show.rows(missing or [("nothing", "everything that this version can use is here")], console)


def _versions(missing: list[tuple[str, str]]) -> list[tuple[str, str]]:
    from gramian.version import __version__

    pairs = [
        ("gramian", __version__),
        ("python", f"{platform.python_version()}, {platform.system()} {platform.machine()}"),
    ]
    for name in PACKAGES:
        try:
            importlib.import_module(IMPORTED_AS.get(name, name))
            pairs.append((name, importlib.metadata.version(name)))
        except Exception as error:  # a damaged package may raise anything on import
            pairs.append((name, f"cannot be imported: {type(error).__name__}: {error}"))
            missing.append((name, f"pip install --upgrade {name}"))
    return pairs


def _machine(missing: list[tuple[str, str]]) -> list[tuple[str, str]]:
    try:
        import torch
    except Exception:  # said under Versions
        return [("threads", "not known without torch")]
    cores: int | None
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count()
    said = os.environ.get("OMP_NUM_THREADS")
    pairs = [("processor", f"{cores} cores, {torch.backends.cpu.get_cpu_capability()}")]
    if hasattr(os, "sysconf"):
        pairs.append(("memory", f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.1f} GiB"))
    threads = f"torch uses {torch.get_num_threads()}"
    if said:
        threads += f" (OMP_NUM_THREADS={said})"
    pairs.append(("threads", threads))
    pairs.append(("BLAS", _blas()))
    if said is None and cores is not None and torch.get_num_threads() > cores:
        missing.append(("cores", f"torch starts {torch.get_num_threads()} threads: export OMP_NUM_THREADS={cores}"))
    devices = ["cpu"]
    for i in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(i)
        devices.append(f"cuda:{i} ({properties.name}, {properties.total_memory / 2**30:.0f} GiB)")
    if torch.backends.mps.is_available():
        devices.append("mps (float32 only)")
    return [*pairs, ("devices", ", ".join(devices))]


def _blas() -> str:
    """LAPACK of torch, and the libraries that numpy and scipy have loaded."""
    import torch
    from threadpoolctl import threadpool_info

    of_torch = "none"
    if torch.backends.mkl.is_available():
        of_torch = "MKL"
    elif torch._C.has_lapack:
        of_torch = "OpenBLAS or another"
    loaded = {f"{pool['internal_api']} {pool['version']}" for pool in threadpool_info() if pool["user_api"] == "blas"}
    return f"torch: {of_torch}; numpy and scipy: {', '.join(sorted(loaded)) or 'not known'}"


def _engines(missing: list[tuple[str, str]]) -> list[tuple[str, str]]:
    try:
        from gramian.library import library
    except Exception:
        return [("torch", "missing")]
    native = library()
    said = f"yes: C++, with {native.isa} instructions"
    if native.module is None:
        missing.append(("native engine", native.why))
        said = native.why
    return [
        ("torch", "yes: every kernel, on any device that torch has"),
        ("native", said),
        ("cuda", _cuda(missing)),
    ]


def _cuda(missing: list[tuple[str, str]]) -> str:
    import torch

    from gramian.limit.cuda import device

    try:
        device.check_gpu()
        return f"yes: compiled for a network when it is first needed, with cuda.core {device.version()}"
    except Unsupported:
        pass
    if not torch.cuda.is_available():
        if not torch.version.cuda:
            return "no device found (this torch is built without CUDA)"
        return "no device found"
    missing.append(("cuda engine", device.INSTALL))
    return "cuda.core is not installed; --device cuda runs the torch engine"


def _data(data_dir: Path | None, missing: list[tuple[str, str]]) -> list[tuple[str, str]]:
    from gramian.data import available

    try:
        sets = available(data_dir)
    except GramianError as error:
        missing.append(("data", error.fix))
        return [("not found", f"{error.what} {error.where}")]
    embedded = [one.name for one in sets if one.where == "scikit-learn"]
    pairs = [("scikit-learn", ", ".join(embedded))]
    absent = []
    for one in sets:
        if one.where == "scikit-learn":
            continue
        if one.note:
            note = f" ({one.note})"
        else:
            note = ""
        if one.present:
            if one.missing:
                gap = f"; without {', '.join(one.missing)}"
            else:
                gap = ""
            pairs.append((one.name, f"{one.where}{note if one.name == 'uci' else ''}{gap}"))
        else:
            absent.append(one.name)
            pairs.append((one.name, f"not found{': ' + one.where if one.where else ''}"))
    if absent:
        missing.append((", ".join(absent), f"--data-dir FOLDER, or export {'GRAMIAN_DATA'}=FOLDER, that holds them"))
    return pairs
