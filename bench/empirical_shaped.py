"""What does the whole empirical NTK of ResNet-18-, ViT- and GPT-2-shaped networks cost, of 64 samples?"""

import sys
import time
from pathlib import Path

import torch
from timing import _peak_above, _reset_peak, keep

TESTS = Path(__file__).resolve().parents[1] / "tests"
sys.path += [str(TESTS / "empirical"), str(TESTS / "nets")]

from test_shaped import SMALL, WHOLE, language_model, margin  # noqa: E402

from gramian import empirical_ntk  # noqa: E402
from gramian.empirical import EmpiricalNTK, jacobian  # noqa: E402

N, MAX_BYTES = 64, 2**31


def error_of_reduced_copy(name: str) -> float:
    """Largest difference from the explicit Jacobian's kernel over its largest entry, every pair of outputs, float64."""
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    build, draw = SMALL[name]
    x = draw(N)
    net = build(x)
    j = jacobian(net, x)
    full = torch.einsum("icp,jdp->ijcd", j, j)
    torch.set_default_dtype(torch.float32)
    error = float((empirical_ntk(net, x, outputs="full") - full).abs().max() / full.abs().max())
    assert error < 1e-8
    return error


def row(name: str, net: torch.nn.Module, x: torch.Tensor, outputs: object) -> None:
    error = error_of_reduced_copy(name)  # right first
    start, cpu, wall = _reset_peak(), time.process_time(), time.perf_counter()
    theta = empirical_ntk(net, x, outputs=outputs, max_bytes=MAX_BYTES)
    cost = {"seconds": time.process_time() - cpu, "wall": time.perf_counter() - wall, "peak_mib": _peak_above(start)}
    gram = theta if theta.ndim == 2 else theta.permute(0, 2, 1, 3).reshape(len(theta) * theta.shape[2], -1)
    v = torch.randn(len(gram))
    product = EmpiricalNTK(net, x, outputs=outputs) @ v  # knows of no structure
    off = float((gram @ v - product).abs().max() / product.abs().max())
    assert off < 1e-4
    said = {"outputs": outputs if isinstance(outputs, str) else outputs.__name__, "n": N, "rows": len(gram)}
    said |= {"parameters": sum(p.numel() for p in net.parameters()), "max_bytes": MAX_BYTES, "dtype": "float32"}
    errors = {"error_of_reduced_copy_in_float64": float(f"{error:.1e}"), "error_against_products": float(f"{off:.1e}")}
    cost = {key: round(value, 1) for key, value in cost.items() if value is not None}
    keep("empirical_shaped", net=name, **cost, **said, **errors, torch=torch.__version__)


torch.set_num_threads(1)
for name, (build, draw) in WHOLE.items():
    torch.manual_seed(0)
    x = draw(N)
    row(name, build(x), x, "full")
torch.manual_seed(0)
row("GPT-2", language_model(), torch.randint(50257, (N, 8)), margin)
