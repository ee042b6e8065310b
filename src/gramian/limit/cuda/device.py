"""Device code on a GPU: compiled by NVRTC through `cuda.core` when first needed, started on torch's stream."""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.resources import files
from types import ModuleType
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from gramian.errors import Unsupported

WARPS = 4  # of a block, as in lanes.h
INSTALL = "pip install 'gramian[cuda]'"
Argument = Tensor | int | float


class Device(Protocol):
    """What runs kernels. Tests have one that compiles the same code for the CPU."""

    warps: int  # how many may be at work at a time

    def run(self, source: str, name: str, warps: int, arguments: tuple[Argument, ...]) -> None:
        """Starts a kernel on so many warps; its parameters are pointers, long long and double."""


def source(dtype: torch.dtype, ntk: bool, *parts: str, rows: int | None = None) -> str:
    """Device code: settings, then files of this folder (or, with a line break, code itself); `lanes.h` is not in it."""
    single = dtype == torch.float32
    head = [
        f"#define REAL {'float' if single else 'double'}",
        f"#define SINGLE {int(single)}",
        f"#define NTK {int(ntk)}",
    ]
    if rows is not None:
        head.append(f"#define ROWS {rows}")
    if rows == 32:  # 168 registers a lane; not yet tuned on a GPU
        head.append("#define BLOCKS 3")
    folder = files("gramian.limit.cuda")
    texts = []
    for part in parts:
        if "\n" in part:  # the text itself; else a file's name
            texts.append(part)
        else:
            texts.append((folder / part).read_text(encoding="utf-8"))
    return "\n".join([*head, "#include LANES", *texts])


def whole(text: str) -> str:
    """Device code with the words of a GPU put in."""
    lanes = (files("gramian.limit.cuda") / "lanes.h").read_text(encoding="utf-8")
    return text.replace("#include LANES", lanes)


@lru_cache(maxsize=1)
def library() -> ModuleType | None:
    """`cuda.core`, under its old name too; None where it is not installed."""
    for name in ("cuda.core", "cuda.core.experimental"):
        try:
            module = importlib.import_module(name)
        except ImportError:
            continue
        if hasattr(module, "Program"):
            return module
    return None


def version() -> str:
    """Version of `cuda.core`."""
    return importlib.metadata.version("cuda-core")


def check_gpu(where: str = "cuda") -> None:
    """Raises Unsupported where this machine lacks such a device, or what compiles for it."""
    if where != "cuda" and where in DEVICES:
        return
    if not torch.cuda.is_available():
        if torch.version.cuda:
            built = ""
        else:
            built = ": this torch is built without CUDA"
        raise Unsupported(f"torch finds no CUDA device{built}", op="a GPU")
    if library() is None:
        raise Unsupported(f"it is not installed: {INSTALL}", op="cuda.core")


@dataclass
class Gpu:
    """One GPU; what is compiled for it is kept as long as the process lives.

    Args:
        number: of the device, as torch counts.
        warps: how many are started, for kernels that take one task after the other.
    """

    number: int
    warps: int = 0
    compiled: dict[tuple[str, str], Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.warps = 64 * torch.cuda.get_device_properties(self.number).multi_processor_count

    def run(self, source: str, name: str, warps: int, arguments: tuple[Argument, ...]) -> None:
        """See `Device`."""
        core = library()
        assert core is not None
        with torch.cuda.device(self.number):
            core.Device(self.number).set_current()
            if (source, name) not in self.compiled:
                self.compiled[source, name] = kernel(source, name, torch.cuda.get_device_capability(self.number))
            blocks = max(1, min(-(-warps // WARPS), 2**31 - 1))
            config = core.LaunchConfig(grid=blocks, block=32 * WARPS)
            stream = core.Device(self.number).create_stream(_Stream(torch.cuda.current_stream().cuda_stream))
            core.launch(stream, config, self.compiled[source, name], *map(_argument, arguments))


class _Stream:
    """torch's stream, as `cuda.core` takes those of others."""

    def __init__(self, handle: int) -> None:
        self.handle = handle

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self.handle


def _argument(given: Argument) -> object:
    if isinstance(given, Tensor):
        return given.data_ptr()
    if isinstance(given, float):
        return np.float64(given)
    return np.int64(given)


def kernel(source: str, name: str, capability: tuple[int, int]) -> Any:
    """Compiled for GPUs of this capability, and loaded."""
    return binary(source, capability).get_kernel(name)


def binary(source: str, capability: tuple[int, int]) -> Any:
    """Machine code for GPUs of this capability; needs no GPU."""
    core = library()
    assert core is not None
    options = core.ProgramOptions(std="c++17", arch=f"sm_{capability[0]}{capability[1]}")
    return core.Program(whole(source), code_type="c++", options=options).compile("cubin")


@lru_cache(maxsize=64)
def gpu(number: int) -> Gpu:
    """The GPU of this number."""
    return Gpu(number)


# What runs kernels on torch's devices of a type. An emulator of a GPU adds itself for "cpu".
DEVICES: dict[str, Callable[[int | None], Device]] = {
    "cuda": lambda number: gpu(torch.cuda.current_device() if number is None else number)
}


def device(x: Tensor) -> Device:
    """What runs kernels on the device of these inputs."""
    return DEVICES[x.device.type](x.device.index)
