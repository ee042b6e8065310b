"""Networks and runs that theory speaks of: the two-layer network, tuned runs, and a run beside its kernel."""

import math

import pytest
import torch
from torch import nn

from gramian import empirical_ntk
from gramian.bounds import h_infinity
from gramian.data import correlated_sphere, random_signs, span_coordinates
from gramian.errors import BadArgument
from gramian.solve import RULES
from gramian.train import beside_kernel, tuned_run, two_layer_relu


def test_the_kernel_of_the_two_layer_network_approaches_its_limit_like_one_over_root_width():
    x = correlated_sphere(8, 5)
    widths, draws = (64, 256, 1024), 24
    errors = [
        sum(float((empirical_ntk(two_layer_relu(5, m), x) - h_infinity(x)).norm()) for _ in range(draws))
        for m in widths
    ]
    slope = math.log(errors[-1] / errors[0]) / math.log(widths[-1] / widths[0])
    assert slope == pytest.approx(-0.5, abs=0.15)


def test_pairs_start_at_zero_with_the_same_kernel():
    x = correlated_sphere(6, 4)
    net = two_layer_relu(4, 2000, antisymmetric=True)
    assert float(net(x).detach().abs().max()) < 1e-12
    assert float((empirical_ntk(net, x) - h_infinity(x)).abs().max()) < 0.05
    assert [p.requires_grad for p in net.parameters()] == [True, False]


def test_mean_field_scaling_divides_the_kernel_by_the_width():
    x = correlated_sphere(4, 3)
    generators = [torch.Generator().manual_seed(5) for _ in range(2)]
    ntk = empirical_ntk(two_layer_relu(3, 16, generator=generators[0]), x)
    mean_field = empirical_ntk(two_layer_relu(3, 16, scaling="1/m", generator=generators[1]), x)
    torch.testing.assert_close(mean_field, ntk / 16)


@pytest.mark.parametrize("keywords", [{"scaling": "1/m^2"}, {"antisymmetric": True}])
def test_what_makes_no_network_is_refused(keywords):
    with pytest.raises(BadArgument, match="fix: "):
        two_layer_relu(3, 5, **keywords)


@pytest.mark.parametrize("rule", RULES)
def test_a_tuned_run_of_a_linear_model_takes_the_predicted_steps(rule):
    torch.manual_seed(1)
    x = torch.randn(4, 6)
    net = nn.Linear(6, 1, bias=False)
    before = net.weight.detach().clone()
    run = tuned_run(net, x, torch.randn(4, 1), rule)
    assert run.steps == run.predicted_steps
    assert run.residuals[run.steps] <= run.accuracy < run.residuals[run.steps - 1]
    assert torch.equal(net.weight, before)


def test_a_run_that_does_not_arrive_says_so():
    run = tuned_run(nn.Linear(2, 1, bias=False), torch.diag(torch.tensor([1.0, 0.01])), torch.ones(2, 1), "gd-safe",
                    most_steps=20)  # fmt: skip
    assert run.steps is None
    assert run.rate() is None
    assert run.predicted_steps > 20


def test_a_linear_model_is_on_its_predicted_curve_and_ends_at_the_predicted_distance():
    x, y = correlated_sphere(4, 6), random_signs(4, 1)
    net = nn.Linear(6, 1, bias=False)
    run = beside_kernel(net, x, y, x @ x.mT, steps=2000)
    assert run.curve_error < 1e-7  # both fall to rounding errors of the root
    assert run.movement == pytest.approx(run.predicted_movement, rel=1e-6)
    scaled = beside_kernel(net, x, y, 4 * x @ x.mT, steps=2000, scale=0.25)
    assert scaled.movement / scaled.predicted_movement == pytest.approx(1, rel=1e-6)


def test_rows_in_their_span_give_the_same_kernel():
    x = torch.randn(5, 40)
    torch.testing.assert_close(h_infinity(span_coordinates(x)), h_infinity(x))


@pytest.mark.parametrize("correlation", [-0.1, 1.0])
def test_a_correlation_out_of_range_is_refused(correlation):
    with pytest.raises(BadArgument, match="correlation"):
        correlated_sphere(3, 3, correlation)
