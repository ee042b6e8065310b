"""Kernels of functions of the outputs: margins, losses, parts of what a module returns."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from zoo import mlp

from gramian.empirical import empirical_ntk, empirical_ntk_by_layer, jacobian
from gramian.errors import BadArgument, BadData


class Loss(nn.Module):
    """What `outputs=F.cross_entropy` stands for, one sample after the other."""

    def __init__(self, net, targets):
        super().__init__()
        self.net, self.targets = net, targets

    def rows(self, x):
        return torch.cat([jacobian(_One(self.net, t), row[None]) for row, t in zip(x, self.targets, strict=True)])


class _One(nn.Module):
    def __init__(self, net, target):
        super().__init__()
        self.net, self.target = net, target

    def forward(self, x):
        return F.cross_entropy(self.net(x), self.target[None])[None]


def test_a_margin_is_one_number_a_sample():
    net, x, y = mlp(4, 8, 3), torch.randn(5, 4), torch.randn(3, 4)
    theta = empirical_ntk(net, x, y, outputs=lambda out: out[:, 0] - out[:, 2])
    full = empirical_ntk(net, x, y, "full")
    w = torch.tensor([1.0, 0.0, -1.0])
    torch.testing.assert_close(theta, torch.einsum("ijcd,c,d->ij", full, w, w), rtol=1e-10, atol=1e-10)
    shares = empirical_ntk_by_layer(net, x, y, outputs=lambda out: out[:, 0] - out[:, 2])
    torch.testing.assert_close(sum(shares.values()), theta, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("max_bytes", [2**30, 20_000])
def test_a_loss_takes_each_samples_own_target(max_bytes):
    net, x, y = mlp(4, 8, 3), torch.randn(7, 4), torch.randn(4, 4)
    of_x, of_y = torch.randint(3, (7,)), torch.randint(3, (4,))
    jx, jy = Loss(net, of_x).rows(x)[:, 0], Loss(net, of_y).rows(y)[:, 0]
    options = {"outputs": F.cross_entropy, "max_bytes": max_bytes}
    torch.testing.assert_close(empirical_ntk(net, x, targets=of_x, **options), jx @ jx.T, rtol=1e-10, atol=1e-10)
    both = empirical_ntk(net, x, y, targets=(of_x, of_y), **options)
    torch.testing.assert_close(both, jx @ jy.T, rtol=1e-10, atol=1e-10)


def test_several_numbers_give_every_pair_of_them():
    net, x = mlp(4, 8, 3), torch.randn(5, 4)
    theta = empirical_ntk(net, x, outputs=lambda out: out[:, :2])
    torch.testing.assert_close(theta, empirical_ntk(net, x, outputs="full")[:, :, :2, :2], rtol=1e-10, atol=1e-10)


def test_what_is_no_tensor_may_be_taken_apart():
    class Told(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = mlp(4, 8, 3)

        def forward(self, x):
            return {"logits": self.net(x), "hidden": x}

    net, x = Told(), torch.randn(5, 4)
    theta = empirical_ntk(net, x, outputs=lambda out: out["logits"])
    torch.testing.assert_close(theta, empirical_ntk(net.net, x, outputs="full"), rtol=1e-12, atol=1e-12)


def test_a_function_that_vmap_cannot_run():
    net, x = mlp(4, 8, 3), torch.randn(5, 4)
    theta = empirical_ntk(net, x, outputs=lambda out: out[:, 0] if out[0, 0].item() > 0 else out[:, 1])
    full, first = empirical_ntk(net, x, outputs="full"), (net(x)[:, 0] > 0).long()
    pick = 1 - first
    expected = full[torch.arange(5)[:, None], torch.arange(5), pick[:, None], pick]
    torch.testing.assert_close(theta, expected, rtol=1e-10, atol=1e-10)


def test_refusals():
    net, x = mlp(4, 8, 3), torch.randn(5, 4)
    t = torch.zeros(5).long()
    with pytest.raises(
        BadArgument, match=r"(?s)`targets`, but `outputs` is 'mean'.*where: .*targets.*fix: .*cross_ent"
    ):
        empirical_ntk(net, x, targets=t)
    with pytest.raises(BadData, match=r"(?s)targets of `x` have shape \(4,\); it has 5 samples.*fix: targets="):
        empirical_ntk(net, x, outputs=F.cross_entropy, targets=t[:4])
    with pytest.raises(
        BadData, match=r"(?s)targets of `x2` have type NoneType; it has 3 samples.*fix: .*\(of_x, of_y\)"
    ):
        empirical_ntk(net, x, x[:3], outputs=F.cross_entropy, targets=t)
    with pytest.raises(
        BadArgument, match=r"(?s)`outputs` failed.*where: outputs=cross_entropy.*TypeError.*with targets="
    ):
        empirical_ntk(net, x, outputs=F.cross_entropy)
    with pytest.raises(BadArgument, match=r"(?s)`outputs` returns float; .*where: .*fix: .*scalar tensor"):
        empirical_ntk(net, x, outputs=lambda out: out.sum().item())
    with pytest.raises(BadArgument, match=r"(?s)`outputs` is 'trace'; known are .*or a function of the output"):
        empirical_ntk(net, x, outputs="trace")
