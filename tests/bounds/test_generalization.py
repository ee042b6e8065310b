"""The two bounds hold as often as they say, on distributions whose error is known; random labels are vacuous."""

import copy
import math

import pytest
import torch
from torch import nn

import gramian
from gramian.bounds import pac_bayes, rademacher
from gramian.bounds.noisy_weights import noisy_error
from gramian.bounds.weight_ball import second_order
from gramian.checker.program import evaluate
from gramian.errors import BadArgument, BadData
from gramian.prove.read_program import checked_program

FLIPPED = 0.1  # share of labels that the toy distribution flips


def toy(n, seed):
    """Two inputs uniform on the circle, the label the sign of the first, flipped in a tenth of the samples."""
    draws = torch.Generator().manual_seed(seed)
    angle = 2 * math.pi * torch.rand(n, generator=draws, dtype=torch.float64)
    x = torch.stack([angle.cos(), angle.sin()], 1)
    flip = torch.rand(n, generator=draws) < FLIPPED
    return x, torch.where(flip, -1.0, 1.0).double() * x[:, 0].sign()


def linear(weights):
    net = nn.Linear(2, 1, bias=False).double()
    net.weight.data = torch.tensor([weights], dtype=torch.float64)
    return net


def fitted(x, y):
    weights = torch.linalg.lstsq(x, y[:, None]).solution[:, 0]
    return linear(weights.tolist())


def true_error(net, sigma=0.0):
    """Of weights at the angle a to the truth: |a| / pi of the circle is on the wrong side; noise averaged over."""
    draws = torch.Generator().manual_seed(99)
    weights = net.weight.detach() + sigma * torch.randn(20_000, 2, generator=draws, dtype=torch.float64)
    wrong = torch.atan2(weights[:, 1], weights[:, 0]).abs() / math.pi
    return float((FLIPPED + (1 - 2 * FLIPPED) * wrong).mean())


def test_pac_bayes_is_violated_less_often_than_delta():
    delta, repetitions = 0.2, 100
    prior = linear([0.0, 0.0])
    violated = 0
    for seed in range(repetitions):
        x, y = toy(60, seed)
        net = fitted(x, y)
        bound = pac_bayes(
            net, x, y, prior, failure_probability=delta, draws=60, pilot_draws=4, sigmas=(0.1, 0.5, 2.0), seed=seed
        )
        violated += true_error(net, bound.numbers["sigma"]) > bound.value
    assert violated <= delta * repetitions


def test_rademacher_is_violated_less_often_than_delta():
    delta, violated = 0.2, 0
    for seed in range(50):
        x, y = toy(200, seed)
        net = fitted(x, y)
        bound = rademacher(net, x, y, linear([0.0, 0.0]), failure_probability=delta)
        violated += true_error(net) > bound.value
    assert violated == 0


def test_the_bounds_become_informative_with_more_samples():
    prior, values = linear([0.0, 0.0]), []
    for n in (100, 1_000, 10_000):
        x, y = toy(n, 5)
        net = fitted(x, y)
        values.append([pac_bayes(net, x, y, prior, draws=1000).value, rademacher(net, x, y, prior, margin=0.3).value])
    for bounds in zip(*values, strict=True):
        assert bounds[0] > bounds[1] > bounds[2] > FLIPPED
    assert values[-1][0] < 0.2
    assert values[-1][1] < 0.5


def wide_network(d, width):
    return nn.Sequential(nn.Linear(d, width), nn.Tanh(), nn.Linear(width, 1)).double()


def test_random_labels_are_vacuous_although_they_are_fitted_exactly():
    torch.manual_seed(0)
    x, y = torch.randn(80, 20).double(), torch.randn(80).sign().double()
    net = wide_network(20, 256)
    initial = copy.deepcopy(net)
    proof = gramian.prove(net, x, y[:, None], in_place=True)
    assert proof.status == "proved"
    radius = proof.numbers["radius"]
    assert noisy_error(net, x, y, 1e-9, draws=1) == 0
    assert pac_bayes(net, x, y, initial, radius=radius, draws=50).vacuous
    bound = rademacher(net, x, y, initial, radius=radius)
    assert bound.vacuous
    assert "vacuous" in str(bound)
    # at a proved minimum the ramp of margin 1 is 0 up to rounding
    assert bound.numbers["ramp loss on the samples"] < 1e-9


def test_a_prior_from_other_samples_helps():
    x, y = toy(2_000, 3)
    first, both = fitted(x[:1000], y[:1000]), fitted(x, y)
    plain = pac_bayes(both, x[1000:], y[1000:], linear([0.0, 0.0]), draws=100)
    informed = pac_bayes(both, x[1000:], y[1000:], first, draws=100)
    assert informed.value < plain.value
    assert informed.value > true_error(both, informed.numbers["sigma"])


def test_a_larger_distance_never_helps():
    x, y = toy(300, 4)
    net, options = fitted(x, y), {"draws": 50, "sigmas": (0.3,), "seed": 1}
    near = pac_bayes(net, x, y, net, **options).value
    far = pac_bayes(net, x, y, linear([5.0, 5.0]), **options).value
    wide = pac_bayes(net, x, y, net, radius=0.1, **options).value
    assert near < min(far, wide)
    assert rademacher(net, x, y, net).value < rademacher(net, x, y, linear([5.0, 5.0])).value


def test_several_classes_count_errors_as_argmax_does():
    torch.manual_seed(1)
    net, x = nn.Linear(4, 3).double(), torch.randn(200, 4).double()
    y = torch.randint(3, (200,))
    share = float((net(x).argmax(1) != y).double().mean())
    bound = pac_bayes(net, x, y, net, sigmas=(1e-8,), draws=2)
    assert bound.numbers["error on the samples, noisy"] == pytest.approx(share)
    assert bound.guessing == pytest.approx(2 / 3)


@pytest.mark.parametrize("trained", ["first", "both"])
def test_the_remainder_of_the_linearization_is_below_its_bound(trained):
    torch.manual_seed(2)
    net = wide_network(5, 40)
    if trained == "first":
        for p in (net[2].weight, net[2].bias):
            p.requires_grad_(False)
    x, parameters = torch.randn(12, 5).double(), [p for p in net.parameters() if p.requires_grad]
    program = checked_program(net, x)
    for distance in (0.1, 1.0):
        lipschitz = second_order(program, evaluate(program, x.numpy()), distance)
        for _ in range(20):
            step = [torch.randn_like(p) for p in parameters]
            length = math.sqrt(sum(float(s.square().sum()) for s in step))
            step = [s * distance / length for s in step]
            before = net(x).detach()
            slope = torch.autograd.functional.jvp(
                lambda *p: torch.func.functional_call(net, dict(zip(names(net), p, strict=True)), x),
                tuple(parameters),
                tuple(step),
            )[1]
            moved = {n: p + s for n, p, s in zip(names(net), parameters, step, strict=True)}
            remainder = torch.func.functional_call(net, moved, x) - before - slope
            # root sum of squares of the remainders of all samples
            assert float(remainder.detach().norm()) <= lipschitz * distance**2 / 2


def names(net):
    return [n for n, p in net.named_parameters() if p.requires_grad]


def test_networks_that_differ_in_more_than_trained_weights_are_refused():
    x, y = toy(20, 0)
    net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 1)).double()
    other = copy.deepcopy(net)
    other[1].running_mean += 1
    with pytest.raises(BadArgument, match="running_mean differs"):
        pac_bayes(net, x, y, other)
    with pytest.raises(BadArgument, match="other names or shapes"):
        pac_bayes(net, x, y, linear([1.0, 0.0]))


def test_labels_and_options_are_checked():
    x, y = toy(20, 0)
    net = linear([1.0, 0.0])
    with pytest.raises(BadData, match="not all 1 and -1"):
        pac_bayes(net, x, y * 2, net)
    with pytest.raises(BadData, match="shape"):
        rademacher(net, x, y[:5], net)
    for wrong in ({"failure_probability": 0}, {"draws": 0}, {"radius": -1.0}, {"sigmas": (0.0,)}):
        with pytest.raises(BadArgument):
            pac_bayes(net, x, y, net, **wrong)
    with pytest.raises(BadArgument, match="margin"):
        rademacher(net, x, y, net, margin=0.0)
    kinked = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)).double()
    with pytest.raises(BadArgument, match="kinked"):
        rademacher(kinked, x, y, kinked)
