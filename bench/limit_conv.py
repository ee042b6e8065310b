"""What does a pair of 32x32x3 images cost by displacement planes, against plain torch and neural-tangents?"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from recursions import cnn_flat, cnn_pooled
from timing import ask_rival, keep, measure
from torch import Tensor, nn

from gramian import architecture
from gramian.library import library

FEW = 2  # images for the slow ones: all their pairs, since neither uses symmetry


def conv(into: int, stride: int = 1) -> list[nn.Module]:
    return [nn.Conv2d(into, 4, 3, padding=1, stride=stride, bias=False), nn.ReLU()]


def plain(hidden: int, size: int, *, pooled: bool, strides: tuple[int, ...] = ()) -> nn.Module:
    """Convolutions 3x3 with zero padding and ReLUs; `strides` are the layers of stride 2."""
    layers = [part for i in range(hidden) for part in conv(4 if i else 3, 1 + (i in strides))]
    return nn.Sequential(*layers, *head(pooled, size))


def head(pooled: bool, size: int) -> list[nn.Module]:
    pool = [nn.AdaptiveAvgPool2d(1)] if pooled else []
    return [*pool, nn.Flatten(), nn.Linear(4 if pooled else 4 * size * size, 1, bias=False)]


def myrtle(size: int) -> nn.Module:
    """Myrtle-5 (Shankar et al. 2020, arXiv:2003.02237): four convolutions, pools of 2x2 between, a mean at the end."""
    pool = nn.AvgPool2d(2)
    return nn.Sequential(*conv(3), *conv(4), pool, *conv(4), pool, *conv(4), *head(True, size))


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.branch = nn.Sequential(nn.ReLU(), *conv(4), conv(4)[0])

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x)


def residual(size: int) -> nn.Module:
    """Ten convolutions in pre-activation order, and a mean at the end."""
    return nn.Sequential(conv(3)[0], *(Block() for _ in range(4)), *conv(4), *head(True, size))


NETS = {  # the network at any size; the same recursion by hand; what neural-tangents calls it
    "flat, depth 21": (lambda size: plain(21, size, pooled=False), lambda x: cnn_flat(x, 21), ("cnn-flat", 21)),
    "pooled, depth 5": (lambda size: plain(5, size, pooled=True), lambda x: cnn_pooled(x, 5), ("cnn-pooled", 5)),
    "pooled, depth 10": (lambda size: plain(10, size, pooled=True), lambda x: cnn_pooled(x, 10), ("cnn-pooled", 10)),
    "pooled, depth 20": (lambda size: plain(20, size, pooled=True), None, None),
    "pooled, depth 10, strides": (lambda size: plain(10, size, pooled=True, strides=(3, 6)), None, None),
    "myrtle-5": (myrtle, None, None),
    "residual, depth 10": (residual, None, None),
}


def check(make, images: Tensor) -> None:
    """float64 against the torch engine on small images, float32 against float64 on those that are timed."""
    arch, small = architecture(make(8), torch.zeros(1, 3, 8, 8)), torch.randn(3, 3, 8, 8, dtype=torch.float64)
    truth = arch.ntk(small, engine="torch")
    torch.testing.assert_close(arch.ntk(small, engine="native"), truth, rtol=1e-12, atol=0)
    arch = architecture(make(32), torch.zeros(1, 3, 32, 32))
    single, double = (arch.ntk(x[:1], x[1:4], engine="native") for x in (images, images.double()))
    torch.testing.assert_close(single.double(), double, rtol=1e-6, atol=0)


def main() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    images = torch.randn(64, 3, 32, 32)
    for net, (make, by_hand, rival) in NETS.items():
        check(make, images)
        arch = architecture(make(32), torch.zeros(1, 3, 32, 32))
        x, y = (images, images.flip(0)) if "flat" in net else (images[:1], images[1:17])
        rows = {"gramian": (measure(lambda: arch.ntk(x, y, engine="native"), 20), len(x) * len(y))}  # noqa: B023
        if by_hand:
            few = images[: 32 if "flat" in net else FEW]
            rows["recursion"] = (measure(lambda: by_hand(few), 1 + 2 * ("flat" in net)), len(few) ** 2)  # noqa: B023
        if rival and (cost := neural_tangents(*rival, images[: 32 if "flat" in net else FEW])):
            rows["neural-tangents"] = (cost, (32 if "flat" in net else FEW) ** 2)
        ours = rows["gramian"][0]["seconds"] / rows["gramian"][1]
        for engine, (row, pairs) in rows.items():
            each = row["seconds"] / pairs
            row |= {"isa": library().isa, "dtype": "float32"}
            keep("limit_conv", engine=engine, net=net, pairs=pairs, per_pair=each, **row)
            print(f"{net}, {engine}: {1e3 * each:.4g} ms a pair ({each / ours:.3g} x)", file=sys.stderr, flush=True)
    for size in (8, 16, 64):
        larger(size)


def larger(size: int) -> None:
    """Cost against resolution: pairs of planes grow like the fourth power of the image's side."""
    arch = architecture(plain(10, size, pooled=True), torch.zeros(1, 3, size, size))
    x = torch.randn(17, 3, size, size)
    row = measure(lambda: arch.ntk(x[:1], x[1:], engine="native"), 3)
    each = row["seconds"] / 16
    row |= {"isa": library().isa, "dtype": "float32"}
    keep("limit_conv", engine="gramian", net="pooled, depth 10", size=size, pairs=16, per_pair=each, **row)
    print(f"pooled, depth 10, {size}x{size}: {1e3 * each:.4g} ms a pair", file=sys.stderr, flush=True)


def neural_tangents(net: str, hidden: int, x: Tensor) -> dict | None:
    with tempfile.TemporaryDirectory() as folder:
        inputs = Path(folder) / "x.npy"
        np.save(inputs, x.numpy())
        spec = {"net": net, "hidden": hidden, "dtype": "float32", "repeats": 1 if net == "cnn-pooled" else 3}
        return ask_rival(spec, inputs, Path(folder) / "ntk.npy")


if __name__ == "__main__":
    main()
