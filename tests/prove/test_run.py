"""Statement `run`: what it promises is tried with runs of 400 bits, and every way to fail has its name."""

from dataclasses import replace

import numpy as np
import pytest
from exact_two_layer import ExactRun, random_problem
from hypothesis import given, settings
from hypothesis import strategies as st
from run_promises import assert_exact_run_keeps_every_promise, assert_tail_is_kept, nearest_to_the_threshold
from sklearn.datasets import load_digits

from gramian.checker.two_layer import Task, TwoLayerWeights
from gramian.checker.two_layer_run import Replay
from gramian.prove.run import largest_certified, largest_eigenvalue


def digits(n: int, width: int, *, activation: str = "erf", std: float = 2.0, outputs: int = 1, both: bool = False):
    """Centred 8 x 8 digits of norm one, NTK parametrization, antisymmetric start (f = 0)."""
    x, classes = load_digits(return_X_y=True)
    x, classes = x[:n] - x[:n].mean(0), classes[:n]
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    y = np.where(classes % 2 == 0, 1.0, -1.0)[:, None]
    if outputs > 1:
        y = np.eye(10)[classes][:, :outputs]
    rng = np.random.default_rng(0)
    w, a = std * rng.standard_normal((width // 2, 64)), rng.choice([-1.0, 1.0], (outputs, width // 2))
    start = TwoLayerWeights(np.vstack([w, w]), np.hstack([a, -a]), np.zeros(outputs))
    return Task(x, y, activation, width**-0.5, 0.0, both, 1.0), start


@given(st.integers(0, 10**9), st.sampled_from([0, 0, 0, 5]))
@settings(deadline=None, max_examples=25)
def test_the_exact_run_keeps_every_promise(seed, precise_steps):
    task, start = random_problem(np.random.default_rng(seed))
    assert_exact_run_keeps_every_promise(Replay(task, start, precise_steps), ExactRun(task, start))


@pytest.mark.parametrize("seed", range(6))
def test_near_the_threshold_the_promises_still_hold(seed):
    """Targets are scaled until 2 L R is just below c sigma^2: the hardest case that is still proved."""
    task, start = random_problem(np.random.default_rng(seed))
    task = replace(task, lr=0.8 / largest_eigenvalue(task, start))
    scaled, proof = nearest_to_the_threshold(task, start, Replay)
    if not proof.proved:
        assert proof.sigma == 0, "too small targets are always in the tail, unless J is singular"
        return
    assert proof.left > 0.98 * proof.right
    assert_tail_is_kept(ExactRun(scaled, start), proof, 60)


@pytest.mark.parametrize(("both", "outputs"), [(False, 1), (True, 1), (False, 3), (True, 3)])
def test_a_run_on_digits_is_proved_with_its_time(both, outputs):
    task, start = digits(40, 64, both=both, outputs=outputs)
    task = replace(task, lr=1 / largest_eigenvalue(task, start))
    proof = largest_certified(task, start, (1e-2, 1e-3), search=False)
    assert proof.proved, str(proof)
    for proved, measured in proof.times.values():
        assert measured <= proved <= 1.2 * measured + 2
    assert "proved at lr" in str(proof)


def test_the_search_reaches_near_the_edge_of_stability():
    task, start = digits(30, 64)
    proof = largest_certified(task, start)
    assert proof.proved
    assert 0.9 < proof.share < 4


def test_centring_is_advised_where_the_mean_is_what_is_large():
    task, start = digits(30, 64)
    shifted = replace(task, x=task.x + 0.2, lr=1 / largest_eigenvalue(task, start))
    assert "centred inputs (their mean makes up" in str(largest_certified(shifted, start, most_steps=9, search=False))
    centred = replace(task, lr=shifted.lr)
    assert "centred" not in str(largest_certified(centred, start, most_steps=9, search=False))


def test_an_unstable_rate_is_not_proved_and_says_so():
    task, start = digits(30, 64)
    task = replace(task, lr=20 / largest_eigenvalue(task, start))
    proof = largest_certified(task, start, search=False)
    assert not proof.proved
    assert not proof.inequality.holds
    assert "smaller learning rate" in str(proof)


def test_more_rows_than_parameters_are_not_proved_and_say_so():
    task, start = digits(30, 64)
    few = TwoLayerWeights(start.w[:2, :4], start.a[:, :2], start.beta)
    task = replace(task, x=np.ascontiguousarray(task.x[:, 20:24]) + 0.1, lr=0.1)
    proof = largest_certified(task, few, most_steps=300, search=False)
    assert not proof.proved
    assert "wider network" in str(proof)


def test_too_few_steps_are_not_proved_and_show_the_two_numbers():
    task, start = digits(40, 64)
    task = replace(task, lr=1 / largest_eigenvalue(task, start))
    proof = largest_certified(task, start, most_steps=20, search=False)
    assert not proof.proved
    assert "2 L R < c sigma^2" in str(proof)
    assert "more steps" in str(proof)


@pytest.mark.parametrize("seed", [27, 50, 175])
def test_more_bits_are_taken_where_growth_asks_for_them(seed):
    task, start = random_problem(np.random.default_rng(seed))
    news: list[str] = []
    proof = largest_certified(task, start, search=False, news=news.append)
    assert "rounding errors grown" in news[0]
    assert "higher precision" in news[0]
    assert "again, with ball arithmetic of 128 bits" in news[1]
    assert proof.proved, str(proof)
    assert proof.precision.steps > 10
    assert "ball arithmetic" in str(proof)


def test_steps_in_ball_arithmetic_carry_no_error_but_their_last_rounding():
    task, start = digits(20, 32)
    task = replace(task, lr=1 / largest_eigenvalue(task, start))
    seen = {}
    for name, replay in (("float64", Replay(task, start)), ("balls", Replay(task, start, 6))):
        seen[name] = [bounds.distance for _, (_, bounds) in zip(range(9), replay, strict=False)]
    assert max(seen["balls"][:7]) < 1e-14 < 1e-12 < seen["float64"][6]
    assert seen["balls"][7] > 1e-13, "the seventh step is in float64 again"


def test_ball_arithmetic_takes_the_inputs_before_their_multiplier_is_rounded_in():
    task, start = random_problem(np.random.default_rng(1))
    multipliers = np.full(task.x.shape[1], 1 / 3)
    inputs = task.x.copy()
    rounded = replace(task, x=inputs * multipliers, exact_x=(inputs, multipliers))
    exact = ExactRun(rounded, start)
    replay = Replay(rounded, start, precise_steps=40)
    for point, bounds in replay:
        assert exact.distance(point.weights) <= bounds.distance + 1e-300
        if point.step == 30:
            break
        exact.step()
    other = ExactRun(replace(rounded, exact_x=None), start)
    for _ in range(30):
        other.step()
    assert other.distance(point.weights) > bounds.distance, "the two networks differ by more than what is bounded"


def test_numbers_that_are_not_finite_are_never_bounded():
    task, start = digits(12, 16)
    task = replace(task, lr=0.1)
    bad_starts = [
        replace(start, w=start.w * np.nan),
        replace(start, a=start.a * np.inf),
        replace(start, w=start.w * 1e9),
    ]
    tries = [(task, bad) for bad in bad_starts] + [(replace(task, y=task.y * np.nan), start)]
    for one_task, one_start in tries:
        with np.errstate(all="ignore"), pytest.raises(ArithmeticError):
            next(iter(Replay(one_task, one_start)))
