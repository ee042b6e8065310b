"""Derivatives that torch's rules for vmap, forward mode or batches of one get wrong are right, or refused in words."""

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import gramian
from gramian.empirical import jacobian, projected_gradients
from gramian.empirical.operators.tangent_operators import GaussNewton
from gramian.errors import GramianError

FOUR = r"(?s).+where.+why.+fix"


def flat(k):
    """The Gram matrix of a kernel with all pairs of outputs."""
    return k.permute(0, 2, 1, 3).reshape(k.shape[0] * k.shape[2], -1)


def off(a, b):
    return float((a - b).norm() / b.norm())


def differences(net, x, h=1e-6):
    """The Jacobian by central differences, without a backward pass."""
    columns = []
    with torch.no_grad():
        for p in net.parameters():
            for i in range(p.numel()):
                number = p.view(-1)[i : i + 1]
                kept = number.clone()
                high = net(x) if number.add_(h) is number else None
                low = net(x) if number.sub_(2 * h) is number else None
                number.copy_(kept)
                columns.append(((high - low) / (2 * h)).flatten(1))
    return torch.stack(columns, 2)


def check_all(net, x, true, allowed=1e-6):
    """Every function gives what the Jacobian `true`, (n, C, p), gives."""
    n, c, p = true.shape
    j = true.reshape(n * c, p)
    gram = j @ j.T
    assert off(jacobian(net, x), true) < allowed
    assert off(flat(gramian.empirical_ntk(net, x, outputs="full")), gram) < allowed
    mean = gram.reshape(n, c, n, c).diagonal(dim1=1, dim2=3).mean(2)
    assert off(gramian.empirical_ntk(net, x, outputs="mean"), mean) < allowed
    v = torch.randn(n * c, dtype=x.dtype)
    assert off(gramian.EmpiricalNTK(net, x) @ v, gram @ v) < allowed
    assert off(gramian.EmpiricalNTK(net, x, max_bytes=1) @ v, gram @ v) < allowed
    u = torch.randn(p, dtype=x.dtype)
    assert off(GaussNewton(net, x) @ u, j.T @ (j @ u)) < allowed
    sketch = gramian.Sketch(8)
    features = projected_gradients(net, x, sketch, "full")
    one_by_one = torch.cat([projected_gradients(net, row[None], sketch, "full") for row in x])
    assert off(features, one_by_one) < allowed


@pytest.mark.parametrize(("n", "c"), [(2, 2), (5, 1), (4, 2), (4, 1), (1, 1), (3, 3)])
def test_prelu(n, c):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 5), nn.PReLU(), nn.Linear(5, c)).double()
    x = torch.randn(n, 5, dtype=torch.float64)
    check_all(net, x, differences(net, x))


class OfMatrix(nn.Module):
    """A number of a matrix that the network computes, with a parameter that no structured rule takes."""

    def __init__(self, number):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.w, self.o = nn.Linear(5, 6), nn.Parameter(torch.randn(6)), nn.Linear(6, 1)
        self.number = number

    def forward(self, x):
        h = self.a(x) * self.w
        m = h.reshape(-1, 2, 3)
        return self.o(h) + self.number(m @ m.mT + torch.eye(2, dtype=x.dtype))[:, None]


OF_MATRICES = {
    "slogdet": lambda a: torch.linalg.slogdet(a)[1],
    "logdet": torch.logdet,
    "det": torch.linalg.det,
    "solve": lambda a: torch.linalg.solve(a, torch.ones(2, 1, dtype=a.dtype)).sum((1, 2)),
    "inv": lambda a: torch.linalg.inv(a).sum((1, 2)),
    "lu_solve": lambda a: torch.linalg.lu_solve(*torch.linalg.lu_factor(a), torch.ones(len(a), 2, 1).to(a)).sum((1, 2)),
    "cholesky": lambda a: torch.linalg.cholesky(a).sum((1, 2)),
    "cholesky_solve": lambda a: torch.cholesky_solve(a[:, :, :1], torch.linalg.cholesky(a)).sum((1, 2)),
    "matrix_exp": lambda a: torch.matrix_exp(a / 4).sum((1, 2)),
    "eigvalsh": lambda a: torch.linalg.eigvalsh(a)[:, 0],
    "svdvals": lambda a: torch.linalg.svdvals(a)[:, 1],
    "lstsq": lambda a: torch.linalg.lstsq(a, torch.ones(len(a), 2, 1).to(a)).solution.sum((1, 2)),
    "pinv": lambda a: torch.linalg.pinv(a).sum((1, 2)),
}  # fmt: skip


@pytest.mark.parametrize("name", OF_MATRICES)
@pytest.mark.parametrize("n", [1, 3])
def test_numbers_of_matrices(name, n):
    net = OfMatrix(OF_MATRICES[name]).double()
    x = torch.randn(n, 5, dtype=torch.float64)
    check_all(net, x, differences(net, x), allowed=1e-5)


class Stem(nn.Module):
    """Convolution, batch normalization, tokens: gradients come to the normalization with strides (C, 1, ...)."""

    def __init__(self, norm):
        super().__init__()
        torch.manual_seed(0)
        self.c, self.bn, self.n, self.o = nn.Conv2d(3, 4, 3, 2, 1, bias=False), norm, nn.LayerNorm(4), nn.Linear(4, 2)

    def forward(self, x):
        return self.o(torch.tanh(self.n(self.bn(self.c(x)).flatten(2).transpose(1, 2))).mean(1))


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("kind", ["batch", "instance", "instance with a history"])
def test_normalization_of_a_batch_of_one(kind, n):
    if kind == "batch":
        norm = nn.BatchNorm2d(4)
    else:
        norm = nn.InstanceNorm2d(4, affine=True, track_running_stats=kind != "instance")
    net, x = Stem(norm).double().eval(), torch.randn(n, 3, 8, 8, dtype=torch.float64)
    if norm.running_mean is not None:
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
    check_all(net, x, differences(net, x), allowed=1e-5)


class Bag(nn.Module):
    def __init__(self, mode="mean"):
        super().__init__()
        torch.manual_seed(0)
        self.e, self.f = nn.EmbeddingBag(20, 4, mode=mode), nn.Linear(4, 2)

    def forward(self, t):
        return self.f(self.e(t))


@pytest.mark.parametrize("mode", ["mean", "sum", "max"])
def test_products_of_operations_without_forward_mode(mode):
    net, rows = Bag(mode).double(), torch.randint(0, 20, (5, 6))
    true = differences(net, rows)
    j = true.reshape(10, -1)
    v = torch.randn(10, dtype=torch.float64)
    assert off(gramian.EmpiricalNTK(net, rows) @ v, j @ (j.T @ v)) < 1e-6
    assert off(GaussNewton(net, rows) @ torch.ones(j.shape[1]).double(), j.T @ j.sum(1)) < 1e-6
    assert off(flat(gramian.empirical_ntk(net, rows, outputs="full")), j @ j.T) < 1e-6


def test_reentrant_checkpoints_have_products():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(8, 8), nn.Linear(8, 2)

        def forward(self, x):
            return self.b(checkpoint(torch.tanh, self.a(x), use_reentrant=True))

    torch.manual_seed(0)
    net, x = Net().double(), torch.randn(4, 8, dtype=torch.float64)
    true = differences(nn.Sequential(net.a, nn.Tanh(), net.b), x)
    j, v = true.reshape(8, -1), torch.randn(8, dtype=torch.float64)
    assert off(gramian.EmpiricalNTK(net, x) @ v, j @ (j.T @ v)) < 1e-6
    assert off(flat(gramian.empirical_ntk(net, x, outputs="full")), j @ j.T) < 1e-6


class Once(torch.autograd.Function):
    """An operation with a value and no derivative."""

    @staticmethod
    def forward(ctx, x):
        return x.sin()

    @staticmethod
    def backward(ctx, g):
        raise NotImplementedError("derivative for 'own_sine' is not implemented")


def test_what_torch_cannot_differentiate_is_refused_by_name():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(3, 2)

        def forward(self, x):
            return Once.apply(self.a(x))

    net, x = Net().double(), torch.randn(4, 3, dtype=torch.float64)
    calls = (
        lambda: jacobian(net, x),
        lambda: gramian.empirical_ntk(net, x),
        lambda: gramian.EmpiricalNTK(net, x) @ torch.ones(8),
        lambda: projected_gradients(net, x, gramian.Sketch(8)),
        lambda: GaussNewton(net, x) @ torch.ones(8),
    )
    for call in calls:
        with pytest.raises(GramianError, match=FOUR):
            call()


def test_inputs_that_the_module_does_not_take_are_refused():
    with pytest.raises(GramianError, match=FOUR):
        jacobian(nn.Linear(2, 1), torch.ones(3, 5))
