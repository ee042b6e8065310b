"""The native engine against the torch engine, and against exact numbers where the two differ."""

import math
import os
import pickle

import mpmath
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import Elementwise
from torch import nn

from gramian import architecture
from gramian.errors import BadArgument, NoLimit
from gramian.library import library
from gramian.limit import explain, vector_inputs, vectors
from gramian.limit.kernel_program import program

pytestmark = pytest.mark.skipif(
    library().module is None and not os.environ.get("CI"), reason="the native engine is not built here"
)


ACTIVATIONS = {
    "relu": nn.ReLU(),
    "leaky": nn.LeakyReLU(0.2),
    "abs": Elementwise(torch.abs),
    "sign": Elementwise(torch.sign),
    "erf": Elementwise(torch.erf),
    "tanh": nn.Tanh(),
    "silu": nn.SiLU(),
    "gelu": nn.GELU(),
    "sin": Elementwise(torch.sin),
    "cubic": Elementwise(lambda h: 0.2 * h**3 + h**2 - h),
    "relu^2": Elementwise(lambda h: torch.relu(h) ** 2),
}
LAWS = {"no bias": (math.sqrt(2), 0.0), "bias": (1.2, 0.5)}


def mlp(activation, *, bias, width=8, depth=3):
    layers = [m for _ in range(depth) for m in (nn.Linear(width, width, bias=bias), activation)]
    return nn.Sequential(*layers, nn.Linear(width, 1, bias=bias))


class Residual(nn.Module):
    """Skips of pre-activations, or a sum of two post-activations."""

    def __init__(self, activation, *, bias, post):
        super().__init__()
        self.first, self.second, self.third = (nn.Linear(8, 8, bias=bias) for _ in range(3))
        self.readout, self.activation, self.post = nn.Linear(8, 1, bias=bias), activation, post

    def forward(self, x):
        act = self.activation
        if self.post:
            return self.readout(0.5 * act(self.first(x)) - 1.5 * act(self.second(x)))
        h = self.first(x)
        for layer in (self.second, self.third):
            h = 0.7 * h + layer(act(h))
        return self.readout(act(h))


NETWORKS = {f"mlp {name}": lambda bias, a=a: mlp(a, bias=bias) for name, a in ACTIVATIONS.items()}
NETWORKS |= {
    f"residual {name} {post}": lambda bias, a=ACTIVATIONS[name], post=post: Residual(a, bias=bias, post=post)
    for name, post in (("relu", False), ("relu", True), ("leaky", True), ("erf", False), ("gelu", True))
}
every_network = pytest.mark.parametrize("net", NETWORKS)
every_law = pytest.mark.parametrize("law", LAWS)


def of(net, law):
    return architecture(NETWORKS[net](law == "bias"), torch.zeros(2, 8), law=LAWS[law])


def some(n, seed=0, dtype=torch.float64):
    return torch.randn(n, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def error(arch, x, y, dtype, engine="native"):
    """Largest error of both kernels, relative to the diagonal entries of their row and column."""
    found, worst = arch.kernels(x.to(dtype), None if y is None else y.to(dtype), engine=engine), 0.0
    x, y = x.to(dtype).double(), None if y is None else y.to(dtype).double()
    right, on_x = arch.kernels(x, y, engine="torch"), arch.diag(x)
    on_y = on_x if y is None else arch.diag(y)
    for has, expected, of_x, of_y in zip(found, right, on_x, on_y, strict=True):
        assert has.dtype == dtype
        scale = (of_x[:, None] * of_y).sqrt()
        worst = max(worst, float(((has - expected).abs() / scale.clamp_min(1e-300)).max()))
    return worst


@every_law
@every_network
def test_it_is_the_torch_engine_in_float64(net, law):
    arch = of(net, law)
    assert error(arch, some(5), None, torch.float64) < 1e-12
    assert error(arch, some(5), some(3, seed=1), torch.float64) < 1e-12


@every_law
@every_network
def test_float32_is_within_a_few_units_of_the_last_place(net, law):
    arch = of(net, law)
    assert error(arch, some(5), None, torch.float32) < 1e-6
    assert error(arch, some(5), some(3, seed=1), torch.float32) < 1e-6


@given(
    rows=st.lists(st.lists(st.floats(-3, 3), min_size=2, max_size=2), min_size=2, max_size=4),
    weight=st.floats(0.3, 3),
    bias=st.floats(0, 2),
    slope=st.floats(-1, 1),
    rates=st.booleans(),
)
@settings(deadline=None, max_examples=40)
def test_any_weights_biases_slopes_and_inputs(rows, weight, bias, slope, rates):
    net = mlp(nn.LeakyReLU(slope), bias=True, width=2, depth=2)
    net[0].requires_grad_(rates)
    arch = architecture(net, torch.zeros(1, 2), law=(weight, bias))
    x = torch.tensor(rows, dtype=torch.float64)
    norm = x.norm(dim=1, keepdim=True)  # `cosine_similarity` takes norms below 1e-8 for 1e-8
    unit = torch.where(norm > 0, x / norm, 0)
    gap = (1 - unit @ unit.mT).abs()
    for has, right in zip(arch.kernels(x, engine="native"), arch.kernels(x, engine="torch"), strict=True):
        scale = (right.diagonal()[:, None] * right.diagonal()).sqrt() + 1e-300
        apart = (gap > 1e-6) & (gap < 2 - 1e-6)  # elsewhere the oracle itself has lost digits
        worst = ((has - right).abs() / scale).where(apart, torch.zeros(()).double())
        assert float(worst.max()) < 2e-9


def exact(x, y, layers):
    """NNGP and NTK of a bias-free ReLU MLP under He's law with 40 digits, then both at the same norms and angle 0."""
    with mpmath.workdps(40):
        a, b = ([mpmath.mpf(float(v)) for v in t] for t in (x, y))
        na, nb = (mpmath.sqrt(mpmath.fsum(v * v for v in t)) for t in (a, b))
        k = theta = mpmath.fdot(a, b) / na / nb
        for _ in range(layers):
            t = mpmath.acos(k)
            k, theta = (mpmath.sin(t) + (mpmath.pi - t) * k) / mpmath.pi, theta * (mpmath.pi - t) / mpmath.pi
            theta += k
        scale = na * nb / len(a)
        return scale * k, scale * theta, scale, scale * (layers + 1)


@pytest.mark.parametrize("apart", [1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.019, 0.021, 0.1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_near_duplicates_keep_their_digits(apart, dtype):
    """(limit at equal inputs) - (value) is right to 1e-6 of itself, and to the last places in which a value is held."""
    arch = architecture(mlp(nn.ReLU(), bias=False, depth=5), torch.zeros(1, 8), law="he")
    x, away = some(2, seed=3)
    away = away - x * (x @ away) / (x @ x)
    t = 2 * math.asin(math.sqrt(apart / 2))
    pair = torch.stack([x, x * math.cos(t) + away / away.norm() * x.norm() * math.sin(t)]).to(dtype)
    nngp, ntk, nngp_limit, ntk_limit = exact(*pair, layers=5)
    few = 3 * torch.finfo(dtype).eps
    for has, right, limit in zip(
        arch.kernels(pair, engine="native"), (nngp, ntk), (nngp_limit, ntk_limit), strict=True
    ):
        off = abs(mpmath.mpf(float(has[0, 1])) - right)
        assert off < 1e-6 * (limit - right) + few * right
        assert has[0, 1] == has[1, 0]


def test_a_bias_keeps_them_too():
    """The torch engine is off by 1e-10 here; rows that differ by their length alone are the hardest."""
    arch = architecture(mlp(nn.ReLU(), bias=True, depth=1), torch.zeros(1, 8), law=(1.0, 0.5))
    x = some(1, seed=4)[0]
    pair = torch.stack([x, x * (1 + 1e-6)])
    with mpmath.workdps(40):
        a, b = (mpmath.fdot(v, v) / 8 for v in ([mpmath.mpf(float(t)) for t in row] for row in pair))
        q1, q2 = a + 0.25, b + 0.25
        k = mpmath.fdot(*([mpmath.mpf(float(t)) for t in row] for row in pair)) / 8 + mpmath.mpf(1) / 4
        t = mpmath.acos(k / mpmath.sqrt(q1 * q2))
        half = (mpmath.pi - t) / (2 * mpmath.pi)
        post = mpmath.sqrt(q1 * q2) * mpmath.sin(t) / (2 * mpmath.pi) + half * k
        right = post + 0.25, k * half + post + 0.25
    for has, value in zip(arch.kernels(pair, engine="native"), right, strict=True):
        assert float(abs(has[0, 1].item() - value) / value) < 1e-13


@every_law
def test_the_diagonal_is_exact_to_rounding(law):
    for dtype, bound in ((torch.float32, 6e-8), (torch.float64, 2e-15)):
        arch, x = of("mlp relu", law), some(40, dtype=dtype)
        for has, right in zip(arch.kernels(x, engine="native"), arch.kernels(x.double(), engine="torch"), strict=True):
            assert float((has.diagonal() / right.diagonal() - 1).abs().max()) <= bound


def test_tiles_and_threads_change_nothing(monkeypatch):
    """Sizes that fill no tile, on two threads; the result is symmetric bit by bit."""
    arch, x = of("residual relu False", "bias"), some(131)
    whole = arch.kernels(x, engine="native")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    set_to = []
    monkeypatch.setattr(torch, "set_num_threads", set_to.append)
    tiled = vectors.kernels(arch, program(arch), x, None, ntk=True, tile=(20, 70))
    for has, right in zip(tiled, whole, strict=True):
        torch.testing.assert_close(has, right, rtol=1e-13, atol=0)
        assert torch.equal(has, has.mT)
    assert set_to[-1] == 2
    assert set(set_to) == {1, 2}


def test_many_near_duplicates_take_products_in_double():
    """A cluster so tight that all cosines are above 0.98: float32 products would leave no digit of the angles."""
    arch = of("mlp relu", "no bias")
    x = (some(1) + 1e-4 * some(100, seed=1)).float()
    assert error(arch, x[:6], x[6:12], torch.float32) < 1e-6
    whole, right = arch.ntk(x, engine="native"), arch.ntk(x.double(), engine="torch")
    assert float(((whole - right) / right).abs().max()) < 1e-6
    lost = (right.diagonal()[:, None] * right.diagonal()).sqrt() - right
    assert float(lost[0, 1] / right[0, 1]) > 1e-5  # there is something to see at this precision


def test_zero_inputs_are_as_in_the_torch_engine():
    x = some(4)
    x[1] = 0
    for law in LAWS:
        arch = of("mlp relu", law)
        for has, right in zip(arch.kernels(x, engine="native"), arch.kernels(x, engine="torch"), strict=True):
            torch.testing.assert_close(has, right, rtol=1e-12, atol=1e-12)


def test_nngp_alone_is_that_of_both():
    arch, x = of("mlp erf", "bias"), some(9)
    assert torch.equal(arch.nngp(x, engine="native"), arch.kernels(x, engine="native")[0])


def test_what_torch_refuses_is_refused():
    class Mixed(Residual):
        def forward(self, x):
            return self.readout(self.activation(self.first(x) + self.activation(self.second(x))))

    arch = architecture(Mixed(nn.ReLU(), bias=True, post=False), torch.zeros(1, 8))
    for engine in ("native", "torch"):
        with pytest.raises(NoLimit, match="not Gaussian"):
            arch.ntk(some(3), engine=engine)


def test_auto_takes_torch_for_gradients_and_for_other_dtypes():
    arch, x = of("mlp relu", "bias"), some(3).requires_grad_()
    assert torch.autograd.grad(arch.ntk(x).sum(), x)[0].abs().sum() > 0
    with pytest.raises(BadArgument, match=r"(?s)cannot compute this.*where: inputs, that require gradients.*why.*fix"):
        arch.ntk(x, engine="native")
    assert arch.ntk(x.detach().bfloat16()).dtype == torch.bfloat16


def test_an_op_that_the_loops_lack_is_named():
    net = nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8, elementwise_affine=False), nn.ReLU(), nn.Linear(8, 1))
    arch = architecture(net, torch.zeros(1, 8))
    assert torch.equal(arch.ntk(some(3)), arch.ntk(some(3), engine="torch"))
    with pytest.raises(BadArgument, match=r"(?s)where: LayerNorm, 1 \(LayerNorm\).*why: only the torch.*fix: engine="):
        arch.ntk(some(3), engine="native")
    assert explain(arch).startswith("torch engine: the native one lacks LayerNorm, 1 (LayerNorm)")
    assert explain(of("mlp relu", "bias")).startswith(f"native engine ({library().isa})")


def test_values_of_large_variance_go_back_to_torch():
    arch, x = of("mlp tanh", "bias"), 1e3 * some(2)
    assert torch.equal(arch.nngp(x), arch.nngp(x, engine="torch"))
    with pytest.raises(BadArgument, match="cannot compute"):
        arch.nngp(x, engine="native")


def test_an_unknown_engine_is_refused():
    with pytest.raises(BadArgument, match=r"(?s)'quantum' is not in this build.*fix: engine=\"auto\""):
        of("mlp relu", "bias").ntk(some(2), engine="quantum")


@pytest.mark.usefixtures("without_native_library")
def test_without_the_library_auto_is_torch():
    arch, x = of("mlp relu", "bias"), some(3)
    assert torch.equal(arch.ntk(x), arch.ntk(x, engine="torch"))
    with pytest.raises(BadArgument, match=r"(?s)where: the compiled library.*why: not built: install"):
        arch.ntk(x, engine="native")


def test_a_program_pickles_and_uses_few_registers():
    arch = architecture(mlp(nn.ReLU(), bias=True, depth=40), torch.zeros(1, 8))
    p = program(arch)
    assert pickle.loads(pickle.dumps(p)) == p
    assert (
        int(vector_inputs.code(p, vector_inputs.side(p, torch.ones(1).double(), torch.float64)).ops[:, 1:4].max()) <= 1
    )
