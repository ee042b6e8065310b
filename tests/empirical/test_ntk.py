"""The structured kernel is the Gram matrix of the explicit Jacobian, for every module."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pieces import kernel
from torch import nn
from zoo import ZOO, inputs, make, mlp
from zoo_calls import CALLS

from gramian.empirical import empirical_ntk, empirical_ntk_by_layer, jacobian

pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning")  # torch's


def close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ZOO)
def test_equals_the_explicit_jacobians_gram_matrix(name):
    net, shape = make(name)
    x, y = inputs(4, shape), inputs(3, shape)
    jx, jy = jacobian(net, x), jacobian(net, y)
    c = jx.shape[1]
    full = torch.einsum("icp,jdp->ijcd", jx, jy)
    trace = torch.einsum("ijcc->ij", full)
    close(empirical_ntk(net, x, y, "full"), full)
    close(empirical_ntk(net, x, y, "sum"), trace)
    close(empirical_ntk(net, x, y), trace / c)
    same = empirical_ntk(net, x, outputs="full")
    close(same, torch.einsum("icp,jdp->ijcd", jx, jx))
    assert torch.equal(same, same.permute(1, 0, 3, 2))  # symmetric to the last bit
    mean = empirical_ntk(net, x)
    close(mean, torch.einsum("icp,jcp->ij", jx, jx) / c)
    assert torch.equal(mean, mean.T)


@pytest.mark.parametrize("name", ZOO)
def test_parameters_shares_are_the_jacobians_and_add_up(name):
    net, shape = make(name)
    x, y = inputs(3, shape), inputs(2, shape)
    jx, jy = jacobian(net, x), jacobian(net, y)
    shares = empirical_ntk_by_layer(net, x, y)
    trainable = {key: p.numel() for key, p in net.named_parameters() if p.requires_grad}
    assert list(shares) == list(trainable)
    start = 0
    for key, p in trainable.items():
        columns = slice(start, start := start + p)
        close(shares[key], torch.einsum("icp,jcp->ij", jx[..., columns], jy[..., columns]) / jx.shape[1])
    close(sum(shares.values()), empirical_ntk(net, x, y))


@pytest.mark.parametrize("outputs", ["mean", "full"])
@pytest.mark.parametrize("name", ["mlp", "conv2d", "twice", "attention", "custom function", "linear on long sequences"])
def test_little_memory_gives_the_same_kernel(name, outputs):
    net, shape = make(name)
    x, y = inputs(7, shape), inputs(5, shape)
    max_bytes = 100_000  # each of these takes tiles of samples, of outputs, or parameters apart
    close(empirical_ntk(net, x, y, outputs, max_bytes=max_bytes), empirical_ntk(net, x, y, outputs))
    little = empirical_ntk(net, x, outputs=outputs, max_bytes=30_000)
    close(little, empirical_ntk(net, x, outputs=outputs))
    assert torch.equal(little, little.permute(1, 0, *([3, 2] if outputs == "full" else [])))


def positions(unit, *_):
    return unit if unit.single else replace(unit, rows=not unit.sizes)


def gradients(unit, *_):
    return unit if unit.single else replace(unit, rows=True)


def late_gradients(unit, *_):
    return unit if unit.single else replace(unit, rows=True, late=unit.columns > 0)


WAYS = {
    "positions": {"way": positions},
    "gradients": {"way": gradients},
    "late gradients": {"way": late_gradients},
    "late gradients, a column at a time": {"way": late_gradients, "cached_gradients": 1},
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", [*CALLS, "attention", "twice", "conv2d grouped", "tied layers"])
def test_all_ways_of_contracting_are_exact(name, way):
    """Whichever is cheapest, all are right; `decoder` has pieces of two kinds, `projections` of three."""
    net, shape = make(name)
    x, y = inputs(4, shape), inputs(3, shape)
    jx, jy = jacobian(net, x), jacobian(net, y)
    for max_bytes in (2**30, 40_000):
        for outputs, sum_over in (("full", "icp,jdp->ijcd"), ("sum", "icp,jcp->ij")):
            close(kernel(net, x, y, outputs, max_bytes, **WAYS[way]), torch.einsum(sum_over, jx, jy))


@given(
    widths=st.lists(st.integers(1, 6), min_size=2, max_size=5),
    tokens=st.lists(st.integers(1, 3), max_size=2),
    n=st.integers(1, 5),
    m=st.integers(1, 5),
    max_bytes=st.sampled_from([2**30, 2**16]),
)
@settings(deadline=None, max_examples=40)
def test_any_widths_and_any_axes(widths, tokens, n, m, max_bytes):
    net, x, y = mlp(*widths), torch.randn(n, *tokens, widths[0]), torch.randn(m, *tokens, widths[0])
    full = torch.einsum("icp,jdp->ijcd", jacobian(net, x), jacobian(net, y))
    close(empirical_ntk(net, x, y, "full", max_bytes=max_bytes), full)
    close(empirical_ntk(net, x, y, "sum", max_bytes=max_bytes), torch.einsum("ijcc->ij", full))


@given(
    rank=st.integers(1, 3),
    size=st.integers(1, 3),
    stride=st.integers(1, 2),
    padding=st.sampled_from([0, 1, 2, "same", "valid"]),
    dilation=st.integers(1, 2),
    groups=st.sampled_from([1, 2]),
    mode=st.sampled_from(["zeros", "circular", "replicate", "reflect"]),
)
@settings(deadline=None, max_examples=40)
def test_any_convolution(rank, size, stride, padding, dilation, groups, mode):
    stride = 1 if padding == "same" else stride
    conv = getattr(nn, f"Conv{rank}d")(
        2, 2, size, stride=stride, padding=padding, dilation=dilation, groups=groups, padding_mode=mode
    )
    x = torch.randn(3, 2, *[5, 6, 5][:rank])
    net = nn.Sequential(conv, nn.Tanh(), nn.Flatten(2), nn.AdaptiveAvgPool1d(1), nn.Flatten())
    j = jacobian(net, x)
    close(empirical_ntk(net, x, outputs="full"), torch.einsum("icp,jdp->ijcd", j, j))


def test_of_a_linear_map_it_is_the_inputs_gram_matrix():
    x = torch.randn(5, 4)
    full = empirical_ntk(nn.Linear(4, 3), x, outputs="full")
    close(full, (x @ x.T + 1)[:, :, None, None] * torch.eye(3))


def test_float32_is_as_close_as_float32_can_be():
    net, x = mlp(20, 64, 64, 4), torch.randn(30, 20)
    exact = empirical_ntk(net, x, outputs="full")
    single = empirical_ntk(net.float(), x.float(), outputs="full")
    assert single.dtype == torch.float32
    assert (single - exact).abs().max() < 1e-5 * exact.abs().max()
    assert (single - exact).abs().max() > 0


@pytest.mark.parametrize("name", ["norms", "raw", "tied", "custom function"])
def test_the_module_is_left_as_found(name):
    net, shape = make(name)
    x = inputs(4, shape)
    net(x).sum().backward()
    before = {key: t.clone() for key, t in net.state_dict().items()}
    grads = {key: None if p.grad is None else p.grad.clone() for key, p in net.named_parameters()}
    modes = [m.training for m in net.modules()]
    hooks = [len(m._forward_hooks) for m in net.modules()]
    state = torch.get_rng_state()
    with torch.no_grad():  # the kernel is the same wherever it is asked for
        empirical_ntk(net, x)
    assert torch.equal(state, torch.get_rng_state())
    assert [m.training for m in net.modules()] == modes
    assert [len(m._forward_hooks) for m in net.modules()] == hooks
    for key, t in net.state_dict().items():
        assert torch.equal(t, before[key])
    for key, p in net.named_parameters():
        assert p.requires_grad
        assert p.grad is None if grads[key] is None else torch.equal(p.grad, grads[key])


def test_training_mode_without_anything_random_is_fine():
    net, x = mlp(3, 4, 2).train(), torch.randn(4, 3)
    assert torch.equal(empirical_ntk(net, x), empirical_ntk(net.eval(), x))


def test_hooks_are_removed_when_the_module_fails():
    net = mlp(3, 4, 2)
    with pytest.raises(ValueError, match="failed"):
        empirical_ntk(net, torch.randn(4, 5))
    assert not any(m._forward_hooks for m in net.modules())


def test_integer_inputs():
    net = nn.Sequential(nn.Embedding(5, 3), nn.Flatten(), nn.Linear(6, 2))
    x = torch.randint(0, 5, (4, 2))
    j = jacobian(net, x)
    close(empirical_ntk(net, x, outputs="full"), torch.einsum("icp,jdp->ijcd", j, j))


def test_a_subclass_or_a_patched_forward_is_not_taken_for_its_base():
    class Doubled(nn.Linear):
        def forward(self, x):
            return super().forward(x) + super().forward(x).sin()

    patched = nn.Linear(4, 2)
    patched.forward = lambda x: 2 * nn.Linear.forward(patched, x)
    net = nn.Sequential(Doubled(3, 4), patched)
    x = torch.randn(4, 3)
    j = jacobian(net, x)
    close(empirical_ntk(net, x, outputs="full"), torch.einsum("icp,jdp->ijcd", j, j))


def test_inside_inference_mode_and_with_gradients_on_the_input():
    net, x = mlp(3, 4, 2), torch.randn(4, 3)
    expected = empirical_ntk(net, x)
    with torch.inference_mode():
        copy = x + 0
        theta = empirical_ntk(net, copy)
    assert torch.equal(theta, expected)
    assert not theta.is_inference()
    assert not empirical_ntk(net, x.clone().requires_grad_()).requires_grad


def test_compiled_modules():
    net, x = mlp(3, 4, 4, 2), torch.randn(4, 3)
    expected = empirical_ntk(net, x)
    close(empirical_ntk(torch.compile(net, backend="eager"), x), expected)
    net[2].compile(backend="eager")
    close(empirical_ntk(net, x), expected)
