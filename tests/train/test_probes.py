"""Each probe against a small explicit computation, and all of them against the contract."""

import importlib
import inspect
import math
import pkgutil
import re
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.func import functional_call, jacrev

from gramian.monitor.log import SINCE_THE_START
from gramian.train import PROBES, AllenZhuNetwork, Reading, SemiSmoothness, probes, train
from gramian.train.probes.activation_norms import smallest_distance
from gramian.train.probes.distance import spectral_norm
from gramian.train.schedule import gram_steps

N, D, C, STEPS = 9, 5, 3, 12


def explicit(net, x):
    """Outputs (n, C) and Jacobian (n C, p) by plain reverse mode, one output after another."""
    parameters = {k: p.detach() for k, p in net.named_parameters()}
    jacobians = jacrev(lambda p: functional_call(net, p, (x,)))(parameters)
    return net(x).detach(), torch.cat([j.reshape(len(x) * C, -1) for j in jacobians.values()], 1)


@pytest.fixture(scope="module")
def ran():
    """A small run, measured at each step, and the network as it was at each step, found again by hand."""
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    x, labels = torch.randn(N, D), torch.arange(N) % C
    net = nn.Sequential(nn.Linear(D, 7), nn.ReLU(), nn.Linear(7, 6), nn.Tanh(), nn.Linear(6, C))
    lr, nets = 0.05, []
    twin = nn.Sequential(nn.Linear(D, 7), nn.ReLU(), nn.Linear(7, 6), nn.Tanh(), nn.Linear(6, C))
    twin.load_state_dict(net.state_dict())
    y = torch.eye(C)[labels] - 1 / C
    for _ in range(STEPS + 1):
        nets.append({k: v.clone() for k, v in twin.state_dict().items()})
        loss = (twin(x) - y).square().sum() / 2
        gradients = torch.autograd.grad(loss, list(twin.parameters()))
        with torch.no_grad():
            for p, g in zip(twin.parameters(), gradients, strict=True):
                p -= lr * g
    test = torch.randn(4, D), torch.tensor([0, 1, 2, 0])
    trace = train(net, x, labels, x_test=test[0], y_test=test[1], lr=lr, steps=STEPS, every=1)

    def at(step):
        twin.load_state_dict(nets[step])
        return twin

    return SimpleNamespace(trace=trace, at=at, x=x, y=y, labels=labels, test=test, nets=nets)


def value(ran, name, step):
    series = ran.trace.measured[name]
    return series.values[series.steps.index(step)]


def loss_and_gradient(ran, step):
    net = ran.at(step)
    loss = (net(ran.x) - ran.y).square().sum() / 2
    return loss.item(), dict(zip(ran.nets[0], torch.autograd.grad(loss, list(net.parameters())), strict=True))


@pytest.mark.parametrize("step", [0, 5, STEPS])
def test_loss_and_accuracy(ran, step):
    with torch.no_grad():
        f, f_test = ran.at(step)(ran.x), ran.at(step)(ran.test[0])
    y_test = torch.eye(C)[ran.test[1]] - 1 / C
    assert value(ran, "loss", step) == pytest.approx(float((f - ran.y).square().sum() / 2), rel=1e-10)
    assert value(ran, "test_loss", step) == pytest.approx(float((f_test - y_test).square().sum() / 2), rel=1e-10)
    assert value(ran, "train_accuracy", step) == pytest.approx(float((f.argmax(1) == ran.labels).double().mean()))
    assert value(ran, "test_accuracy", step) == pytest.approx(float((f_test.argmax(1) == ran.test[1]).double().mean()))
    assert ran.trace.losses[step] == pytest.approx(value(ran, "loss", step), rel=1e-12)


@pytest.mark.parametrize("step", [0, STEPS])
def test_gradient_over_loss_lies_between_the_extreme_eigenvalues(ran, step):
    loss, gradient = loss_and_gradient(ran, step)
    _, j = explicit(ran.at(step), ran.x)
    lam = torch.linalg.eigvalsh(j @ j.T)
    series = ran.trace.measured["gradient_over_loss"]
    i = series.steps.index(step)
    assert series.values[i] == pytest.approx(float(sum(g.square().sum() for g in gradient.values())) / loss, rel=1e-9)
    assert series.lower[i] == pytest.approx(2 * float(lam[0]), rel=1e-6)
    assert series.upper[i] == pytest.approx(2 * float(lam[-1]), rel=1e-9)
    layers = value(ran, "layer_gradient_over_loss", step)
    assert layers == pytest.approx({k: float(g.square().sum()) / loss for k, g in gradient.items()}, rel=1e-9)
    assert sum(layers.values()) == pytest.approx(series.values[i], rel=1e-12)


def test_the_bounds_hold_wherever_they_are_given(ran):
    series = ran.trace.measured["gradient_over_loss"]
    bounded = [i for i, low in enumerate(series.lower) if low is not None]
    assert len(bounded) == 12
    for i in bounded:
        assert series.lower[i] <= series.values[i] <= series.upper[i]


def test_a_subsample_has_bounds_of_its_own():
    x, y = torch.randn(30, D), torch.randn(30, 2)
    net = nn.Sequential(nn.Linear(D, 40), nn.ReLU(), nn.Linear(40, 2))
    trace = train(net, x, y, steps=200, gram_rows=10)
    assert trace.measured["gradient_over_loss"].lower is None
    series = trace.measured["sample_gradient_over_loss"]
    assert len(series.steps) <= 12
    for low, ratio, high in zip(series.lower, series.values, series.upper, strict=True):
        assert 0 < low <= ratio <= high


@pytest.mark.parametrize("step", [0, STEPS])
def test_gram_eigenvalues_drift_and_alignment(ran, step):
    def gram(at):
        _, j = explicit(ran.at(at), ran.x)
        return torch.einsum("icp,jcp->ij", *2 * (j.reshape(N, C, -1),)) / C

    k, k0, yy = gram(step), gram(0), ran.y @ ran.y.T
    lam = torch.linalg.eigvalsh(k)
    assert value(ran, "gram_min", step) == pytest.approx(float(lam[0]), rel=1e-7)
    assert value(ran, "gram_max", step) == pytest.approx(float(lam[-1]), rel=1e-10)
    assert value(ran, "kernel_drift", step) == pytest.approx(float((k - k0).norm() / k0.norm()), rel=1e-8, abs=1e-12)
    aligned = float((k * yy).sum() / (k.norm() * yy.norm()))
    assert value(ran, "kernel_alignment", step) == pytest.approx(aligned, rel=1e-10)


@pytest.mark.parametrize("step", [0, 1, STEPS])
def test_distances(ran, step):
    moved = {k: ran.nets[step][k] - w for k, w in ran.nets[0].items()}
    frobenius = {k: float(w.norm()) for k, w in moved.items()}
    assert value(ran, "distance", step) == pytest.approx(frobenius, rel=1e-9, abs=1e-14)
    relative = {k: d / float(ran.nets[0][k].norm()) for k, d in frobenius.items()}
    assert value(ran, "relative_distance", step) == pytest.approx(relative, rel=1e-9, abs=1e-14)
    spectral = {k: float(torch.linalg.matrix_norm(w, 2)) for k, w in moved.items() if w.ndim == 2}
    assert value(ran, "spectral_distance", step) == pytest.approx(spectral, rel=1e-3, abs=1e-14)


@pytest.mark.parametrize("step", [0, 6, STEPS])
def test_sign_flips(ran, step):
    def signs(at):
        net = ran.at(at)
        with torch.no_grad():
            return {"1": net[0](ran.x) >= 0, "3": net[:3](ran.x) >= 0}

    now, then = signs(step), signs(0)
    assert value(ran, "sign_flips", step) == {k: float((now[k] != then[k]).double().mean()) for k in now}
    assert step != STEPS or any(value(ran, "sign_flips", step).values())  # a run in which none flips would test nothing


def test_semi_smoothness_along_the_step_taken(ran):
    _, j = explicit(ran.at(0), ran.x)
    lam = float(torch.linalg.eigvalsh(j @ j.T)[-1])
    due = gram_steps(tuple(range(STEPS + 1)))  # as costly as a Gram matrix: a dozen steps, none before the first
    assert ran.trace.measured["semi_smoothness"].steps == sorted(due - {0})
    for step in (1, STEPS):
        (before, gradient), (after, _) = loss_and_gradient(ran, step - 1), loss_and_gradient(ran, step)
        change = {k: ran.nets[step][k] - ran.nets[step - 1][k] for k in gradient}
        rest = after - before - float(sum((gradient[k] * w).sum() for k, w in change.items()))
        quadratic = lam / 2 * float(sum(w.square().sum() for w in change.values()))
        assert value(ran, "semi_smoothness", step) == pytest.approx(rest / quadratic, rel=5e-3)


def test_semi_smoothness_of_a_linear_model_is_at_most_one():
    x, y = torch.randn(N, D), torch.randn(N, C)
    for optimizer in ("gd", "sgd", "momentum", "adam"):
        trace = train(nn.Linear(D, C), x, y, optimizer=optimizer, lr=1e-3, batch_size=None, steps=30)
        values = trace.measured["semi_smoothness"].values
        assert all(0 < v <= 1 + 1e-2 for v in values), optimizer


def test_semi_smoothness_with_the_papers_scale():
    net = AllenZhuNetwork(D, 2, depth=2, width=20)
    x, y = torch.randn(4, D), torch.randn(4, 2)
    w0 = [p.detach().clone() for p in net.parameters()]
    loss = (net(x) - y).square().sum() / 2
    gradients = torch.autograd.grad(loss, list(net.hidden.parameters()))
    trace = train(net, x, y, lr=0.01, steps=1, probes=[SemiSmoothness(scale=net.smoothness(4)), "loss"])
    change = [p.detach() - w for p, w in zip(net.parameters(), w0, strict=True) if p.requires_grad]
    rest = trace.losses[1] - trace.losses[0] - float(sum((g * w).sum() for g, w in zip(gradients, change, strict=True)))
    largest = max(float(torch.linalg.matrix_norm(w, 2)) for w in change)
    assert net.smoothness(4) == 4 * 2**2 * 20 / 2
    expected = rest / (4 * 2**2 * 20 / 2 * largest**2)
    assert trace.measured["semi_smoothness"].values == [pytest.approx(expected, rel=1e-3)]


@pytest.mark.parametrize("step", [0, STEPS])
def test_linearization_gap(ran, step):
    f0, j = explicit(ran.at(0), ran.x)
    moved = torch.cat([(ran.nets[step][k] - w).flatten() for k, w in ran.nets[0].items()])
    f = ran.at(step)(ran.x).detach()
    gap = float((f - f0 - (j @ moved).reshape(N, C)).norm() / f.norm())
    assert value(ran, "linearization_gap", step) == pytest.approx(gap, rel=1e-8, abs=1e-14)


def test_a_linear_model_has_no_gap_and_no_drift():
    trace = train(nn.Linear(D, C), torch.randn(N, D), torch.randn(N, C), steps=30)
    assert max(trace.measured["linearization_gap"].values) < 1e-14
    assert max(trace.measured["kernel_drift"].values) == 0


def test_norms_and_separability(ran):
    net = ran.at(0)
    with torch.no_grad():
        h = {"1": net[:2](ran.x), "3": net[:4](ran.x)}
    norms = ran.trace.measured["forward_norms"]
    assert norms.steps == [0]
    assert norms.lower[0] == pytest.approx({k: float(v.norm(dim=1).min()) for k, v in h.items()})
    assert norms.values[0] == pytest.approx({k: float(v.norm(dim=1).mean()) for k, v in h.items()})
    assert norms.upper[0] == pytest.approx({k: float(v.norm(dim=1).max()) for k, v in h.items()})
    apart = {k: float(torch.pdist(v / v.norm(dim=1, keepdim=True)).min()) for k, v in h.items()}
    assert value(ran, "separability", 0) == pytest.approx(apart)


def test_smallest_distance_keeps_its_digits_for_near_duplicates():
    h = torch.eye(4)
    h[1] = h[0] + torch.tensor([0, 1e-7, 0, 0])
    assert smallest_distance(h) == pytest.approx(1e-7, rel=1e-6)
    assert smallest_distance(torch.zeros(2, 3)) == 0  # dead activations are together


@pytest.mark.parametrize("shape", [(20, 20), (3, 50), (8, 4, 3, 3)])
def test_spectral_norm(shape):
    w = torch.randn(shape)
    exact = float(torch.linalg.matrix_norm(w.flatten(1), 2))
    assert spectral_norm(w) == pytest.approx(exact, rel=1e-2)
    assert spectral_norm(w) <= exact * (1 + 1e-12)
    assert spectral_norm(w * 0) == 0


def test_every_probe_is_registered():
    """And those that compare with the start's weights are known to a monitor that goes on without them."""
    made = []
    for module in pkgutil.iter_modules(probes.__path__, "gramian.train.probes."):
        classes = inspect.getmembers(importlib.import_module(module.name), inspect.isclass)
        made += [c for _, c in classes if c.__module__ == module.name and {"name", "measure"} <= vars(c).keys()]
    known = PROBES | probes.THEOREM_PROBES
    missing = [c.__name__ for c in made if c not in known.values()]
    assert not missing, f"a line in PROBES or THEOREM_PROBES of train/probes/__init__.py for each of {missing}"
    compare = {c.name for c in made if re.search(r"run\.(moved|initial)\b|self\.initial = ", inspect.getsource(c))}
    assert len(compare) >= 6
    assert compare <= SINCE_THE_START, f"SINCE_THE_START of monitor/log.py lacks {compare - SINCE_THE_START}"


def test_the_registry(ran):
    """The contract of a probe."""
    assert set(ran.trace.measured) == set(PROBES) - {"sample_gradient_over_loss"}
    assert ran.trace.config["skipped"] == {
        "sample_gradient_over_loss": "gradient_over_loss has its bounds on all samples"
    }
    for name, probe in PROBES.items():
        assert (probe.name, probe.cost in ("cheap", "gram"), bool(probe.title)) == (name, True, True)
    for name, series in ran.trace.measured.items():
        assert len(series.steps) == len(series.values) <= (12 if PROBES[name].cost == "gram" else STEPS + 1)
        numbers = [n for v in series.values for n in (v.values() if isinstance(v, dict) else [v])]
        assert all(type(n) is float and math.isfinite(n) for n in numbers), name


def test_a_users_own_probe():
    class Largest:
        name, title, unit, cost = "largest", "Largest output", "", "cheap"

        def start(self, run):
            pass

        def measure(self, run):
            f = run.train_outputs()
            return Reading(float(f.mean()), float(f.min()), float(f.max()))

    x, y = torch.randn(N, D), torch.randn(N, C)
    net = nn.Linear(D, C)
    series = train(net, x, y, steps=20, probes=[Largest(), "loss"]).measured["largest"]
    assert series.lower[-1] == pytest.approx(float(net(x).detach().min()))
    assert all(low < mean < high for low, mean, high in zip(series.lower, series.values, series.upper, strict=True))


def test_a_module_without_a_gram_matrix_is_trained_and_the_probe_left_out_says_so():
    class Mixes(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear, self.norm = nn.Linear(D, C), nn.BatchNorm1d(C, track_running_stats=False)

        def forward(self, x):
            return self.norm(self.linear(x))

    trace = train(Mixes(), torch.randn(N, D), torch.randn(N, C), lr=1e-3, steps=5)
    assert len(trace.losses) == 6
    assert {"gram_min", "gram_max", "kernel_drift"} <= set(trace.config["skipped"])
    assert "gradient_over_loss" in trace.measured


def test_minus_one_and_one_are_classes_of_one_output():
    x = torch.randn(N, D)
    y = x[:, :1].sign()
    trace = train(nn.Linear(D, 1), x, y, steps=300)
    assert trace.measured["train_accuracy"].values[-1] == 1.0
    assert "train_accuracy" not in train(nn.Linear(D, 1), x, y * 2, steps=2).measured
