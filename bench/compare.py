"""One network, three ways to its limit NTK: gramian, the recursion by hand, neural-tangents. Checked, then timed."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from timing import ask_rival, keep, measure, ratios
from torch import Tensor, nn

from gramian import architecture


def compare(
    bench: str, net: str, module: nn.Module, recursion: Callable[[Tensor, int], Tensor], hidden: int, x: Tensor,
    repeats: int = 5,
) -> None:  # fmt: skip
    """Checks on a few rows in float64 that all agree, then times each in `x`'s dtype and keeps a row each."""
    torch.set_num_threads(1)
    arch, few = architecture(module, x[:2]), x[:6].double()
    truth = arch.ntk(few)
    torch.testing.assert_close(recursion(few, hidden), truth, rtol=1e-7, atol=1e-7)  # acos near 1 keeps half the digits
    works: dict[str, Callable[[], Tensor]] = {
        "gramian": lambda: arch.ntk(x),
        "recursion": lambda: recursion(x, hidden),
    }
    rows = {name: measure(work, repeats) | {"torch": torch.__version__} for name, work in works.items()}
    with tempfile.TemporaryDirectory() as folder:
        inputs, answer = Path(folder) / "x.npy", Path(folder) / "ntk.npy"
        np.save(inputs, few.numpy())
        spec = {"net": net, "hidden": hidden, "dtype": "float64", "repeats": 1}
        if ask_rival(spec, inputs, answer):
            torch.testing.assert_close(torch.from_numpy(np.load(answer)), truth, rtol=1e-6, atol=1e-6)
            np.save(inputs, x.numpy())
            spec |= {"dtype": str(x.dtype).removeprefix("torch."), "repeats": repeats}
            cost = ask_rival(spec, inputs, answer)
            if cost:
                rows["neural-tangents"] = cost
    for name, row in rows.items():
        size = {"n": len(x), "in_shape": list(x.shape[1:]), "dtype": str(x.dtype).removeprefix("torch.")}
        keep(bench, engine=name, net=net, hidden=hidden, **size, **row)
    ratios(f"{net}, {hidden} hidden layers, {len(x)} inputs of {'x'.join(map(str, x.shape[1:]))}", rows)
