"""The limit Gram matrix with its error bound, and the widths that follow from it, against runs of finite networks."""

import math

import flint
import numpy as np
import pytest
import torch
from torch import nn

import gramian
from gramian.bounds import arora2019, du2019
from gramian.bounds.du2019relu import required_width
from gramian.checker.relu_limit import relu_limit
from gramian.errors import BadArgument, BadData


def inputs(n, d, seed=0):
    return np.random.default_rng(seed).standard_normal((n, d))


def in_high_precision(a, b):
    flint.ctx.prec, before = 200, flint.ctx.prec
    try:
        left, right = ([flint.arb(v) for v in row.tolist()] for row in (a, b))
        inner = sum(p * q for p, q in zip(left, right, strict=True))
        norms = (sum(p * p for p in left) * sum(q * q for q in right)).sqrt()
        return float((inner * (flint.arb.pi() - (inner / norms).acos()) / (2 * flint.arb.pi())).mid())
    finally:
        flint.ctx.prec = before


@pytest.mark.parametrize("gap", [1.0, 1e-3, 1e-7])
def test_the_entries_err_less_than_their_bound_also_for_near_duplicates(gap):
    x = inputs(2, 50)
    x[1] = x[0] + gap * x[1]
    limit = relu_limit(x)
    exact = in_high_precision(x[0], x[1])
    assert abs(limit.matrix[0, 1] - exact) <= limit.error
    assert limit.error < 1e-11 * limit.frobenius**2


def test_it_is_the_limit_of_the_module_with_a_frozen_readout():
    x = torch.tensor(inputs(6, 4))
    net = nn.Sequential(nn.Linear(4, 8, bias=False), nn.ReLU(), nn.Linear(8, 1, bias=False)).double()
    net[2].weight.requires_grad_(False)
    kernel = gramian.architecture(net, x[:2], law=(1.0, 0.0)).ntk(x)  # of x / sqrt(d)
    np.testing.assert_allclose(relu_limit(x.numpy()).matrix / 4, kernel.numpy(), rtol=1e-9)


def test_the_smallest_eigenvalue_is_bounded_from_below_and_nearly_so():
    limit = relu_limit(inputs(30, 10))
    smallest = float(np.linalg.eigvalsh(limit.matrix)[0])
    assert 0 < limit.smallest <= smallest
    assert limit.smallest >= 0.999 * smallest
    y = np.sign(inputs(1, 30, seed=3)[0])
    exact = float(y @ np.linalg.solve(limit.matrix, y))
    assert exact <= limit.complexity(y) <= exact * (1 + 1e-6)


def test_equal_inputs_prove_nothing():
    x = inputs(5, 3)
    x[4] = x[0]
    assert relu_limit(x).smallest == 0
    assert du2019(x, np.ones(5), 10**9).status == "not proved"
    assert arora2019(x, np.ones(5), math.inf).status == "not proved"
    x[2] = 0
    with pytest.raises(BadData, match="Row 2"):
        relu_limit(x)


def drawn(m, d, kappa, seed):
    """Antisymmetric: weights (m, d) and signs (m,)."""
    w = kappa * np.random.default_rng(seed).standard_normal((m // 2, d))
    return np.concatenate([w, w]), np.concatenate([np.ones(m // 2), -np.ones(m // 2)])


def outputs(w, signs, x):
    return np.maximum(x @ w.T, 0) @ signs / math.sqrt(len(w))


def one_step(w, signs, x, r, lr):
    return w - lr / math.sqrt(len(w)) * signs[:, None] * (((x @ w.T > 0) * r[:, None]).T @ x)


def test_networks_of_the_width_that_is_asked_for_converge_as_fast_as_promised():
    x, y, kappa, violated = np.eye(3), np.array([1.0, -1.0, 1.0]), 1e4, 0
    needed = du2019(x, y, 10**9, kappa=kappa, antisymmetric=True, failure_probability=0.2)
    width = 2 * math.ceil(needed.numbers["width"] / 2)
    assert width < 3_000
    for seed in range(20):
        w, signs = drawn(width, 3, kappa, seed)
        lr, rate = 1.0, needed.numbers["rate"]  # 1 / ||X||^2
        norms = [math.sqrt(3)]
        for _ in range(100):
            w = one_step(w, signs, x, outputs(w, signs, x) - y, lr)
            norms.append(float(np.linalg.norm(outputs(w, signs, x) - y)))
        violated += any(n > (1 - lr * rate) ** k * norms[0] * (1 + 1e-9) + 1e-9 for k, n in enumerate(norms))
    assert violated <= 0.2 * 20


def test_the_movement_is_below_the_ball_of_arora():
    x, y, kappa, width = np.eye(4), np.array([1.0, -1.0, 1.0, 1.0]), 1e9, 40_000
    certificate = arora2019(x, y, width, kappa=kappa, antisymmetric=True)
    assert math.isfinite(certificate.numbers["distance"])
    start, signs = drawn(width, 4, kappa, 1)
    w = start
    for _ in range(60):
        w = one_step(w, signs, x, outputs(w, signs, x) - y, 1.0)
    assert np.linalg.norm(w - start) <= certificate.numbers["distance"]


def test_what_the_flips_and_slopes_are_bounded_by():
    """The three inequalities of the proof, on random weights within the reach of each neuron."""
    draws = np.random.default_rng(7)
    x, m, reach = inputs(12, 5, 4), 60, 0.1
    w, signs = drawn(m, 5, 1.0, 2)
    sizes = np.linalg.norm(x, axis=1)
    uncertain = np.abs(x @ w.T) <= reach * sizes[:, None]
    q = math.sqrt(float((uncertain * sizes[:, None] ** 2).sum()) / m)

    def features(slopes):
        return (slopes[:, :, None] * signs[None, :, None] * x[:, None, :] / math.sqrt(m)).reshape(len(x), -1)

    for _ in range(50):
        moves = draws.standard_normal((2, m, 5))
        moves *= reach * draws.random((2, m, 1)) / np.linalg.norm(moves, axis=2, keepdims=True)
        before, after = x @ (w + moves[0]).T, x @ (w + moves[1]).T
        gap = np.where(before == after, 1.0, after - before)
        slopes = (np.maximum(after, 0) - np.maximum(before, 0)) / gap
        change = features(slopes) - features((before > 0).astype(float))
        assert np.linalg.norm(change) <= q * (1 + 1e-9)
        assert np.linalg.norm(features((before > 0).astype(float)) - features((x @ w.T > 0).astype(float))) <= q
        assert np.linalg.norm(features(slopes), 2) <= np.linalg.norm(x, 2) * (1 + 1e-9)
        exact = outputs(w + moves[1], signs, x) - outputs(w + moves[0], signs, x)
        np.testing.assert_allclose(features(slopes) @ (moves[1] - moves[0]).ravel(), exact, atol=1e-12)


def test_the_width_moves_as_it_should():
    limit = relu_limit(inputs(20, 10))
    settings = {"failure_probability": 0.05, "step": 1.0, "antisymmetric": True}
    base = required_width(limit, 4.0, kappa=1.0, **settings).width
    assert required_width(limit, 4.0, kappa=10.0, **settings).width < base
    assert required_width(limit, 8.0, kappa=1.0, **settings).width > base
    lazy = required_width(limit, 4.0, kappa=1e9, **settings).width
    assert lazy < 1e-3 * base
    assert required_width(limit, 4.0, kappa=1e9, **(settings | {"failure_probability": 0.001})).width > lazy
    assert required_width(limit, 4.0, kappa=1.0, **(settings | {"step": 0.1})).width < base


def test_true_labels_are_simpler_than_random_ones():
    x = inputs(200, 10)
    y, random = np.sign(x[:, 0]), np.sign(inputs(1, 200, seed=5)[0])
    true, guessed = (arora2019(x, labels, math.inf, antisymmetric=True).numbers for labels in (y, random))
    assert true["complexity"] < 0.7 * guessed["complexity"]
    assert guessed["value"] > 0.5
    finite = arora2019(x, y, 1e40, kappa=1e6, antisymmetric=True).numbers["value"]
    assert finite >= true["limit"]


def test_wrong_options_are_refused():
    with pytest.raises(BadArgument, match="kappa"):
        du2019(np.eye(2), np.ones(2), 10, kappa=0.0)
    with pytest.raises(BadArgument, match="not all 1 and -1"):
        arora2019(np.eye(2), np.array([0.0, 1.0]), 10)
