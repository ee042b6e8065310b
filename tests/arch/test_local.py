"""Locally connected layers, and what else may read patches."""

import pytest
import torch
from layers import weight
from torch import nn
from torch.nn import functional as F

from gramian import architecture
from gramian.errors import NoLimit


class Net(nn.Module):
    def __init__(self, forward, **held):
        super().__init__()
        self._forward = forward
        for name, part in held.items():
            setattr(self, name, part)

    def forward(self, x):
        return self._forward(self, x)


def own(n, h):
    return torch.einsum("bkl,okl->bol", F.unfold(h, 3, padding=1), n.w)


def test_a_flattened_locally_connected_network_has_the_kernel_of_the_convolutional_one():
    """Novak et al. 2019: with no pooling nothing tells whether weights are shared over the positions."""
    x = torch.randn(3, 2, 4, 4)
    local = Net(lambda n, x: n.r(torch.relu(own(n, x) + n.b).flatten(1)), w=weight(5, 18, 16), b=weight(5, 16),
                r=nn.Linear(80, 1))  # fmt: skip
    shared = nn.Sequential(nn.Conv2d(2, 5, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(80, 1))
    ours, theirs = (architecture(net, x, law=(1.3, 0.4)).kernels(x) for net in (local, shared))
    torch.testing.assert_close(ours, theirs)


def test_a_mean_over_positions_adds_up_independent_ones():
    """NNGP and NTK of a linear locally connected network by hand: only equal positions correlate."""
    x, y = torch.randn(3, 2, 4, 4), torch.randn(2, 2, 4, 4)
    net = Net(lambda n, x: n.r(own(n, x).mean(2)), w=weight(5, 18, 16), r=nn.Linear(5, 1, bias=False))
    px, py = (F.unfold(z, 3, padding=1) for z in (x, y))
    k = torch.einsum("akl,bkl->ab", px, py) / 18 / 16**2
    nngp, ntk = architecture(net, x, law=(1.5, 0.0)).kernels(x, y)
    torch.testing.assert_close(nngp, 1.5**4 * k)
    torch.testing.assert_close(ntk, 2 * 1.5**4 * k)


def test_a_bias_shared_by_all_positions_correlates_them():
    x = torch.randn(3, 2, 4, 4)
    nets = [Net(lambda n, x: n.r((own(n, x) + n.b).mean(2)), w=weight(5, 18, 16), b=weight(*shape), r=nn.Linear(5, 1))
            for shape in ((5, 1), (5, 16))]  # fmt: skip
    one, each = (architecture(net, x, law=(0.0, 2.0)).nngp(x) for net in nets)
    torch.testing.assert_close(one - each, torch.zeros_like(one))  # the readout's sigma_w is zero
    one, each = (architecture(net, x, law={"w": (0.0, 2.0), "*": (1.0, 0.0)}).nngp(x) for net in nets)
    torch.testing.assert_close(one, torch.full_like(one, 4.0))
    torch.testing.assert_close(each, torch.full_like(one, 4.0 / 16))


def test_shared_weights_on_patches_are_a_convolution():
    x = torch.randn(3, 2, 5, 5)
    conv = nn.Sequential(nn.Conv2d(2, 6, 3), nn.ReLU(), nn.Conv2d(6, 6, 2), nn.ReLU(), nn.Flatten(), nn.Linear(24, 1))
    a = Net(lambda n, x: n.r(torch.relu(n.b(F.unfold(torch.relu(n.a(x)), 2).transpose(1, 2))).flatten(1)),
            a=nn.Conv2d(2, 6, 3), b=nn.Linear(24, 6), r=nn.Linear(24, 1))  # fmt: skip
    b = Net(lambda n, x: n.r(torch.relu(torch.einsum("ok,bkl->bol", n.w, F.unfold(torch.relu(n.a(x)), 2)) + n.b)
                             .flatten(1)),
            a=nn.Conv2d(2, 6, 3), w=weight(6, 24), b=weight(1, 6, 1), r=nn.Linear(24, 1))  # fmt: skip
    kernels = [architecture(net, x, law=(1.3, 0.3)).kernels(x) for net in (conv, a, b)]
    torch.testing.assert_close(kernels[1], kernels[0])
    torch.testing.assert_close(kernels[2], kernels[0])


def test_a_finite_layer_computes_what_the_modules_own_product_does():
    x = torch.randn(3, 2, 4, 4)
    net = Net(lambda n, x: n.r(torch.relu(own(n, x) + n.b).flatten(1)), w=weight(5, 18, 16), b=weight(5, 16),
              r=nn.Linear(80, 1))  # fmt: skip
    network = architecture(net, x, law=(1.3, 0.4), parametrization="standard").network(seed=0)
    layers = network.layers
    with torch.no_grad():
        net.w.copy_(layers.w.weight)
        net.b.copy_(layers.w.bias)
        net.r.load_state_dict(layers.r.state_dict())
    torch.testing.assert_close(network(x), net(x))


@pytest.mark.parametrize(
    ("forward", "text"),
    [
        (lambda n, x: n.r(torch.relu(F.unfold(n.a(x), 3)).mean(2)), r"read by `relu`.*fix: torch.einsum\(\"bkl,okl"),
        (lambda n, x: n.r(F.unfold(n.a(x), 3).mean(2)), r"Patches of the network's values, by F.unfold, are read by"),
        (lambda n, x: n.r(torch.einsum("bkl,ol->bko", F.unfold(n.a(x), 3), n.w).mean(2)),
         r'product "bkl,ol->bko" of a parameter with values whose channels are "k".*weights on the channels'),
    ],
)  # fmt: skip
def test_what_else_reads_patches_is_refused(forward, text):
    net = Net(forward, a=nn.Conv2d(2, 4, 1), w=weight(6, 4), r=nn.Linear(36, 1))
    with pytest.raises(NoLimit, match="(?s)" + text):
        architecture(net, torch.zeros(2, 2, 4, 4))
