"""One network, several ways to its empirical NTK: gramian, the torch.func tutorial, nngeometry, neural-tangents."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from timing import ask_rival, keep, measure, ratios
from torch import Tensor, nn
from torch.func import functional_call, jacrev, vmap

from gramian import empirical_ntk


def tutorial(module: nn.Module, x1: Tensor, x2: Tensor, contraction: str) -> Tensor:
    """`empirical_ntk_jacobian_contraction` of the PyTorch tutorial "Neural Tangent Kernels"."""
    theta = {name: p.detach() for name, p in module.named_parameters()}
    single = jacrev(lambda theta, row: functional_call(module, theta, (row[None],))[0])
    jac1 = [j.flatten(2) for j in vmap(single, (None, 0))(theta, x1).values()]
    jac2 = [j.flatten(2) for j in vmap(single, (None, 0))(theta, x2).values()]
    return torch.stack([torch.einsum(contraction, a, b) for a, b in zip(jac1, jac2, strict=True)]).sum(0)


def nngeometry(module: nn.Module, x: Tensor) -> Callable[[], Tensor] | None:
    """The Gram matrix of nngeometry, (C, n, C, n); None where it is not installed: it is in no lock file of ours."""
    try:
        from nngeometry.gram import GramMatrix
    except ImportError:
        return None
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x), batch_size=len(x))
    return lambda: GramMatrix(module, loader, function=lambda rows: module(rows)).to_torch()


def compare(
    bench: str, net: str, kind: str, module: nn.Module, x: Tensor, tile: int, ways: list[str], repeats: int
) -> None:
    """Checks on a few rows in float64 that all agree, then times each in float32 and keeps a row each.

    `tile`: rows that the tutorial does at once, each pair of tiles once; `ways`: those of neural-tangents.
    """
    torch.set_num_threads(1)
    tiles, c = -(-len(x) // tile), module(x[:1]).numel()
    pairs = tiles * (tiles + 1) // 2
    module.double()
    few = x[:4].double()
    truth = tutorial(module, few, few, "Naf,Mbf->NMab")
    torch.testing.assert_close(empirical_ntk(module, few, outputs="full"), truth)
    torch.testing.assert_close(empirical_ntk(module, few), torch.einsum("ijcc->ij", truth) / c)
    if (gram := nngeometry(module, few)) is not None:
        torch.set_default_dtype(torch.float64)  # in which it adds up what a convolution gives
        torch.testing.assert_close(gram().permute(1, 3, 0, 2), truth)
        torch.set_default_dtype(torch.float32)
    weights = [p.detach() for p in module.parameters()]
    rival = _neural_tangents(kind, few, weights, truth, ways, x, repeats)
    module.float()
    for outputs, contraction in (("full", "Naf,Mbf->NMab"), ("mean", "Naf,Maf->NM")):
        rows = {"gramian": measure(lambda o=outputs: empirical_ntk(module, x, outputs=o), 5)}
        two = x[:tile], x[tile : 2 * tile] if tiles > 1 else x[:tile]
        row = measure(lambda two=two, s=contraction: tutorial(module, *two, s), repeats)
        scaled = {key: round(pairs * row[key], 2) for key in ("seconds", "median") if key in row}
        rows["tutorial"] = row | scaled | ({"scaled": f"{pairs} x one pair of {tile}"} if pairs > 1 else {})
        if outputs == "full":
            if (gram := nngeometry(module, x)) is not None:
                rows["nngeometry"] = measure(gram, repeats)
            rows |= rival
        for engine, row in rows.items():
            row |= {"n": len(x), "dtype": "float32", "torch": torch.__version__}
            keep(bench, engine=engine, net=net, outputs=outputs, **row)
        ratios(f"{net}, n = {len(x)}, {outputs}", rows)


def _neural_tangents(
    kind: str, few: Tensor, weights: list[Tensor], truth: Tensor, ways: list[str], x: Tensor, repeats: int
) -> dict[str, dict]:
    with tempfile.TemporaryDirectory() as folder:
        inputs, answer = Path(folder) / "x.npz", Path(folder) / "ntk.npy"
        arrays = {f"p{i}": p.numpy() for i, p in enumerate(weights)}
        np.savez(inputs, x=few.numpy(), **arrays)
        spec = {"net": kind, "ways": ways[:1], "dtype": "float64", "repeats": 1}
        if not ask_rival(spec, inputs, answer, "rival_empirical.py"):
            return {}
        torch.testing.assert_close(torch.from_numpy(np.load(answer)), truth)
        np.savez(inputs, x=x.numpy(), **arrays)
        spec |= {"dtype": "float32", "ways": ways, "repeats": repeats}
        costs = ask_rival(spec, inputs, answer, "rival_empirical.py") or {}
    return {f"neural-tangents, {way}": cost for way, cost in costs.items()}
