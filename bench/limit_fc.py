"""What do the kernels of a fully connected network cost on the native engine, in products of matrices of that size?

Arguments: numbers of inputs (default 2000 5000 10000 20000; others than gramian and the product up to 5000). Five
hidden layers of 784, float32, NTK and NNGP together. The limit is half a product, the arithmetic of the duals, and
the writes. `in_products` counts the time in products `x @ x.mT` of torch's BLAS, `in_best_products` in the fastest
product found: oneDNN, where the processor has AVX-512. `times_faster` is that of the engine over plain torch
operations (the recursion by hand), the torch engine and neural-tangents.
"""

import os
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import recursions
import torch
from timing import ask_rival, keep, measure
from torch import nn

from gramian import architecture
from gramian.library import library
from gramian.limit.vectors import products

HIDDEN, FEATURES, FEW = 5, 784, 200
RIVALS = 5000  # inputs up to which the others are timed: they take minutes and gigabytes above


def network(*, bias: bool) -> nn.Sequential:
    layers = [part for _ in range(HIDDEN) for part in (nn.Linear(FEATURES, FEATURES, bias=bias), nn.ReLU())]
    return nn.Sequential(*layers, nn.Linear(FEATURES, 1, bias=bias))


def worst(arch, x) -> float:
    """Largest relative error of some entries against the torch engine in float64."""
    found, exact = arch.kernels(x[:FEW], engine="native"), arch.kernels(x[:FEW].double(), engine="torch")
    return max(float(((a - b) / b).abs().max()) for a, b in zip(found, exact, strict=True))


def rival(x) -> float | None:
    """CPU seconds of neural-tangents for the NTK of the network without biases."""
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "x.npy", x.numpy())
        spec = {"net": "mlp", "hidden": HIDDEN, "dtype": "float32", "repeats": 2}
        cost = ask_rival(spec, Path(folder) / "x.npy", Path(folder) / "ntk.npy")
    return cost and cost["seconds"]


def two_threads(work) -> float | None:
    """How many times faster two threads are by the clock; None where other work runs beside it."""
    return round(wall(work, 1) / wall(work, 2), 2) if quiet else None


def wall(work, threads: int) -> float:
    torch.set_num_threads(threads)
    work()
    seconds = []
    for _ in range(5):
        before = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - before)
    torch.set_num_threads(1)
    return min(seconds)


quiet = os.getloadavg()[0] < 0.5
torch.set_num_threads(1)
for n in [int(word) for word in sys.argv[1:]] or [2000, 5000, 10_000, 20_000]:
    x = torch.randn(n, FEATURES, generator=torch.Generator().manual_seed(0))
    blas = measure(partial(torch.mm, x, x.mT))["seconds"]
    best = min(blas, measure(partial(products, x, x))["seconds"])
    for bias in (False, True):
        arch = architecture(network(bias=bias), x[:2], law=(2**0.5, 0.1 if bias else 0.0))
        error = worst(arch, x)
        assert error < 1e-6, error
        work = partial(arch.kernels, x, engine="native")
        row = measure(work)
        others = {}
        if n <= RIVALS:
            others["torch engine"] = measure(partial(arch.kernels, x, engine="torch"), repeats=1)["seconds"]
        if n <= RIVALS and not bias:
            others["plain torch"] = measure(partial(recursions.mlp, x, HIDDEN), repeats=1)["seconds"]
            others |= {"neural-tangents": seconds} if (seconds := rival(x)) else {}
        net = "mlp with biases" if bias else "mlp"
        keep(
            "limit_fc", net=net, n=n, features=FEATURES, hidden=HIDDEN, dtype="float32",
            engine=f"native, {library().isa}", error=error, **row, torch=torch.__version__,
            in_products=round(row["seconds"] / blas, 3), in_best_products=round(row["seconds"] / best, 3),
            times_faster={name: round(seconds / row["seconds"], 1) for name, seconds in others.items()},
            two_threads=two_threads(work),
        )  # fmt: skip
