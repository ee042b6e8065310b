"""The kernel of a network with a constant bias, against the unbiased one, quadrature, and networks."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from gramian import empirical_ntk
from gramian.bounds import bias_ntk, h_infinity
from gramian.data import correlated_sphere
from gramian.errors import BadData
from gramian.train import two_layer_relu


def test_without_a_threshold_and_without_bias_gradients_it_is_h_infinity():
    x = correlated_sphere(9, 4)
    torch.testing.assert_close(bias_ntk(x, 0.0, bias_trained=False), h_infinity(x))


@pytest.mark.parametrize("threshold", [-1.0, 0.3, 2.0])
@pytest.mark.parametrize("correlation", [-0.9, 0.0, 0.5, 0.99])
def test_the_probability_is_that_of_two_gaussians(threshold, correlation):
    x = torch.tensor([[1.0, 0.0], [correlation, math.sqrt(1 - correlation**2)]])
    both = float(bias_ntk(x, threshold)[0, 1]) / (correlation + 1)
    # P(u >= B, v >= B) = P(-u <= -B, -v <= -B), and (-u, -v) has the same law
    law = multivariate_normal(mean=[0, 0], cov=[[1, correlation], [correlation, 1]])
    assert both == pytest.approx(float(law.cdf(np.array([-threshold, -threshold]))), abs=1e-7)


def test_networks_approach_it_like_one_over_root_width():
    x = correlated_sphere(6, 5)
    widths, draws = (256, 1024, 4096), 12
    errors = [
        sum(
            float((empirical_ntk(two_layer_relu(5, m, threshold=1.0), x) - bias_ntk(x, 1.0)).norm())
            for _ in range(draws)
        )
        for m in widths
    ]
    assert math.log(errors[-1] / errors[0]) / math.log(widths[-1] / widths[0]) == pytest.approx(-0.5, abs=0.15)


def test_opposite_inputs_and_zeros():
    opposite = bias_ntk(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]), 0.5)
    assert float(opposite[0, 1]) == 0.0
    with pytest.raises(BadData, match="0 or not finite"):
        bias_ntk(torch.zeros(1, 2), 0.0)
