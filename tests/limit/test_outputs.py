"""Kernels of networks that end in values at positions, and the cost of a diagonal."""

from functools import partial

import pytest
import torch
from counting import numbers_computed
from torch import nn

from gramian import architecture, empirical_ntk
from gramian.errors import BadArgument, NoLimit
from gramian.limit import torch_engine
from gramian.network.zoo import mlp

LAW = (1.3, 0.3)


def ends(*last):
    return nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 2), *last)


@pytest.mark.parametrize("last", [(), (nn.ReLU(),), (nn.ReLU(), nn.Flatten())])
def test_a_value_at_each_position_has_a_kernel_for_each_pair(last):
    x = torch.randn(3, 2, 4, 4)
    arch = architecture(ends(*last), x, law=LAW)
    nngp, ntk = arch.kernels(x, outputs="full")
    assert nngp.shape == ntk.shape == (3, 3, 1, 1, 1, 1)
    x = torch.randn(3, 2, 5, 4)
    arch = architecture(ends(*last), x, law=LAW)
    nngp, ntk = arch.kernels(x, outputs="full")
    assert nngp.shape == ntk.shape == (3, 3, 2, 1, 2, 1)
    for k in (nngp, ntk):
        torch.testing.assert_close(k, k.permute(1, 0, 4, 5, 2, 3), rtol=1e-13, atol=1e-13)
        flat = k.permute(0, 2, 3, 1, 4, 5).reshape(6, 6)
        assert torch.linalg.eigvalsh(flat)[0] > -1e-12
    torch.testing.assert_close(arch.ntk(x, x[:2], outputs="full"), ntk[:, :2], rtol=1e-12, atol=1e-12)
    finite = []
    for draw in range(30):  # width 96: channels average too
        k = empirical_ntk(arch.network(96, seed=draw), x, outputs="full")
        c = k.shape[2] // 2
        finite.append(k.reshape(3, 3, c, 2, c, 2).diagonal(dim1=2, dim2=4).mean(-1))
    finite = torch.stack(finite)
    off = (finite.mean(0) - ntk[:, :, :, 0, :, 0]).abs() / (finite.std(0) / 30**0.5)
    assert off.max() < 5
    if last and isinstance(last[-1], nn.Flatten):  # the mean over all outputs, and over positions
        torch.testing.assert_close(arch.ntk(x), ntk[..., 0, :, 0].diagonal(dim1=2, dim2=3).mean(-1))


def test_tiles_do_not_show_in_full():
    x = torch.randn(5, 2, 5, 4)
    arch = architecture(ends(), x, law=LAW)
    whole = arch.ntk(x, outputs="full")
    _, ntk = torch_engine.kernels(arch, x, outputs="full", rows=2)
    torch.testing.assert_close(ntk, whole, rtol=1e-13, atol=1e-13)


def test_the_default_says_that_full_exists():
    x = torch.randn(2, 2, 4, 4)
    arch = architecture(ends(), x)
    for call in (arch.ntk, arch.nngp, arch.diag):
        with pytest.raises(NoLimit, match=r"(?s)shape \(n, 4, 1, 1\): a value at each.*where: 2.*arch.ntk\(x, outputs"):
            call(x)
    with pytest.raises(BadArgument, match=r"(?s)`outputs` is 'all'.*fix: outputs=\"mean\""):
        arch.ntk(x, outputs="all")


def test_a_diagonal_costs_less_than_the_kernel():
    """3000 rows of 64 numbers, 3 hidden layers: 9 million pairs or 3000 times the few of its tile."""
    x = torch.randn(3000, 64)
    arch = architecture(mlp((64,), 1, depth=4, width=4), x[:2])
    arch.diag(x[:100])
    whole, diagonal = (numbers_computed(partial(f, x)) for f in (partial(arch.kernels, engine="torch"), arch.diag))
    assert diagonal < whole / 10
