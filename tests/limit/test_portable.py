"""The hot loops are read by other compilers, and for other machines, than the one that built them here."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

NATIVE = Path(__file__).resolve().parents[2] / "native"
SHARED = NATIVE.parent / "src" / "gramian" / "limit" / "cuda"  # headers of C++ and CUDA
HOT = re.search(r"set\(HOT (.*?)\)", (NATIVE / "CMakeLists.txt").read_text(encoding="utf-8"))[1].split()
X86 = {
    "base": [],
    "avx2": ["-mavx2", "-mfma"],
    "avx512": ["-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl", "-mfma"],
}
COMPILERS = [("aarch64-linux-gnu-g++", "base"), *(("clang++", isa) for isa in X86), *(("g++", isa) for isa in X86)]


@pytest.mark.parametrize("source", HOT)
@pytest.mark.parametrize(("compiler", "isa"), COMPILERS)
def test_compiles(source, compiler, isa):
    if shutil.which(compiler) is None:
        pytest.skip(f"no {compiler} here")
    machine = subprocess.run([compiler, "-dumpmachine"], capture_output=True, text=True).stdout
    if isa != "base" and "x86_64" not in machine:
        pytest.skip(f"{compiler} is for {machine.strip()}")
    flags = ["-std=c++17", "-fsyntax-only", "-Wall", f"-DGRAMIAN_ISA={isa}", f"-I{SHARED}", *X86[isa]]
    done = subprocess.run([compiler, *flags, str(NATIVE / source)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
