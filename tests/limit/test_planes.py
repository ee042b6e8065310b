"""Displacement planes against the torch engine: random networks, precision, memory, instructions."""

import subprocess
import sys

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from layers import LAYERS, architecture_of_layer
from nets import Elementwise
from torch import nn

from gramian import architecture
from gramian.errors import BadArgument
from gramian.library import library
from gramian.limit import planes
from gramian.limit.kernel_program import program

pytestmark = pytest.mark.skipif(library().module is None, reason="gramian was installed without a C++ compiler")
W = 3  # width


class Residual(nn.Module):
    """Pre-activation block; the skip is plain, or a convolution of the activation with the branch's stride."""

    def __init__(self, conv, stride, *, plain):
        super().__init__()
        self.first, self.second = conv(W, 3, stride, 1), conv(W, 3, 1, 1)
        self.skip = None if plain else conv(W, 1, stride, 0)

    def forward(self, x):
        h = torch.relu(x)
        skip = x if self.skip is None else self.skip(h)
        return skip + 0.7 * self.second(torch.relu(self.first(h)))


ACTIVATIONS = {
    "relu": nn.ReLU, "leaky": lambda: nn.LeakyReLU(0.3), "abs": lambda: Elementwise(torch.abs),
    "erf": lambda: Elementwise(torch.erf), "leaky back": lambda: nn.LeakyReLU(-0.5),
}  # fmt: skip


@st.composite
def networks(draw):
    """A module and the shape of its input: one or two axes of positions."""
    axes, bias = draw(st.sampled_from((1, 2))), draw(st.booleans())
    conv_of, pool = (nn.Conv1d, nn.AvgPool1d) if axes == 1 else (nn.Conv2d, nn.AvgPool2d)
    c = draw(st.integers(1, 4))
    shape = (c, *draw(st.lists(st.integers(4, 8), min_size=axes, max_size=axes)))
    layers, x = [], torch.zeros(1, *shape)

    def conv(channels, window, stride, padding, **settings):
        return conv_of(channels, W, window, stride, padding, bias=bias, **settings)

    def add(layer):
        nonlocal x
        x = layer(x)
        layers.append(layer)

    for _ in range(draw(st.integers(1, 3))):
        window, stride = draw(st.integers(1, 4)), draw(st.sampled_from((1, 1, 2, 3)))
        padding, dilation = draw(st.integers(0, 2)), draw(st.sampled_from((1, 1, 2)))
        mode = draw(st.sampled_from(("zeros", "zeros", "circular", "replicate")))
        if min(x.shape[2:]) + 2 * padding > dilation * (window - 1):
            add(conv(x.shape[1], window, stride, padding, dilation=dilation, padding_mode=mode))
            if draw(st.booleans()):
                add(Residual(conv, draw(st.sampled_from((1, 2))), plain=False))
            if draw(st.booleans()):
                add(Residual(conv, 1, plain=True))
            if draw(st.booleans()):
                norm = (nn.BatchNorm1d if axes == 1 else nn.BatchNorm2d)(W, affine=draw(st.booleans())).eval()
                add(norm)
                add(nn.ReLU())
            else:
                add(ACTIVATIONS[draw(st.sampled_from(sorted(ACTIVATIONS)))]())
        if min(x.shape[2:]) >= 3 and draw(st.booleans()):
            add(pool(*draw(st.sampled_from(((2, 2), (3, 2, 1), (3, 1))))))
    if draw(st.booleans()):
        add((nn.AdaptiveAvgPool1d if axes == 1 else nn.AdaptiveAvgPool2d)(1))
    add(nn.Flatten())
    add(nn.Linear(x.shape[1], 1, bias=bias))
    frozen = draw(st.lists(st.booleans(), min_size=20, max_size=20))
    for parameter, freeze in zip(nn.Sequential(*layers).parameters(), frozen, strict=False):
        parameter.requires_grad_(not freeze)
    return nn.Sequential(*layers).eval(), shape


def off(found, expected, scale):
    return float((found.double() - expected).abs().max() / max(float(scale.abs().max()), 1e-300))


@given(networks(), st.sampled_from(((1.4, 0.0), (1.2, 0.3))), st.sampled_from(("ntk", "standard")), st.integers(0, 99))
@settings(deadline=None, max_examples=12, derandomize=True, phases=[Phase.generate])  # shrinking takes minutes
def test_random_networks_agree_with_torch(network, law, parametrization, seed):
    module, shape = network
    torch.manual_seed(seed)
    x, y = torch.randn(4, *shape), torch.randn(3, *shape)
    x[1, ..., : shape[-1] // 2] = 0  # variances of zero
    arch = architecture(module, x, law=law, parametrization=parametrization)
    for other in (None, y):
        expected = arch.kernels(x, other, engine="torch")
        own = [k.diagonal() if other is None else k for k in expected]
        for found, k, scale in zip(arch.kernels(x, other, engine="native"), expected, own, strict=True):
            assert off(found, k, scale) < 1e-12
        single = arch.kernels(x.float(), None if other is None else y.float(), engine="native")
        for found, k, scale in zip(single, expected, own, strict=True):
            assert found.dtype == torch.float32
            assert off(found, k, scale) < 5e-6  # erf at 1 - correlation of 1e-2; ReLU networks stay below 1e-6
        assert torch.equal(arch.nngp(x, other, engine="native"), arch.kernels(x, other, engine="native")[0])


@pytest.mark.parametrize("name", LAYERS)
def test_what_planes_take_of_the_registry_agrees(name):
    arch, x = architecture_of_layer(name), torch.randn(3, *LAYERS[name][1])
    if not arch.explain().startswith("native engine"):
        return
    for found, k in zip(arch.kernels(x, engine="native"), arch.kernels(x, engine="torch"), strict=True):
        torch.testing.assert_close(found, k, rtol=1e-13, atol=1e-13)


def images_net(depth=3, *, pooled, bias=False, stride=1):
    layers = []
    for i in range(depth):
        layers += [nn.Conv2d(W if i else 3, W, 3, padding=1, bias=bias, stride=stride if i % 2 else 1), nn.ReLU()]
    return nn.Sequential(
        *layers, *([nn.AdaptiveAvgPool2d(1)] if pooled else []), nn.Flatten(), nn.LazyLinear(1, bias=bias)
    )


def read(module, size, **settings):
    like = torch.zeros(1, 3, size, size)
    module(like)
    return architecture(module, like, **settings)


@pytest.mark.parametrize("pooled", [False, True])
@pytest.mark.parametrize("gap", [1e-8, 1e-6, 1e-4, 1e-2])
def test_near_duplicates_in_float32_are_as_exact_as_float32_is(gap, pooled):
    arch = read(images_net(pooled=pooled), 8)
    x = torch.randn(1, 3, 8, 8)
    e = torch.randn_like(x)
    e -= (e * x).sum() / (x * x).sum() * x
    y = ((1 - gap) * x + (2 * gap - gap * gap) ** 0.5 * x.norm() / e.norm() * e).float()
    x = x.float()
    expected = arch.ntk(x.double(), y.double(), engine="torch")
    limit = (arch.ntk(x.double(), engine="torch") * arch.ntk(y.double(), engine="torch")).sqrt()
    assert limit > expected
    found = arch.ntk(x, y, engine="native")
    assert abs(found.double() - expected) < 3e-7 * limit  # half a unit in the last place is 6e-8


def test_parts_of_images_that_are_equal_to_rounding_keep_their_digits():
    arch = read(images_net(5, pooled=False, bias=True), 8, law=(1.4, 0.3))
    x = 0.5 + 1e-4 * torch.rand(6, 3, 8, 8)  # 1 - correlation of about 1e-9 everywhere
    x[:, :, :3] = torch.rand(6, 3, 3, 8)
    expected, found = arch.ntk(x.float().double(), engine="torch"), arch.ntk(x.float(), engine="native")
    assert off(found, expected, expected) < 2e-7
    assert off(arch.ntk(x.float(), engine="torch"), expected, expected) > 2e-6  # so that this can fail


def test_the_diagonal_is_exact_and_the_kernel_symmetric():
    arch = read(images_net(4, pooled=True), 6)
    x = torch.randn(40, 3, 6, 6)
    x[7] = x[3]
    found, truth = arch.ntk(x.float(), engine="native"), arch.ntk(x.float().double(), engine="torch")
    assert torch.equal(found, found.mT)
    assert torch.equal(found.diagonal(), truth.diagonal().float())


def test_threads_and_tiles_do_not_show():
    arch = read(images_net(pooled=False), 6)
    x = torch.randn(70, 3, 6, 6)
    whole = arch.kernels(x, engine="native")
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        tiled = planes.kernels(arch, planes.prepare(program(arch)), x, None, ntk=True, rows=16)
    finally:
        torch.set_num_threads(before)
    for a, b in zip(whole, tiled, strict=True):
        assert torch.equal(a, b)


def test_values_made_of_the_input_alone_are_numbers():
    module = nn.Sequential(nn.AvgPool2d(2), nn.ZeroPad2d(1), *images_net(2, pooled=True))
    arch = read(module, 8)
    x = torch.randn(3, 3, 8, 8)
    torch.testing.assert_close(arch.ntk(x, engine="native"), arch.ntk(x, engine="torch"), rtol=1e-13, atol=0)


SMOOTH = {
    "gelu": nn.GELU, "gelu tanh": lambda: nn.GELU("tanh"), "tanh": nn.Tanh, "silu": nn.SiLU, "softplus": nn.Softplus,
    "sin": lambda: Elementwise(torch.sin), "cos": lambda: Elementwise(torch.cos),
    "gaussian": lambda: Elementwise(lambda x: torch.exp(-x * x / 2)), "cubic": lambda: Elementwise(lambda x: x**3 + x),
}  # fmt: skip


def smooth_net(phi, stride=1, *, bias):
    def conv(c, s):
        return nn.Conv2d(c, W, 3, padding=1, stride=s, bias=bias)

    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(W, 1, bias=bias)]
    return nn.Sequential(conv(2, 1), phi(), conv(W, stride), phi(), *head)


@pytest.mark.parametrize("name", SMOOTH)
def test_smooth_activations_by_their_series_agree_with_torch(name):
    x, y = torch.randn(3, 2, 5, 6), torch.randn(2, 2, 5, 6)
    x[1, ..., :3] = 0  # variances of zero
    x[2] *= 1e-3
    for stride, bias in ((1, False), (2, True)):
        arch = architecture(smooth_net(SMOOTH[name], stride, bias=bias), x, law=(1.3, 0.3 if bias else 0.0))
        for other in (None, y):
            expected = arch.kernels(x, other, engine="torch")
            single = arch.kernels(x.float(), None if other is None else y.float(), engine="native")
            for found, rough, k in zip(arch.kernels(x, other, engine="native"), single, expected, strict=True):
                assert off(found, k, k) < 1e-12
                assert off(rough, k, k) < 2e-6


def test_a_series_too_long_goes_to_torch():
    x = 12 * torch.randn(2, 2, 2, 2)
    arch = architecture(smooth_net(nn.Tanh, bias=False), x)
    with pytest.raises(BadArgument, match=r"(?s)native engine cannot.*why: .*tanh.*variance of"):
        arch.ntk(x, engine="native")
    torch.testing.assert_close(arch.ntk(x), arch.ntk(x, engine="torch"))


NO_PLANES = {
    "the ReLU family, erf and smooth": ([nn.Conv2d(2, W, 3), nn.Hardtanh()], (2, 3, 3)),
    "where positions are averaged": ([nn.Conv2d(2, W, 3), nn.Tanh()], (2, 3, 3)),
    "only the torch engine": ([nn.Conv2d(2, W, 3), nn.GroupNorm(1, W)], (2, 3, 3)),
    "at most two axes": ([nn.Conv3d(2, W, 3), nn.ReLU()], (2, 3, 3, 3)),
}


@pytest.mark.parametrize("says", NO_PLANES)
def test_what_has_no_planes_says_so(says):
    layers, shape = NO_PLANES[says]
    x = torch.randn(2, *shape)
    arch = architecture(nn.Sequential(*layers, nn.Flatten(), nn.Linear(W, 1)), x)
    with pytest.raises(BadArgument, match=rf"(?s)native engine cannot.*why: .*{says}.*fix: .*auto"):
        arch.ntk(x, engine="native")


@pytest.mark.parametrize("size", [48, pytest.param(224, marks=pytest.mark.slow)])
def test_memory_is_that_of_planes_not_of_pairs_of_positions(size, tmp_path):
    """All pairs of positions of one pair of images, 224 x 224: 10 GB in float32."""
    torch.save(read(images_net(2, pooled=True), size), tmp_path / "arch")
    script = (
        "import torch, sys, resource; arch = torch.load(sys.argv[1], weights_only=False); "
        "x = torch.rand(2, *arch.in_shape, dtype=torch.float32); "
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss; k = arch.ntk(x[:1], x[1:], engine='native'); "
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, bool(k > 0))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "arch")], check=True, capture_output=True, text=True
    )  # fmt: skip
    kib, positive = done.stdout.split()
    assert positive == "True"
    assert int(kib) * 1024 < 20 * size**2 * 16 * 4 * 2 + 2**24  # planes in flight, lanes, bytes, NNGP and NTK
