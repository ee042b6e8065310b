"""What do limit kernels cost on a GPU: pairs of 32x32x3 images a second, and a large Gram matrix over its product?"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from timing import HERE, made
from torch import Tensor, nn

from gramian import architecture
from gramian.gram import Gram
from gramian.limit.cuda import missing

IMAGES, POINTS, FEATURES, LAYERS = 128, 50_000, 3072, 5


def seconds(work: Callable[[], object], repeats: int = 5) -> dict:
    """Wall time of a call between two synchronizations: the smallest of the repeats, and the median if 10 % above."""
    found = []
    work(), work()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    for _ in range(repeats):
        before = time.perf_counter()
        work()
        torch.cuda.synchronize()
        found.append(time.perf_counter() - before)
    least, middle = min(found), statistics.median(found)
    row = {"seconds": round(least, 6), "repeats": repeats, "peak_mib": torch.cuda.max_memory_allocated() // 2**20}
    return row | ({"median": round(middle, 6)} if middle > 1.1 * least else {})


def convolutional(hidden: int, *, pooled: bool, size: int = 32) -> nn.Module:
    layers: list[nn.Module] = []
    for i in range(hidden):
        layers += [nn.Conv2d(4 if i else 3, 4, 3, padding=1, bias=False), nn.ReLU()]
    pool = [nn.AdaptiveAvgPool2d(1)] if pooled else []
    return nn.Sequential(*layers, *pool, nn.Flatten(), nn.Linear(4 if pooled else 4 * size * size, 1, bias=False))


def check(arch, x: Tensor) -> None:
    """float64 on a few inputs against torch's oracle on the CPU; float32 against float64."""
    truth = arch.ntk(x[:3].double().cpu(), engine="torch" if x.ndim == 2 else "native")
    torch.testing.assert_close(arch.ntk(x[:3].double(), engine="cuda").cpu(), truth, rtol=1e-12, atol=0)
    torch.testing.assert_close(arch.ntk(x[:3], engine="cuda").cpu().double(), truth, rtol=2e-6, atol=0)


def keep(**row: object) -> None:
    row = {"bench": "limit_cuda", **row, **made(), "device": torch.cuda.get_device_name(), "torch": torch.__version__}
    line = json.dumps(row)
    print(line, flush=True)
    with (Path(HERE) / "results" / "limit_cuda.jsonl").open("a", encoding="utf-8") as file:
        file.write(line + "\n")


def images() -> None:
    x = torch.randn(2 * IMAGES, 3, 32, 32, device="cuda")
    for hidden, pooled in ((5, True), (10, True), (20, True), (21, False)):
        arch = architecture(convolutional(hidden, pooled=pooled), torch.zeros(1, 3, 32, 32))
        check(arch, x)
        few = x if not pooled else x[:32]
        pairs = len(few) * (len(few) + 1) // 2
        row = seconds(lambda: arch.ntk(few, engine="cuda"))  # noqa: B023
        net = f"{'pooled' if pooled else 'flat'}, depth {hidden}"
        keep(net=net, pairs=pairs, per_pair=row["seconds"] / pairs, dtype="float32", **row)
        print(f"{net}: {1e6 * row['seconds'] / pairs:.3g} us a pair", file=sys.stderr, flush=True)


def points() -> None:
    layers = [part for _ in range(LAYERS) for part in (nn.Linear(FEATURES, FEATURES, bias=False), nn.ReLU())]
    arch = architecture(nn.Sequential(*layers, nn.Linear(FEATURES, 1, bias=False)), torch.zeros(1, FEATURES))
    x = torch.randn(POINTS, FEATURES, device="cuda")
    check(arch, x)
    product = seconds(lambda: x @ x.mT, 3)
    whole = seconds(lambda: arch.kernels(x, engine="cuda"), 3)
    tiled = seconds(lambda: [None for _ in Gram(arch.ntk, x, tile=8192, keep=False).tiles()], 3)
    for engine, row in (("product", product), ("gramian", whole), ("gramian, NTK in tiles", tiled)):
        ratio = round(row["seconds"] / product["seconds"], 3)
        keep(net=f"FC, {LAYERS} layers", engine=engine, n=POINTS, d=FEATURES, of_product=ratio, dtype="float32", **row)


if __name__ == "__main__":
    if lack := missing():
        sys.exit(f"bench/limit_cuda.py measures nothing here: {lack}")
    torch.manual_seed(0)
    images()
    points()
