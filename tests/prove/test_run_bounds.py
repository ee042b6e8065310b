"""Each inequality of docs/proofs/run.md, attacked: random cases and ascent towards a violation."""

from contextlib import suppress
from dataclasses import replace

import flint
import numpy as np
import pytest
from exact_two_layer import ExactRun, random_problem

from gramian.checker.taylor_table import ACTIVATIONS, SPACING, TaylorTable
from gramian.checker.two_layer import InputNorms, Point, TwoLayerWeights, evaluate, norm, upper_eigenvalues
from gramian.checker.two_layer_run import Replay

SEEDS = range(25)


def problem(seed: int):
    task, start = random_problem(np.random.default_rng(seed))
    replay = Replay(task, start)
    return task, start, replay, evaluate(task, replay.geometry, replay.phi, 0, start)


def until_it_leaves(replay: Replay):
    """Steps until a preactivation leaves the activation's table: then nothing is claimed."""
    with suppress(ArithmeticError):
        yield from replay


def exactly(name: str, z: float, k: int) -> flint.arb:
    bits, cap, flint.ctx.prec, flint.ctx.cap = flint.ctx.prec, flint.ctx.cap, 200, 5
    value = ACTIVATIONS[name](flint.arb_series([flint.arb(z), 1]))[k] * [1, 1, 2, 6][k]
    flint.ctx.prec, flint.ctx.cap = bits, cap
    return value


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activations_values_and_bounds_hold_at_random_points_and_cell_borders(name):
    rng = np.random.default_rng(0)
    table = TaylorTable(name, 6.0)
    border = (np.arange(-8, 8) + 0.5) * SPACING
    z = np.concatenate([rng.uniform(-6, 6, 80), border, np.nextafter(border, 9), [0.0, 1e-300, -1e-9, 6.0]])
    for k in range(4):
        values = [exactly(name, v, k) for v in z.tolist()]
        assert all(abs(v) <= table.bound[k] for v in values)
        if k < 3:
            gaps = [float(abs(v - flint.arb(c)).abs_upper()) for v, c in zip(values, table(z, k).tolist(), strict=True)]
            assert max(gaps) <= table.error[k]
            assert table.error[k] < 1e-13, "the bound says nothing"


@pytest.mark.parametrize("name", ["tanh", "erf", "gelu", "softplus"])
def test_bounds_of_derivatives_are_near_their_suprema(name):
    table = TaylorTable(name, 6.0)
    for k in (1, 2, 3):
        seen = max(float(abs(exactly(name, v, k)).abs_upper()) for v in np.linspace(-6, 6, 1201).tolist())
        assert seen <= table.bound[k] <= 1.01 * seen


def test_arguments_beyond_the_table_are_refused():
    table = TaylorTable("tanh", 2.0)
    with pytest.raises(ArithmeticError, match="outside"):
        table(np.array([5.0]))
    with pytest.raises(ArithmeticError, match="outside"):
        table(np.array([np.nan]))


@pytest.mark.parametrize("seed", SEEDS)
def test_rounding_of_residual_and_gradient_is_bounded(seed):
    task, start, replay, point = problem(seed)
    exact = ExactRun(task, start)
    residual = np.array([float(e.mid()) for e in (exact.residual - _arb(point.residual)).entries()])
    assert np.linalg.norm(residual) <= point.residual_error
    gradients = list(
        zip(exact.gradient(), (point.gradient.w, point.gradient.a, point.gradient.beta[None]), strict=True)
    )
    if not task.readout_trained:
        gradients = gradients[:1]
    gaps = np.concatenate([[float(e.mid()) for e in (g - _arb(c)).entries()] for g, c in gradients])
    allowed = point.gradient_error + replay.jacobian_bound(point) * point.residual_error
    assert np.linalg.norm(gaps) <= allowed
    assert allowed < 1e-10 * (1 + norm(point.gradient.w)) * (1 + norm(task.y)), "the bound says nothing"


def _arb(a: np.ndarray):
    return flint.arb_mat(*a.shape, [flint.arb(v) for v in a.ravel().tolist()])


@pytest.mark.parametrize("seed", SEEDS)
def test_errors_of_hidden_values_and_slopes_hold_for_each_entry(seed):
    task, start, _, point = problem(seed)
    exact = ExactRun(task, start)
    pairs = (
        (exact.features, point.features, point.feature_error),
        (exact.slopes, point.slopes, point.slope_error),
    )
    for values, computed, error in pairs:
        gaps = [abs(float(e.mid())) for e in (values - _arb(computed)).entries()]
        assert max(gaps) <= error <= 1e-12 * (1 + np.abs(computed).max())


@pytest.mark.parametrize("seed", SEEDS)
def test_tau_bounds_sums_of_quadratics_and_quartics(seed):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((6, 3)) * rng.choice([1, 1, 10], (6, 1))
    geometry = InputNorms(x)
    for _ in range(40):
        u, v, c = (a / np.linalg.norm(a) for a in (*rng.standard_normal((2, 3)), rng.standard_normal(6)))
        for _ in range(30):  # ascent of sum_i (v . x_i)^4 over unit v
            v = x.T @ (x @ v) ** 3
            v /= np.linalg.norm(v)
        c_best = (x @ v) ** 2 / np.linalg.norm((x @ v) ** 2)
        assert np.sqrt(np.sum((x @ v) ** 4)) <= geometry.tau
        assert np.linalg.norm((x @ u) * (x @ v)) <= geometry.tau
        assert max(abs(c @ (x @ v) ** 2), c_best @ (x @ v) ** 2) <= geometry.tau * (1 + 1e-14)
        assert np.linalg.norm(np.einsum("i,ij,ik->jk", c, x, x)) <= geometry.frobenius_norms(c[:, None])[0]


@pytest.mark.parametrize("seed", SEEDS)
def test_eigenvalue_bounds_hold_and_are_tight(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 9))
    factor = rng.standard_normal((n, n)) * 10.0 ** rng.uniform(-6, 0, n)
    a = factor @ factor.T
    a = (a + a.T) / 2
    bits, flint.ctx.prec = flint.ctx.prec, 300
    try:
        exact = [e.real for e in flint.acb_mat(_arb(a)).eig(nonstop=True)]
    finally:
        flint.ctx.prec = bits
    top, bottom = max(float(e.mid()) for e in exact), min(float(e.mid()) for e in exact)
    for matrix, eigenvalue in ((a, top), (-a, -bottom)):
        bound = float(upper_eigenvalues(matrix))
        assert eigenvalue <= bound <= eigenvalue + 1e-11 * n * top


def jacobian(task, replay: Replay, weights: TwoLayerWeights) -> np.ndarray:
    """Dense J (n C, p), trained parameters only."""
    point = evaluate(task, replay.geometry, replay.phi, 0, weights)
    (n, d), (outputs, m) = task.x.shape, weights.a.shape
    first = task.scale * np.einsum("cr,ir,id->icrd", weights.a, point.slopes, task.x).reshape(n * outputs, m * d)
    if not task.readout_trained:
        return first
    eye = np.eye(outputs)
    second = task.scale * np.einsum("ce,ir->icer", eye, point.features).reshape(n * outputs, outputs * m)
    bias = task.bias_scale * np.einsum("ce,i->ice", eye, np.ones(n)).reshape(n * outputs, outputs)
    return np.hstack([first, second, bias])


def moved(task, weights: TwoLayerWeights, direction: np.ndarray, radius: float) -> TwoLayerWeights:
    """Weights at this distance in this direction, of trained parameters."""
    direction = radius * direction / np.linalg.norm(direction)
    (m, d), outputs = weights.w.shape, len(weights.beta)
    w = weights.w + direction[: m * d].reshape(m, d)
    if not task.readout_trained:
        return TwoLayerWeights(w, weights.a, weights.beta)
    a = weights.a + direction[m * d : m * d + outputs * m].reshape(outputs, m)
    return TwoLayerWeights(w, a, weights.beta + direction[m * d + outputs * m :])


def directions(task, replay: Replay, point: Point, rng: np.random.Generator):
    """Random ones, single neurons', and those that change J most: power iteration on ||dJ[h] u||."""
    start = point.weights
    count = jacobian(task, replay, start).shape[1]
    step = 1e-4
    for kind in range(6):
        h = rng.standard_normal(count)
        if kind % 2:
            m, d = start.w.shape
            h = np.zeros(count)
            h[: m * d].reshape(m, d)[rng.integers(m)] = rng.standard_normal(d)
        if kind >= 4:
            for _ in range(4):
                change = jacobian(task, replay, moved(task, start, h, step)) - jacobian(
                    task, replay, moved(task, start, -h, step)
                )
                _, _, right = np.linalg.svd(change, full_matrices=False)
                h = right[0]  # the form is symmetric: the best partner of h is the next h
        yield h / np.linalg.norm(h)
    # those that a step stretches most: the top of J^T J, the bottom of M
    yield np.linalg.svd(jacobian(task, replay, start), full_matrices=False)[2][0]
    values, vectors = np.linalg.eigh(-replay.blocks(point))
    r = int(values[:, -1].argmax())
    (m, d), outputs = start.w.shape, len(start.beta)
    w, a = np.zeros((m, d)), np.zeros((outputs, m))
    w[r], a[:, r] = vectors[r, :d, -1], (*vectors[r, d:, -1], *np.zeros(outputs))[:outputs]
    yield np.concatenate([w.ravel(), a.ravel(), np.zeros(outputs)])[:count]


@pytest.mark.parametrize("seed", SEEDS)
def test_the_jacobians_lipschitz_constant_holds_against_ascent(seed):
    task, start, replay, point = problem(seed)
    base = jacobian(task, replay, start)
    assert np.linalg.norm(base, 2) <= replay.jacobian_bound(point)
    h, _, _ = replay.gram(point)
    outputs, n = task.y.shape[1], len(task.x)
    order = np.arange(n * outputs).reshape(n, outputs).T.ravel()
    np.testing.assert_allclose(h, (base @ base.T)[np.ix_(order, order)], rtol=1e-12, atol=1e-13 * np.trace(h))
    for direction in directions(task, replay, point, np.random.default_rng(seed)):
        for radius in (1e-5, 0.03, 0.3):
            other = moved(task, start, direction, radius)
            bound = replay.lipschitz(replay.readout_norm(start, radius)) * radius
            assert np.linalg.norm(jacobian(task, replay, other) - base, 2) <= bound * (1 + 1e-9) + 1e-12 * norm(base)


def descent_step(task, replay: Replay, weights: TwoLayerWeights) -> np.ndarray:
    point = evaluate(task, replay.geometry, replay.phi, 0, weights)
    new, _ = replay.moved(point)
    return np.concatenate([new.w.ravel(), new.a.ravel(), new.beta])


@pytest.mark.parametrize("seed", SEEDS)
def test_a_step_stretches_distances_by_no_more_than_its_bound(seed):
    task, start = random_problem(np.random.default_rng(seed))
    replay = Replay(task, start)
    rng = np.random.default_rng(seed)
    for point, bounds in until_it_leaves(replay):
        if point.step in (0, 3, 17):
            here = descent_step(task, replay, point.weights)
            residual = norm(point.residual)
            for direction in directions(task, replay, point, rng):
                for radius in (1e-5, 1e-2, 0.1):
                    readout = replay.readout_norm(point.weights, radius)
                    over_ball = bounds.jacobian + replay.lipschitz(readout) * radius
                    drift = replay.block_drift(point, residual, over_ball, radius)
                    negative, size = bounds.expansion + drift, bounds.size + drift
                    stretch = max(1 + task.lr * max(negative, 0), task.lr * (over_ball**2 + size) - 1)
                    there = descent_step(task, replay, moved(task, point.weights, direction, radius))
                    assert np.linalg.norm(there - here) <= stretch * radius * (1 + 1e-8)
        if point.step == 17 or bounds.distance > 1e-3:
            return


@pytest.mark.parametrize("seed", SEEDS)
def test_the_blocks_hold_the_second_derivatives_and_their_bounds_at_every_step(seed):
    task, start = random_problem(np.random.default_rng(seed))
    replay = Replay(task, start)
    for point, bounds in until_it_leaves(replay):
        blocks = replay.blocks(point)
        values = np.linalg.eigvalsh(-blocks)
        assert values.max() <= bounds.expansion * (1 + 1e-12) + 1e-300
        assert np.abs(values).max() <= bounds.size * (1 + 1e-12)
        assert np.linalg.norm(jacobian(task, replay, point.weights), 2) <= bounds.jacobian * (1 + 1e-12)
        if point.step % 10 == 0:
            _compare_with_differences(task, replay, point, blocks)
        if point.step == 40 or bounds.distance > 1e-3:
            return


def _compare_with_differences(task, replay, point, blocks) -> None:
    """J(t + eh)^T r - J(t - eh)^T r, r fixed, against the blocks."""
    rng = np.random.default_rng(point.step)
    base = jacobian(task, replay, point.weights)
    h = rng.standard_normal(base.shape[1])
    h /= np.linalg.norm(h)
    e = 1e-5
    r = point.residual.ravel()
    ends = [jacobian(task, replay, moved(task, point.weights, s * h, e)).T @ r for s in (1, -1)]
    difference = (ends[0] - ends[1]) / (2 * e)
    m, d = point.weights.w.shape
    outputs = blocks.shape[1] - d
    a = h[m * d : m * d + outputs * m].reshape(outputs, m)
    per_neuron = np.concatenate([h[: m * d].reshape(m, d), a.T], axis=1)
    result = np.einsum("rjk,rk->rj", blocks, per_neuron)
    expected = np.concatenate([result[:, :d].ravel(), result[:, d:].T.ravel(), np.zeros(len(h) - m * d - outputs * m)])
    np.testing.assert_allclose(difference, expected, atol=1e-6 * (1 + np.abs(expected).max()))


def test_a_mean_of_squares_maps_to_the_rate():
    """`nn.MSELoss` divides by n C: its rate times 2 / (n C) is the rate of half the sum of squares."""
    task, start, replay, point = problem(3)
    count = point.residual.size
    mean_rate = task.lr * count / 2
    new, _ = replay.moved(point)
    np.testing.assert_allclose(new.w, start.w - mean_rate * (2 / count) * point.gradient.w, rtol=1e-13, atol=1e-14)
    assert replace(task, lr=mean_rate * 2 / count).lr == pytest.approx(task.lr)
