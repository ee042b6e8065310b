"""One number of a certificate changed, and the file sealed anew: it is rejected, or what it then says is true as well.

What is true is found in 200 bits, by code that the checker does not share.
"""

import dataclasses
import math
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import gramian
from gramian.checker import check
from gramian.checker.certificate_file import read, write
from gramian.checker.polyak import POLYAK, polyak_contraction
from gramian.checker.relu_descent import RELU_DESCENT, relu_contraction
from gramian.checker.song2021 import SONG2021, song2021_contraction
from gramian.checker.statements import contraction
from gramian.errors import BadData

sys.path.append(str(Path(__file__).parents[1] / "prove"))
from exact_networks import Network, descent, newton

RATES = {
    "descent": contraction, POLYAK: polyak_contraction, SONG2021: song2021_contraction, RELU_DESCENT: relu_contraction,
}  # fmt: skip
FIELDS = ("inputs", "positions", "weight_scale", "bias_scale", "eps", "shape", "weight", "bias", "function", "offset")


def network(activation):
    return nn.Sequential(nn.Linear(3, 8), activation, nn.Linear(8, 8, bias=False), nn.Tanh(), nn.Linear(8, 2)).double()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """Polished, so that rounding is all that is left; and from a little away, where radii are large."""
    folder = tmp_path_factory.mktemp("tampered")
    torch.manual_seed(0)
    x, y = torch.randn(4, 3).double(), torch.randn(4, 2).double()
    result = []
    for name, activation in (("tanh", nn.Tanh()), ("gelu", nn.GELU()), ("relu", nn.ReLU())):
        for statement in ("minimum", "descent"):
            net = network(activation)
            gramian.prove(net, x, y, in_place=True)
            for away in (0.0, 1e-7):
                with torch.no_grad():
                    for p in net.parameters():
                        p.add_(torch.randn_like(p), alpha=away)
                proof = gramian.prove(net, x, y, statement, polished=False)
                assert proof.status == "proved", str(proof)
                result.append(folder / f"{name} {statement} {away}")
                proof.save(result[-1])
    return [*result, *of_other_theorems(folder, x, y)]


def of_other_theorems(folder, x, y):
    """Descent with the Polyak-Lojasiewicz condition, measured and by the paper's constants, and of ReLU neurons."""
    result = []
    smooth = nn.Sequential(nn.Linear(3, 12), nn.Tanh(), nn.Linear(12, 2)).double()
    relu = nn.Sequential(nn.Linear(3, 40), nn.ReLU(), nn.Linear(40, 2)).double()
    relu[2].requires_grad_(False)
    theorems = {
        POLYAK: lambda y: gramian.bounds.song2021(smooth, x, y),
        SONG2021: lambda y: gramian.bounds.song2021(smooth, x, y, constants="paper"),
        RELU_DESCENT: lambda y: gramian.bounds.relu_descent(relu, x, y),
    }
    for name, theorem in theorems.items():
        net = relu if name == RELU_DESCENT else smooth
        for away in (1e-12, 1e-7):
            proof = theorem(net(x).detach() + away * y)
            assert proof.status == "proved", str(proof)
            result.append(folder / f"{name} {away}")
            proof.save(result[-1])
    return result


def changed_number(value, rng):
    """Another float64: one bit of it, its sign, a factor, or no number."""
    kind = rng.integers(6)
    if kind == 0:
        return rng.choice([np.nan, np.inf, 0.0, -value])
    if kind == 1:
        return value * 10 ** rng.uniform(-3, 3)
    if kind == 2:
        return value * (1 + rng.choice([-1, 1]) * 10 ** rng.uniform(-15, 0))
    bits = np.array([value], dtype=np.float64).view(np.uint64) ^ np.uint64(1 << int(rng.integers(64)))
    return float(bits.view(np.float64)[0])


def tampered(content, rng):
    """The content with one number changed, and where."""
    arrays = {name: array.copy() for name, array in content.program.arrays.items()}
    x, y, numbers, steps = content.x.copy(), content.y.copy(), dict(content.numbers), list(content.program.steps)
    where = str(rng.choice(["claim", "weight", "x", "y", "step"], p=[0.4, 0.25, 0.1, 0.1, 0.15]))
    if where == "claim":
        name = str(rng.choice(sorted(numbers)))
        numbers[name] = float(changed_number(numbers[name], rng))
    elif where == "step":
        at, field = int(rng.integers(len(steps))), str(rng.choice(FIELDS))
        steps[at] = dataclasses.replace(steps[at], **{field: changed_field(getattr(steps[at], field), arrays, rng)})
    else:
        array = {"x": x, "y": y}.get(where)
        if array is None:
            array = arrays[str(rng.choice(sorted(arrays)))]
        flat = array.reshape(-1)
        at = int(rng.integers(flat.size))
        flat[at] = changed_number(float(flat[at]), rng)
    program = dataclasses.replace(content.program, steps=steps, arrays=arrays, matrices={})
    return dataclasses.replace(content, program=program, x=x, y=y, numbers=numbers), where


def changed_field(value, arrays, rng):
    if isinstance(value, tuple):
        return tuple(int(v) + int(rng.integers(-2, 3)) for v in value) or (0,)
    if isinstance(value, str):
        return str(rng.choice(["", "relu", "sin", *sorted(arrays)]))
    if isinstance(value, int):
        return value + int(rng.integers(-2, 3))
    return float(changed_number(value, rng))


def is_true(content):
    """What a program of affine steps and functions claims, in 200 bits."""
    layers, scales, program = [], [], content.program
    for number, step in enumerate(program.steps[1:], 1):
        assert step.inputs == (number - 1,)
        if step.kind == "affine":
            assert step.positions == 1
            layers.append([step.weight, step.bias, ""])
            scales.append((step.weight_scale, step.bias_scale))
        else:
            layers[-1][2] = step.function
    shapes = {name: program.arrays[name].shape for layer in layers for name in layer[:2] if name}
    exact = Network([tuple(layer) for layer in layers], shapes, program.trained, scales)
    start, had = exact.exact(program.arrays), content.numbers
    if content.statement == "minimum":
        there, norm = newton(exact, start, content.x, content.y)
        return norm <= 1e-40 and exact.distance(start, there) <= had["radius"]
    norms, distances = descent(exact, start, content.x, content.y, had["step"], 10)
    slower = 1 - RATES[content.statement](had)
    below = all(norm <= had["residual"] * slower**k * (1 + 1e-9) for k, norm in enumerate(norms))
    return below and max(distances) <= had.get("radius", math.inf)


def counted(certificates, number, folder):
    """How many of so many tampered certificates were rejected, and how many were valid, and true."""
    rng, counts = np.random.default_rng(0), Counter()
    contents = [read(path) for path in certificates]
    for i in range(number):
        content, where = tampered(contents[i % len(contents)], rng)
        write(folder / "tampered", content)
        try:
            valid = check(folder / "tampered").valid
        except BadData:
            valid = False
        if valid:
            assert is_true(read(folder / "tampered")), (i, where, content.numbers)
        counts["valid and true" if valid else "rejected", where] += 1
    return counts


def test_what_is_tampered_with_is_rejected_or_true(certificates, tmp_path):
    counts = counted(certificates, 90, tmp_path)
    assert sum(n for (word, _), n in counts.items() if word == "rejected") > 40


@pytest.mark.slow
def test_a_thousand_tampered_certificates_are_rejected_or_true(certificates, tmp_path):
    counts = counted(certificates, 1000, tmp_path)
    print(
        {word: sum(n for (w, _), n in counts.items() if w == word) for word in ("rejected", "valid and true")}, counts
    )
    assert not math.isnan(sum(counts.values()))
