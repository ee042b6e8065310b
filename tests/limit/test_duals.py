"""Activations that the loops sum, as power series or tables: against the torch engine and exact numbers."""

import math
import os

import mpmath
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import Elementwise
from test_activations import ACTIVATIONS
from test_native import error, mlp, some
from torch import nn

from gramian import architecture
from gramian.arch.ops import GELU, Kinked, RectifiedPower, Sin
from gramian.duals import angle_tables
from gramian.duals.activation_gap import gap_of_image
from gramian.duals.hermite_series import powers
from gramian.errors import BadArgument, Unsupported
from gramian.library import library
from gramian.limit import explain, vector_inputs
from gramian.limit.kernel_program import program

pytestmark = pytest.mark.skipif(
    library().module is None and not os.environ.get("CI"), reason="the native engine is not built here"
)

LARGE = {"exp": (0.7, 0.2), "sinh": (0.5, 0.2)}  # laws at which these stay small
BENT = {  # elsewhere than at 0: only where all inputs have one norm
    "hardtanh", "relu6", "clamp from below", "hardsigmoid", "hardswish", "threshold", "softshrink", "hardshrink",
    "shifted relu", "bump",
}  # fmt: skip
NARROW = {"clamp from below", "threshold"}  # near angle pi, as exp(-t^2 / (1 + c)): 320 nodes are too few in float64


def network(name, bias=True):
    function = ACTIVATIONS[name].function
    return mlp(function if isinstance(function, nn.Module) else Elementwise(function), bias=bias, depth=2).float()


def of(name):
    return architecture(network(name), torch.zeros(2, 8), law=LARGE.get(name, (1.1, 0.3)))


def inputs(spread, count=5):
    x = some(count)
    x = x / x.norm(dim=1, keepdim=True) * math.sqrt(8)
    return x * (1 + spread * torch.linspace(-1, 1, count, dtype=torch.float64))[:, None]


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation_where_all_inputs_have_one_norm(name):
    arch, x = of(name), inputs(0.0)
    if name in NARROW:
        with pytest.raises(BadArgument, match=r"(?s)why: No table of .* passes its check.*fix: engine="):
            arch.ntk(x, engine="native")
    else:
        assert error(arch, x, None, torch.float64) < 1e-12
    assert error(arch, x[:3], x[3:], torch.float32) < 1e-6


LONG = {"softsign", "laplace", "where", "root"}  # their series have most terms: 3 to 6 s


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in LONG else name for name in ACTIVATIONS]
)
def test_every_activation_where_norms_differ(name):
    arch, x = of(name), inputs(0.05)
    if name in BENT:
        with pytest.raises(BadArgument, match=r"(?s)why: \w+ bends elsewhere than at 0.*fix: engine=\"auto\""):
            arch.ntk(x, engine="native")
        assert torch.equal(arch.ntk(x), arch.ntk(x, engine="torch"))
        return
    if name != "softsign":  # 10 s, for a function as steep
        assert error(arch, x[:3], x[2:], torch.float64) < 2e-12  # the oracle's own series leave out 1e-12
    assert error(arch, x, None, torch.float32) < 1e-6


@given(
    rows=st.lists(st.lists(st.floats(-3, 3), min_size=2, max_size=2), min_size=2, max_size=4),
    weight=st.floats(0.3, 2),
    bias=st.floats(0, 1),
    name=st.sampled_from(["gelu", "cubic", "relu^2", "sin", "cos", "gaussian", "silu"]),
    trains=st.booleans(),
)
@settings(deadline=None, max_examples=60, derandomize=True)
def test_any_weights_biases_and_inputs(rows, weight, bias, name, trains):
    function = ACTIVATIONS[name].function
    activation = function if isinstance(function, nn.Module) else Elementwise(function)
    net = mlp(activation, bias=True, width=2, depth=2).float()
    net[0].requires_grad_(trains)
    arch = architecture(net, torch.zeros(1, 2), law=(weight, bias))
    x = torch.tensor(rows, dtype=torch.float64)
    try:
        found = arch.kernels(x, engine="native")
    except BadArgument:  # the values' variance is too large for a series
        assert name in ("silu", "sin", "cos", "gelu", "gaussian")
        return
    for has, right in zip(found, arch.kernels(x, engine="torch"), strict=True):
        scale = (right.diagonal()[:, None] * right.diagonal()).sqrt() + 1e-300
        assert float(((has - right).abs() / scale).max()) < 1e-11


@pytest.mark.parametrize("name", ["tanh", "gelu", "cubic", "softplus", "sin"])
def test_series_take_norms_that_differ_by_far(name):
    arch = of(name)
    x = inputs(0.0) * torch.tensor([0.1, 0.5, 1, 1.5, 2], dtype=torch.float64)[:, None]
    assert error(arch, x, None, torch.float64) < 2e-12


@pytest.mark.parametrize("t", [1e-6, 1e-4, 1e-2, 1.0, 3.1])
@pytest.mark.parametrize("spread", [0.0, 1e-4, 0.1])
@pytest.mark.parametrize("op", [Kinked("elu", (1.0, 1.0, 1.0)), Sin(), GELU(), RectifiedPower(2)], ids=str)
def test_tables_keep_the_digits_of_nearly_equal_values(op, spread, t):
    """Against the oracle's own rule for small differences, `gap_of_image`, which is another computation."""
    s1, s2, theta = (torch.tensor([v], dtype=torch.float64) for v in (1.0, 1.0 + spread, t))
    table = angle_tables._checked_table(op, 1.0, 1.125 if spread else 1.0, torch.float64)
    k, gap = s1 * s2 * torch.cos(theta), 2 * s1 * s2 * torch.sin(theta / 2) ** 2
    (v, _), (w, _) = (angle_tables.own(op, s * s) for s in (s1, s2))
    kernel = angle_tables._dual(op, s1**2, k, s2**2, gap)[0]
    right = gap_of_image(op, (s1**2, gap, s2**2), kernel, (v, w)) / (v * w).sqrt()
    off = (table(s1, theta, s2, (v, w))[0] - right).abs()
    assert float(off / right) < (1e-7 if spread else 1e-9) or float(off) < 1e-16


def exact_sines(x, y, weight, layers):
    """NNGP of an MLP of sines without biases at two inputs, with 60 digits."""
    with mpmath.workdps(60):
        a, b = ([mpmath.mpf(float(v)) for v in t] for t in (x, y))
        q1, q2, k = (mpmath.fdot(*pair) / len(a) for pair in ((a, a), (b, b), (a, b)))
        for _ in range(layers):
            q1, q2, k = (weight**2 * v for v in (q1, q2, k))
            q1, q2, k = (
                mpmath.exp(-(q + r) / 2) * mpmath.sinh(c) for q, r, c in ((q1, q1, q1), (q2, q2, q2), (q1, q2, k))
            )
        return float(k)


@pytest.mark.parametrize("length", [1.0, 1.0 + 1e-7])
@pytest.mark.parametrize("apart", [1e-7, 1e-6])
def test_series_keep_the_digits_of_nearly_equal_inputs(apart, length):
    """18 layers of a chaotic network, each of which drives the two apart: had a loop subtracted, it showed."""
    x, away = some(2, seed=3)
    x, away = x / x.norm() * math.sqrt(8), away - x * (x @ away) / (x @ x)
    y = length * (x * math.cos(apart) + away / away.norm() * x.norm() * math.sin(apart))
    weight, layers = 2.0, 18
    net = mlp(Elementwise(torch.sin), bias=False, depth=layers)
    arch = architecture(net, x[None].float(), law={"*": (weight, 0.0), "readout": (1.0, 0.0)})
    k = arch.nngp(torch.stack([x, y]), engine="native")
    right = exact_sines(x, y, mpmath.mpf(weight), layers)
    lost = float(k[0, 0]) - right
    assert lost > 1e-9
    assert abs(float(k[0, 1]) - right) < 1e-7 * lost


def test_depth_does_not_add_up_rounding_errors():
    """40 layers of tanh and of arcsines; the Gram matrix of near duplicates stays positive to rounding."""
    x = some(1) + 1e-4 * some(20, seed=1)
    for activation in (nn.Tanh(), Elementwise(torch.erf)):
        net = mlp(activation, bias=True, depth=40)
        arch = architecture(net, torch.zeros(1, 8), law=(1.5, 0.1))
        nngp, ntk = arch.kernels(x, engine="native")
        right = arch.kernels(x, engine="torch")
        for has, want in zip((nngp, ntk), right, strict=True):
            assert float(((has - want) / want).abs().max()) < 1e-9  # of the oracle's, which loses digits here
            assert float(torch.linalg.eigvalsh(has)[0] / torch.linalg.eigvalsh(has)[-1]) > -1e-14


class Chain(nn.Module):
    """Sums of sums of post-activations: means that differ between the inputs."""

    def __init__(self, *activations):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(8, 8) for _ in range(4))
        self.readout, self.activations = nn.Linear(8, 1), nn.ModuleList(activations)

    def forward(self, x):
        f, g, h = self.activations
        a, b, c, d = self.layers
        y = f(a(x)) - 0.7 * g(b(x))
        y = 0.5 * y + h(c(x))
        return self.readout(y - 1.3 * f(d(y)))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("law", [(1.1, 0.3), (1.1, 0.0)])
def test_sums_of_values_with_means(law, dtype):
    for activations in ((nn.ReLU(), nn.GELU(), nn.ReLU()), (nn.Softplus(), nn.ReLU(), nn.Sigmoid())):
        arch = architecture(Chain(*activations), torch.zeros(2, 8), law=law)
        assert error(arch, inputs(0.3), None, dtype) < (1e-12 if dtype == torch.float64 else 1e-6)
        assert explain(arch).startswith("native")


def test_one_norm_makes_a_shorter_sum():
    """A table of the series: fewer terms than powers, and factors of one term."""
    p = program(of("tanh"))
    one = torch.full((5,), 1.3, dtype=torch.float64)
    kinds = {}
    for name, q in (("one", one), ("many", one * torch.linspace(0.9, 1.1, 5, dtype=torch.float64))):
        loop = next(
            v.loop for v in vector_inputs.side(p, q, torch.float64) if v.loop and v.loop.kind > vector_inputs.ERF
        )
        kinds[name] = loop.kind, loop.first
    assert kinds["one"][0] == vector_inputs.TABLE
    assert kinds["many"][0] == vector_inputs.SERIES
    assert kinds["one"][1] < kinds["many"][1]


def test_functions_whose_dual_is_not_theirs_are_no_series():
    class Wrong(GELU):
        def dual(self, q1, k, q2):
            kernel, slope = super().dual(q1, k, q2)
            return 1.001 * kernel, slope

    with pytest.raises(Unsupported, match="The dual of Wrong is not the series of its function"):
        powers(Wrong(), torch.ones(2, dtype=torch.float64), torch.float64)


def test_explain_and_auto_say_where_tables_are_taken():
    arch = of("hardtanh")
    assert arch.explain().splitlines()[0].endswith("else torch (for clamp where all inputs have one norm)")
    assert "one norm" not in of("elu").explain()
    x = inputs(0.0, 70).float()
    few = arch.ntk(x[:5])
    assert torch.equal(few, arch.ntk(x[:5], engine="torch"))  # so few pairs do not pay for a table
    assert torch.equal(arch.ntk(x), arch.ntk(x, engine="native"))
