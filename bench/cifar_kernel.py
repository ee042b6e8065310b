"""What does the NTK of an 8-layer CNN with Flatten on 10,000 CIFAR-10 images cost, killed half way and resumed?

Arguments: the number of images (default 10000), the folder with CIFAR-10 (default $GRAMIAN_DATA). It runs
`gramian kernel --out FOLDER` as a user does, kills it (SIGKILL) when half of the tiles are there, runs it again, and
compares some tiles with those of one uninterrupted computation. float32, all cores; seconds by the clock and of CPU.
"""

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from timing import keep
from torch import nn

import gramian
from gramian.data import load
from gramian.library import library

NETWORK = """
from torch import nn

def make():
    sizes = [3] + [16] * 7
    layers = [part for i, o in zip(sizes, sizes[1:]) for part in (nn.Conv2d(i, o, 3, padding=1, bias=False), nn.ReLU())]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(16 * 32 * 32, 10, bias=False))
"""


def tiles(folder: Path) -> int:
    try:
        return len(json.loads((folder / "manifest.json").read_text())["tiles"])
    except OSError:
        return 0


def start(folder: Path, n: int, net: Path) -> subprocess.Popen:
    words = f"kernel --data cifar10 --n {n} --n-test 0 --net {net}:make --dtype float32 --quiet".split()
    return subprocess.Popen([Path(sys.executable).with_name("gramian"), *words, "--out", folder])


n = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
if len(sys.argv) > 2:
    os.environ["GRAMIAN_DATA"] = sys.argv[2]
blocks = -(-n // 256)
of = blocks * (blocks + 1) // 2
work = Path(tempfile.mkdtemp())
try:
    (net := work / "net.py").write_text(NETWORK)
    store = work / "kernel"
    began = time.perf_counter()
    first = start(store, n, net)
    while first.poll() is None and tiles(store) < of // 2:
        time.sleep(0.05)
    first.kill()
    first.wait()
    killed_at, killed = tiles(store), time.perf_counter() - began
    second = start(store, n, net)
    assert second.wait() == 0
    seconds = time.perf_counter() - began
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    gram = gramian.Gram.open(store)
    x = load("cifar10", n=n, n_test=0).x
    x = (x * x[0].numel() ** 0.5).float()  # the command's scale: rows of norm sqrt(d)
    space: dict = {}
    exec(NETWORK, space)
    module: nn.Module = space["make"]()
    arch = gramian.architecture(module, x[:2], law="he")
    some = torch.linspace(0, n - 1, 24).long()
    truth = arch.ntk(x[some].double(), engine="native")
    dense = gram.dense()
    error = float(((dense[some][:, some] - truth) / truth.diagonal().max()).abs().max())
    assert error < 2e-6, error
    eigenvalue = float(torch.linalg.eigvalsh(dense[:2000, :2000].double())[0])
    keep(
        "cifar_kernel", n=n, net="8 layers, Flatten", dtype="float32", threads=os.cpu_count(),
        engine=f"native, {library().isa}",
        seconds=round(seconds, 1), cpu_seconds=round(used.ru_utime + used.ru_stime, 1), peak_mib=used.ru_maxrss // 1024,
        tiles=of, killed_after=killed_at, killed_at_seconds=round(killed, 1),
        disk_mib=sum(f.stat().st_size for f in store.iterdir()) // 2**20, error=error,
        least_eigenvalue_of_2000=eigenvalue,
        microseconds_per_pair=round(1e6 * (used.ru_utime + used.ru_stime) / (n * (n + 1) / 2), 2),
    )  # fmt: skip
finally:
    shutil.rmtree(work)
