"""Every function of a finite network on modules of many kinds, against backward passes of single numbers."""

import copy
from collections import Counter

import pytest
import torch
from attacked_modules import ATTACKED, Of
from torch import nn

import gramian
from gramian.empirical import Sketch, jacobian
from gramian.errors import BadArgument, BadData, GramianError
from gramian.module_state.untouched import MOST_COPIED_BYTES, untouched

pytestmark = pytest.mark.filterwarnings("ignore")
FAST = ["padded attention", "op glu", "op norm at 0", "renormed rows", "equilibrium", "alignment"]
PARTS = 3  # of the sweep


def made(name, n):
    torch.manual_seed(0)
    make, data = ATTACKED[name]
    net, x = make(), data(n)
    x = x if isinstance(x, tuple) else (x,)
    with torch.no_grad():
        net(*x)  # lazy layers get their sizes
    return net, x


def by_backward(net, x):
    """The Jacobian, one `backward` for each number; (n, C, p)."""
    parameters, rows = [p for p in net.parameters() if p.requires_grad], []
    for i in range(len(x[0])):
        given = [t[i : i + 1] for t in x]
        for c in range(net(*given).numel()):
            net.zero_grad()
            net(*given).reshape(-1)[c].backward()
            rows.append(torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in parameters]))
    net.zero_grad()
    return torch.stack(rows).reshape(len(x[0]), -1, rows[0].numel())


def linearized(net, x, j):
    """Values and gradients of a linearized model after a step, and what they should be."""
    out = net(*x).detach()
    model = gramian.linearize(net)
    moving = [p for p in model.module.parameters() if p.requires_grad]
    step, w = torch.randn(j.shape[-1]), torch.randn(out.shape)
    with torch.no_grad():
        for part, p in zip(step.split([p.numel() for p in moving]), moving, strict=True):
            p += part.reshape(p.shape)
    found = model(*x)
    (found * w).sum().backward()
    grads = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in moving])
    flat = j.flatten(0, 1)
    return torch.cat([(found.detach() - out).flatten(), grads]), torch.cat([flat @ step, flat.T @ w.flatten()])


def calls(net, x, j):
    """Each function's name, and what gives its result and the right one."""
    n, c, p = j.shape
    given, few = (x, tuple(t[:2] for t in x)) if len(x) > 1 else (x[0], x[0][:2])
    flat, full = j.reshape(n * c, p), torch.einsum("icp,jdp->ijcd", j, j)
    mean = full.diagonal(dim1=2, dim2=3).mean(2)
    v, u = torch.randn(n * c), torch.randn(p)

    def projected():
        sketch, found = Sketch(6), torch.zeros(n * c, 6)
        sizes = [q.numel() for q in net.parameters() if q.requires_grad]
        for number, part in enumerate(flat.split(sizes, 1)):
            sketch.add_to(found, part, number)
        return gramian.projected_gradients(net, given, sketch, "full"), found

    yield "full", lambda: (gramian.empirical_ntk(net, given, outputs="full"), full)
    yield "mean of two sets", lambda: (gramian.empirical_ntk(net, given, few), mean[:, :2])
    yield "operator", lambda: (gramian.EmpiricalNTK(net, given) @ v, flat @ (flat.T @ v))
    yield "operator in chunks", lambda: (gramian.EmpiricalNTK(net, given, max_bytes=1) @ v, flat @ (flat.T @ v))
    yield "Gauss-Newton", lambda: (gramian.GaussNewton(net, given) @ u, flat.T @ (flat @ u))
    yield "jacobian", lambda: (jacobian(net, given), j)
    yield "projected", projected
    yield "linearized", lambda: linearized(net, x, j)


def attacked(names, sizes):
    """Counts of right answers, and all others in words; nothing about the module or its data may change."""
    count, wrong = Counter(), []
    for name in names:
        for n in sizes:
            net, x = made(name, n)
            j, before, data = by_backward(net, x), copy.deepcopy(net.state_dict()), [t.clone() for t in x]
            for function, call in calls(net, x, j):
                try:
                    found, want = call()
                    same = torch.allclose(found, want, rtol=1e-6, atol=1e-7 * float(want.abs().max()) + 1e-9)
                    said = "right" if same else f"off by {float((found - want).norm() / want.norm()):.2g}"
                except Exception as error:
                    said = f"{type(error).__name__}: {str(error).splitlines()[0]}"
                count["right" if said == "right" else "wrong"] += 1
                if said != "right":
                    wrong.append(f"{name}, {function}, n = {n}: {said}")
                assert all(torch.equal(t, before[key]) for key, t in net.state_dict().items()), (name, function)
                assert all(map(torch.equal, x, data)), (name, function)
    print(f"{len(names)} modules, {dict(count)}")
    return wrong


@pytest.mark.parametrize("name", FAST)
def test_the_worst_modules(name):
    assert not attacked([name], (3,))


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_all_modules(part):
    assert not attacked(sorted(ATTACKED)[part::PARTS], (1, 2, 3))


RANDOM = {
    "dropout": lambda h, w: nn.functional.dropout(h * w, 0.3),
    "stochastic depth": lambda h, w: h * (torch.rand(len(h), 1) > 1e-3),
    "noise of its own generator": lambda h, w, g=torch.Generator(): h + torch.randn(6, generator=g),
}


@pytest.mark.parametrize("name", RANDOM)
@pytest.mark.parametrize("call", [jacobian, lambda net, x: gramian.linearize(net)(x)], ids=["jacobian", "linearize"])
def test_random_outputs_have_neither_a_jacobian_nor_a_linearization(name, call):
    net, x = Of(RANDOM[name]), torch.randn(3, 4)
    net(x)
    with pytest.raises(BadArgument, match=r"(?s)output is random.*where.*why.*fix"):
        call(net, x)


def test_an_infinite_slope_is_refused_by_every_function():
    """nan_to_num hides it in the outputs."""
    net, x = Of(lambda h, w: torch.nan_to_num(torch.where(h > 0, h, torch.nan) ** 0.5 * w)), torch.randn(3, 4)
    with torch.no_grad():
        net(x)
    for name, call in calls(net, (x,), torch.ones(3, 2, sum(p.numel() for p in net.parameters()))):
        with pytest.raises(BadData, match=r"(?s)NaN or infinite.*where.*why.*fix"):
            call()
        assert name


def test_gradients_by_frequency_have_no_linearization():
    net = nn.Sequential(nn.Embedding(7, 4, scale_grad_by_freq=True), nn.Flatten(), nn.Linear(12, 2))
    with pytest.raises(BadArgument, match="divided by how often"):
        gramian.linearize(net)


class Late(nn.Module):
    """Writes into its weight for a sample that comes later."""

    def __init__(self, write):
        super().__init__()
        self.a, self.b, self.write = nn.Linear(4, 5), nn.Linear(5, 2), write

    def forward(self, x):
        if bool((x > 1.5).any()):
            with torch.no_grad():
                self.write(self.a.weight)
        return self.b(torch.tanh(self.a(x)))


def _replaced(w):
    w.data = torch.zeros_like(w)


WRITES = {
    "in place": lambda w: w.clamp_(-0.1, 0.1),
    "through data": lambda w: w.data.mul_(0.5),
    "through numpy": lambda w: w.numpy(force=True).fill(0.0),
    "other data": _replaced,
}


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("size", [MOST_COPIED_BYTES, 0], ids=["copied", "too large for a copy"])
def test_a_parameter_that_is_written_into_late_is_put_back(write, size):
    net, x = Late(WRITES[write]), torch.randn(6, 4).clamp(-1, 1)
    x[4, 2] = 2.0
    for measure in (
        lambda: gramian.empirical_ntk(net, x),
        lambda: jacobian(net, x),
        lambda: gramian.EmpiricalNTK(net, x) @ torch.ones(12),
        lambda: gramian.projected_gradients(net, x, Sketch(4)),
    ):

        def call(measure=measure):
            if size:
                return measure()
            with untouched(net, most=0):  # inside of it the module is lent already
                return measure()

        own, before = net.a.weight, net.a.weight.detach().clone()
        if size:
            with pytest.raises(GramianError, match=r"(?s)wrote into the module's parameter `a\.weight`.*put back"):
                call()
            assert torch.equal(net.a.weight, before)
        elif write == "in place":
            with pytest.raises(GramianError, match=r"(?s)wrote into.*this change stays"):
                call()
        assert net.a.weight is own
