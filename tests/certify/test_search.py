"""A search for a run that satisfies all premises of a statement and violates its conclusion: there must be none.

Points are drawn at random and then bred: of each theorem and kind of network the runs are kept that come closest to a
contradiction (few premises missing, little room left in the conclusion), and their numbers are changed by a little.
"""

import math
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from gramian.certify import CONTRADICTED, IMPLIED, UP_TO_CONSTANTS, Evidence, certificates, certify
from gramian.certify.network_form import network_facts
from gramian.certify.setup import setup
from gramian.certify.theorems import du2019global
from gramian.data import geometry
from gramian.gram import eigenvalues
from gramian.network.zoo import DuResNet
from gramian.train import train
from gramian.train.theorem_networks import second_moment_inverse

PROBES = (
    "loss", "gradient_over_loss", "gram_min", "gram_max", "kernel_drift", "kernel_entry_drift", "distance",
    "spectral_distance", "update_error", "step_remainder",
)  # fmt: skip
SMOOTH = {
    "tanh": torch.tanh, "softplus": nn.functional.softplus, "erf": torch.erf, "sin": torch.sin,
    "sigmoid": torch.sigmoid, "gelu": nn.functional.gelu, "silu": nn.functional.silu,
}  # fmt: skip
OTHERS = {
    "clamp": lambda h: h.clamp(min=0), "relu": torch.relu, "hardtanh": nn.functional.hardtanh,
    "square": lambda h: h * h, "selu": nn.functional.selu, "abs": torch.abs, "linear": lambda h: h,
}  # fmt: skip
ACTIVATIONS = SMOOTH | OTHERS


@dataclass(frozen=True)
class Point:
    """One run: what is drawn, and what breeding changes."""

    kind: str
    activation: str
    seed: int
    n: int
    features: int
    outputs: int
    hidden: int
    biases: bool
    width: float  # log2
    label: float  # log10 of their size
    lr: float  # log10, relative to 2 / lambda_max, or to what the theorem asks for
    steps: int
    spread: float  # of the inputs around one of them: log10
    scale: float  # log10 of a factor on the initial weights
    single: bool  # float32
    optimizer: str = "gd"


KINDS = (
    "own",
    "abs",
    "signs",
    "pre-activation",
    "du",
    "du residual",
    "allen-zhu",
    "small allen-zhu",
    "still allen-zhu",
)


def draw(rng: np.random.Generator, kind: str) -> Point:
    theirs, still = kind.startswith("du"), kind.startswith("still")
    n = int(rng.choice([1, 1, 2]) if theirs else rng.integers(1, 5))
    n = 1 if still else n
    names = list(SMOOTH) if theirs and rng.random() < 0.8 else list(ACTIVATIONS)
    return Point(
        kind=kind, activation=str(rng.choice(names)), seed=int(rng.integers(1000)), n=n,
        features=int(rng.integers(1, 5)) + (n > 1), outputs=int(1 if theirs else rng.choice([1, 1, 2, 3])),
        hidden=int(rng.choice([1, 1, 2])), biases=bool(rng.random() < (0.1 if theirs else 0.4)),
        width=float(rng.uniform(0, 1) if theirs else rng.uniform(0.5, 7)),
        label=float(rng.uniform(-2, 0.1) if rng.random() < 0.7 else rng.uniform(0, 4)),
        lr=float(rng.uniform(-0.7, 0.1) if rng.random() < 0.6 else rng.uniform(-4, 0.4)),
        steps=int(rng.integers(1, 12)), spread=float(rng.uniform(-3, 0.5)), scale=float(rng.normal(0, 0.3)),
        single=bool(rng.random() < 0.3),
        optimizer=str(rng.choice(["gd", "gd", "gd", "gd", "sgd"])),
    )  # fmt: skip


def bred(rng: np.random.Generator, point: Point) -> Point:
    changes = {
        "width": point.width + rng.normal(0, 0.4), "label": point.label + rng.normal(0, 0.3),
        "lr": point.lr + rng.normal(0, 0.15), "scale": point.scale + rng.normal(0, 0.15),
        "spread": point.spread + rng.normal(0, 0.3), "seed": int(rng.integers(1000)),
        "steps": max(1, point.steps + int(rng.integers(-2, 3))), "single": bool(rng.random() < 0.3),
        "activation": str(rng.choice(list(ACTIVATIONS))), "outputs": int(rng.choice([1, 2])),
    }  # fmt: skip
    keep = rng.choice(list(changes), size=int(rng.integers(1, 5)), replace=False)
    return replace(point, **{name: changes[name] for name in keep})


class Act(nn.Module):
    def __init__(self, name):
        super().__init__()
        self.name = name

    def forward(self, h):
        return ACTIVATIONS[self.name](h)


class Abs(nn.Module):
    """sum_r |w_r x| / sqrt(m), as two rectified halves; the readout is fixed, the outputs are never negative."""

    def __init__(self, features, width, outputs):
        super().__init__()
        self.first, self.outputs = nn.Linear(features, width, bias=False), outputs
        nn.init.normal_(self.first.weight)
        self.last = nn.Linear(width, outputs, bias=False)
        nn.init.constant_(self.last.weight, 1 / math.sqrt(width))
        self.last.requires_grad_(False)

    def forward(self, x):
        return self.last(self.first(x).abs())


class Residual(nn.Module):
    """h + W2 phi(W1 phi(h)): pre-activation order, which is not the residual network of Du et al."""

    def __init__(self, features, width, outputs, name):
        super().__init__()
        self.first, self.last = nn.Linear(features, width, bias=False), nn.Linear(width, outputs, bias=False)
        self.inner = nn.Linear(width, width, bias=False)
        self.name = name

    def forward(self, x):
        h = self.first(x)
        return self.last(h + self.inner(ACTIVATIONS[self.name](h)))


def module_of(p: Point, width: int) -> nn.Module:
    """The module of a point, with weights of its own."""
    torch.manual_seed(p.seed)
    if p.kind == "abs":
        return Abs(p.features, width, p.outputs)
    if p.kind == "pre-activation":
        return Residual(p.features, width, p.outputs, p.activation)
    if p.kind == "du residual":
        return DuResNet((p.features,), p.outputs, depth=3, width=width, bias=p.biases, c_res=0.99)
    if p.kind.endswith("allen-zhu"):
        return nn.Sequential(nn.Linear(p.features, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, p.outputs))
    sizes = [p.features, *[width] * p.hidden, p.outputs]
    layers: list[nn.Module] = []
    for a, b in pairwise(sizes):
        layers += [nn.Linear(a, b, bias=p.biases), Act(p.activation)]
    net = nn.Sequential(*layers[:-1])
    if p.kind == "signs":
        nn.init.normal_(net[0].weight)
        with torch.no_grad():
            net[-1].weight.copy_(torch.sign(torch.randn_like(net[-1].weight)) / math.sqrt(width))
        net[-1].requires_grad_(False)
    with torch.no_grad():
        for q in net.parameters():
            q *= 10**p.scale if q.requires_grad else 1
    return net


def data_of(p: Point) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of norm root d around one of them, and labels with either sign."""
    generator = torch.Generator().manual_seed(p.seed + 1)
    base = torch.randn(1, p.features, generator=generator, dtype=torch.float64)
    x = base + 10**p.spread * torch.randn(p.n, p.features, generator=generator, dtype=torch.float64)
    x = x / x.norm(dim=1, keepdim=True) * math.sqrt(p.features)
    y = torch.randn(p.n, p.outputs, generator=generator, dtype=torch.float64)
    return x, y / y.norm(dim=1).max() * 10**p.label


def du_law(p: Point) -> dict:
    """sqrt(c_sigma) after each activation, 1 on the input and in the residual network."""
    if p.kind == "du residual":
        return {"*": (1.0, 0.0)}
    c = second_moment_inverse(ACTIVATIONS[p.activation]) if p.activation in SMOOTH else 1.0
    return {"0": (1.0, 0.3 * p.biases), "*": (math.sqrt(c), 0.3 * p.biases)}


@dataclass
class Made:
    """What a point becomes: module, data, and the keywords of `certify`."""

    module: nn.Module
    x: torch.Tensor
    y: torch.Tensor
    parametrization: str
    law: object
    width: int
    lr: float
    dtype: torch.dtype
    more: dict = field(default_factory=dict)


def made(p: Point) -> Made | None:
    """A point in numbers; None where its width would take too long."""
    x, y = data_of(p)
    dtype = torch.float32 if p.single else torch.float64
    width = max(1, round(2**p.width))
    if p.kind.endswith("allen-zhu"):
        if p.kind.startswith("small"):
            width = max(1, round(2 ** (p.width / 2)))
        elif p.n <= 2:
            width = 160 + 8 * width if p.kind.startswith("still") else 16 * width
        lr = 10 ** (2 * p.lr - p.kind.startswith("still")) * p.outputs / (width * p.n)
        return Made(module_of(p, width), x, y, "allen-zhu", None, width, lr, dtype)
    if not p.kind.startswith("du"):
        net = module_of(p, width)
        return Made(net, x, y, "own", None, width, 10**p.lr, dtype)
    net, law = module_of(p, 8), du_law(p)
    found = setup(net, x, x[:0], law, "ntk", torch.float64, "cpu")
    lam = last_layer(found)
    asked = du2019global.width(p.n, found.depth, lam, found.family)
    width = math.ceil(asked * 2 ** (p.width - 0.3)) if asked < 1e6 else 64
    square = found.depth > 1
    if width > (1500 if square else 50_000):
        return None
    lr = du2019global.largest_lr(p.n, found.depth, lam, found.family) * 10 ** min(p.lr, 0.2)
    return Made(net, x, y, "ntk", law, width, max(lr, 1e-12), dtype)


def last_layer(found) -> float:
    hidden = [s.op for n, s in enumerate(found.arch.steps) if s.op in found.arch.affine and found.arch.hidden(n)]
    return float(eigenvalues(found.arch.training({hidden[-1].weight_name}).ntk(found.x))[0])


def evidence_of(p: Point, m: Made) -> Evidence:
    """The run of a point, by `train`, and what `certify` would make of it: only what theorems look at is measured."""
    found = setup(m.module, m.x, m.x[:0], m.law, m.parametrization, m.dtype, "cpu")
    network = found.build(m.width, p.seed)
    x, y = found.x.to(m.dtype), m.y.to(m.dtype)
    with torch.no_grad():
        r0 = network(x).double().reshape(m.y.shape) - m.y
    lr, parametrization = m.lr, m.parametrization
    if parametrization == "own":  # relative to the largest stable rate
        trial = train(network, x, y, lr=1.0, steps=0, probes=("gram_max",))
        series = trial.measured.get("gram_max")
        largest = float(series.values[0]) if series is not None else 1.0
        lr = 2 * m.lr / largest if largest > 0 else m.lr
    batch = max(1, p.n - 1) if p.optimizer == "sgd" else None
    trace = train(network, x, y, optimizer=p.optimizer, lr=lr, steps=p.steps, batch_size=batch, seed=p.seed,
                  probes=probes(network, x), every=1)  # fmt: skip
    kernel = None if found.kernel is None else found.kernel(m.width, found.x, None)
    lam = None if kernel is None else eigenvalues(kernel)
    gram = parametrization == "ntk" and found.family != "convolutional" and found.depth > 0
    eps = torch.finfo(m.dtype).eps
    wanted = 1.0 if found.paper else math.sqrt(p.features)
    fields = network_facts(found.arch, network, found.x, found.paper, found.initialization)
    return Evidence(
        n=p.n, in_features=p.features, n_outputs=p.outputs, separation=geometry(found.x).separation,
        norm_error=float((found.x.norm(dim=1) / wanted - 1).abs().max()), label_norm=float(m.y.norm(dim=1).max()),
        family=found.family, depth=found.depth, width=m.width if parametrization != "own" else found.own_width,
        pixels=1, window=1, initialization=found.initialization, paper_initialization=found.paper,
        lambda_min=None if lam is None else float(lam[0]), lambda_max=None if lam is None else float(lam[-1]),
        lambda_last=last_layer(found) if gram else None, gram_rows=p.n, gram_error=0.1,
        unit=found.unit(m.width, p.outputs), stretch=found.stretch(m.width), loss="squared", optimizer=p.optimizer,
        batch_size=batch or p.n, lr=lr, accuracy=0.01, accuracy_steps=reached(trace), predicted_error=None,
        test_gap=None, trace=trace, independent_batches=p.optimizer != "sgd",
        resolution=64 * eps * float(m.y.norm() + r0.norm()), **fields,
    )  # fmt: skip


def probes(network, x) -> tuple[str, ...]:
    """What is to be measured: where all units are dead the Gram matrix is zero, and of samples its diagonal may be."""
    moving = [q for q in network.parameters() if q.requires_grad]
    seen = [any(bool((g != 0).any()) for g in torch.autograd.grad(network(row[None]).sum(), moving)) for row in x]
    without = set() if all(seen) else {"kernel_entry_drift"}
    without |= set() if any(seen) else {"kernel_drift"}
    return tuple(name for name in PROBES if name not in without)


def reached(trace) -> int | None:
    series = trace.measured.get("loss")
    pairs = zip(series.steps, series.values, strict=True) if series is not None else ()
    return next((t for t, loss in pairs if loss <= 0.01 * series.values[0]), None)


def distance(certificate) -> float:
    """How far a certificate is from a contradiction: missing premises, then the room left in its conclusion."""
    missing = sum(lack(c) for c in certificate.premises if not c.holds)
    telling = [c for c in certificate.conclusion if not c.vacuous]
    return 3 * missing + max(min((room(c) for c in telling), default=3.0), -1.0)


def lack(c) -> float:
    numbers = isinstance(c.has, float) and isinstance(c.needs, float) and c.has > 0 and c.needs > 0
    return min(1.0, 0.05 + abs(math.log10(c.has / c.needs)) / 3) if numbers and math.isfinite(c.needs) else 1.0


def room(c) -> float:
    if not isinstance(c.has, float) or not isinstance(c.needs, float):
        return 1.0
    if c.sense == ">":
        return math.log10(max(c.has, 1e-3))
    return math.log10(min(max(c.needs, 1e-12), 1e12) / min(max(c.has, 1e-12), 1e12))


def search(count: int, seed: int) -> dict[str, dict[str, int]]:
    """How often each theorem gave each word in so many runs; raises at a contradiction."""
    rng = np.random.default_rng(seed)
    best: dict[tuple[str, str], list[tuple[float, Point]]] = {}
    said: dict[str, dict[str, int]] = {}
    done = 0
    while done < count:
        kind = KINDS[done % len(KINDS)]
        elite = [point for (k, _), kept in best.items() if k == kind for _, point in kept]
        point = bred(rng, elite[rng.integers(len(elite))]) if elite and rng.random() < 0.6 else draw(rng, kind)
        numbers = made(point)
        if numbers is None:
            continue
        done += 1
        for c in certificates(evidence_of(point, numbers)):
            said.setdefault(c.theorem.split(" network")[0], {}).setdefault(c.status, 0)
            said[c.theorem.split(" network")[0]][c.status] += 1
            assert c.status != CONTRADICTED, f"{point}\n{c}"
            if c.status in (IMPLIED, UP_TO_CONSTANTS):
                assert not any(part.holds is False for part in c.conclusion), f"{point}\n{c}"
            kept = best.setdefault((kind, c.theorem), [])
            kept.append((distance(c), point))
            kept.sort(key=lambda pair: pair[0])
            del kept[3:]
    return said


def test_no_run_of_a_few_contradicts_a_theorem():
    said = search(16, seed=1)
    assert any(words.get(IMPLIED) for words in said.values())


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_no_run_contradicts_a_theorem(seed):
    said = search(300, seed)
    print(f"\n300 runs, seed {seed}")
    for theorem, words in said.items():
        print(f"  {theorem}: {words}")
    # not for want of runs that meet the premises
    assert sum(words.get(IMPLIED, 0) for words in said.values()) >= 20
    assert sum(words.get(UP_TO_CONSTANTS, 0) for words in said.values()) >= 20


@pytest.mark.slow
def test_no_run_through_certify_contradicts_a_theorem():
    """The same points through the door that users take."""
    rng, done = np.random.default_rng(3), 0
    while done < 24:
        point = draw(rng, KINDS[done % len(KINDS)])
        m = made(point)
        if m is None or m.width > 4096:
            continue
        done += 1
        one = certify(
            m.module.to(m.dtype), m.x, m.y, law=m.law, parametrization=m.parametrization, width=m.width, lr=m.lr,
            optimizer=point.optimizer, batch_size=1 if point.optimizer == "sgd" else None, steps=point.steps,
            dtype=m.dtype, seed=point.seed,
        )  # fmt: skip
        assert CONTRADICTED not in {c.status for c in one}, point
    print(f"\n{done} runs through certify")
