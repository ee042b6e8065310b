"""Values of one network that share random weights."""

import pytest
import torch
from nets import Elementwise
from torch import nn
from torch.nn import functional as F

from gramian import architecture
from gramian.errors import NoLimit


def wide(function, x):
    return kernels(function, x, channels=16)


def kernels(function, x, y=None, channels=8):
    """NNGP and NTK with the readout's weights alone left random on top: sigma 1, no biases."""
    net = nn.Sequential(nn.Linear(6, 8, bias=False), Elementwise(function), nn.Linear(channels, 1, bias=False)).double()
    return architecture(net, x, law=(1.0, 0.0)).kernels(x, y)


def test_a_polynomial_of_one_value_is_a_sum_of_dependent_terms():
    """1 + h + h^2 / 2 by the moments of a Gaussian pair."""
    torch.manual_seed(0)
    x, y = torch.randn(4, 6, dtype=torch.float64), torch.randn(3, 6, dtype=torch.float64)
    q1, q2, k = (x * x).mean(1)[:, None], (y * y).mean(1)[None], x @ y.T / 6
    nngp = 1 + q1 / 2 + q2 / 2 + k + (q1 * q2 + 2 * k * k) / 4
    made, ntk = kernels(lambda h: 1 + h + 0.5 * h**2, x, y)
    torch.testing.assert_close(made, nngp)
    torch.testing.assert_close(ntk, nngp + k * (1 + k))  # the slope is 1 + h


def test_constants_of_two_dependent_summands_meet_each_others_means():
    torch.manual_seed(0)
    x = torch.randn(4, 6, dtype=torch.float64)
    constant, ntk = kernels(lambda h: (1 + F.relu(h)) + (2 - F.relu(h)), x)
    torch.testing.assert_close(constant, torch.full_like(constant, 9.0))
    torch.testing.assert_close(ntk, constant)
    for one, other in [
        (lambda h: (1 + F.relu(h)) + (3 - 2 * h), lambda h: 4 + (F.relu(h) - 2 * h)),
        (lambda h: (3 - 2 * h) + (1 + F.relu(h)), lambda h: F.relu(h) - 2 * h + 4),
    ]:
        torch.testing.assert_close(kernels(one, x), kernels(other, x))


def test_channels_side_by_side_meet_channel_by_channel():
    torch.manual_seed(0)
    x = torch.randn(4, 6, dtype=torch.float64)

    def doubled(n, h):
        return torch.cat([F.relu(h), n * F.relu(h)], 1)

    for one, other in [
        (lambda h: doubled(3, h) + doubled(-2, h), lambda h: torch.cat([2 * F.relu(h), F.relu(h)], 1)),
        (lambda h: doubled(1, h) - doubled(1, h), lambda h: torch.cat([0 * h, 0 * h], 1)),
    ]:
        torch.testing.assert_close(wide(one, x), wide(other, x), atol=1e-14, rtol=1e-10)


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (lambda h: h.flatten(1) + F.relu(h).flatten(1), r"(?s)through Flatten.*fix: add them before the Flatten"),
        (
            lambda h: (torch.cat([torch.cat([h, h], 1), h], 1) + torch.cat([h, torch.cat([h, h], 1)], 1)).mean(2),
            r"(?s)through Concat.*give each branch",
        ),
    ],
)
def test_what_has_no_rule_for_dependent_values_is_refused(function, text):
    x = torch.randn(2, 3, 4)
    net = nn.Sequential(nn.Conv1d(3, 5, 1), Elementwise(function), nn.LazyLinear(1))
    net(x)
    with pytest.raises(NoLimit, match=text):
        architecture(net, x).ntk(x)
