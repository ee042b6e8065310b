"""Gradient ascent against the Jacobian's Lipschitz constant, and proved zeros of networks with every kind of step."""

import numpy as np
import pytest
import torch
from test_attack import BELOW, tightest
from torch import nn
from torch.func import functional_call, jacrev

from gramian.checker.growth import bounded
from gramian.checker.program import evaluate
from gramian.prove.read_program import checked_program


class Residual(nn.Module):
    def __init__(self, norm):
        super().__init__()
        self.first, self.inner, self.last = nn.Linear(3, 6), nn.Linear(6, 6), nn.Linear(6, 1)
        self.norm = norm

    def forward(self, x):
        h = self.first(x)
        return self.last(h + torch.tanh(self.inner(self.norm(h))))


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.q, self.k, self.v = nn.Linear(2, 3), nn.Linear(2, 3), nn.Linear(2, 3)
        self.place, self.out = nn.Parameter(torch.randn(3, 2)), nn.Linear(3, 1)

    def forward(self, x):
        h = x.reshape(-1, 3, 1) * self.place
        return self.out(nn.functional.scaled_dot_product_attention(self.q(h), self.k(h), self.v(h)).mean(1))


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.last = nn.Linear(3, 3), nn.Linear(3, 1, bias=False)

    def forward(self, x):
        return self.last(torch.sigmoid(self.layer(torch.sin(self.layer(x))))) + self.last.weight[:, :1]


class Gated(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.last = nn.Linear(3, 4), nn.Linear(3, 4), nn.Linear(4, 1)

    def forward(self, x):
        return self.last(self.a(x) * torch.sigmoid(self.b(x)) * self.a(x))


def frozen(net, *names):
    for name, p in net.named_parameters():
        p.requires_grad_(name not in names)
    return net


NETWORKS = {
    "one unit": lambda: frozen(nn.Sequential(nn.Linear(3, 1), nn.Tanh()), "0.bias"),
    "linear, linear": lambda: nn.Sequential(nn.Linear(3, 1, bias=False), nn.Linear(1, 1, bias=False)),
    "mlp": lambda: nn.Sequential(nn.Linear(3, 5), nn.GELU(), nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 1)),
    "softmax": lambda: nn.Sequential(nn.Linear(3, 3), nn.Softmax(-1), nn.Linear(3, 1)),
    "softmax alone": lambda: nn.Sequential(nn.Linear(3, 2, bias=False), nn.Softmax(-1)),
    "normalization alone": lambda: nn.Sequential(nn.Linear(3, 6), nn.LayerNorm(6, elementwise_affine=False)),
    "layer norm": lambda: Residual(nn.LayerNorm(6)),
    "group norm": lambda: Residual(nn.GroupNorm(2, 6)),
    "attention": Attention,
    "tied": Tied,
    "gated": Gated,
    "convolution": lambda: nn.Sequential(
        nn.Unflatten(1, (1, 3)), nn.Conv1d(1, 4, 2, padding=1), nn.Softplus(), nn.AvgPool1d(2), nn.Flatten(),
        nn.Linear(8, 1),
    ),
    "max pooling": lambda: nn.Sequential(
        nn.Unflatten(1, (1, 3)), nn.Conv1d(1, 4, 2, padding=1), nn.SiLU(), nn.MaxPool1d(2), nn.Flatten(),
        nn.Linear(8, 1),
    ),
    "relu": lambda: nn.Sequential(nn.Linear(3, 7), nn.ReLU(), nn.Linear(7, 5), nn.LeakyReLU(0.1), nn.Linear(5, 1)),
}  # fmt: skip


class Functional:
    """A module's Jacobian as a function of one vector of its trained weights."""

    def __init__(self, net, x):
        self.net, self.x = net, x
        self.kept = {k: v.detach() for k, v in net.named_parameters() if not v.requires_grad}
        named = {k: v.detach() for k, v in net.named_parameters() if v.requires_grad}
        self.shapes = {k: v.shape for k, v in named.items()}
        self.start = torch.cat([v.reshape(-1) for v in named.values()])
        self.jacobian = jacrev(self.outputs)

    def parts(self, theta):
        sizes = [int(np.prod(s)) for s in self.shapes.values()]
        return {k: p.reshape(s) for (k, s), p in zip(self.shapes.items(), theta.split(sizes), strict=True)}

    def outputs(self, theta):
        return functional_call(self.net, {**self.kept, **self.parts(theta)}, (self.x,)).reshape(-1)


def prepared(name, seed, samples=1):
    torch.manual_seed(seed)
    net = NETWORKS[name]().double()
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(10 ** float(torch.empty(1).uniform_(-0.5, 0.5)))
    x = torch.randn(samples, 3).double() * 10 ** float(torch.empty(1).uniform_(-0.5, 0.5))
    return net, x


def climbed(name, seed, steps):
    """The largest change of the Jacobian per change of weights that gradient ascent meets, over the proved constant."""
    net, x = prepared(name, seed)
    program = checked_program(net, x)
    values = evaluate(program, x.numpy())
    radius = 0.3
    proved = bounded(program, values, radius)
    while not (np.isfinite(proved.lipschitz) and proved.kink_margin > 0):
        radius /= 3
        proved = bounded(program, values, radius)
    f = Functional(net, x)
    pair = (f.start + radius * 0.1 * torch.randn(2, len(f.start)).double()).requires_grad_()
    optimizer, largest = torch.optim.Adam([pair], 0.1 * radius), 0.0
    for _ in range(steps):
        optimizer.zero_grad()
        a, b = pair
        ratio = torch.linalg.matrix_norm(f.jacobian(a) - f.jacobian(b), 2) / (a - b).norm()
        largest = max(largest, float(ratio.detach()))
        (-ratio.log()).backward()
        optimizer.step()
        with torch.no_grad():
            offset = pair - f.start
            pair.copy_(f.start + offset * (radius / offset.norm(dim=1, keepdim=True)).clamp(max=1))
            if float((pair[0] - pair[1]).norm()) < 1e-5 * radius:
                break
    return largest / proved.lipschitz


def zero_ratio(name, seed):
    """Distance of a zero that Gauss-Newton meets in float64 over the proved radius, at the edge of what is proved."""
    net, x = prepared(name, seed, samples=2)
    program, f = checked_program(net, x), Functional(net, x)
    y = f.outputs(f.start).detach()
    direction = torch.randn(len(f.start)).double()

    def claims(share):
        for k, p in f.parts(f.start + share * direction).items():
            program.arrays[k] = p.numpy().reshape(program.arrays[k].shape)
        return tightest(program, x.numpy(), y.reshape(len(x), -1).numpy(), None)

    for share in 10.0 ** -np.arange(1, 11, 0.25):
        had = claims(share)
        if had is not None:
            break
    else:
        return None
    if had["radius"] < 1e-9:  # too near to rounding for float64 to judge
        return None
    theta = begun = f.start + share * direction
    for _ in range(8):
        jacobian = f.jacobian(theta)
        theta = theta - jacobian.T @ torch.linalg.solve(jacobian @ jacobian.T, f.outputs(theta) - y)
    assert float((f.outputs(theta) - y).norm()) < 1e-11
    return float((theta - begun).norm()) / had["radius"]


@pytest.mark.parametrize("name", NETWORKS)
def test_no_jacobian_changes_faster_than_is_proved(name):
    assert climbed(name, seed=0, steps=6) <= BELOW


@pytest.mark.parametrize("name", ["softmax", "layer norm", "max pooling"])
def test_a_zero_lies_where_it_is_proved_to_lie(name):
    ratio = zero_ratio(name, seed=0)
    assert ratio is None or ratio <= BELOW


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_a_long_climb_stays_below_what_is_proved(name):
    ratios = [climbed(name, seed, steps=100) for seed in range(8)]
    zeros = [r for r in (zero_ratio(name, seed) for seed in range(12)) if r is not None]
    print(f"{name}: Lipschitz {max(ratios):.6f} of {len(ratios)}; distance {max(zeros, default=0):.6f} of {len(zeros)}")
    assert max(ratios) <= BELOW
    assert max(zeros, default=0) <= BELOW
