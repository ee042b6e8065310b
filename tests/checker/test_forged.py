"""Certificates written and sealed by hand, each about a statement that is false: none may be valid.

Each was "valid" to an earlier checker, or would be to one without the line that refuses it.
"""

import json

import numpy as np
import pytest

from gramian.checker import check
from gramian.checker.balls import Ball, product, root_of_squares
from gramian.checker.certificate_file import HEADER, Content, seal, write
from gramian.checker.groups import normalized
from gramian.checker.program import NetworkProgram, ProgramStep
from gramian.checker.statements import contraction
from gramian.errors import BadData

ONE, NAN = np.zeros((1, 1)), np.full((1, 1), np.nan)
CLAIMS = {"residual": 1.0, "sigma": 0.5, "lipschitz": 1e-6, "radius": 10.0}


def eye(size=1, value=1.0):
    return {"a": np.full(size, value), "i": np.arange(size), "p": np.arange(size + 1)}


def linear(*inputs, size=1, offset="", matrix=("a", "i", "p")):
    return ProgramStep("linear", inputs, matrix=matrix, shape=(size, size), offset=offset)


def two_constants():
    """f = t for two samples whose targets differ; with an input that is no number, no step looks at it."""
    steps = (ProgramStep("input"), ProgramStep("parameter", weight="t"))
    return steps, {"t": np.array([[0.0]])}, ["t"], np.full((2, 1), np.nan), np.array([[0.5], [-0.5]]), CLAIMS


def lost_gradient():
    """f = t - t + 1/2 with the input of one term counted from the end: its gradient got lost."""
    steps = (
        ProgramStep("input"), ProgramStep("parameter", weight="t"), linear(-1, matrix=("m", "i", "p")),
        ProgramStep("sum", (1, 2)), linear(3, offset="c"),
    )  # fmt: skip
    arrays = {**eye(), "m": np.array([-1.0]), "t": np.array([[0.0]]), "c": np.array([0.5])}
    return steps, arrays, ["t"], ONE, ONE, CLAIMS


def no_bias():
    """f = 1/2 of a frozen layer; the bias that it does not have is said to train."""
    steps = (ProgramStep("input"), ProgramStep("affine", (0,), weight="w"))
    return steps, {"w": np.array([[0.5]])}, [""], np.ones((1, 1)), ONE, CLAIMS


def one_weight_for_two_outputs():
    """f = (t, t), spelled as a sum of unequal widths."""
    steps = (
        ProgramStep("input"),
        ProgramStep("parameter", weight="t"),
        ProgramStep("parameter", weight="c"),
        ProgramStep("sum", (1, 2)),
    )
    arrays = {"t": np.array([[0.0]]), "c": np.array([[0.3, -0.3]])}
    return steps, arrays, ["t"], NAN, np.zeros((1, 2)), CLAIMS


def one_bias_for_two_outputs():
    steps = (
        ProgramStep("input"),
        ProgramStep("parameter", weight="c"),
        ProgramStep("affine", (1,), weight="w", bias="t"),
    )
    arrays = {"t": np.array([0.0]), "c": np.array([[1.0]]), "w": np.array([[0.3], [-0.3]])}
    return steps, arrays, ["t"], NAN, np.zeros((1, 2)), CLAIMS


def weight_and_offset():
    """f = t x - t: a parameter that trains is also the constant that is added."""
    steps = (
        ProgramStep("input"),
        ProgramStep("affine", (0,), weight="t"),
        linear(1, matrix=("t", "i", "p"), offset="c"),
    )
    arrays = {**eye(), "t": np.array([1.0]), "c": np.array([-0.5])}
    return steps, arrays, ["t"], np.ones((1, 1)), ONE, CLAIMS


def hidden_targets():
    """Targets of fewer samples than there are inputs."""
    steps = (ProgramStep("input"), ProgramStep("affine", (0,), weight="w"))
    return steps, {"w": np.eye(2)}, ["w"], np.eye(2), np.zeros((1, 2)), {**CLAIMS, "residual": 2.0}


def mask_without_a_name():
    steps = (
        ProgramStep("input"),
        ProgramStep("parameter", weight="t"),
        ProgramStep("softmax", (1,)),
        linear(2, size=2),
    )
    arrays = {**eye(2), "t": np.zeros((1, 2)), "": np.array([1.0, 0.0])}
    return steps, arrays, ["t"], ONE, np.zeros((1, 2)), CLAIMS


def doubled_entries():
    """1e16 + 1 - 1e16 at one place of a matrix."""
    steps = (
        ProgramStep("input"),
        ProgramStep("affine", (0,), weight="w"),
        ProgramStep("linear", (1,), matrix=("a", "i", "p"), shape=(1, 1)),
    )
    arrays = {"a": np.array([1e16, 1.0, -1e16]), "i": np.zeros(3, dtype=int), "p": np.array([0, 3]), "w": np.eye(1)}
    return steps, arrays, ["w"], np.ones((1, 1)), ONE, CLAIMS


def negative_variance():
    steps = (
        ProgramStep("input"), ProgramStep("affine", (0,), weight="w", bias="b"),
        ProgramStep("normalize", (1,), eps=-0.5),
        ProgramStep("affine", (2,), weight="v", bias="c"),
    )  # fmt: skip
    arrays = {"w": np.array([[1.0], [-1.0]]), "b": np.zeros(2), "v": np.ones((1, 2)), "c": np.zeros(1)}
    return steps, arrays, ["b", "c"], np.ones((1, 1)), ONE, CLAIMS


def small_numbers():
    """f = r - s t + t^2 / 2 with 2 r > s^2, so small that squares of the residual underflow."""
    steps = (
        ProgramStep("input"), ProgramStep("parameter", weight="t"), linear(1, matrix=("s", "i", "p"), offset="r"),
        ProgramStep("function", (1,), function="square"), linear(3, matrix=("h", "i", "p")), ProgramStep("sum", (2, 4)),
    )  # fmt: skip
    arrays = {**eye(), "s": np.array([-1e-90]), "h": np.array([0.5]), "r": np.array([1e-170]), "t": np.array([[0.0]])}
    numbers = {"residual": 2e-300, "sigma": 0.9e-90, "lipschitz": 1.01, "radius": 1e-200}
    return steps, arrays, ["t"], ONE, ONE, numbers


def whole_numbers():
    """2^53 + 1 is no float64."""
    steps = (ProgramStep("input"), ProgramStep("affine", (0,), weight="w"))
    return steps, {"w": np.array([[2**53 + 1]])}, ["w"], np.ones((1, 1)), np.array([[2.0**53]]), CLAIMS


FORGED = {
    f.__name__: f
    for f in (
        two_constants, lost_gradient, no_bias, one_weight_for_two_outputs, one_bias_for_two_outputs, weight_and_offset,
        hidden_targets, mask_without_a_name, doubled_entries, negative_variance, small_numbers, whole_numbers,
    )
}  # fmt: skip


def judged(path, steps, arrays, trained, x, y, numbers, statement="minimum"):
    write(path, Content(statement, "Something.", (), numbers, NetworkProgram(steps, arrays, frozenset(trained)), x, y))
    try:
        return check(path)
    except BadData:
        return None


@pytest.mark.parametrize("name", FORGED)
def test_a_false_statement_is_not_valid_however_it_is_spelled(name, tmp_path):
    result = judged(tmp_path / "c", *FORGED[name]())
    assert result is None or not result.valid, str(result)


@pytest.mark.parametrize(
    ("x", "y"),
    [
        (np.eye(2), np.array([0])),  # fewer classes than samples: only the first would be looked at
        (np.eye(2), np.array([0, -1])),
        (np.eye(2), np.array([0, 2])),
        (np.eye(2), np.array([[0], [1]])),
        (np.eye(2), np.array([0.0, 1.9])),
        (np.zeros((0, 2)), np.zeros(0, dtype=int)),
    ],
)
def test_separation_is_of_all_samples_by_classes_that_exist(x, y, tmp_path):
    steps, arrays = (ProgramStep("input"), ProgramStep("affine", (0,), weight="w")), {"w": np.eye(2)}
    good = judged(
        tmp_path / "c", steps, arrays, ["w"], np.eye(2), np.array([0, 1]), {"margin": 0.5}, statement="separation"
    )
    assert good is not None
    assert good.valid
    assert judged(tmp_path / "c", steps, arrays, ["w"], x, y, {"margin": 0.5}, statement="separation") is None


def line():
    """f = t + 1/2, a zero at distance 1/2."""
    steps = (ProgramStep("input"), ProgramStep("parameter", weight="t"), linear(1, offset="c"))
    return steps, {**eye(), "t": np.array([[0.0]]), "c": np.array([0.5])}, ["t"], ONE, ONE


SOUND = {"residual": 0.5 + 1e-7, "sigma": 1 - 1e-7, "lipschitz": 1e-6, "radius": 0.51}


def test_the_sentence_is_the_checkers_own(tmp_path):
    result = judged(tmp_path / "c", *line(), SOUND)
    assert result.valid
    assert "Something" not in str(result)
    assert "within 0.52" in str(result)  # the float64 0.51 is above 51/100
    assert "float64" in str(result)


@pytest.mark.parametrize(
    "step",
    [
        {"kind": "sum", "inputs": [2]},  # itself
        {"kind": "sum", "inputs": [3]},
        {"kind": "sum", "inputs": []},
        {"kind": "sum", "inputs": [1.0]},
        {"kind": "sum", "inputs": [True]},
        {"kind": "mystery", "inputs": [1]},
        {"kind": "function", "inputs": [1], "function": "mystery"},
        {"kind": "function", "inputs": [1, 1], "function": "tanh"},
        {"kind": "product", "inputs": [1]},
        {"kind": "affine", "inputs": [1], "weight": "t", "positions": -1},
        {"kind": "affine", "inputs": [1], "weight": "t", "positions": 2},
        {"kind": "affine", "inputs": [1], "weight": "none"},
        {"kind": "affine", "inputs": [1], "weight": "t", "weight_scale": float("nan")},
        {"kind": "affine", "inputs": [1], "weight": "t", "weight_scale": "1"},
        {"kind": "softmax", "inputs": [1], "positions": 2},
        {"kind": "softmax", "inputs": [1], "offset": "t"},
        {"kind": "normalize", "inputs": [1], "positions": 0},
        {"kind": "linear", "inputs": [1], "matrix": ["a", "i"], "shape": [1, 1]},
        {"kind": "linear", "inputs": [1], "matrix": ["a", "i", "p"], "shape": [1, 2]},
        {"kind": "linear", "inputs": [1], "matrix": ["a", "a", "p"], "shape": [1, 1]},
        {"kind": "linear", "inputs": [1], "matrix": ["a", "far", "p"], "shape": [1, 1]},
        {"kind": "sum", "inputs": [1], "unknown": 1},
        {"kind": "sum", "inputs": 1},
        {},
        None,
    ],
    ids=str,
)
def test_what_is_no_program_is_refused_and_said_to_be(step, tmp_path):
    steps, arrays, trained, x, y = line()
    arrays = {**arrays, "far": np.array([7])}
    fields = {
        "format": 1, "statement": "minimum", "says": "", "assumes": [], "numbers": SOUND, "trained": trained,
        "steps": [*(vars(s) for s in steps[:2]), step],
    }  # fmt: skip
    save_sealed(tmp_path / "c", json.dumps(fields), {**{f"program.{k}": v for k, v in arrays.items()}, "x": x, "y": y})
    with pytest.raises(BadData, match="no certificate that can be checked"):
        check(tmp_path / "c")


@pytest.mark.parametrize("numbers", [{}, {"residual": "one"}, {"residual": None}, 3, {**SOUND, "radius": [1]}], ids=str)
def test_claims_that_are_no_numbers_are_refused(numbers, tmp_path):
    steps, arrays, trained, x, y = line()
    fields = {
        "format": 1, "statement": "minimum", "says": "", "assumes": [], "numbers": numbers, "trained": trained,
        "steps": [vars(s) for s in steps],
    }  # fmt: skip
    save_sealed(tmp_path / "c", json.dumps(fields), {**{f"program.{k}": v for k, v in arrays.items()}, "x": x, "y": y})
    with pytest.raises(BadData, match="no certificate that can be checked"):
        check(tmp_path / "c")


def save_sealed(path, text, arrays):
    from safetensors.numpy import save

    path.write_bytes(save(arrays, {HEADER: text, "seal": seal(text, arrays)}))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["x", "y", "t", "c", "a"])
def test_what_is_no_number_is_never_part_of_a_proof(name, value, tmp_path):
    steps, arrays, trained, x, y = line()
    held = {**arrays, "x": x, "y": y}
    held[name] = np.full_like(held[name], value)
    arrays = {k: held[k] for k in arrays}
    result = judged(tmp_path / "c", steps, arrays, trained, held["x"], held["y"], SOUND)
    assert result is None or not result.valid


@pytest.mark.parametrize("kind", [np.float32, np.float16, np.int64, np.int32, bool])
def test_numbers_of_another_type_are_refused(kind, tmp_path):
    steps, arrays, trained, x, y = line()
    assert judged(tmp_path / "c", steps, {**arrays, "t": arrays["t"].astype(kind)}, trained, x, y, SOUND) is None
    assert judged(tmp_path / "c", steps, arrays, trained, x.astype(kind), y, SOUND) is None
    assert judged(tmp_path / "c", steps, arrays, trained, x, y.astype(kind), SOUND) is None


def test_a_norm_of_numbers_whose_squares_underflow_is_no_smaller_than_they():
    for scale in (1e-300, 1e-170, 1e-155, 1.0, 1e160, 1e300):
        assert root_of_squares(np.array([3.0, 4.0]) * scale) >= 5 * scale * (1 - 1e-15)
        assert root_of_squares(np.array([1e-160, scale])) >= scale


def test_an_error_that_underflows_is_covered_after_it_is_multiplied():
    """u times 3e-310 is below the smallest float64; times 1e200 it is a rounding error of 1e-126."""
    import fractions

    rng = np.random.default_rng(0)
    left, right = rng.standard_normal((3, 5)) * 1e200, rng.standard_normal((5, 2)) * 3e-300
    ball = product(Ball.exact(left), Ball.exact(right), by_flint=0)
    for i in range(3):
        for j in range(2):
            exact = sum(
                fractions.Fraction(a) * fractions.Fraction(b) for a, b in zip(left[i], right[:, j], strict=True)
            )
            off = abs(exact - fractions.Fraction(float(ball.middle[i, j])))
            assert off <= fractions.Fraction(float(ball.radius[i, j]))


@pytest.mark.parametrize("scale", [1e-200, 1e-160, 1e155, 1e300])
def test_a_variance_that_under_or_overflows_is_not_known(scale):
    z = Ball.exact(np.array([[1.0, 2.0, 4.0]]) * scale)
    assert np.isinf(normalized(z, 1, 0.0).value.radius).all()


@pytest.mark.parametrize("width", [0.1, 0.2, 0.4])
def test_normalization_of_a_wide_ball_holds_every_member(width):
    rng = np.random.default_rng(0)
    for _ in range(50):
        middle = rng.standard_normal((1, 5))
        middle[0, 0] += rng.choice([0.0, 4.0])
        radius = width * rng.random((1, 5))
        ball = normalized(Ball(middle, radius), 1, 1e-3)
        members = middle + radius * rng.choice([-1.0, 1.0], (200, 5))
        centred = members - members.mean(1, keepdims=True)
        truth = centred / np.sqrt((centred**2).mean(1, keepdims=True) + 1e-3)
        assert np.all(np.abs(truth - ball.value.middle) <= ball.value.radius)


def test_the_rate_of_descent_is_rounded_down():
    """Where the factors nearly cancel, floating point has the rate too large."""
    from fractions import Fraction

    rng = np.random.default_rng(0)
    for _ in range(200):
        had = {"residual": 1e-8, "lipschitz": 1.0, "radius": 1e-4, "sigma": 1e-4 * (1 + 1e-9 * rng.random())}
        had |= {"largest": 1.0, "step": 2 / (1 + 1e-4) ** 2 * (1 - 1e-7 * rng.random())}
        exact = {k: Fraction(v) for k, v in had.items()}
        share = 1 - exact["step"] * (exact["largest"] + exact["lipschitz"] * exact["radius"]) ** 2 / 2
        share -= exact["lipschitz"] * exact["step"] * exact["residual"] / 2
        gap = exact["sigma"] - exact["lipschitz"] * exact["radius"]
        if share > 0 and gap > 0:
            assert Fraction(contraction(had)) <= exact["step"] * share * gap**2
        else:
            assert contraction(had) == 0


def test_a_maximum_whose_winner_is_not_certain_holds_the_other_entry(tmp_path):
    from gramian.checker.groups import largest

    value, winner, lead = largest(Ball(np.array([[1.0, 0.9, -2.0]]), np.array([[0.0, 0.3, 0.0]])), 1, None)
    assert winner[0, 0] == 0
    assert lead[0, 0] < 0
    assert value.middle[0, 0] + value.radius[0, 0] >= 1.2
    certain = largest(Ball(np.array([[1.0, 0.6]]), np.array([[0.1, 0.2]])), 1, None)
    assert certain[0].radius[0, 0] == 0.1
    assert 0 < certain[2][0, 0] <= 0.1
    steps = (ProgramStep("input"), ProgramStep("affine", (0,), weight="w"), ProgramStep("maximum", (1,), offset="m"))
    arrays = {"w": np.array([[0.5], [1.0]]), "m": np.zeros(2)}  # the maximum of nothing
    assert judged(tmp_path / "c", steps, arrays, ["w"], np.ones((1, 1)), ONE, CLAIMS) is None
