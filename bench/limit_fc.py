"""What do the kernels of a fully connected network cost on the native engine, in products of matrices of that size?

Arguments: numbers of inputs (default 2000 5000). Five hidden layers of 784, float32, NTK and NNGP, CPU time. The limit is
half a product, the arithmetic of the duals, and the writes: `products` counts the seconds in a matrix product of
torch's BLAS, `bestproducts` in the fastest product found (oneDNN, where the processor has AVX-512).
"""

import os
import sys
import time
from functools import partial

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from timing import keep, measure
from torch import nn

from gramian import architecture
from gramian.limit.library import library
from gramian.limit.vectors import products

HIDDEN, FEATURES = 5, 784


def network(*, bias: bool) -> nn.Sequential:
    layers = [part for _ in range(HIDDEN) for part in (nn.Linear(FEATURES, FEATURES, bias=bias), nn.ReLU())]
    return nn.Sequential(*layers, nn.Linear(FEATURES, 1, bias=bias))


def right(arch, x) -> float:
    """Largest relative error of a few hundred entries against the torch engine in float64."""
    few = x[:200]
    found, exact = arch.kernels(few, engine="native"), arch.kernels(few.double(), engine="torch")
    return max(float(((a - b) / b).abs().max()) for a, b in zip(found, exact, strict=True))


def wall(work, threads: int) -> float:
    torch.set_num_threads(threads)
    work()
    seconds = []
    for _ in range(3):
        before = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - before)
    torch.set_num_threads(1)
    return min(seconds)


torch.set_num_threads(1)
for n in [int(word) for word in sys.argv[1:]] or [2000, 5000]:
    x = torch.randn(n, FEATURES, generator=torch.Generator().manual_seed(0))
    blas, best = measure(lambda x=x: x @ x.mT), measure(lambda x=x: products(x, x))
    for bias in (False, True):
        arch = architecture(network(bias=bias), x[:2], law=(2**0.5, 0.1 if bias else 0.0))
        error = right(arch, x)
        assert error < 1e-6, error
        work = partial(arch.kernels, x, engine="native")
        row = measure(work)
        plain = measure(partial(arch.kernels, x, engine="torch"), repeats=1) if n <= 5000 else None
        keep(
            "limit_fc",
            net="mlp, biases" if bias else "mlp",
            n=n,
            features=FEATURES,
            hidden=HIDDEN,
            dtype="float32",
            engine=f"native, {library().isa}",
            error=error,
            **row,
            products=round(row["seconds"] / blas["seconds"], 3),
            bestproducts=round(row["seconds"] / min(best["seconds"], blas["seconds"]), 3),
            torch_seconds=plain and plain["seconds"],
            torch_ratio=plain and round(plain["seconds"] / row["seconds"], 1),
            wall_ratio_of_two_threads=round(wall(work, 1) / wall(work, 2), 2) if n <= 5000 else None,
        )
