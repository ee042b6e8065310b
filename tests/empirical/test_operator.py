"""The tangent kernel and the Gauss-Newton matrix as operators are the explicit Jacobian's, for any module."""

import numpy as np
import pytest
import torch
from gpt2 import GPT2
from resnet import ResNet18
from scipy.sparse.linalg import cg, eigsh
from torch import nn
from torch.profiler import profile
from zoo import ZOO, inputs, make, mlp

from gramian.empirical import EmpiricalNTK, GaussNewton, Sketch, empirical_ntk, jacobian, projected_gradients
from gramian.errors import BadArgument, BadData
from gramian.gram import eigenvalues, extreme_eigenvalues, log_determinant, spectral_density, trace

close = {"rtol": 1e-10, "atol": 1e-10}


# the first warns of a copy; the second is refused below
LEFT_OUT = {"conv2d same", "embedding by frequency"}


@pytest.mark.parametrize("name", [name for name in ZOO if name not in LEFT_OUT])
def test_products_of_every_module_of_the_zoo(name):
    net, shape = make(name)
    x = inputs(3, shape)
    j = jacobian(net, x).flatten(0, 1)
    v = torch.randn(len(j), 2)
    for max_bytes in (1, 2**30):  # one sample at a time, and all at once
        operator = EmpiricalNTK(net, x, max_bytes=max_bytes)
        torch.testing.assert_close(operator @ v, j @ (j.T @ v), **close)
        torch.testing.assert_close(operator @ v[:, 0], j @ (j.T @ v[:, 0]), **close)
    newton = operator.gauss_newton()
    assert newton.shape == (j.shape[1], j.shape[1])
    u = torch.randn(j.shape[1], 2)
    torch.testing.assert_close(newton @ u, j.T @ (j @ u), **close)
    assert all(p.grad is None for p in net.parameters())


@pytest.mark.parametrize("outputs", ["full", "sum", "mean"])
def test_kernels_between_two_sets(outputs):
    net, shape = make("mlp")
    x, y = torch.randn(4, *shape), torch.randn(3, *shape)
    operator = EmpiricalNTK(net, x, y, outputs)
    theta = empirical_ntk(net, x, y, outputs)
    theta = theta.permute(0, 2, 1, 3).reshape(operator.shape) if outputs == "full" else theta
    torch.testing.assert_close(operator @ torch.eye(operator.shape[1]), theta, **close)
    torch.testing.assert_close(operator.mT @ torch.eye(operator.shape[0]), theta.mT, **close)
    torch.testing.assert_close(operator.dense(), theta, **close)
    assert not operator.symmetric
    assert EmpiricalNTK(net, x, x, outputs).symmetric
    v = np.random.default_rng(0).standard_normal((operator.shape[1], 2))
    np.testing.assert_allclose(operator.to_scipy() @ v, theta.numpy() @ v, rtol=1e-10)
    np.testing.assert_allclose(
        operator.to_scipy().T @ v[:1].repeat(len(theta), 0), theta.T.numpy() @ v[:1].repeat(len(theta), 0), rtol=1e-10
    )


def test_a_callable_of_the_outputs():
    """A margin: the kernel of the difference of two outputs."""
    net, shape = make("mlp")
    x = torch.randn(4, *shape)
    j = jacobian(net, x)
    j = j[:, 0] - j[:, 1]
    operator = EmpiricalNTK(net, x, outputs=lambda f: f[:, 0] - f[:, 1])
    torch.testing.assert_close(operator @ torch.eye(4), j @ j.T, **close)
    torch.testing.assert_close(operator.dense(), j @ j.T, **close)
    v = torch.randn(4)
    pulled = operator.pull(v)
    assert list(pulled) == [name for name, _ in net.named_parameters()]
    torch.testing.assert_close(torch.cat([u.flatten() for u in pulled.values()]), j.T @ v, **close)
    newton = GaussNewton(net, x, outputs=lambda f: f[:, 0] - f[:, 1])
    torch.testing.assert_close(newton @ torch.eye(newton.shape[0]), j.T @ j, **close)
    assert list(newton.split(torch.randn(newton.shape[0]))) == list(pulled)


def branching(f):
    return f.logsumexp(-1).sum() if f[0, 0] > 0.35 else f[0, 1] ** 2


class Named(nn.Module):
    """Returns a dictionary."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return {"scores": self.net(x)}


def test_a_callable_is_given_the_output_for_a_batch_of_one():
    net, shape = make("mlp")
    x = torch.randn(6, *shape)
    assert 0 < int((net(x)[:, 0] > 0.35).sum()) < 6  # both branches
    rows = [
        torch.cat([g.flatten() for g in torch.autograd.grad(branching(net(r[None])), list(net.parameters()))])
        for r in x
    ]
    j = torch.stack(rows)
    for operator in (
        EmpiricalNTK(net, x, outputs=branching),
        EmpiricalNTK(Named(net), x, outputs=lambda out: branching(out["scores"])),
    ):
        assert operator.shape == (6, 6)
        torch.testing.assert_close(operator @ torch.eye(6), j @ j.T, **close)
    torch.testing.assert_close(
        (phi := projected_gradients(net, x, Sketch(9), outputs=branching)) @ phi.T,
        (psi := projected_gradients(Named(net), x, Sketch(9), outputs=lambda out: branching(out["scores"]))) @ psi.T,
    )


def test_parameters_are_read_at_each_product():
    net, shape = make("mlp")
    x = torch.randn(3, *shape)
    operator = EmpiricalNTK(net, x)
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(1.5)
    theta = empirical_ntk(net, x, outputs="full").permute(0, 2, 1, 3).reshape(6, 6)
    torch.testing.assert_close(operator @ torch.eye(6), theta, **close)


def test_the_gauss_newton_matrix_has_the_same_nonzero_eigenvalues():
    net, shape = make("conv2d")
    x = torch.randn(4, *shape)
    operator = EmpiricalNTK(net, x)
    newton = operator.gauss_newton()
    lam = eigenvalues(operator.dense())
    other = torch.linalg.eigvalsh(newton @ torch.eye(newton.shape[0]))
    torch.testing.assert_close(other[-len(lam) :], lam, rtol=1e-9, atol=1e-12)
    assert float(other[: -len(lam)].abs().max()) < 1e-12 * float(lam[-1])
    low, high = extreme_eigenvalues(newton, k=2)
    torch.testing.assert_close(high, lam[-2:], **close)
    assert low.tolist() == [0, 0]  # 324 of 332 eigenvalues are


def test_an_eigenvector_pulled_to_the_parameters_is_one_of_the_gauss_newton_matrix():
    net, shape = make("mlp")
    operator = EmpiricalNTK(net, torch.randn(5, *shape))
    lam, u = torch.linalg.eigh(operator.dense())
    direction = torch.cat([g.flatten() for g in operator.pull(u[:, -1]).values()])
    torch.testing.assert_close(direction.norm(), lam[-1].sqrt())
    torch.testing.assert_close(operator.gauss_newton() @ direction, lam[-1] * direction, **close)


def test_the_estimates_of_a_network():
    net, x = mlp(6, 40, 40, 3), torch.randn(60, 6)
    operator = EmpiricalNTK(net, x)
    lam = eigenvalues(operator.dense())
    low, high = extreme_eigenvalues(operator, k=3, tol=1e-9)
    torch.testing.assert_close(high, lam[-3:], rtol=1e-8, atol=0)
    torch.testing.assert_close(low, lam[:3], rtol=0, atol=1e-8 * float(lam[-1]))
    found = trace(operator, products=30)
    assert found.interval(0.999)[0] <= float(lam.sum()) <= found.interval(0.999)[1]
    assert found.standard_error < 0.1 * float(lam.sum())
    ridge = 1e-2 * float(lam[-1])
    found = log_determinant(operator, ridge=ridge, steps=15, probes=4)
    assert found.interval(0.999)[0] <= float((lam + ridge).log().sum()) <= found.interval(0.999)[1]
    assert found.products == 60
    share, error = spectral_density(operator, steps=15, probes=4).cumulative(torch.tensor([float(lam[150])]))
    assert abs(float(share) - 151 / 180) < 4 * float(error) + 0.03


def test_scipy_finds_eigenvalues_and_solves():
    net, shape = make("pooling")
    operator = EmpiricalNTK(net, torch.randn(8, *shape))
    dense = operator.dense()
    np.testing.assert_allclose(
        eigsh(operator.to_scipy(), k=2, return_eigenvectors=False), eigenvalues(dense)[-2:].numpy(), rtol=1e-8
    )
    solution, failed = cg(operator.to_scipy(), (dense @ torch.ones(32)).numpy(), rtol=1e-12, maxiter=1000)
    assert failed == 0
    torch.testing.assert_close(dense @ torch.from_numpy(solution), dense @ torch.ones(32), rtol=1e-8, atol=1e-8)


def test_it_says_where_forward_mode_fails_and_is_exact_all_the_same():
    net, shape = make("weight_norm")
    operator = EmpiricalNTK(net, torch.randn(3, *shape))
    assert "_weight_norm_interface" in operator.why_twice_backward
    assert repr(operator) == "EmpiricalNTK(6 x 6, outputs='full', 30 parameters, two backward passes)"
    assert EmpiricalNTK(mlp(3, 4, 2), torch.randn(3, 3)).why_twice_backward == ""


def test_a_transformer_layer_of_torch_in_eval_mode():
    """Its fast path has no derivative in forward mode, and is left without being asked for."""
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    net = nn.Sequential(nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), nn.Flatten(), nn.Linear(24, 2))
    x = torch.randn(3, 3, 8)
    net.eval()
    operator = EmpiricalNTK(net, x)
    j = jacobian(net, x).flatten(0, 1)
    assert operator.why_twice_backward == ""
    torch.testing.assert_close(operator @ torch.eye(6), j @ j.T, **close)


def test_float32_products_of_float64_vectors():
    net, x = mlp(3, 5, 2).float(), torch.randn(4, 3).float()
    operator = EmpiricalNTK(net, x)
    assert operator.dtype == torch.float32
    out = operator @ torch.ones(8)
    assert out.dtype == torch.float64
    exact = empirical_ntk(net.double(), x.double(), outputs="full").sum((1, 3)).sum(1)
    torch.testing.assert_close(out.reshape(4, 2).sum(1), exact, rtol=1e-5, atol=1e-5)
    assert torch.zeros(8, 0).shape == (operator @ torch.zeros(8, 0)).shape


def peak_bytes(run):
    """Most bytes that torch held at once, by its own allocator's log."""
    with profile(profile_memory=True) as log:
        run()
    now = peak = 0
    events = (e for e in log.profiler.kineto_results.events() if e.name() == "[memory]")
    for event in sorted(events, key=lambda e: e.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return peak


def test_memory_does_not_grow_with_the_samples():
    net = mlp(20, 150, 150, 5)
    size = 8 * sum(p.numel() for p in net.parameters())
    peaks = {}
    for n in (200, 1000):
        operator = EmpiricalNTK(net, torch.randn(n, 20), max_bytes=2**18)
        v = torch.ones(operator.shape[1])
        peaks[n] = peak_bytes(lambda: operator @ v)  # noqa: B023
        assert peaks[n] < 4 * size + 4 * 2**18
    assert peaks[1000] < peaks[200] + 10 * 800 * 5 * 8  # only vectors of the outputs
    wide = EmpiricalNTK(net, torch.randn(1000, 20), max_bytes=2**30)
    assert peak_bytes(lambda: wide @ v) > 1.5 * peaks[1000]  # and the bound is what keeps it small


def test_what_is_refused():
    net, x = mlp(3, 4, 2), torch.randn(4, 3)
    operator = EmpiricalNTK(net, x)
    with pytest.raises(
        BadArgument,
        match=r"(?s)kernel \(8, 8\) times a tensor \(4,\).*where: EmpiricalNTK @ v.*it has 8 columns.*\(8,\)",
    ):
        operator @ torch.ones(4)
    with pytest.raises(BadArgument, match=r"(?s)`outputs` is 'all'.*fix:"):
        EmpiricalNTK(net, x, outputs="all")
    with pytest.raises(BadArgument, match=r"(?s)a vector of 8 numbers.*shape \(4,\).*where: EmpiricalNTK.pull"):
        operator.pull(torch.ones(4))
    with pytest.raises(BadArgument, match=r"(?s)between two sets of samples.*fix: EmpiricalNTK\(module, x\)"):
        EmpiricalNTK(net, x, torch.randn(2, 3)).gauss_newton()
    with pytest.raises(BadArgument, match=r"(?s)`outputs` is 'mean'.*sum over all outputs.*fix: outputs=\"full\""):
        GaussNewton(net, x, outputs="mean")
    with pytest.raises(BadArgument, match=r"(?s)mixes the samples.*fix:"):
        EmpiricalNTK(nn.Sequential(net, nn.Softmax(0)), x)
    with pytest.raises(BadArgument, match=r"(?s)output is random.*fix: module.eval"):
        EmpiricalNTK(nn.Sequential(nn.Dropout(0.5), net), x)
    tokens = nn.Sequential(nn.Embedding(5, 2, scale_grad_by_freq=True), nn.Flatten(), nn.Linear(6, 1))
    with pytest.raises(BadArgument, match=r"(?s)how often a token.*where: 0 \(Embedding\).*fix: scale_grad_by_freq"):
        EmpiricalNTK(tokens, torch.randint(5, (4, 3)))
    with pytest.raises(BadData, match=r"(?s)5 outputs on a sample of `x2`, 7 of `x`"):
        EmpiricalNTK(nn.Conv1d(1, 1, 3), torch.randn(2, 1, 9), torch.randn(2, 1, 7))
    with pytest.raises(BadArgument, match=r"(?s)torch.distributed is not initialized.*fix:.*init_process_group"):
        EmpiricalNTK(net, x, group=object())


@pytest.mark.parametrize("build", [lambda: ResNet18(8, 3), lambda: GPT2(n_embd=8)], ids=["ResNet-18", "GPT-2"])
def test_public_networks(build):
    net = build().eval()
    x = torch.randn(2, 3, 16, 16) if isinstance(net, ResNet18) else torch.randn(2, 4, 5)
    j = jacobian(net, x).flatten(0, 1)
    v = torch.randn(len(j))
    torch.testing.assert_close(EmpiricalNTK(net, x) @ v, j @ (j.T @ v), rtol=1e-9, atol=1e-9)


def test_several_inputs():
    """By name and in order; a callable of the outputs, and the Gauss-Newton matrix."""

    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.tokens, self.layer = nn.Embedding(7, 4), nn.Linear(4, 3)

        def forward(self, tokens, x):
            return self.layer(torch.tanh(self.tokens(tokens) + x))

    net, x = Two(), {"tokens": torch.randint(7, (5,)), "x": torch.randn(5, 4)}
    y = {key: t[:2] for key, t in x.items()}
    exact = empirical_ntk(net, x, outputs="full").permute(0, 2, 1, 3).reshape(15, 15)
    operator = EmpiricalNTK(net, x)
    torch.testing.assert_close(operator @ torch.eye(15), exact)
    torch.testing.assert_close(operator.dense(), exact)
    torch.testing.assert_close(EmpiricalNTK(net, x, y) @ torch.eye(6), exact[:, :6])
    torch.testing.assert_close(EmpiricalNTK(net, (x["tokens"], x["x"]), outputs="mean").dense(), empirical_ntk(net, x))
    margin = EmpiricalNTK(net, x, outputs=lambda out: out[:, 0] - out[:, 1])
    torch.testing.assert_close(margin @ torch.eye(5), empirical_ntk(net, x, outputs=lambda out: out[:, 0] - out[:, 1]))
    assert set(operator.pull(torch.ones(15))) == {"tokens.weight", "layer.weight", "layer.bias"}
    values = torch.linalg.eigvalsh(GaussNewton(net, x) @ torch.eye(43))
    torch.testing.assert_close(values[-15:], torch.linalg.eigvalsh(exact), rtol=1e-8, atol=1e-8)
