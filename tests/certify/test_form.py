"""Which network is the one that a theorem is about: by its layers, factors and activations, never by what it is not."""

import math

import pytest
import torch
from nets import Elementwise
from torch import nn

from gramian.arch.ops import GELU, Cos, Erf, Gaussian, Sin, Smooth, smooth
from gramian.certify import network_form
from gramian.certify.network_form import (
    activations,
    has_biases,
    layers,
    network_facts,
    sign_readout,
    trained,
    two_layer_lambda,
)
from gramian.network import architecture
from gramian.network.zoo import DuResNet, mlp
from gramian.train.theorem_networks import second_moment_inverse

ANALYTIC = {
    "tanh": nn.Tanh(), "sigmoid": nn.Sigmoid(), "softplus": nn.Softplus(), "softplus, beta": nn.Softplus(beta=3.0),
    "gelu": nn.GELU(), "gelu, tanh": nn.GELU(approximate="tanh"), "silu": nn.SiLU(), "mish": nn.Mish(),
    "logsigmoid": nn.LogSigmoid(),
}  # fmt: skip
NOT = {
    "relu": nn.ReLU(), "leaky": nn.LeakyReLU(0.1), "hardtanh": nn.Hardtanh(), "relu6": nn.ReLU6(), "elu": nn.ELU(),
    "selu": nn.SELU(), "celu": nn.CELU(), "softshrink": nn.Softshrink(), "hardswish": nn.Hardswish(),
    "hardsigmoid": nn.Hardsigmoid(), "softplus with a kink": nn.Softplus(threshold=1.0),
}  # fmt: skip
FUNCTIONS = {
    True: {"erf": torch.erf, "sin": torch.sin, "cos": torch.cos, "atan": torch.atan},
    False: {
        "clamp": lambda h: h.clamp(min=0), "square": lambda h: h * h, "cube": lambda h: h**3, "abs": torch.abs,
        "exp": torch.exp, "max": lambda h: torch.maximum(h, torch.zeros_like(h)), "linear": lambda h: 2 * h,
    },
}  # fmt: skip


def chain(activation, *, bias=False, outputs=1, hidden=1):
    parts = [nn.Linear(3, 5, bias=bias), activation]
    for _ in range(hidden - 1):
        parts += [nn.Linear(5, 5, bias=bias), activation]
    return nn.Sequential(*parts, nn.Linear(5, outputs, bias=bias))


def read(module, law="he", in_shape=(3,), **more):
    return architecture(module, torch.randn(2, *in_shape), law, **more)


@pytest.mark.parametrize("name", ANALYTIC)
def test_analytic_activations(name):
    assert activations(read(chain(ANALYTIC[name])))[1] is True


@pytest.mark.parametrize("name", NOT)
def test_activations_with_a_kink_or_a_bend_are_not_analytic(name):
    assert activations(read(chain(NOT[name])))[1] is False
    assert (
        activations(read(nn.Sequential(*chain(nn.Tanh())[:2], *chain(NOT[name])[1:2], nn.Linear(5, 1))))[1] is not True
    )


@pytest.mark.parametrize(("wanted", "name"), [(w, n) for w, named in FUNCTIONS.items() for n in named])
def test_functions_count_by_what_they_are(wanted, name):
    found = activations(read(chain(Elementwise(FUNCTIONS[wanted][name]))))[1]
    assert found is True if wanted else found is not True


@pytest.mark.parametrize(
    "op", [*map(Smooth, smooth.SMOOTH_FUNCTIONS), Erf(), GELU(), Sin(), Cos(), Gaussian()], ids=str
)
def test_what_counts_as_analytic_has_bounded_slopes_and_second_derivatives(op):
    """All of SMOOTH_FUNCTIONS count: one that grows faster than a line is no `Smooth`, but an op of its own."""
    assert isinstance(op, network_form.ANALYTIC)
    x = torch.linspace(-60, 60, 2401, dtype=torch.float64).requires_grad_()
    (first,) = torch.autograd.grad(op.phi(x).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x)
    steepest = max(float(first.detach().abs().max()), float(second.abs().max()))
    assert steepest < 4, f"{op.name} is not Lipschitz with a Lipschitz derivative: not in SMOOTH_FUNCTIONS of smooth.py"


def test_functions_of_the_user_s_own_are_not_known():
    for own in (lambda h: torch.tanh(h) + 0.1 * torch.sin(h), lambda h: h / (1 + h * h)):
        assert activations(read(chain(Elementwise(own))))[1] is None


def test_a_chain_has_its_factors_compared_with_the_paper_s():
    c = math.sqrt(second_moment_inverse(torch.tanh))
    law = {"0": (1.0, 0.0), "*": (c, 0.0)}
    assert layers(read(chain(nn.Tanh(), hidden=3), law)) == ("chain", pytest.approx(0.0, abs=1e-12))
    for wrong in ({"0": (c, 0.0), "*": (c, 0.0)}, {"0": (1.0, 0.0), "*": (c * 1.01, 0.0)}, "he", "lecun"):
        form, off = layers(read(chain(nn.Tanh(), hidden=3), wrong))
        assert form == "chain"
        assert off > 0.009
    assert layers(read(chain(nn.Tanh()), law, parametrization="standard"))[1] is None


NO_CHAIN = {
    "scaled": lambda: nn.Sequential(nn.Linear(3, 5), nn.Tanh(), Elementwise(lambda h: 2 * h), nn.Linear(5, 1)),
    "scaled input": lambda: nn.Sequential(Elementwise(lambda x: 2 * x), nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1)),
    "no activation": lambda: nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 5), nn.Linear(5, 1)),
    "ends in one": lambda: nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1), nn.Tanh()),
    "normalized": lambda: nn.Sequential(nn.Linear(3, 5), nn.LayerNorm(5), nn.Tanh(), nn.Linear(5, 1)),
    "linear": lambda: nn.Linear(3, 1),
}  # fmt: skip


@pytest.mark.parametrize("name", NO_CHAIN)
def test_anything_between_the_layers_is_another_network(name):
    form, _ = layers(read(NO_CHAIN[name]()))
    assert form == ("chain" if name == "linear" else "other")  # which has no hidden layer


class PreActivation(nn.Module):
    """h + W2 phi(W1 phi(h)), and variants that are no residual network of Du et al."""

    def __init__(self, block, phi=torch.relu, first=1.0):
        super().__init__()
        self.first, self.inner = nn.Linear(3, 5, bias=False), nn.Linear(5, 5, bias=False)
        self.last, self.block, self.phi, self.scale = nn.Linear(5, 1, bias=False), block, phi, first

    def forward(self, x):
        return self.last(self.block(self.scale * self.phi(self.first(x)), self.inner, self.phi))


C_SOFTPLUS = math.sqrt(second_moment_inverse(nn.functional.softplus))
BLOCKS = {  # H = 2 here, so a factor of c_res / H below 1 / 2
    "pre-activation": (lambda h, w, phi: h + 0.25 * w(phi(h)), "other"),
    "without a factor": (lambda h, w, phi: h + phi(w(h)), "other"),
    "factor of 1": (lambda h, w, phi: h + 0.5 * phi(w(h)), "other"),
    "negative": (lambda h, w, phi: h - 0.25 * phi(w(h)), "other"),
    "no skip": (lambda h, w, phi: 0.25 * phi(w(h)), "other"),
    "theirs": (lambda h, w, phi: h + 0.25 * phi(w(h)), "residual"),
    "theirs, turned": (lambda h, w, phi: 0.25 * phi(w(h)) + h, "residual"),
    "theirs, as alpha": (lambda h, w, phi: torch.add(h, 0.5 * phi(w(h)), alpha=0.5), "residual"),
}  # fmt: skip


@pytest.mark.parametrize("name", BLOCKS)
def test_the_residual_network_of_du_is_theirs_only(name):
    block, wanted = BLOCKS[name]
    form, off = layers(read(PreActivation(block, nn.functional.softplus, C_SOFTPLUS), (1.0, 0.0)))
    assert form == wanted
    assert off is None if wanted == "other" else off < 1e-9


def test_the_zoo_s_residual_network_is_theirs():
    assert layers(read(DuResNet((3,), 1, depth=4, width=6), (1.0, 0.0))) == ("residual", pytest.approx(0, abs=1e-9))
    assert layers(read(DuResNet((3,), 1, depth=4, width=6), "he"))[1] > 0.3
    assert layers(read(DuResNet((1, 4, 4), 1, depth=4, width=6), (1.0, 0.0), (1, 4, 4)))[0] == "residual"


def test_biases_and_what_is_trained():
    assert not has_biases(read(chain(nn.Tanh())))
    assert not has_biases(read(chain(nn.Tanh(), bias=True)))  # He's law has none, and none is made
    assert has_biases(read(chain(nn.Tanh(), bias=True), (1.0, 0.1)))
    assert has_biases(read(chain(nn.Tanh(), bias=True), parametrization="standard"))  # they move
    first = chain(nn.ReLU())
    first[2].requires_grad_(False)
    assert trained(read(first), False) == "first"
    assert trained(read(chain(nn.ReLU())), False) == "all"
    last = chain(nn.ReLU())
    last[0].requires_grad_(False)
    assert trained(read(last), False) == "some"


def test_weights_used_twice_are_not_drawn_independently():
    shared = nn.Linear(5, 5, bias=False)
    net = nn.Sequential(
        nn.Linear(3, 5, bias=False), nn.Tanh(), shared, nn.Tanh(), shared, nn.Tanh(), nn.Linear(5, 1, bias=False)
    )
    drawn = "NTK parametrization, law lecun"
    assert network_facts(read(chain(nn.Tanh(), hidden=3)), net, torch.eye(3), False, drawn)["gaussian"] is True
    assert network_facts(read(net), net, torch.eye(3), False, drawn)["gaussian"] is False


def test_a_readout_of_signs():
    net = chain(nn.ReLU())
    assert sign_readout(net) is False
    with torch.no_grad():
        net[2].weight.copy_(torch.tensor([[1.0, -1.0, 1.0, 1.0, -1.0]]) / math.sqrt(5))
    assert sign_readout(net) is False  # it is trained
    net[2].requires_grad_(False)
    assert sign_readout(net) is True
    with torch.no_grad():
        net[2].weight[0, 0] *= 1.001
    assert sign_readout(net) is False


def test_the_two_layer_gram_matrix_at_close_and_opposite_rows():
    """arccos at a known angle; close rows to all digits: lambda_min of [[1/2, g], [g, 1/2]] is 1/2 - |g|."""
    for angle in (1.0, 1e-4, 1e-7, math.pi - 1e-7, math.pi):
        x = torch.tensor([[1.0, 0.0], [math.cos(angle), math.sin(angle)]], dtype=torch.float64)
        wanted = 0.5 - abs(math.cos(angle)) * (math.pi - angle) / (2 * math.pi)
        assert two_layer_lambda(3 * x) == pytest.approx(wanted, rel=1e-6, abs=1e-15)


def test_the_last_coordinate_is_that_of_vectors():
    x = torch.tensor([[0.5**0.5, 0.5**0.5], [0.0, 1.0]])
    arch = read(mlp((2,), 1, width=4), in_shape=(2,))
    known = network_facts(arch, nn.Linear(2, 1), x, False, "NTK parametrization, law he")
    assert known["last_coordinate_error"] == pytest.approx(1 - 0.5**0.5)
    assert known["gaussian"] is True
    assert network_facts(arch, nn.Linear(2, 1), x, False, "as given")["gaussian"] is None
    assert network_facts(None, nn.Linear(2, 1), x[:, None], False, "as given")["last_coordinate_error"] is None
