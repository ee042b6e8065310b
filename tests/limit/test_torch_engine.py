"""The limit kernels against hand-written recursions, and the properties that any kernel has."""

import functools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from layers import LAYERS, architecture_of_layer
from nets import PooledCNN, SumOfPosts
from structured import STRUCTURED
from torch import nn
from torch.nn import functional as F

from gramian import architecture
from gramian.arch.inputs import leaves, rows, samples
from gramian.arch.ops import Dropout
from gramian.errors import BadArgument, BadData
from gramian.limit import diagonals, torch_engine
from gramian.network.zoo import ZOO, DuResNet, cnn, mlp


def relu_dual(k):
    """Arc-cosine kernels of a Gram matrix, as in the papers: with arccos, the diagonal's angle set to 0."""
    scale = k.diagonal().sqrt()[:, None] * k.diagonal().sqrt()
    angle = torch.arccos((k / scale).clamp(-1, 1)).fill_diagonal_(0)
    half = (math.pi - angle) / (2 * math.pi)
    return scale * torch.sin(angle) / (2 * math.pi) + half * k, half


def test_mlp_is_the_hand_written_recursion():
    x = torch.randn(20, 7)
    k = 2 * x @ x.T / 7
    theta = k
    for _ in range(3):
        post, half = relu_dual(k)
        k, theta = 2 * post, 2 * (theta * half + post)
    post, half = relu_dual(k)
    nngp, ntk = architecture(mlp((7,), 3, depth=5, width=4), x).kernels(x)
    torch.testing.assert_close(nngp, post, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(ntk, theta * half + post, rtol=1e-12, atol=1e-12)


def cntk(x, depth, *, pooled):
    """Arora et al. 2019 (arXiv:1904.11955), section 4, by loops over positions: 3x3, zero padding."""
    _, c, p, q = x.shape

    def window(k):
        out = torch.zeros_like(k)
        for a in (-1, 0, 1):
            for b in (-1, 0, 1):
                rows, cols = range(max(0, -a), p - max(0, a)), range(max(0, -b), q - max(0, b))
                for i in rows:
                    for j in cols:
                        ii = list(rows)
                        jj = list(cols)
                        block = k[:, :, i + a, j + b][:, :, [r + a for r in ii]][:, :, :, [s + b for s in jj]]
                        out[:, :, i, j, ii[0] : ii[-1] + 1, jj[0] : jj[-1] + 1] += block
        return out / 9

    k = 2 * window(torch.einsum("ncij,mckl->nmijkl", x, x) / c)
    theta = k
    for layer in range(depth):
        diagonal = torch.einsum("nnijij->nij", k)
        scale = (diagonal[:, None, :, :, None, None] * diagonal[None, :, None, None]).sqrt()
        cosine = (k / scale).clamp(-1, 1)
        angle = torch.where(cosine > 1 - 1e-14, 0.0, torch.arccos(cosine))
        half = (math.pi - angle) / (2 * math.pi)
        post = scale * torch.sin(angle) / (2 * math.pi) + half * k
        if layer < depth - 1:
            k, theta = 2 * window(post), 2 * window(theta * half + post)
    last = theta * half + post
    return last.mean((2, 3, 4, 5)) if pooled else torch.einsum("nmijij->nm", last) / (p * q)


@pytest.mark.parametrize("pooled", [False, True])
def test_cnn_is_the_recursion_of_arora_et_al(pooled):
    x = torch.randn(3, 2, 4, 5)
    layers = [nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1), nn.ReLU()]
    end = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 1)] if pooled else [nn.Flatten(), nn.Linear(80, 1)]
    torch.testing.assert_close(
        architecture(nn.Sequential(*layers, *end), x).ntk(x), cntk(x, 2, pooled=pooled), rtol=1e-12, atol=1e-12
    )


def test_frozen_readout_is_the_gram_matrix_of_du_et_al():
    r"""H^inf_ij = <x_i, x_j> (pi - arccos <x_i, x_j>) / 2 pi (arXiv:1810.02054), for rows of norm one."""
    x = F.normalize(torch.randn(30, 9))
    net = nn.Sequential(nn.Linear(9, 4, bias=False), nn.ReLU(), nn.Linear(4, 1, bias=False))
    net[2].requires_grad_(False)
    inner = (x @ x.T).clamp(-1, 1).fill_diagonal_(1)
    expected = inner * (math.pi - torch.arccos(inner)) / (2 * math.pi)
    torch.testing.assert_close(architecture(net, x, law=(1, 0)).ntk(x * 3), expected, rtol=1e-12, atol=1e-12)


def test_the_residual_network_of_du_et_al_is_their_recursion():
    """Definition 6.1 of arXiv:1811.03804 with its cross terms paired, softplus by Gauss-Hermite of 100 nodes."""
    x = F.normalize(torch.randn(6, 8))
    net = DuResNet((8,), 1, depth=5, width=4, c_res=0.6)
    for layer in (net.first, *list(net.branches)[:-1], net.readout):
        layer.requires_grad_(False)  # their K^(H) is the Gram matrix of the last hidden layer alone
    h, c_res, c_s = net.H, net.c_res, net.c_sigma
    node, weight = (torch.as_tensor(a) for a in __import__("numpy").polynomial.hermite_e.hermegauss(100))
    weight = weight / weight.sum()

    def expect(k, f, g):
        q = k.diagonal().sqrt()
        rho = (k / q[:, None] / q).clamp(-1, 1)[..., None, None]
        u = (q[:, None, None, None] * node[:, None]).expand(6, 6, 100, 100)
        v = q[None, :, None, None] * (rho * node[:, None] + (1 - rho**2).sqrt() * node)
        return (f(u) * g(v) * weight[:, None] * weight).sum((-1, -2))

    def mean(k):
        return (F.softplus(k.diagonal().sqrt()[:, None] * node) * weight).sum(-1)

    one, sigma, slope = torch.ones_like, F.softplus, torch.sigmoid
    k0 = x @ x.T
    k, b = c_s * expect(k0, sigma, sigma), math.sqrt(c_s) * mean(k0)
    for _ in range(2, h):
        cross = b[:, None] * expect(k, one, sigma) + b[None] * expect(k, sigma, one)
        k, b = k + c_res / h * cross + (c_res / h) ** 2 * expect(k, sigma, sigma), b + c_res / h * mean(k)
    expected = (c_res / h) ** 2 * k * expect(k, slope, slope)
    ours = architecture(net, x, law=(1, 0)).ntk(x * math.sqrt(8))
    torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-12)  # 100 Gauss-Hermite nodes give ten digits


VECTORS, IMAGES = torch.Size([6]), torch.Size([2, 6, 6])
NETS = {
    "mlp": (lambda: mlp((6,), 2, 3, 4), VECTORS, "he"),
    "mlp, tanh, biases": (lambda: mlp((6,), 2, 3, 4, "tanh", bias=True), VECTORS, (1.3, 0.4)),
    "cnn": (lambda: cnn((2, 6, 6), 2, 4, 4, bias=True), IMAGES, (1.2, 0.3)),
    "cnn 1d": (lambda: cnn((2, 9), 2, 3, 4), torch.Size([2, 9]), "he"),
    "pooled": (lambda: PooledCNN(4).eval(), IMAGES, (1.2, 0.3)),
    "sum of posts": (lambda: SumOfPosts(4), VECTORS, (1.1, 0.2)),
    "resnet": (lambda: ZOO["resnet"]((6,), 2, 5, 4), VECTORS, "he"),
    "conv-resnet": (lambda: ZOO["conv-resnet"]((2, 6, 6), 2, 4, 4), IMAGES, "he"),
    "du-resnet": (lambda: DuResNet((6,), 2, 5, 4), VECTORS, (1, 0)),
}
NETS |= {name: (make, given, (1.3, 0.3)) for name, (make, given) in (LAYERS | STRUCTURED).items()}
every_net = pytest.mark.parametrize("name", NETS)


def samples_for(name, n):
    """n samples for this network, one tensor or several."""
    given = NETS[name][1]
    return given(n) if callable(given) else torch.randn(n, *given)


@functools.cache
def architecture_of(name):
    if name in LAYERS:
        return architecture_of_layer(name)
    make, _, law = NETS[name]
    with torch.random.fork_rng():
        return architecture(make(), samples_for(name, 2), law=law)


def read(name, n=5):
    return architecture_of(name), samples_for(name, n)


def each(change, *inputs):
    """The inputs with a change of every tensor of theirs, in their structure."""
    like, parts = inputs[0], zip(*map(leaves, inputs), strict=True)
    found = [change(*part) for part in parts]
    if isinstance(like, torch.Tensor):
        return found[0]
    return dict(zip(like, found, strict=True)) if isinstance(like, dict) else tuple(found)


def floats(change):
    """A change of the floating tensors alone: tokens, masks and lengths stay."""
    return lambda t, *more: change(t, *more) if t.is_floating_point() else t


@every_net
def test_a_kernel_is_symmetric_positive_and_the_same_in_blocks(name):
    arch, x = read(name, 9)
    for k in arch.kernels(x):
        assert torch.equal(k, k.T)
        lam = torch.linalg.eigvalsh(k)
        assert lam[0] >= -9 * torch.finfo(k.dtype).eps * lam[-1]
    y = samples_for(name, 4)
    both = each(lambda a, b: torch.cat([a, b]), x, y)
    for whole, block in zip(arch.kernels(both), arch.kernels(x, y), strict=True):
        torch.testing.assert_close(whole[:9, 9:], block, rtol=1e-12, atol=1e-12)
    for twice, k in zip(arch.kernels(x, x), arch.kernels(x), strict=True):  # equal rows, two tensors
        if any(isinstance(step.op, Dropout) for step in arch.steps):  # then each row has masks of its own
            assert (twice.diagonal() < k.diagonal()).all()
            twice = twice.diagonal_scatter(k.diagonal())
        torch.testing.assert_close(twice, k, rtol=1e-12, atol=1e-12)


@every_net
def test_tiles_do_not_show(name):
    arch, x = read(name, 4)
    y = each(floats(lambda t: t + 1), x)
    whole, cross = torch_engine.kernels(arch, x), torch_engine.kernels(arch, x, y)
    # a series has as many terms as the variances of its tile ask for: it leaves out 1e-12
    torch.testing.assert_close(torch_engine.kernels(arch, x, rows=3), whole, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(torch_engine.kernels(arch, x, y, rows=3), cross, rtol=1e-12, atol=1e-13)


@every_net
def test_the_diagonal_is_the_kernel_of_the_row_alone(name):
    arch, x = read(name)
    whole = arch.kernels(x)
    for i in range(samples(x)):
        for k, own in zip(whole, arch.kernels(rows(x, slice(i, i + 1))), strict=True):
            torch.testing.assert_close(k[i, i], own[0, 0], rtol=1e-12, atol=0)  # the quadrature's tolerance


@every_net
def test_diag_is_the_diagonal_of_the_whole_kernel(name):
    arch, x = read(name, 7)
    whole = arch.kernels(x)
    for budget in (2**8, 2**16):
        for k, own in zip(whole, diagonals(arch, x, most_bytes=budget), strict=True):
            torch.testing.assert_close(k.diagonal(), own, rtol=1e-12, atol=0)


@every_net
def test_float32_is_float64_rounded(name, monkeypatch):
    arch, x = read(name)
    kernels = arch.kernels(x)
    rounded = each(floats(torch.Tensor.float), x)
    monkeypatch.setattr("torch.get_default_dtype", lambda: torch.float32)  # the precision of tokens' kernels
    for exact, rough in zip(kernels, arch.kernels(rounded), strict=True):
        assert rough.dtype == torch.float32
        # an angle near zero or pi loses half of float32's digits in the derivative's kernel
        torch.testing.assert_close(rough.double(), exact, rtol=2e-4, atol=2e-4 * float(exact.abs().max()))


def numbers(x):
    """The floating tensors among the inputs."""
    return [t for t in leaves(x) if t.is_floating_point()]


@pytest.mark.parametrize("name", [name for name in NETS if numbers(samples_for(name, 1))])
def test_gradients_are_finite_at_equal_inputs_and_right_elsewhere(name):
    arch, x = read(name, 3)
    x = each(floats(torch.Tensor.requires_grad_), each(lambda t: torch.cat([t, t[:1]]), x))
    for g in torch.autograd.grad(arch.ntk(x).sum(), numbers(x)):
        assert torch.isfinite(g).all()
    x, y, direction = each(torch.Tensor.detach, x), samples_for(name, 4), each(floats(torch.randn_like), x)
    grads = torch.autograd.grad(arch.ntk(x, each(floats(torch.Tensor.requires_grad_), y)).sum(), numbers(y))
    h = 1e-6
    with torch.no_grad():
        moved = [each(floats(lambda t, d, s=s: t + s * h * d), y, direction) for s in (1, -1)]
        ahead, behind = (arch.ntk(x, z).sum() for z in moved)
    slope = sum(float((g * d).sum()) for g, d in zip(grads, numbers(direction), strict=True))
    assert slope == pytest.approx(float(ahead - behind) / (2 * h), rel=1e-5)


@every_net
def test_nngp_alone_is_the_same(name):
    arch, x = read(name)
    assert torch.equal(arch.nngp(x), arch.kernels(x)[0])


@given(st.floats(1e-7, 1e-2))
@settings(deadline=None, max_examples=20)
def test_near_duplicates_keep_their_distance(step):
    """NTK(x, x) - NTK(x, y) grows like the angle."""
    x = torch.tensor([[1.0, 0.0]])
    y = torch.tensor([[math.cos(step), math.sin(step)]])
    net = nn.Sequential(nn.Linear(2, 4, bias=False), nn.ReLU(), nn.Linear(4, 1, bias=False))
    net[2].requires_grad_(False)
    arch = architecture(net, x, law=(1, 0))
    drop = float(arch.ntk(x)[0, 0] - arch.ntk(x, y)[0, 0]) * 2  # the input kernel is <x, x'> / 2
    exact = 0.5 - math.cos(step) * (math.pi - step) / (2 * math.pi)
    # k is rounded by 1e-16, which moves the angle by 1e-16 / angle; arccos of a rounded product would do worse
    assert drop == pytest.approx(exact, abs=1e-16 / step + 1e-15)


def test_bad_inputs_are_named():
    arch, x = read("mlp")
    nan = x.clone()
    nan[3, 2] = math.nan
    for call, text in [
        (lambda: arch.ntk(x[:, :5]), r"shape \(5, 5\); this network takes \(n, 6\)"),
        (lambda: arch.ntk(x[:0]), r"n at least 1.*no rows"),
        (lambda: arch.ntk(nan), r"`x` is not finite in 1 of 5 rows, first in row 3"),
        (lambda: arch.ntk(x, nan), r"`x2` is not finite.*row 3"),
        (lambda: arch.ntk(x.long()), r"int64.*fix: torch.as_tensor"),
    ]:
        with pytest.raises(BadData, match="(?s)" + text):
            call()
    with pytest.raises(BadArgument, match=r"(?s)'metal' is not in this build.*engine=\"auto\""):
        arch.ntk(x, engine="metal")
