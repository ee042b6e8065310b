"""What does the empirical NTK of a wide network cost, against the torch.func tutorial's contraction of Jacobians?"""

import sys
from itertools import pairwise

import torch
from timing import keep, measure, ratios
from torch import Tensor, nn
from torch.func import functional_call, jacrev, vmap

from gramian import empirical_ntk

WIDTHS, N, TILE = (784, 512, 512, 512, 512, 512, 10), 256, 32


def network() -> nn.Module:
    """784-512x5-10 with ReLU: 1.46 million parameters."""
    layers = [part for a, b in pairwise(WIDTHS) for part in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(*layers[:-1])


def tutorial(module: nn.Module, x1: Tensor, x2: Tensor, contraction: str) -> Tensor:
    """`empirical_ntk_jacobian_contraction` of the PyTorch tutorial "Neural Tangent Kernels"."""
    theta = {name: p.detach() for name, p in module.named_parameters()}
    single = jacrev(lambda theta, row: functional_call(module, theta, (row[None],))[0])
    jac1 = [j.flatten(2) for j in vmap(single, (None, 0))(theta, x1).values()]
    jac2 = [j.flatten(2) for j in vmap(single, (None, 0))(theta, x2).values()]
    return torch.stack([torch.einsum(contraction, a, b) for a, b in zip(jac1, jac2, strict=True)]).sum(0)


torch.manual_seed(0)
torch.set_num_threads(1)
net, x = network(), torch.randn(N, WIDTHS[0])
tiles = N // TILE
pairs = tiles * (tiles + 1) // 2  # the whole does not fit: two Jacobians are 28 GiB. Tiles, each pair of them once
for outputs, contraction, share in (("full", "Naf,Mbf->NMab", 1), ("mean", "Naf,Maf->NM", WIDTHS[-1])):
    right = tutorial(net.double(), x[:4].double(), x[4:8].double(), contraction) / share  # right first
    torch.testing.assert_close(empirical_ntk(net, x[:4].double(), x[4:8].double(), outputs), right)
    net.float()
    tile = measure(lambda c=contraction: tutorial(net, x[:TILE], x[TILE : 2 * TILE], c), repeats=3)
    scaled = {key: round(pairs * tile[key], 2) for key in ("seconds", "median") if key in tile}
    rows = {
        "gramian": measure(lambda o=outputs: empirical_ntk(net, x, outputs=o)),
        "tutorial": tile | scaled | {"scaled": f"{pairs} x one pair of {TILE}"},
    }
    for engine, row in rows.items():
        row |= {"n": N, "dtype": "float32", "torch": torch.__version__}
        keep("empirical_mlp", engine=engine, net="784-512x5-10", outputs=outputs, **row)
    ratios(f"784-512x5-10, n = {N}, {outputs} (the tutorial's is {pairs} times one pair of tiles)", rows)
print("memory is beside the start; gramian's includes its result", file=sys.stderr)
