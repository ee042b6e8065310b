"""Winograd's way through windows of 3x3 gives what torch's convolutions give in float64, to what float32 can hold."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from gramian.empirical import empirical_ntk
from gramian.empirical.modules.structured_calls import ConvCall
from gramian.empirical.workarounds.convolution_gradients import (
    POINTS,
    VECTORS,
    convolved,
    winograd_back,
    winograd_gradients,
)
from gramian.empirical.workarounds.switch import torch_alone
from gramian.library import library

native = pytest.mark.skipif(
    library().isa not in VECTORS and not os.environ.get("CI"), reason="no compiled library with wide registers here"
)
LOSS = 4e-6  # of the result's size: 36 sums, each of up to 96 products, and weights of up to 1/F0 = 1.1
SIDES = st.integers(1, 13)


def conv(stride=1, padding=1, dilation=1, groups=1):
    return ConvCall((stride,) * 2, ((padding, padding),) * 2, (dilation,) * 2, groups)


def randn(*shape):
    return torch.randn(*shape, dtype=torch.float32)


def off(found, exact):
    return float(((found - exact).norm() / exact.norm()).detach())


@native
@given(h=SIDES, w=SIDES, pad=st.integers(0, 2), c=st.sampled_from([16, 48, 96]), d=st.sampled_from([16, 32, 80]))
@settings(deadline=None, max_examples=60)
def test_back_to_the_inputs(h, w, pad, c, d):
    high, wide = h + 2 * pad - 2, w + 2 * pad - 2
    if min(high, wide) < 1:
        return
    torch.manual_seed(h + 100 * w)
    weight, g = randn(d, c, 3, 3), randn(3, d, high, wide)
    exact = F.conv_transpose2d(g.double(), weight.double(), padding=pad)
    found = winograd_back(g, weight, 2 - pad, (h, w))
    assert found.shape == exact.shape
    assert off(found, exact) < LOSS


@native
@given(h=SIDES, w=SIDES, pad=st.integers(0, 2), c=st.sampled_from([16, 48]), d=st.sampled_from([16, 80]))
@settings(deadline=None, max_examples=40)
@pytest.mark.parametrize("order", ["outputs first", "samples first", "channels first"])
def test_gradients_of_the_weights(order, h, w, pad, c, d):
    high, wide = h + 2 * pad - 2, w + 2 * pad - 2
    if min(high, wide) < 1:
        return
    torch.manual_seed(h + 100 * w)
    n, k = 2, 3
    x, b = randn(n, c, h, w), randn(n, k, high * wide, d)
    exact = torch.einsum("ncwp,nkpd->nkdwc", F.unfold(x.double(), 3, padding=pad).view(n, c, 9, -1), b.double())
    b = {
        "samples first": b,
        "outputs first": b.transpose(0, 1).contiguous().transpose(0, 1),
        "channels first": b.mT.contiguous().mT,
    }[order]
    found = winograd_gradients(x, b.unflatten(2, (high, wide)), pad)
    assert off(found, exact.flatten(2)) < LOSS


@native
def test_threads_share_the_work():
    torch.manual_seed(0)
    weight, g = randn(32, 64, 3, 3), randn(7, 32, 32, 32)
    once, threads = winograd_back(g, weight, 1, (32, 32)), torch.get_num_threads()
    torch.set_num_threads(5)
    try:
        assert torch.equal(winograd_back(g, weight, 1, (32, 32)), once)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("size", [(9, 12), (8, 8)])
@pytest.mark.parametrize(
    ("how", "kernel"),
    [
        (conv(), 3),
        (conv(stride=2), 3),
        (conv(stride=3, padding=2), 4),
        (conv(padding=2, dilation=2), 3),
        (conv(groups=4), 3),
        (conv(padding=0), 1),
        (replace(conv(), stride=(1, 2)), 3),
    ],
    ids=["plain", "strided", "wide", "dilated", "grouped", "1x1", "strided along one axis"],
)
def test_every_convolution_goes_back_as_torch_has_it(how, kernel, size):
    torch.manual_seed(0)
    x, weight, bias = randn(3, 32, *size), randn(64, 32 // how.groups, kernel, kernel), randn(64)
    x.requires_grad_()
    pads = [p for p, _ in how.padding]
    exact = F.conv2d(x.double(), weight.double(), bias.double(), how.stride, pads, how.dilation, how.groups)
    found = convolved(how, x, weight, bias)
    assert off(found, exact) < LOSS
    v = torch.randn_like(exact)
    (back,) = torch.autograd.grad(exact, x, v)
    (ours,) = torch.autograd.grad(found, x, v.float())
    assert off(ours, back.double()) < LOSS


def test_no_faster_way():
    x, weight = randn(1, 16, 8, 8), randn(16, 16, 3, 3)
    assert convolved(conv(), x.double(), weight.double(), None) is None
    assert convolved(replace(conv(), padding=((0, 1), (0, 1))), x, weight, None) is None
    assert convolved(ConvCall((1,), ((1, 1),), (1,), 1), x[0], weight[0], None) is None
    assert convolved(conv(), x.bfloat16(), weight, None) is None


@pytest.mark.parametrize("outputs", ["full", "mean"])
def test_the_kernel_is_that_of_float64_with_and_without(outputs):
    """The second and third convolution have the faster way: the first has few channels, the last a stride."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1), nn.Tanh()]
    layers += [nn.Conv2d(32, 48, 3), nn.ReLU(), nn.Conv2d(48, 32, 3, padding=1, stride=2), nn.ReLU()]
    net = nn.Sequential(*layers, nn.Flatten(), nn.Linear(32 * 49, 3)).float()
    x = randn(5, 3, 16, 16)
    found = empirical_ntk(net, x, outputs=outputs)
    with torch_alone():
        plain = empirical_ntk(net, x, outputs=outputs)
    exact = empirical_ntk(net.double(), x.double(), outputs=outputs)
    assert off(found, exact) < 1e-6
    assert off(plain, exact) < 1e-6
    if library().isa in VECTORS:
        assert not torch.equal(found, plain)  # other sums, so another last digit: the faster way was taken


def test_points_are_those_of_the_compiled_ones():
    source = Path(__file__).resolve().parents[2] / "native" / "src" / "winograd_tiles.cpp"
    assert f"P = {POINTS[1]}f, Q = {POINTS[3]}f" in source.read_text(encoding="utf-8")
