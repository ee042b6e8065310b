"""Dropout in training mode: whose masks are one, and whose are not."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from gramian import architecture, monte_carlo
from gramian.errors import NoLimit


def net(dropout, activation=F.relu):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.d, self.r = nn.Linear(5, 16), dropout, nn.Linear(16, 1)

        def forward(self, x):
            return self.r(self.d(activation(self.a(x))))

    return Net()


def test_a_sample_meets_its_own_mask_on_the_diagonal_alone():
    """NNGP and NTK by hand: above the mask's layer K / (1 - p) on the diagonal, K beside it."""
    x = torch.randn(4, 5)
    module = net(nn.Dropout(0.25))
    k, theta = architecture(module.eval(), x, law=(1.2, 0.3)).kernels(x)
    arch = architecture(module.train(), x, law=(1.2, 0.3))
    own = 1 + torch.eye(4) / 3
    torch.testing.assert_close(arch.nngp(x), 0.09 + (k - 0.09) * own)
    torch.testing.assert_close(arch.ntk(x), 0.09 + (theta - 0.09) * own)  # every part but the last bias is masked
    torch.testing.assert_close(arch.kernels(x, x), (k, theta))  # y is another draw
    assert "Dropout p 0.25, in training" in str(arch)


def test_the_module_in_eval_mode_and_a_finite_network_in_eval_mode_have_no_masks():
    x = torch.randn(4, 5)
    module = net(nn.Dropout(0.25))
    assert [s.op.name for s in architecture(module.eval(), x).steps] == ["Linear", "ReLU", "Linear"]
    network = architecture(module.train(), x).network(64, seed=0)
    assert not torch.equal(network(x), network(x))
    assert torch.equal(network.eval()(x), network(x))


def test_monte_carlo_at_a_width_draws_masks():  # width 256, 200 draws: within 5 standard errors of the limit
    x = torch.randn(3, 5)
    module = net(nn.Dropout(0.5)).train()
    found = monte_carlo(module, x, width=256, accuracy=1e-6, draws=200)
    limit = architecture(module, x).ntk(x)
    assert ((found.ntk - limit).abs() < 5 * found.ntk_error).all()


@pytest.mark.parametrize(
    ("module", "x", "text"),
    [
        (net(nn.Dropout(1.0)), torch.zeros(2, 5), r"p = 1 leaves nothing"),
        (nn.Sequential(nn.Linear(5, 8), nn.Dropout1d(0.5), nn.Linear(8, 1)), torch.zeros(2, 3, 5),
         r"mask for each position, shared by all channels, which are on axis 2.*nn.Dropout, which masks every value"),
        (nn.Sequential(nn.Linear(5, 8), nn.Dropout(0.5), nn.Tanh(), nn.Linear(8, 1)), torch.zeros(2, 5),
         r"input of tanh is not Gaussian.*dropout.*fix: put a Linear or Conv between"),
    ],
)  # fmt: skip
def test_what_stays_random_is_refused(module, x, text):
    with pytest.raises(NoLimit, match="(?s)" + text):
        architecture(module, x).ntk(x)
