"""Products that go to oneDNN in float32 are those of float64, to what float32 can hold."""

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from zoo import mlp

from gramian.empirical import empirical_ntk
from gramian.empirical.workarounds import gemm
from gramian.empirical.workarounds.switch import torch_alone

EPS = torch.finfo(torch.float32).eps
SHAPES = [(33, 1021, 37), (32, 1024, 32), (257, 63, 65), (65, 4099, 129), (1, 4096, 512), (31, 4096, 31), (640, 7, 320)]
LAYOUTS = {
    "contiguous": lambda t: t,
    "transposed": lambda t: t.mT.contiguous().mT,
    "rows apart": lambda t: torch.cat([t, torch.full_like(t, torch.nan)], 1)[:, : t.shape[1]],
    "every second row": lambda t: torch.stack([t, torch.full_like(t, torch.nan)], 1).flatten(0, 1)[::2],
    "every third column": lambda t: torch.stack([t, t + 1, t - 1], 2).flatten(1)[:, ::3],
    "off the start": lambda t: torch.cat([t.new_zeros(1), t.flatten()])[1:].view(t.shape),
    "one row for all": lambda t: t[:1].expand(t.shape),
    "one column for all": lambda t: t[:, :1].expand(t.shape),
}


class Products(TorchDispatchMode):
    """Notes the products that oneDNN makes: their shapes, and whether the right side has gaps."""

    def __init__(self):
        super().__init__()
        self.shapes, self.gaps = [], []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.mkldnn._linear_pointwise.default:
            a, b = args[:2]
            self.shapes.append((*a.shape, b.shape[0]))
            self.gaps.append(not (b.is_contiguous() or b.mT.is_contiguous()))
        return func(*args, **(kwargs or {}))


@pytest.fixture
def products():
    large = torch.randn(64, 512).float()
    if not gemm.worth_it(large, large):  # the first question also tries it
        pytest.skip("this torch has no oneDNN")
    with Products() as seen:
        yield seen


@pytest.fixture
def calls(products):
    """Shapes of the products that oneDNN made."""
    return products.shapes


@pytest.mark.parametrize("right", LAYOUTS)
@pytest.mark.parametrize("left", LAYOUTS)
def test_products_of_every_shape_and_layout(left, right, calls):
    expected = []
    for n, d, m in SHAPES:
        scales = 10 ** torch.linspace(-3, 3, d)  # sums of numbers of many sizes
        a, b = LAYOUTS[left]((torch.randn(n, d) * scales).float()), LAYOUTS[right](torch.randn(m, d).float())
        kept = a.clone(), b.clone()
        exact, bound = a.double() @ b.double().mT, d * EPS * (a.double().abs() @ b.double().abs().mT)
        product = gemm.gemm(a, b)
        assert product.shape == (n, m)
        assert product.dtype is torch.float32
        assert ((product - exact).abs() <= bound).all()
        assert torch.equal(a, kept[0])
        assert torch.equal(b, kept[1])
        if n * d * m >= 2**20 and min(n, d, m) >= 32:
            expected.append((n, d, m))
    assert calls == expected  # the small and the thin stay with torch
    assert len(calls) == 4


@pytest.mark.parametrize("layout", LAYOUTS)
def test_no_layout_is_slow(layout, products):
    """oneDNN multiplies by a matrix with gaps in a loop that takes a thousand times as long."""
    a, b = torch.randn(256, 512).float(), torch.randn(256, 512).float()
    for left, right in ((a, b), (a, LAYOUTS[layout](b)), (LAYOUTS[layout](a), b)):
        gemm.gemm(left, right)
    assert products.gaps == [False] * 3


def test_what_is_not_float32_stays_with_torch(calls):
    for dtype in (torch.float64, torch.bfloat16):
        a, b = torch.randn(64, 512, dtype=dtype), torch.randn(96, 512, dtype=dtype)
        assert torch.equal(gemm.gemm(a, b), a @ b.mT)
    assert not calls


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("lead", [(67,), (3, 41), (2, 5, 13)])
def test_backward_passes_of_linear_maps(lead, flip, calls):
    """Gradients to the input, theirs to what they are made of, and both under vmap."""
    weight, bias, x = torch.randn(131, 257), torch.randn(131), torch.randn(*lead, 257)
    low = weight.float().mT.contiguous().mT if flip else weight.float()
    v, w = torch.randn(*lead, 131), torch.randn(5, *lead, 131)

    def passes(f, x, v, w):
        x, v = x.detach().requires_grad_(), v.detach().requires_grad_()
        out = f(x).tanh()
        (first,) = torch.autograd.grad(out, x, v, create_graph=True)
        second = torch.autograd.grad(first.square().sum(), (x, v), retain_graph=True)
        return out, first, *second, torch.func.vmap(torch.func.vjp(f, x)[1])(w)[0]

    exact = passes(lambda x: torch.nn.functional.linear(x, weight, bias), x, v, w)
    strided = x.float().transpose(0, -1).contiguous().transpose(0, -1)
    for start in (x.float(), strided):
        ours = passes(lambda x: gemm.linear(x, low, bias.float()), start, v.float(), w.float())
        for a, b in zip(ours, exact, strict=True):
            assert a.dtype is torch.float32
            assert (a - b).abs().max() < 2e-5 * b.abs().max()  # observed below 2e-6
    assert calls


class Positions(nn.Module):
    """Linear maps at 17 places, of which one is `x @ W`: gradients are formed by products of positions."""

    def __init__(self):
        super().__init__()
        self.inside, self.between = nn.Linear(37, 129), nn.Parameter(torch.randn(129, 131) / 129**0.5)
        self.readout = nn.Linear(131, 3)

    def forward(self, x):
        return self.readout((self.inside(x).tanh() @ self.between).tanh().mean(1))


NETS = {
    "mlp": (lambda: mlp(61, 257, 255, 5), (61,)),
    "positions": (Positions, (35, 37)),
    "conv": (
        lambda: nn.Sequential(
            nn.Conv2d(5, 33, 3), nn.ReLU(), nn.Conv2d(33, 65, 3), nn.Flatten(), nn.Linear(65 * 49, 3)
        ),
        (5, 11, 11),
    ),
    "pooled": (
        lambda: nn.Sequential(
            nn.Conv2d(5, 33, 3, padding=1, stride=(1, 2)),
            nn.ReLU(),
            nn.Conv2d(33, 66, 3),
            nn.GELU(),
            nn.Conv2d(66, 66, 3, padding="same", groups=2),
            nn.ReLU(inplace=True),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(66, 3),
        ),
        (5, 13, 26),
    ),
}


@pytest.mark.parametrize("outputs", ["full", "mean"])
@pytest.mark.parametrize("name", NETS)
def test_kernels_in_float32(name, outputs, calls):
    build, shape = NETS[name]
    net = build()
    x, y = torch.randn(65, *shape), torch.randn(35, *shape)
    some = torch.randn(35, *reversed(shape)).permute(0, *range(len(shape), 0, -1))  # not contiguous
    exact = [empirical_ntk(net, *pair, outputs=outputs) for pair in ((x,), (x, y), (some, x))]
    net.float(), calls.clear()
    low = [empirical_ntk(net, *pair, outputs=outputs) for pair in ((x.float(),), (x.float(), y.float()))]
    low.append(empirical_ntk(net, some.float(), x.float(), outputs=outputs))
    for a, b in zip(low, exact, strict=True):
        assert a.dtype is torch.float32
        assert (a - b).abs().max() < 1e-5 * b.abs().max()  # observed below 1e-6
    assert torch.equal(low[0], low[0].permute(1, 0, 3, 2) if outputs == "full" else low[0].mT)
    assert calls
    calls.clear()
    with torch_alone():
        plain = empirical_ntk(net, x.float(), y.float(), outputs=outputs)
    assert not calls
    assert (plain - exact[1]).abs().max() < 1e-5 * exact[1].abs().max()
