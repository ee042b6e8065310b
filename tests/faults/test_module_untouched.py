"""The user's module and data are afterwards what they were, bit for bit and object for object, in every function."""

import copy
import signal
from contextlib import suppress

import pytest
import torch
from lent_modules import LENT, Repeated, mlp
from torch import nn
from zoo import ZOO, inputs, make

import gramian
from gramian.arch.inputs import leaves
from gramian.empirical import Sketch, jacobian, quadratic
from gramian.errors import GramianError

pytestmark = pytest.mark.filterwarnings("ignore")


def outputs_of(module, x):
    """Of a copy that shares nothing; None where it cannot be had."""
    with torch.no_grad():
        try:
            few = copy.deepcopy(x)
            made = copy.deepcopy(module).eval()
            out = made(**few) if isinstance(few, dict) else made(*few) if isinstance(few, tuple) else made(few)
        except Exception:
            return None
    return out["logits"] if isinstance(out, dict) else out


def targets(module, x):
    out = outputs_of(module, x)
    return torch.randn(len(leaves(x)[0]), 2) if out is None else torch.randn(out.shape)


def trained(module):
    return torch.optim.SGD(module.parameters(), lr=0.01)


def linearized(model, x):
    out = model(**x) if isinstance(x, dict) else model(*x) if isinstance(x, tuple) else model(x)
    out.square().sum().backward()


def logits(out):
    return out["logits"] if isinstance(out, dict) else out


def products(module, x):
    theta = gramian.EmpiricalNTK(module, x, outputs=logits) if isinstance(x, dict) else gramian.EmpiricalNTK(module, x)
    theta @ torch.ones(theta.shape[1])


def steps(module, x, y):
    """The monitor at its construction, and when it is asked; the steps themselves are the user's."""
    monitor = gramian.Monitor(module, trained(module), nn.MSELoss(), x, y, rows=4)
    monitor.answer()
    monitor.close()


def certified(module, x, y):
    """On random weights of its own architecture."""
    gramian.certify(module, x, y, parametrization="ntk", width=8, steps=2, progress=False)


FUNCTIONS = {
    "empirical_ntk": lambda m, x, y: gramian.empirical_ntk(m, x, outputs=logits if isinstance(x, dict) else "full"),
    "EmpiricalNTK": lambda m, x, y: products(m, x),
    "GaussNewton": lambda m, x, y: (g := gramian.GaussNewton(m, x)) @ torch.ones(g.shape[1]),
    "jacobian": lambda m, x, y: jacobian(m, x),
    "projected_gradients": lambda m, x, y: gramian.projected_gradients(m, x, Sketch(4)),
    "linearize": lambda m, x, y: linearized(gramian.linearize(m), x),
    "quadratic": lambda m, x, y: linearized(quadratic(m), x),
    "monte_carlo": lambda m, x, y: gramian.monte_carlo(m, x, draws=2),
    "suggest": lambda m, x, y: gramian.suggest(m, (x, y), nn.MSELoss(), "sgd", rehearse=3, budget=3),
    "Monitor": steps,
    "architecture": lambda m, x, y: gramian.architecture(m, x),
    "certify": certified,
}
FAST = ("empirical_ntk", "EmpiricalNTK", "projected_gradients", "linearize", "suggest")


class Before:
    """Everything about a module and its data, to be compared with what it is afterwards."""

    def __init__(self, module, *data):
        self.module, self.data, self.copies = module, data, copy.deepcopy(data)
        self.tensors = [(n, t, self.numbers(t), t.requires_grad, t.grad, self.numbers(t.grad)) for n, t in self.all()]
        self.hooks = [(t, dict(t._backward_hooks or {})) for _, t in self.all()]
        self.parts = [(m, type(m), m.training, set(vars(m)), self.held(m)) for m in self.everything()]
        self.random = torch.get_rng_state()

    def everything(self):
        hidden = [m for part in self.module.modules() for m in vars(part).get("norms", [])]
        return [*self.module.modules(), *hidden]

    def all(self):
        named = list(self.module.named_parameters(remove_duplicate=False))
        return [*named, *self.module.named_buffers(remove_duplicate=False)]

    @staticmethod
    def numbers(t):
        return None if t is None or torch.nn.parameter.is_lazy(t) else t.detach().clone()

    @staticmethod
    def held(part):
        plain = {k: v for k, v in vars(part).items() if isinstance(v, int | float | str | list | dict)}
        return {k: copy.copy(v) for k, v in plain.items() if not isinstance(part, torch.jit.ScriptModule)}

    def check(self):
        now = self.all()
        assert [name for name, _ in now] == [name for name, *_ in self.tensors]
        for (name, t), (_, own, numbers, wanted, grad, of_grad) in zip(now, self.tensors, strict=True):
            assert t is own, name
            assert t.requires_grad == wanted, name
            assert t.is_leaf, name
            assert t.grad is grad, name
            assert grad is None or torch.equal(grad, of_grad), name
            assert numbers is None or torch.equal(t, numbers), name
        for t, hooks in self.hooks:
            assert dict(t._backward_hooks or {}) == hooks
        parts = self.everything()
        assert len(parts) == len(self.parts)
        for part, (own, kind, mode, keys, held) in zip(parts, self.parts, strict=True):
            assert part is own
            assert type(part) is kind
            assert part.training == mode
            assert set(vars(part)) == keys
            for key, value in held.items():
                now = vars(part)[key]
                same = value is now or (len(value) == len(now) if hasattr(value, "__len__") else value == now)
                assert same, key
                if isinstance(value, dict):
                    assert all(now.get(k) is v for k, v in value.items()), key
        for given, kept in zip(self.data, self.copies, strict=True):
            for a, b in zip(leaves(given), leaves(kept), strict=True):
                assert torch.equal(a, b)


def run(function, module, x):
    """The error, if there was one. It is no matter here, but for tracebacks in place of a refusal."""
    y = targets(module, x)
    before = Before(module, x, y)
    error = None
    try:
        FUNCTIONS[function](module, x, y)
    except Exception as caught:
        error = caught
    before.check()
    return error


def lent(name):
    build, x = LENT[name]
    return build(), x()


@pytest.mark.parametrize("name", LENT)
def test_modules_that_are_easily_changed_stay_as_they_were(name):
    for function in FAST:
        error = run(function, *lent(name))
        assert error is None or isinstance(error, GramianError), (function, error)


@pytest.mark.slow
@pytest.mark.parametrize("function", FUNCTIONS)
def test_every_function_leaves_every_module_as_it_was(function):
    count = 0
    for name in LENT:
        error = run(function, *lent(name))
        assert error is None or isinstance(error, GramianError), (name, error)
        count += 1
    for name in ZOO:
        net, shape = make(name)
        run(function, net, inputs(4, shape))
        count += 1
    print(f"{function}: {count} modules")


@pytest.mark.parametrize("function", ["EmpiricalNTK", "projected_gradients", "suggest"])
def test_a_block_that_is_registered_three_times_stays_the_users(function):
    net, x = Repeated(), torch.randn(64, 4)
    mine = net.blocks[0][0].weight
    assert run(function, net, x) is None
    assert net.blocks[0][0].weight is mine
    assert net.blocks[2][0].weight is mine


class Failing(nn.Module):
    """Fails, or is interrupted, at its third call, half-way through its own changes."""

    def __init__(self, error):
        super().__init__()
        self.a, self.b, self.calls, self.error = nn.Linear(4, 4), nn.Linear(4, 2), 0, error
        self.box = {"n": 0}

    def forward(self, x):
        self.box["n"] = COUNT["calls"] = COUNT["calls"] + 1
        self.a.weight.data.add_(1)
        self.b.weight, self.c = self.a.weight, x
        self.b.eval()
        x.zero_()
        if COUNT["calls"] > 2:
            if self.error is KeyboardInterrupt:
                signal.raise_signal(signal.SIGINT)
            raise self.error("in the forward")
        return self.b(self.a(x))


COUNT = {"calls": 0}


@pytest.mark.parametrize("error", [ValueError, RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("function", ["empirical_ntk", "EmpiricalNTK", "suggest", "linearize", "Monitor"])
def test_an_error_or_an_interrupt_in_the_forward_changes_nothing(function, error):
    COUNT["calls"] = 0
    net, x = Failing(error), torch.randn(4, 4)
    before = Before(net, x)
    with suppress(Exception, KeyboardInterrupt):
        FUNCTIONS[function](net, x, torch.randn(4, 2))
    before.check()


def test_random_numbers_of_the_caller_go_on_as_they_were():
    net, x = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5), nn.Linear(4, 2)), torch.randn(4, 4)
    state = torch.get_rng_state()
    with pytest.raises(GramianError):
        gramian.empirical_ntk(net, x)
    gramian.suggest(net, (x, torch.randn(4, 2, generator=torch.Generator())), nn.MSELoss(), "sgd", rehearse=0)
    assert torch.equal(torch.get_rng_state(), state)


def test_training_still_changes_what_it_should():
    net, x, y = mlp(), torch.randn(8, 4), torch.randn(8, 2)
    first = net[0].weight
    before, data = first.detach().clone(), x.clone()
    gramian.train(net, x, y, lr=0.01, steps=3, probes=())
    assert net[0].weight is first
    assert not torch.equal(first, before)
    assert torch.equal(x, data)
