"""Each inequality of docs/proofs/deep-run.md, attacked: random cases and ascent towards a violation."""

from contextlib import suppress

import flint
import numpy as np
import pytest
import torch
from exact_deep import ExactDeepRun, random_deep_problem
from exact_two_layer import BITS, matrix, size

from gramian.checker.deep_curvature import Curvature, DeepCurvature
from gramian.checker.deep_network import DeepTask, DeepWeights
from gramian.checker.deep_run import DeepReplay
from gramian.checker.two_layer import norm

SEEDS = range(20)
TORCH = {
    "tanh": torch.tanh,
    "erf": torch.erf,
    "sin": torch.sin,
    "cos": torch.cos,
    "sigmoid": torch.sigmoid,
    "softplus": torch.nn.functional.softplus,
    "silu": torch.nn.functional.silu,
    "gelu": torch.nn.functional.gelu,
}


def problem(seed: int):
    task, start = random_deep_problem(np.random.default_rng(seed))
    replay = DeepReplay(task, start)
    return task, start, replay, replay.at(0, start)


def flat(weights: DeepWeights) -> np.ndarray:
    """As M has them: each layer's rows with their bias."""
    pairs = zip(weights.matrices, weights.biases, strict=True)
    return np.concatenate([np.hstack([w, b[:, None]]).ravel() for w, b in pairs])


def shaped(like: DeepWeights, vector: np.ndarray) -> DeepWeights:
    matrices, biases, first = [], [], 0
    for w in like.matrices:
        rows, columns = w.shape[0], w.shape[1] + 1
        part = vector[first : first + rows * columns].reshape(rows, columns)
        matrices.append(part[:, :-1].copy())
        biases.append(part[:, -1].copy())
        first += rows * columns
    return DeepWeights(tuple(matrices), tuple(biases))


def outputs(task: DeepTask, like: DeepWeights, vector: torch.Tensor) -> torch.Tensor:
    h, first = torch.from_numpy(task.x), 0
    for number, w in enumerate(like.matrices):
        rows, columns = w.shape[0], w.shape[1] + 1
        part = vector[first : first + rows * columns].reshape(rows, columns)
        first += rows * columns
        h = task.scales[number] * h @ part[:, :-1].T + task.bias_scales[number] * part[:, -1]
        if number < len(task.activations):
            h = TORCH[task.activations[number]](h)
    return h


def jacobian(task: DeepTask, like: DeepWeights, vector: np.ndarray) -> np.ndarray:
    value = torch.autograd.functional.jacobian(lambda v: outputs(task, like, v).ravel(), torch.from_numpy(vector))
    return value.numpy()


def second(task: DeepTask, like: DeepWeights, vector: np.ndarray, residual: np.ndarray) -> np.ndarray:
    r = torch.from_numpy(residual)
    value = torch.autograd.functional.hessian(lambda v: (outputs(task, like, v) * r).sum(), torch.from_numpy(vector))
    return value.numpy()


def directions(task: DeepTask, start: DeepWeights, residual: np.ndarray, rng: np.random.Generator):
    """Random ones, single layers', the top of J^T J, the ends of M, and those that change J most (power iteration)."""
    center = flat(start)
    yield rng.standard_normal(len(center))
    for layer in range(len(start.matrices)):
        parts = [np.zeros_like(w) for w in start.matrices]
        parts[layer] = rng.standard_normal(parts[layer].shape)
        yield flat(DeepWeights(tuple(parts), tuple(np.zeros_like(b) for b in start.biases)))
    yield np.linalg.svd(jacobian(task, start, center), full_matrices=False)[2][0]
    _, vectors = np.linalg.eigh(second(task, start, center, residual))
    yield vectors[:, 0]
    yield vectors[:, -1]
    h = rng.standard_normal(len(center))
    for _ in range(5):
        h = 1e-4 * h / np.linalg.norm(h)
        change = jacobian(task, start, center + h) - jacobian(task, start, center - h)
        h = np.linalg.svd(change, full_matrices=False)[2][0]
    yield h


@pytest.mark.parametrize("seed", SEEDS)
def test_rounding_of_residual_and_gradient_is_bounded(seed):
    task, start, replay, point = problem(seed)
    exact = ExactDeepRun(task, start)
    with flint.ctx.workprec(BITS):
        assert float(size(exact.residual - matrix(point.residual))) <= point.residual_error
    computed = [*point.gradient.matrices, *(b[None] for b in point.gradient.biases)]
    allowed = point.gradient_error + replay.jacobian_bound(point) * point.residual_error
    with flint.ctx.workprec(BITS):
        gaps = size(*(g - matrix(c) for g, c in zip(exact.gradient(), computed, strict=True)))
        fixed = size(*(g - matrix(c) for g, c in zip(exact.gradient(matrix(point.residual)), computed, strict=True)))
    assert float(gaps) <= allowed
    assert float(fixed) <= point.gradient_error, "the residual as computed"
    assert allowed < 1e-11 * (1 + norm(flat(point.gradient))) * (1 + norm(task.y)), "the bound says nothing"


@pytest.mark.parametrize("seed", SEEDS)
def test_second_derivatives_are_those_of_autograd(seed):
    task, start, _, point = problem(seed)
    curvature = Curvature(task, point)
    computed, rounding = curvature.matrix()
    expected = second(task, start, flat(start), point.residual)
    np.testing.assert_allclose(computed, expected, atol=1e-12 * (1 + np.abs(expected).max()))
    assert rounding < 1e-11 * (1 + np.linalg.norm(expected))
    assert np.linalg.norm(expected, 2) <= curvature.norm() * (1 + 1e-9)
    assert curvature.norm() <= 2 * np.linalg.norm(expected) + 1e-6 * sum(curvature.sizes), "blocks, of two terms each"


@pytest.mark.parametrize("seed", SEEDS)
def test_rounding_of_second_derivatives_is_bounded(seed):
    """Against central differences in 400 bits of the gradient at a fixed residual."""
    task, start, replay, point = problem(seed)
    computed, rounding = Curvature(task, point).matrix()
    allowed = rounding + Curvature.rounding(task, replay.tables, point)
    rng = np.random.default_rng(seed)
    for _ in range(3):
        h = rng.standard_normal(len(computed))
        part = shaped(start, h)
        direction = [matrix(w) for w in part.matrices] + [matrix(b[None]) for b in part.biases]
        top, ends = matrix(point.residual), []
        for sign in (1, -1):
            exact = ExactDeepRun(task, start)
            with flint.ctx.workprec(BITS):
                exact.moved(direction, sign * flint.arb(2) ** -120)
            ends.append(exact.gradient(top))
        product = shaped(start, computed @ h)
        computed_product = [*product.matrices, *(b[None] for b in product.biases)]
        with flint.ctx.workprec(BITS):
            exactly = [(a - b) * flint.arb(2) ** 119 for a, b in zip(*ends, strict=True)]
            gap = float(size(*(a - matrix(b) for a, b in zip(exactly, computed_product, strict=True))))
        assert gap <= allowed * np.linalg.norm(h) + 1e-15 * np.linalg.norm(computed @ h)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_jacobian_its_norm_and_its_lipschitz_constants_hold_against_ascent(seed):
    task, start, replay, point = problem(seed)
    center, rng = flat(start), np.random.default_rng(seed)
    base, curved = jacobian(task, start, center), second(task, start, center, point.residual)
    h, _, _ = replay.gram(point)
    np.testing.assert_allclose(h, base @ base.T, rtol=1e-11, atol=1e-12 * np.trace(h))
    assert np.linalg.norm(base, 2) <= replay.jacobian_bound(point) * (1 + 1e-12)
    size_of_residual = np.linalg.norm(point.residual)
    for direction in directions(task, start, point.residual, rng):
        unit = direction / np.linalg.norm(direction)
        for radius in (1e-5, 0.03, 0.3):
            ball = replay.within(point, radius)
            if ball.filled > 1:
                continue
            there = center + radius * unit
            change = np.linalg.norm(jacobian(task, start, there) - base, 2)
            assert change <= ball.lipschitz * radius * (1 + 1e-9) + 1e-12 * norm(base)
            moved = np.linalg.norm(second(task, start, there, point.residual) - curved, 2)
            assert moved <= ball.third * size_of_residual * radius * (1 + 1e-9) + 1e-12 * norm(curved)


def until_it_leaves(replay: DeepReplay):
    """Steps until a preactivation leaves the activation's table: then nothing is claimed."""
    with suppress(ArithmeticError):
        yield from replay


@pytest.mark.parametrize("seed", SEEDS)
def test_curvature_is_bounded_at_every_step_with_and_without_anchors(seed):
    task, start = random_deep_problem(np.random.default_rng(seed))
    replay, alone = DeepReplay(task, start), DeepCurvature(task, most_weights=0)
    for point, bounds in until_it_leaves(replay):
        values = np.linalg.eigvalsh(second(task, start, flat(point.weights), point.residual))
        slack = 1e-12 * np.abs(values).max() + 1e-300
        assert -values[0] <= bounds.expansion + slack
        assert np.abs(values).max() <= bounds.size + slack
        assert np.abs(values).max() <= min(alone.bound(point)) + slack
        assert np.linalg.norm(jacobian(task, start, flat(point.weights)), 2) <= bounds.jacobian * (1 + 1e-12)
        if point.step == 30 or bounds.distance > 1e-3:
            return


@pytest.mark.parametrize("seed", SEEDS)
def test_the_change_since_an_anchor_is_bounded(seed):
    task, start, replay, point = problem(seed)
    rng = np.random.default_rng(seed)
    other = replay.at(1, shaped(start, flat(start) + 0.1 * rng.standard_normal(start.count)))
    here, anchor = Curvature(task, point), Curvature(task, other)
    best, products = here.share(anchor)
    exact = [second(task, start, flat(p.weights), p.residual) for p in (point, other)]
    for share in (best, 0.0, 0.5, 2.0):
        change = np.linalg.norm(exact[0] - share * exact[1], 2)
        assert change <= here.change(anchor, share, products) + 1e-12 * norm(exact[1])
    same, products = here.share(here)
    assert same == pytest.approx(1)
    assert here.change(here, 1.0, products) <= 1e-5 * sum(here.sizes), "no change is no change, but for rounding"


@pytest.mark.parametrize("seed", SEEDS)
def test_a_step_stretches_distances_by_no_more_than_its_bound(seed):
    task, start = random_deep_problem(np.random.default_rng(seed))
    replay, rng = DeepReplay(task, start), np.random.default_rng(seed)
    for point, bounds in until_it_leaves(replay):
        if point.step in (0, 3, 17):
            here, residual = flat(replay.moved(point)[0]), norm(point.residual)
            for direction in directions(task, point.weights, point.residual, rng):
                for radius in (1e-5, 1e-2, 0.1):
                    ball = replay.within(point, radius)
                    if ball.filled > 1:
                        continue
                    over_ball = bounds.jacobian + ball.lipschitz * radius
                    drift = replay.block_drift(point, residual, over_ball, radius)
                    stretch = max(
                        1 + task.lr * (bounds.expansion + drift), task.lr * (over_ball**2 + bounds.size + drift) - 1
                    )
                    there = flat(point.weights) + radius * direction / np.linalg.norm(direction)
                    with suppress(ArithmeticError):
                        end = flat(replay.moved(replay.at(0, shaped(start, there)))[0])
                        assert np.linalg.norm(end - here) <= stretch * radius * (1 + 1e-7)
        if point.step == 17 or bounds.distance > 1e-3:
            return
