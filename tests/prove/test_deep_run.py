"""Statement `run` of three and more layers: what it promises is tried with runs of 400 bits."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from exact_deep import ExactDeepRun, random_deep_problem
from hypothesis import given, settings
from hypothesis import strategies as st
from run_promises import (
    assert_claim_fails_by_name,
    assert_exact_run_keeps_every_promise,
    assert_other_content_fails,
    assert_plain_torch_takes_the_proved_steps,
    assert_saved_certificate_is_valid,
    assert_tail_is_kept,
    nearest_to_the_threshold,
)
from sklearn.datasets import load_digits
from torch import nn

import gramian
from gramian.checker import checked
from gramian.checker.deep_network import DeepTask, DeepWeights
from gramian.checker.deep_run import DeepReplay
from gramian.errors import Unsupported
from gramian.prove.run import largest_certified, largest_eigenvalue


@given(st.integers(0, 10**9), st.sampled_from([0, 0, 0, 5]))
@settings(deadline=None, max_examples=15)
def test_the_exact_run_keeps_every_promise(seed, precise_steps):
    task, start = random_deep_problem(np.random.default_rng(seed))
    assert_exact_run_keeps_every_promise(DeepReplay(task, start, precise_steps), ExactDeepRun(task, start))


@pytest.mark.parametrize("seed", range(6))
def test_near_the_threshold_the_promises_still_hold(seed):
    """Targets are scaled until 2 L R is just below c sigma^2: the hardest case that is still proved."""
    task, start = random_deep_problem(np.random.default_rng(seed))
    task = replace(task, lr=0.8 / largest_eigenvalue(task, start))
    scaled, proof = nearest_to_the_threshold(task, start, DeepReplay)
    if not proof.proved:
        assert proof.sigma < 1e-6, "too small targets are always in the tail, unless J is singular"
        return
    assert proof.left > 0.98 * proof.right
    assert_tail_is_kept(ExactDeepRun(scaled, start), proof, 60)


def digits(n: int, widths: tuple[int, ...], *, inputs: int = 8, activation: str = "tanh"):
    """Centred digits on their leading directions, of norm one; NTK parametrization; outputs 0 at the start."""
    x, classes = load_digits(return_X_y=True)
    x, classes = x[:n] - x[:n].mean(0), classes[:n]
    x = x @ np.linalg.svd(x, full_matrices=False)[2][:inputs].T
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    y = np.where(classes % 2 == 0, 1.0, -1.0)[:, None]
    rng, matrices = np.random.default_rng(0), []
    for rows, columns in zip(widths, (inputs, *widths[:-1]), strict=True):
        matrices.append(rng.standard_normal((rows, columns)))
    half = widths[-1] // 2
    matrices[-1][half:] = matrices[-1][:half]  # two equal halves with opposite signs: outputs 0
    signs = rng.choice([-1.0, 1.0], (1, half))
    matrices.append(np.hstack([signs, -signs]))
    scales = (1.0, *(1 / float(np.sqrt(m)) for m in widths))
    task = DeepTask(x, y, (activation,) * len(widths), scales, (0.0,) * len(scales), 1.0)
    start = DeepWeights(tuple(matrices), tuple(np.zeros(len(w)) for w in matrices))
    return replace(task, lr=1 / largest_eigenvalue(task, start)), start


@pytest.mark.parametrize(("activation", "widths"), [("tanh", (24, 24)), ("erf", (16, 24)), ("tanh", (16, 16, 16))])
def test_a_run_of_three_and_four_layers_is_proved_and_keeps_its_promises(activation, widths):
    task, start = digits(10, widths, activation=activation)
    if len(widths) == 3:
        task = replace(task, lr=task.lr / 2)
    proof = largest_certified(task, start, (1e-2, 1e-3), search=False)
    assert proof.proved, str(proof)
    for proved, measured in proof.times.values():
        assert measured <= proved <= 1.2 * measured + 2


def test_growth_is_met_with_more_bits():
    """Without anchors the negative curvature is bounded by norms: the run of a wide network asks for more bits."""
    task, start = digits(10, (16, 16))
    replay = DeepReplay(task, start, precise_steps=12)
    exact = ExactDeepRun(task, start)
    for point, bounds in replay:
        assert exact.distance(point.weights) <= bounds.distance
        if point.step <= 12:
            assert bounds.distance < 1e-14
        if point.step == 16:
            assert bounds.distance > 1e-14, "the thirteenth step is in float64 again"
            return
        exact.step()


def module(depth: int, width: int = 24, inputs: int = 8) -> nn.Module:
    torch.manual_seed(0)
    sizes = [inputs, *[width] * (depth - 1), 1]
    layers: list[nn.Module] = [nn.Flatten()]
    for number in range(depth):
        layers += [nn.Linear(sizes[number], sizes[number + 1], dtype=torch.float64), nn.Tanh()]
    return nn.Sequential(*layers[:-1])


@pytest.fixture(scope="module")
def proof():
    task, _ = digits(10, (16, 16))
    x, y = torch.from_numpy(6 * task.x), torch.from_numpy(task.y)
    result = gramian.prove(module(3), x, y, statement="run", lr=0.01)
    assert result.status == "proved", result.summary
    return result


def test_plain_torch_takes_the_proved_number_of_steps(proof):
    x, y = torch.from_numpy(proof.content.x), torch.from_numpy(proof.content.y)
    assert_plain_torch_takes_the_proved_steps(proof, module(3), x, y, lr=0.01)


def test_a_saved_certificate_is_valid(proof, tmp_path):
    assert_saved_certificate_is_valid(proof, tmp_path, proof.content.x, proof.content.y)


@pytest.mark.parametrize(
    ("name", "factor", "line"),
    [
        ("lr", 40, None),
        ("lr", float("nan"), "rate"),
        ("lr", 1e60, "range"),
        ("steps", 0.0, "tail"),
        ("distance", 0.3, "distance"),
        ("residual", 0.9, "residual"),
        ("sigma", 1.01, "sigma"),
        ("accuracy", 0.5, "time"),
        ("time", 0.9, "time"),
        ("distance", float("nan"), "distance"),
    ],
)
def test_a_claim_that_says_more_than_is_true_fails_by_name(proof, name, factor, line):
    assert_claim_fails_by_name(proof.content, name, factor, line)


def test_other_weights_targets_or_activations_fail(proof):
    content = proof.content
    assert_other_content_fails(content, 10 * content.y)
    trained = frozenset(sorted(content.program.trained)[1:])
    word = checked(replace(content, program=replace(content.program, trained=trained)))
    assert [line.name for line in word.failing] == ["network"]


def test_four_layers_are_proved_from_plain_modules():
    task, _ = digits(8, (16, 16))
    x, y = torch.from_numpy(6 * task.x), torch.from_numpy(task.y)
    result = gramian.prove(module(4), x, y, statement="run", lr=0.01, accuracy=1e-2)
    assert result.status == "proved", result.summary


@pytest.mark.parametrize("part", ["frozen", "tied", "relu"])
def test_what_is_not_replayed_is_refused_by_name(part):
    task, _ = digits(8, (16, 16))
    net = module(3)
    if part == "frozen":
        net[1].requires_grad_(False)
    elif part == "tied":
        net = nn.Sequential(*module(4))
        net[5].weight = net[3].weight
    else:
        net[2] = nn.ReLU()
    words = {"frozen": "a part does not train", "tied": "share a parameter", "relu": "relu"}
    with pytest.raises(Unsupported, match=f"(?s)fully connected networks with smooth activations.*{words[part]}"):
        gramian.prove(net, torch.from_numpy(task.x), torch.from_numpy(task.y), statement="run", lr=0.01)


def test_sizes_beyond_the_bounds_are_refused():
    task, start = digits(8, (4, 4))
    for other in (replace(task, lr=1e40), replace(task, x=task.x * 1e-50), replace(task, scales=(1.0, 1e-40, 1.0))):
        with pytest.raises(ArithmeticError, match="beyond the sizes"):
            DeepReplay(other, start)
    wide = DeepWeights((np.ones((1100, 8)), np.ones((4, 1100)), start.matrices[2]), start.biases)
    with pytest.raises(ArithmeticError, match="a width of 1,100"):
        DeepReplay(task, wide)
