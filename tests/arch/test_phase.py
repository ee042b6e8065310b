"""Order and chaos: published values, and kernels of depth 1000 against the asymptotics that a phase promises."""

import math
import pickle
from dataclasses import replace

import pytest
import torch
from nets import Elementwise
from scipy.integrate import quad
from torch import nn

from gramian import architecture
from gramian.errors import NoLimit

ERF = Elementwise(torch.erf)


def short(activation, law):
    layers = [nn.Linear(4, 8), activation, nn.Linear(8, 8), activation, nn.Linear(8, 1)]
    return architecture(nn.Sequential(*layers), torch.zeros(1, 4), law=law)


def deep(activation, law, depth):
    """The same with `depth` layers, its steps repeated: torch.export of 1000 layers takes minutes."""
    first, phi, linear, *_ = short(activation, law).steps
    steps = [first]
    for number in range(1, depth):
        steps.append(replace(phi, inputs=(len(steps) - 1,)))
        op = replace(linear.op, weight_name=f"{number}.weight", bias_name=linear.op.bias_name and f"{number}.bias")
        steps.append(replace(linear, op=op, inputs=(len(steps) - 1,)))
    return replace(short(activation, law), steps=tuple(steps), output=len(steps) - 1)


def moment(f, q):
    """E f(sqrt(q) z) by scipy's quadrature: independent of the activations' own."""
    return quad(lambda z: f(math.sqrt(q) * z) * math.exp(-z * z / 2) / math.sqrt(2 * math.pi), -12, 12, epsabs=1e-13)[0]


def correlation(k):
    return float(k[0, 1] / (k[0, 0] * k[1, 1]).sqrt())


X = torch.tensor([[1.0, 0.5, -0.3, 1.2], [0.8, 0.7, 0.1, 1.0]], dtype=torch.float64)


@pytest.mark.parametrize(
    ("activation", "law", "phase", "chi"),
    [
        (nn.ReLU(), (math.sqrt(2), 0), "critical", 1),
        (nn.ReLU(), (1.2, 0.4), "ordered", 1.2**2 / 2),
        (nn.ReLU(), (1.5, 0), "chaotic", 1.5**2 / 2),
        (nn.LeakyReLU(0.5), (math.sqrt(2 / 1.25), 0), "critical", 1),
        (nn.Tanh(), (1, 0), "critical", 1),
        (nn.Tanh(), (0.9, 0), "ordered", 0.81),
        (ERF, (math.sqrt(math.pi) / 2, 0), "critical", 1),
        (nn.GELU(), (1, 0), "ordered", 0.25),
    ],
    ids=str,
)
def test_known_phases(activation, law, phase, chi):
    (found,) = short(activation, law).phase()
    assert found.phase == phase
    assert found.chi_1 == pytest.approx(chi, abs=1e-12)


@pytest.mark.parametrize(
    ("activation", "critical"),
    [
        (nn.ReLU(), math.sqrt(2)),
        (nn.Tanh(), 1),
        (ERF, math.sqrt(math.pi) / 2),
        (nn.LeakyReLU(1.0), 1),
    ],
    ids=str,
)
def test_the_critical_sigma_w_without_bias(activation, critical):
    assert short(activation, (0.7, 0)).phase()[0].critical_sigma_w == pytest.approx(critical, rel=1e-12)


@pytest.mark.parametrize("sigma_b", [0.01, 0.3, 1.0])
def test_the_critical_line_of_tanh_by_another_quadrature(sigma_b):
    sigma_w = short(nn.Tanh(), (1.3, sigma_b)).phase()[0].critical_sigma_w
    (at,) = short(nn.Tanh(), (sigma_w, sigma_b)).phase()
    assert at.phase == "critical"
    assert sigma_w**2 * moment(lambda u: math.cosh(u) ** -4, at.variance) == pytest.approx(1, abs=1e-8)
    q = sigma_w**2 * moment(lambda u: math.tanh(u) ** 2, at.variance) + sigma_b**2
    assert q == pytest.approx(at.variance, rel=1e-10)


@pytest.mark.parametrize(
    "activation",
    [ERF, nn.GELU(), nn.SiLU(), nn.Sigmoid(), pytest.param(nn.Softplus(), marks=pytest.mark.slow)],
    ids=str,
)
def test_a_critical_sigma_w_that_is_found_is_critical(activation):
    sigma_w = short(activation, (1, 0.3)).phase()[0].critical_sigma_w
    if not math.isnan(sigma_w):
        assert short(activation, (sigma_w, 0.3)).phase()[0].chi_1 == pytest.approx(1, abs=1e-8)


@pytest.mark.parametrize(
    ("activation", "law", "between"),
    [
        (nn.Tanh(), (1.3, 0.3), (60, 80)),
        (nn.Tanh(), (1.7, 0.3), (40, 60)),
        (ERF, (1.5, 0.1), (40, 60)),
        (nn.GELU(), (1.4, 0.3), (45, 70)),
        (nn.ReLU(), (1.2, 0.5), (20, 60)),
    ],
    ids=str,
)
def test_correlations_converge_to_the_fixed_point_at_the_promised_rate(activation, law, between):
    (found,) = short(activation, law).phase()
    off = [abs(correlation(deep(activation, law, d).nngp(X)) - found.correlation) for d in between]
    # between rounding and the first layers: the promise is for a variance that has arrived, last for GELU, xi_q = 4
    assert 1e-12 < off[1] < off[0] < 0.1
    rate = math.log(off[1] / off[0]) / (between[1] - between[0])
    assert rate == pytest.approx(-1 / found.correlation_length, rel=0.05)
    if found.phase == "ordered":
        assert rate == pytest.approx(math.log(found.chi_1), rel=0.05)


@pytest.mark.parametrize(("activation", "law"), [(nn.Tanh(), (1.3, 0.3)), (nn.ReLU(), (1.2, 0.5))], ids=str)
def test_variances_converge_to_the_fixed_point_at_the_promised_rate(activation, law):
    (found,) = short(activation, law).phase()
    depths = (8, 16)
    off = [abs(float(deep(activation, law, d).nngp(X)[0, 0]) - found.variance) for d in depths]
    assert math.log(off[1] / off[0]) / 8 == pytest.approx(-1 / found.variance_length, rel=0.05)


def test_in_chaos_the_ntk_grows_by_chi_in_each_layer():
    (found,) = short(nn.Tanh(), (1.7, 0.3)).phase()
    below, above = (float(deep(nn.Tanh(), (1.7, 0.3), d).ntk(X)[0, 0]) for d in (50, 51))
    assert found.chi_1 > 1.1
    assert above / below == pytest.approx(found.chi_1, rel=1e-3)


def test_critical_relu_approaches_correlation_one_by_the_known_power():
    r"""With correlation cos(t): t small, K = cos t + t^3 / (3 pi), so e = 1 - c loses (2 e)^(3/2) / (3 pi) in a layer.

    Then e^(-1/2) gains sqrt(2) / (3 pi), and e = 9 pi^2 / (2 L^2) at depth L, up to a factor 1 + O(log L / L).
    """
    e = {d: 1 - correlation(deep(nn.ReLU(), "he", d).nngp(X)) for d in (500, 1000)}
    gain = (e[1000] ** -0.5 - e[500] ** -0.5) / 500
    assert gain == pytest.approx(math.sqrt(2) / (3 * math.pi), rel=0.02)
    assert e[1000] * 1000**2 == pytest.approx(9 * math.pi**2 / 2, rel=0.1)


@pytest.mark.parametrize(
    ("activation", "law"),
    [(nn.ReLU(), "he"), (ERF, (math.sqrt(math.pi) / 2, 0)), (ERF, (1.0, 0.1))],
    ids=str,
)
def test_kernels_of_depth_1000_are_finite_and_positive(activation, law):
    x = torch.cat([torch.randn(5, 4), X, X[:1], 1e-8 * X[:1]])
    for kernel in deep(activation, law, 1000).kernels(x):
        assert torch.isfinite(kernel).all()
        assert torch.equal(kernel, kernel.T)
        lam = torch.linalg.eigvalsh(kernel)
        assert lam[0] >= -len(x) * torch.finfo(kernel.dtype).eps * lam[-1]


def test_each_distinct_pair_has_its_phase_and_convolutions_count():
    conv = nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.ReLU(), nn.AvgPool2d(2), nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(),
        nn.Conv2d(4, 4, 1), nn.Tanh(), nn.Flatten(), nn.Linear(36, 5), nn.ReLU(), nn.Linear(5, 1),
    )  # fmt: skip
    law = {"0": (9, 9), "3": (1.2, 0.5), "5": (1.2, 0.5), "8": (1.3, 0.3), "readout": (9, 9)}
    found = architecture(conv, torch.zeros(1, 2, 8, 8), law=law).phase()
    assert found == (*short(nn.ReLU(), (1.2, 0.5)).phase(), *short(nn.Tanh(), (1.3, 0.3)).phase())
    assert pickle.loads(pickle.dumps(found)) == found
    assert "ReLU, sigma_w 1.2, sigma_b 0.5: ordered\n  chi_1             0.72\n" in str(found[0])


def test_where_variances_have_no_fixed_point():
    (found,) = short(nn.ReLU(), (1.5, 0.1)).phase()
    assert (found.variance, found.correlation) == (math.inf, 1)
    with pytest.raises(NoLimit, match=r"(?s)GELU with sigma_w 2.5.*no fixed point.*fix: a smaller sigma_w"):
        short(nn.GELU(), (2.5, 0.3)).phase()


def test_a_steep_tanh_has_a_fixed_point_all_the_same():
    (found,) = short(nn.Tanh(), (20, 0.1)).phase()
    steep = 400 * 4 / 3 / math.sqrt(2 * math.pi * found.variance)  # E sech^4(sqrt(q) z) at large q
    assert found.chi_1 == pytest.approx(steep, rel=1e-3)


def test_where_variances_die_out_correlations_are_those_of_the_inputs():
    (found,) = short(nn.Tanh(), (0.9, 0)).phase()
    assert found.variance == 0
    assert math.isnan(found.correlation)
    assert correlation(deep(nn.Tanh(), (0.9, 0), 200).nngp(X)) < 0.999
    assert "correlation       that of the inputs" in str(found)


def test_constant_layers_reach_their_variance_at_once():
    (found,) = short(nn.Tanh(), (0, 0.5)).phase()
    assert (found.variance, found.chi_1, found.variance_length) == (pytest.approx(0.25), 0, 0)


class Skip(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 1)

    def forward(self, x):
        h = self.a(x)
        h = h + self.b(torch.tanh(h))
        return self.c(torch.tanh(h))


def test_what_no_phase_describes_is_refused():
    with pytest.raises(NoLimit, match=r"(?s)Sum is not a part.*where: .*test_phase.py:\d+: h = h \+.*fix: .*branch"):
        architecture(Skip(), X).phase()
    with pytest.raises(NoLimit, match=r"(?s)No hidden affine layer.*fix: a module with two hidden layers or more"):
        architecture(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1)), X).phase()


def test_a_mask_changes_no_phase_and_a_weight_of_the_inputs_is_refused():
    class Masked(nn.Module):
        def __init__(self, factor):
            super().__init__()
            self.layers, self.factor = nn.ModuleList(nn.Linear(4, 4) for _ in range(3)), factor

        def forward(self, x, lengths):
            keep = self.factor(x, lengths)
            h = torch.tanh(self.layers[0](x)) * keep
            h = torch.tanh(self.layers[1](h)) * keep
            return self.layers[2](h.sum(1) / lengths[:, None])

    x, lengths = torch.randn(2, 5, 4), torch.tensor([3, 5])
    masks = {
        "of lengths": lambda x, lengths: (torch.arange(5) < lengths[:, None])[:, :, None],
        "of numbers": lambda x, lengths: (x[..., :1] > 0).to(x.dtype),
    }
    for mask in masks.values():
        assert architecture(Masked(mask), (x, lengths), law=(1.5, 0.3)).phase() == short(nn.Tanh(), (1.5, 0.3)).phase()
    with pytest.raises(NoLimit, match=r"(?s)Masked is not a part of the recursion"):
        architecture(Masked(lambda x, lengths: x[..., :1]), (x, lengths)).phase()


@pytest.mark.parametrize("jump", [torch.sign, torch.nn.functional.hardshrink, lambda h: (h > 0).to(h.dtype)])
def test_an_activation_that_jumps_has_no_chi(jump):
    """It was called ordered with chi_1 = 0, or divided by zero; close inputs are torn apart."""

    class Jumps(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 1)

        def forward(self, x):
            return self.c(jump(self.b(jump(self.a(x)))))

    for law in ("he", (1.4, 0.1)):
        with pytest.raises(NoLimit, match=r"(?s)jumps, so chi_1 is infinite.*fix: an activation without jumps"):
            architecture(Jumps(), torch.randn(2, 3), law=law).phase()


def test_an_activation_that_is_zero_around_zero_has_a_phase():
    net = nn.Sequential(nn.Linear(3, 4), nn.Softshrink(), nn.Linear(4, 4), nn.Softshrink(), nn.Linear(4, 1))
    (one,) = architecture(net, torch.randn(2, 3), law=(1.4, 0.1)).phase()
    assert one.phase == "ordered"
    assert one.variance == pytest.approx(0.01, rel=1e-6)
