"""Every function of a finite network against central differences, over the operations of `operations.py`.

Right or refused in four parts; never another number, and never an error of torch's.
"""

import warnings
from collections import Counter

import pytest
import torch
from operations import OPERATIONS
from torch import nn

import gramian
from gramian.empirical import jacobian, projected_gradients
from gramian.empirical.operators.tangent_operators import GaussNewton
from gramian.errors import GramianError

WORST = [
    "prelu", "prelu of one", "linalg.slogdet", "linalg.solve", "lu_solve", "linalg.inv", "cdist", "batch_norm of rows",
    "linalg.lstsq", "embedding_bag", "instance_norm", "in place", "as_strided", "rnn",
]  # fmt: skip
PARTS = 8  # of the sweep, each a test of its own


class Around(nn.Module):
    """A linear map, the operation with a parameter of its own, and C sums of the result."""

    def __init__(self, name, c):
        super().__init__()
        torch.manual_seed(1)
        self.first, self.w = nn.Linear(3, 6), nn.Parameter(torch.randn(6).abs() + 0.2)
        self.c, self.run = c, OPERATIONS[name]
        self.double()

    def forward(self, x):
        h = self.run(self.first(x), self.w)
        places = torch.arange(1, h.shape[1] + 1, dtype=h.dtype)[:, None]
        return torch.tanh(h / 3) @ torch.sin(places * torch.arange(1, self.c + 1, dtype=h.dtype))


def differences(net, x, h=1e-5):
    """The Jacobian by central differences of one sample at a time, without a backward pass; (n, C, p)."""
    columns = []
    for p in net.parameters():
        flat = p.detach().reshape(-1)
        assert flat.data_ptr() == p.data_ptr()
        for i in range(len(flat)):
            ends = []
            for step in (h, -2 * h):
                flat[i] += step
                with torch.no_grad():
                    ends.append(torch.cat([net(row[None]) for row in x]))
            flat[i] += h
            columns.append((ends[0] - ends[1]) / (2 * h))
    return torch.stack(columns, 2)


def asked(net, x, true):
    """Each function's name, what it gives, and what it should."""
    n, c, p = true.shape
    j = true.reshape(n * c, p)
    gram = (j @ j.T).reshape(n, c, n, c)
    v, u = torch.randn(n * c, dtype=x.dtype), torch.randn(p, dtype=x.dtype)
    sketch = gramian.Sketch(4)

    def projected():
        return projected_gradients(net, x, sketch, "full")

    def each_on_its_own():
        found = torch.zeros(n * c, 4, dtype=x.dtype)
        sizes = [q.numel() for q in net.parameters()]
        for number, part in enumerate(j.split(sizes, 1)):
            sketch.add_to(found, part, number)
        return found

    yield "jacobian", lambda: jacobian(net, x), true
    yield "empirical_ntk full", lambda: gramian.empirical_ntk(net, x, outputs="full"), gram.permute(0, 2, 1, 3)
    yield "empirical_ntk mean", lambda: gramian.empirical_ntk(net, x), gram.diagonal(dim1=1, dim2=3).mean(2)
    yield "EmpiricalNTK", lambda: gramian.EmpiricalNTK(net, x) @ v, j @ (j.T @ v)
    yield "EmpiricalNTK in chunks", lambda: gramian.EmpiricalNTK(net, x, max_bytes=1) @ v, j @ (j.T @ v)
    yield "GaussNewton", lambda: GaussNewton(net, x) @ u, j.T @ (j @ u)
    yield "projected_gradients", projected, each_on_its_own()


def verdicts(name, n, c):
    """Pairs of a function and what was found: "right", "refused", or what is wrong."""
    net = Around(name, c)
    x = torch.randn(n, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(n))
    true = differences(net, x)
    assert bool(true.isfinite().all()), name
    allowed = 1e-5 * float(true.norm()) + 1e-9
    for function, call, want in asked(net, x, true):
        try:
            found = call()
        except GramianError as error:
            parts = all(word in str(error) for word in ("where", "why", "fix"))
            yield function, "refused" if parts else f"refused without its parts: {error}"
        except Exception as error:
            yield function, f"{type(error).__name__}: {str(error).splitlines()[0][:80]}"
        else:
            scale = 1.0 if want.shape == true.shape else 4 * float(true.norm()) + 1
            same = found.shape == want.shape and float((found - want).norm()) <= scale * allowed
            off = float((found - want).norm() / want.norm()) if found.shape == want.shape else found.shape
            yield function, "right" if same else f"off by {off}"


def swept(names, sizes):
    """Counts of the verdicts, and what is wrong."""
    count, wrong, refused = Counter(), [], Counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in names:
            for n, c in sizes:
                for function, verdict in verdicts(name, n, c):
                    kind = verdict if verdict in ("right", "refused") else "wrong"
                    count[kind] += 1
                    if kind == "wrong":
                        wrong.append(f"{name} {function} n={n} C={c}: {verdict}")
                    if kind == "refused":
                        refused[name] += 1
    print(f"{len(names)} operations, {dict(count)}; refused: {dict(refused)}")
    return wrong


@pytest.mark.parametrize("name", WORST)
def test_the_worst_operations(name):
    assert not swept([name], [(2, 2), (3, 1)])


def test_there_are_as_many_operations_as_were_promised():
    assert len(OPERATIONS) >= 220


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_all_operations(part):
    """n and C of 1 to 3, every pair."""
    names = sorted(OPERATIONS)[part::PARTS]
    assert not swept(names, [(n, c) for n in (1, 2, 3) for c in (1, 2, 3)])
