"""Device code compiled by a C++ compiler: a warp is an array of 32 numbers, and a kernel a function of one warp."""

import ctypes
import hashlib
import shutil
import subprocess
from pathlib import Path

from torch import Tensor

LANES = Path(__file__).resolve().parents[2] / "native" / "cuda" / "lanes_cpu.h"
COMPILER = shutil.which("g++") or shutil.which("clang++") or shutil.which("c++")


class Emulated:
    """What `gramian.limit.cuda.device.Device` asks for, in a folder that keeps what it has compiled."""

    warps = 12

    def __init__(self, folder):
        self.folder, self.libraries, self.started = Path(folder), {}, []

    def library(self, source, name):
        """Small inputs go through layers on vectors in less time than an optimizer takes; planes do not."""
        optimized = "-O0" if name == "vectors" else "-O1"
        text = source.replace("#include LANES", LANES.read_text(encoding="utf-8"))
        key = hashlib.sha256(text.encode()).hexdigest()[:16]
        if key not in self.libraries:
            code, built = self.folder / f"{key}.cpp", self.folder / f"{key}.so"
            code.write_text(text, encoding="utf-8")
            command = [COMPILER, "-std=c++17", optimized, "-shared", "-fPIC", "-o", str(built), str(code)]
            done = subprocess.run(command, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr[:4000]
            self.libraries[key] = ctypes.CDLL(str(built))
        return self.libraries[key]

    def run(self, source, name, warps, arguments):
        self.started.append((source, name, warps))
        library, warps = self.library(source, name), min(warps, 3 * self.warps)
        parameters = []
        for given in arguments:
            if isinstance(given, Tensor):
                parameters.append(ctypes.c_void_p(given.data_ptr()))
            else:
                parameters.append(ctypes.c_double(given) if isinstance(given, float) else ctypes.c_longlong(given))
        for warp in range(warps):
            library.set_warp(ctypes.c_longlong(warp), ctypes.c_longlong(warps))
            getattr(library, name)(*parameters)
