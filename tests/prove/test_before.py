"""Statement `before`: against runs of 400 bits, each inequality of docs/proofs/before.md, and the search."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from exact_two_layer import ExactRun, random_problem
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from torch import nn

import gramian
from gramian.checker import checked
from gramian.checker.certificate_file import Content
from gramian.checker.program import NetworkProgram, ProgramStep
from gramian.checker.replay import tail
from gramian.checker.two_layer import TwoLayerWeights, evaluate, norm
from gramian.checker.two_layer_run import NegativeCurvature, Replay
from gramian.checker.two_layer_tube import IntervalStart, Modes, intervals_of, tube
from gramian.errors import BadArgument, BadData, Unsupported
from gramian.prove import check
from gramian.prove.before import smallest

STEPS = 60  # of an exact run, which is slow


def rows(n: int = 12):
    x, classes = load_digits(return_X_y=True)
    x = x[:n] - x[:n].mean(0)
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    return torch.from_numpy(x), torch.from_numpy(np.where(classes[:n] % 2 == 0, 1.0, -1.0)[:, None])


class Paired(nn.Module):
    """Neurons in pairs of opposite readout, so that the outputs are 0; the first layer trains."""

    def __init__(self, width: int):
        super().__init__()
        draw = torch.Generator().manual_seed(0)
        weights = torch.randn(width // 2, 64, generator=draw, dtype=torch.float64)
        signs = torch.randint(0, 2, (1, width // 2), generator=draw) * 2.0 - 1
        self.hidden, self.readout = (nn.Linear(*size, bias=False).double() for size in ((64, width), (width, 1)))
        self.hidden.weight.data = torch.cat([weights, weights])
        self.readout.weight.data = torch.cat([signs, -signs], 1).double() / math.sqrt(width)
        self.readout.weight.requires_grad_(False)

    def forward(self, x):
        return self.readout(torch.tanh(self.hidden(x)))


@pytest.fixture(scope="module")
def proof():
    result = gramian.prove(Paired(64), *rows(), "before")
    assert result.status == "proved", result.summary
    return result


@given(st.integers(0, 10**9), st.sampled_from([1, 2, 5, 20]))
@settings(deadline=None, max_examples=30)
def test_the_exact_run_passes_every_point_within_the_distance(seed, longest):
    rng = np.random.default_rng(seed)
    task, start = random_problem(rng)
    exact, steps = ExactRun(task, start), 0
    try:
        for here, interval in tube(Replay(task, start), lambda here: here.enclosed(int(rng.integers(1, longest + 1)))):
            assert exact.distance(here.point.weights) <= here.distance
            assert exact.loss_root() <= here.bounds().residual
            if here.distance > 0.1 or steps > STEPS:
                return
            for _ in range(interval.steps):
                exact.step()
            steps += interval.steps
    except ArithmeticError:  # no enclosure: nothing is claimed
        return


@pytest.mark.parametrize("seed", range(20))
def test_what_is_summed_as_the_defect_covers_the_gradients_differences(seed):
    """(5): against gradients computed at every step of the path, in float64."""
    task, start = random_problem(np.random.default_rng(seed))
    task = replace(task, lr=task.lr / 8)
    replay = Replay(task, start)
    point = evaluate(task, replay.geometry, replay.phi, 0, start)
    try:
        here = IntervalStart(replay, point, 0.0, NegativeCurvature(replay))
    except ArithmeticError:
        pytest.skip("a singular Gram matrix has no modes")
    steps, total, farthest = 9, 0.0, 0.0
    bound = here.enclosed(steps)
    for k in range(steps):
        weights, _ = here.end(k)
        there = evaluate(task, replay.geometry, replay.phi, k, weights).gradient
        after, _ = here.end(k + 1)
        own = [(old - new) / task.lr for old, new in zip(vars_of(weights), vars_of(after), strict=True)]
        gaps = [g - o for g, o in zip(vars_of(there), own, strict=True)]
        total += task.lr * norm(np.array([norm(g) for g in gaps]))
        farthest = max(farthest, weights.distance(start))
        # rounding of the differences quotient: far below the linearization's error, or nothing is compared
        assert total <= bound.defect + 1e-12 * (1 + norm(weights.w)), k
        way, each = here.defect_within(k)
        assert weights.distance(start) <= way * (1 + 1e-9) + 1e-12
        assert norm(np.array([norm(g) for g in gaps])) <= each + 1e-10 / task.lr * (1 + norm(weights.w))


def vars_of(weights: TwoLayerWeights):
    return weights.w, weights.a, weights.beta


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8, 0.99])
def test_the_modes_sums_are_those_of_powers(share):
    task, start = random_problem(np.random.default_rng(5))
    replay = Replay(task, start)
    h, _, _ = replay.gram(evaluate(task, replay.geometry, replay.phi, 0, start))
    top = np.linalg.eigvalsh(h)[-1]
    here = IntervalStart(
        Replay(replace(task, lr=2 * share / top), start),
        evaluate(task, replay.geometry, replay.phi, 0, start),
        0.0,
        NegativeCurvature(replay),
    ).modes
    q = 1 - here.lr * here.values
    for steps in (0, 1, 2, 7, 30):
        powers = [here.lr * np.sum([0 * q, *(q**k for k in range(count))], axis=0) for count in range(steps + 1)]
        assert np.allclose(here.sums(steps), powers[-1], rtol=1e-12, atol=1e-14)
        assert np.all(np.abs(powers) * (1 - 1e-14) <= here.largest_sums(steps)), "for fewer steps as well"


def test_one_interval_of_one_step_is_the_step_itself():
    task, start = random_problem(np.random.default_rng(1))
    replay = Replay(task, start)
    points = [here.point for here, _ in tube(replay, intervals_of([1, 1, 1]))]
    for (point, _), own in zip(replay, points, strict=False):
        assert point.weights.distance(own.weights) < 1e-12


def test_a_network_is_proved_before_it_runs_and_then_plain_torch_keeps_the_promise(proof):
    x, y = rows()
    assert proof.numbers["points"] < proof.numbers["steps"]
    network = Paired(64)
    optimizer = torch.optim.SGD(network.parameters(), lr=proof.numbers["lr"])
    for _ in range(int(proof.numbers["time"])):
        optimizer.zero_grad()
        loss = ((network(x) - y) ** 2).sum() / 2
        loss.backward()
        optimizer.step()
    assert ((network(x) - y) ** 2).sum() / 2 <= proof.numbers["accuracy"]


def test_the_certificate_is_checked_from_its_file_and_no_number_of_it_can_be_changed(proof, tmp_path):
    proof.save(tmp_path / "net.certificate")
    assert check(tmp_path / "net.certificate").valid
    content = proof.content
    for name in ("distance", "residual", "points", "time"):
        forged = replace(content, numbers=content.numbers | {name: content.numbers[name] * 0.3})
        assert not checked(forged).valid, name
    assert not checked(replace(content, numbers=content.numbers | {"sigma": content.numbers["sigma"] * 1.2})).valid
    assert not checked(replace(content, numbers=content.numbers | {"steps": content.numbers["steps"] + 1})).valid
    lengths = content.series["intervals"]
    shorter = replace(content, numbers=content.numbers | {"steps": int(lengths[:9].sum())})
    assert not checked(replace(shorter, series={"intervals": lengths[:9]})).valid
    coarse = np.array([int(lengths.sum())])
    assert not checked(replace(content, series={"intervals": coarse})).valid


@pytest.mark.parametrize("lengths", [[0, 5], [-3, 8]])
def test_lengths_that_are_none_are_refused(proof, lengths):
    content = replace(proof.content, series={"intervals": np.array(lengths)})
    content = replace(content, numbers=content.numbers | {"steps": int(np.sum(lengths)), "points": 3})
    assert [line.name for line in checked(content).failing] == ["shortest"]
    for wrong in (np.array([[1]]), np.array([1.0])):
        with pytest.raises(ValueError, match="whole numbers"):
            checked(replace(proof.content, series={"intervals": wrong}))


def test_a_file_without_its_intervals_is_no_certificate(proof, tmp_path):
    from gramian.checker.certificate_file import write

    write(tmp_path / "net.certificate", replace(proof.content, series={}))
    with pytest.raises(BadData, match="intervals"):
        check(tmp_path / "net.certificate")


def test_a_smaller_rate_has_more_steps_and_hardly_more_points(proof):
    slow = gramian.prove(Paired(64), *rows(), "before", lr=proof.numbers["lr"] / 20)
    assert slow.status == "proved"
    assert slow.numbers["steps"] > 4 * proof.numbers["steps"]
    assert slow.numbers["points"] < 0.5 * slow.numbers["steps"]


@pytest.mark.parametrize("find", ["scale", "lr", "width"])
def test_a_search_ends_between_what_is_certified_and_what_is_not(find, tmp_path):
    network = Paired(64)
    if find == "width":
        network = Paired
    result = gramian.prove(network, *rows(6), "before", find=find, most_steps={"lr": 12}.get(find, 30))
    assert result.status == "proved"
    assert result.find == find
    by_value = {trial.value: trial.proved for trial in result.trials}
    assert by_value[result.certified]
    assert len(by_value) >= 2
    assert set(by_value.values()) == {True, False}
    if find == "width":
        certified = [value for value, proved in by_value.items() if proved]
        assert result.numbers["width"] in certified
        assert all(value % 2 == 0 for value in by_value)
    learned = [trial.kernel_change for trial in result.trials if math.isfinite(trial.kernel_change)]
    assert len(learned) >= 2
    if find == "scale":
        assert learned[0] > 2 * learned[-1] > 0, "larger outputs learn less"
    result.save_picture(tmp_path / "picture.svg")
    text = (tmp_path / "picture.svg").read_text()
    assert text.startswith("<svg")
    assert "certified from here" in text


def test_the_search_doubles_and_bisects():
    tried = []

    def certified(value: float) -> bool:
        tried.append(value)
        return value >= 700

    assert 700 <= smallest(certified, "width") <= 770
    assert all(value % 2 == 0 for value in tried)
    assert smallest(lambda value: False, "width") is None
    assert smallest(lambda value: value >= 0.3, "scale") == pytest.approx(0.3, rel=0.11)
    assert smallest(lambda value: value <= 0.6, "lr") == pytest.approx(0.6, rel=0.06)


def test_what_cannot_be_meant_is_refused():
    x, y = rows(6)
    with pytest.raises(BadArgument, match="`find` is 'depth'"):
        gramian.prove(Paired(8), x, y, "before", find="depth")
    with pytest.raises(BadArgument, match="`find` is 'lr' with the statement 'run'"):
        gramian.prove(Paired(8), x, y, "run", find="lr")
    with pytest.raises(BadArgument, match="function of the width"):
        gramian.prove(Paired(8), x, y, "before", find="width")
    with pytest.raises(BadArgument, match="function of the width"):
        gramian.prove(Paired, x, y, "before", find="scale")
    with pytest.raises(BadArgument, match="cannot be both"):
        gramian.prove(Paired(8), x, y, "before", find="lr", lr=0.1)
    with pytest.raises(Unsupported, match="two-layer"):
        gramian.prove(nn.Sequential(nn.Linear(64, 1)), x, y, "before")
    with pytest.raises(BadArgument, match="no search"):
        gramian.prove(Paired(64), x, y, "before", most_steps=2).save_picture("never.svg")


def test_what_fails_is_named_with_its_numbers():
    result = gramian.prove(Paired(8), *rows(), "before", most_steps=3)
    assert result.status == "not proved"
    assert "a wider network" in result.fix
    assert "2 L R < c sigma^2" in result.summary
    assert "fails" in result.summary


def test_a_tail_beyond_the_activations_table_is_not_proved(proof):
    """It used to be an error, although a later step's smaller ball fits."""
    content = proof.content
    from gramian.checker.two_layer_program import two_layer

    task, start = two_layer(content.program, content.x, content.y, content.numbers["lr"])
    replay = Replay(task, start)
    point, bounds = next(iter(replay))
    replay.phi.reach = point.largest_z
    assert not tail(replay, point, bounds).proved


def test_a_search_ends_when_its_time_is_over():
    for statement, find in (("before", "scale"), ("run", None)):
        result = gramian.prove(Paired(64), *rows(), statement, find=find, max_seconds=1e-9)
        assert result.status == "not proved"
        assert len(result.trials) <= 1
        assert "max_seconds" in result.fix


def one_neuron(statement: str, *, y: float, scale: float = 1.0, readout: float = 1.0, lr: float = 0.1, **numbers):
    """A certificate by hand: f = scale readout tanh(w x) at w = 0, x = 1, the readout fixed, no step made."""
    steps = [
        ProgramStep("input"),
        ProgramStep("affine", (0,), weight="w"),
        ProgramStep("function", (1,), function="tanh"),
        ProgramStep("affine", (2,), weight="a", weight_scale=scale),
    ]
    one = np.ones((1, 1))
    program = NetworkProgram(steps, {"w": 0 * one, "a": readout * one}, frozenset({"w"}))
    claims = {"lr": lr, "steps": 0, "points": 1, "distance": 1e-9, "residual": 2, "sigma": 0.5} | numbers
    return Content(statement, "", (), claims, program, one, y * one, {"intervals": np.zeros(0, dtype=np.int64)})


@pytest.mark.parametrize("statement", ["run", "before"])
def test_a_target_that_no_weights_reach_is_not_proved_by_a_sign_or_an_underflow(statement):
    """|f| <= 1 < 1.5. A negative multiplier made the Lipschitz constant negative; the readout's square underflowed."""
    assert checked(one_neuron(statement, y=0.15)).valid
    assert checked(one_neuron(statement, y=0.15, scale=-1.0)).valid
    assert not checked(one_neuron(statement, y=1.5)).valid
    assert not checked(one_neuron(statement, y=1.5, scale=-1.0, readout=-1.0)).valid
    for size in (1e-170, 1e-200, 1e-300):
        tiny = one_neuron(statement, y=1.5, readout=size, scale=1 / size)
        assert [line.name for line in checked(tiny).failing] == ["range"]


@pytest.mark.parametrize("statement", ["run", "before"])
@pytest.mark.parametrize("lr", [1e-16, 1e-17, 1e-20])
def test_a_step_below_the_rounding_of_its_factor_takes_its_time(statement, lr):
    """1 - lr c sigma^2 rounds to 1 or above, and one step was claimed to do."""
    claimed = one_neuron(statement, y=0.15, lr=lr, accuracy=1e-6, time=1)
    assert [line.name for line in checked(claimed).failing] == ["time"]
    needed = math.log(0.15 / math.sqrt(2e-6)) / lr
    assert not checked(one_neuron(statement, y=0.15, lr=lr, accuracy=1e-6, time=needed)).valid
    assert checked(one_neuron(statement, y=0.15, lr=lr, accuracy=1e-6, time=1.5 * needed)).valid


def test_the_sentence_says_the_points_that_there_are_and_what_is_taken_for_granted():
    assert [line.name for line in checked(one_neuron("before", y=0.15, points=1e300)).failing] == ["fewest"]
    assert any("flint" in text for text in checked(one_neuron("before", y=0.15)).assumes)
    assert not checked(one_neuron("before", y=0.15, accuracy=5e-324, time=1e9)).valid, "its square underflows"


def test_sums_of_modes_that_cancel_are_refused():
    """(1 - q^k) / mu was the middle of a ball of any width."""
    task, _ = random_problem(np.random.default_rng(5))
    modes = Modes(np.diag([1e-18, 1.0]), 1e-30, replace(task, lr=1e-28))
    with pytest.raises(ArithmeticError, match="too small"):
        modes.sums(3)


@pytest.mark.parametrize("statement", ["run", "before"])
@pytest.mark.parametrize(
    "wrong",
    [
        {"most_steps": 0}, {"most_steps": -3}, {"most_steps": 2.5}, {"most_steps": "7"}, {"max_seconds": -1},
        {"max_seconds": math.nan}, {"max_seconds": None}, {"accuracy": 0}, {"accuracy": math.nan}, {"accuracy": 1e-300},
        {"lr": "0.1"}, {"lr": torch.tensor(0.1)}, {"polished": True},
    ],
)  # fmt: skip
def test_numbers_that_cannot_be_meant_are_refused_in_four_parts(statement, wrong):
    with pytest.raises(BadArgument, match=f"`{next(iter(wrong))}`") as refused:
        gramian.prove(Paired(8), *rows(6), statement, **wrong)
    assert all((refused.value.where, refused.value.why, refused.value.fix))


@pytest.mark.parametrize(
    ("draws", "says"), [(lambda width: None, "is a NoneType"), (lambda width: Paired(8), "has 8 hidden neurons")]
)
def test_a_function_that_draws_no_network_of_its_width_is_refused(draws, says):
    """The one that ignores the width was certified at width 2."""
    with pytest.raises(BadArgument, match=says):
        gramian.prove(draws, *rows(6), "before", find="width")


def test_a_rate_of_which_only_the_points_can_be_counted_is_checked():
    """Its steps were refused as more than can be replayed, with an inequality that held."""
    result = gramian.prove(Paired(128), *rows(6), "before", lr=1e-8)
    assert result.status == "proved", result.summary
    assert result.numbers["steps"] > 10**7


def test_what_networks_learn_is_measured_within_the_time():
    """Networks that never learn cost 20,000 steps each after the time was over."""
    network = nn.Sequential(nn.Linear(64, 4), nn.Tanh(), nn.Linear(4, 1)).double()
    for parameter in network.parameters():
        parameter.data.zero_()
    result = gramian.prove(network, *rows(6), "before", find="scale", max_seconds=0.2)
    assert result.status == "not proved"
    assert len(result.trials) < 5
