"""The checker's evaluation of a network against torch: outputs, Gram matrix of the gradients, and what bounds them."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call, jacrev
from torch.nn.attention import SDPBackend, sdpa_kernel

from gramian.checker.eigenvalues import largest_is_at_most, largest_provable, smallest_is_at_least, smallest_provable
from gramian.checker.growth import bounded
from gramian.checker.high_precision import outputs
from gramian.checker.program import JacobianGram, evaluate, jacobian_gram
from gramian.prove.read_program import checked_program


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.inner, self.last = nn.Linear(6, 20), nn.Linear(20, 20), nn.Linear(20, 3)
        self.norm = nn.LayerNorm(20)

    def forward(self, x):
        h = self.first(x)
        return self.last(h + torch.tanh(self.inner(self.norm(h))))


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.last = nn.Linear(6, 6), nn.Linear(6, 3, bias=False)

    def forward(self, x):
        return self.last(torch.sigmoid(self.layer(torch.sin(self.layer(x)))))


class Frozen(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(6, 12), nn.Softplus(beta=2), nn.Linear(12, 3))
        self[2].weight.requires_grad_(False)


class Transformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.out = nn.Linear(3, 8), nn.Linear(8, 3)
        self.place = nn.Parameter(torch.randn(2, 8) * 0.1)
        self.block = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True, activation="gelu")

    def forward(self, x):
        return self.out(self.block(self.embed(x.reshape(-1, 2, 3)) + self.place).mean(1))


def images(*layers):
    return nn.Sequential(nn.Unflatten(1, (1, 2, 3)), *layers)


NETWORKS = {
    "mlp": lambda: nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 12), nn.GELU(), nn.Linear(12, 3)),
    "erf, elu": lambda: nn.Sequential(nn.Linear(6, 16), Erf(), nn.Linear(16, 12), nn.ELU(), nn.Linear(12, 3)),
    "leaky relu, silu": lambda: nn.Sequential(
        nn.Linear(6, 16), nn.LeakyReLU(0.1), nn.Linear(16, 9), nn.SiLU(), nn.Linear(9, 3)
    ),
    "residual": Residual,
    "tied": Tied,
    "frozen": Frozen,
    "transformer": Transformer,
    "convolution": lambda: images(
        nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6), nn.GELU(approximate="tanh"), nn.Conv2d(6, 4, 2, stride=1),
        nn.GroupNorm(2, 4), nn.ReLU(), nn.AvgPool2d((1, 2)), nn.Flatten(), nn.Linear(4, 3),
    ),
    "max pool": lambda: images(
        nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2, stride=1, padding=1), nn.Tanh(), nn.MaxPool2d((2, 1)),
        nn.Flatten(), nn.Linear(24, 3),
    ),
    "one axis": lambda: nn.Sequential(
        nn.Unflatten(1, (2, 3)), nn.Conv1d(2, 7, 2, dilation=2, padding=1), nn.Sigmoid(),
        nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(7, 3),
    ),
}  # fmt: skip


class Erf(nn.Module):
    def forward(self, x):
        return torch.erf(x)


@pytest.fixture(scope="module", params=NETWORKS)
def case(request):
    torch.manual_seed(0)
    net = NETWORKS[request.param]().double().eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    x = torch.randn(5, 6, dtype=torch.float64)
    program = checked_program(net, x)
    return net, x, program, evaluate(program, x.numpy())


def trained(net):
    return {name: p.detach() for name, p in net.named_parameters() if p.requires_grad}


@pytest.fixture(autouse=True)
def plain_attention():
    with sdpa_kernel(SDPBackend.MATH):  # torch's fused one has no rule for vmap, and warns
        yield


def jacobian(net, x, weights):
    parts = jacrev(lambda w: functional_call(net, w, (x,)))(weights)
    return torch.cat([p.flatten(2) for p in parts.values()], 2)  # (n, C, p)


def moved(weights, seed, radius):
    generator = torch.Generator().manual_seed(seed)
    step = {k: torch.randn(w.shape, generator=generator, dtype=w.dtype) for k, w in weights.items()}
    norm = torch.sqrt(sum(s.square().sum() for s in step.values()))
    return {k: w + step[k] * radius / norm for k, w in weights.items()}


def test_outputs_and_gram_are_those_of_torch_within_the_radii(case):
    net, x, program, values = case
    with torch.no_grad():
        own = net(x).numpy()
    assert np.all(np.abs(values.output.middle - own) <= values.output.radius + 1e-14)
    assert values.output.radius.max() < 1e-11
    gram = jacobian_gram(program, values)
    j = jacobian(net, x, trained(net)).reshape(15, -1)
    truth = (j @ j.T).numpy()
    assert np.linalg.norm(gram.matrix - truth, 2) <= gram.rounding + 2 * gram.jacobian_error * np.linalg.norm(j, 2)
    assert np.linalg.norm(gram.matrix - truth) <= 1e-12 * np.linalg.norm(truth)


def test_outputs_in_high_precision_are_the_same_and_far_tighter(case):
    _, x, program, values = case
    fine = outputs(program, x.numpy())
    assert np.all(np.abs(fine.middle - values.output.middle) <= fine.radius + values.output.radius)
    assert np.all(fine.radius <= 1e-15 * np.maximum(np.abs(fine.middle), 0.1))


def test_large_networks_are_not_evaluated_in_high_precision(case):
    _, x, program, _ = case
    assert outputs(program, np.repeat(x.numpy(), 200_000, axis=0)) is None
    assert outputs(program, np.full_like(x.numpy(), np.nan)) is None


@pytest.mark.parametrize("radius", [1e-6, 1e-3])
def test_the_jacobian_changes_no_more_than_the_bound(case, radius):
    net, x, program, values = case
    bounds = bounded(program, values, radius)
    weights = trained(net)
    assert bounds.lipschitz > 0
    if bounds.kink_margin <= 0:
        pytest.skip("a sign may change on this ball")
    for seed in range(12):
        a, b = moved(weights, seed, radius), moved(weights, seed + 100, radius * 0.9)
        distance = torch.sqrt(sum((a[k] - b[k]).square().sum() for k in weights))
        change = (jacobian(net, x, a) - jacobian(net, x, b)).reshape(15, -1)
        assert torch.linalg.matrix_norm(change, 2) <= bounds.lipschitz * distance


def test_the_bound_of_the_change_grows_with_the_ball(case):
    _, _, program, values = case
    lipschitz = [bounded(program, values, radius).lipschitz for radius in (1e-9, 1e-6, 1e-3)]
    assert lipschitz == sorted(lipschitz)


def planted(eigenvalues, rotation):
    matrix = rotation @ np.diag(eigenvalues) @ rotation.T
    return JacobianGram((matrix + matrix.T) / 2, 1e-13 * eigenvalues[-1], 1e-13)


@pytest.mark.parametrize("smallest", [1e-9, 1e-4, 1.0])
@pytest.mark.parametrize("size", [3, 40, 300])
def test_eigenvalues_are_bounded_on_the_right_side_and_tightly(size, smallest):
    rng = np.random.default_rng(size)
    eigenvalues = np.sort(np.concatenate([[smallest], smallest + rng.random(size - 1) * 10]))
    gram = planted(eigenvalues, np.linalg.qr(rng.standard_normal((size, size)))[0])
    low, high = smallest_provable(gram, eigenvalues[0]), largest_provable(gram, eigenvalues[-1])
    assert 0.8 <= low / eigenvalues[0] ** 0.5 <= 1  # 1e-9 of 300 rows is near what rounding takes
    assert high == pytest.approx(eigenvalues[-1] ** 0.5, rel=1e-5)
    assert smallest_is_at_least(gram, low)
    assert largest_is_at_most(gram, high)
    for factor in (1 + 1e-6, 1.5, 100):
        assert not smallest_is_at_least(gram, eigenvalues[0] ** 0.5 * factor)
        assert not largest_is_at_most(gram, eigenvalues[-1] ** 0.5 / factor)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_gram_matrix_that_is_not_finite_proves_nothing(bad):
    gram = JacobianGram(np.diag([1.0, bad]), 0.0, 0.0)
    assert not smallest_is_at_least(gram, 0.1)
    assert not largest_is_at_most(gram, 10.0)
    assert not smallest_is_at_least(JacobianGram(np.eye(2), 0.0, bad), 0.1)
    assert not smallest_is_at_least(JacobianGram(np.eye(2), bad, 0.0), 0.1)
    assert not largest_is_at_most(JacobianGram(np.eye(2), bad, 0.0), 10.0)
