"""Whole runs on two dozen digits: every optimizer, loss, kind of network and kind of data gives a whole answer."""

import copy
import json
import math
import pickle
import signal

import pytest
import torch
from torch import nn

import gramian
from gramian.certify import IMPLIED, NOT_SHOWN, OBSERVED, Description, certify, report_facts
from gramian.network.zoo import ResNet, cnn, mlp
from gramian.prove.proof import NOT_PROVED, PROVED
from gramian.report import write
from gramian.train.loop import Loop

SMALL = {"width": 16, "steps": 12}


def net(n_outputs=3, bias=False):
    return mlp((1, 8, 8), n_outputs, depth=2, width=16, bias=bias)


def linear(n_outputs=3):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, n_outputs, bias=False))


def with_softmax():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.Softmax(1), nn.ReLU(), nn.Linear(16, 3))


def max_pool():
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 3))


def real(rows, columns, seed=0):
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


def twice(few):
    x, y, *_ = few
    return torch.cat([x, x[:2]]), torch.cat([y, y[:2]])


# name: what to certify. A new kind of run adds a line here, and is held to the contract below.
CASES = {
    **{f"{o}, squared": (lambda f, o=o: (net(), *f), {"optimizer": o}) for o in ("gd", "momentum", "nesterov", "adam")},
    "sgd, squared": (lambda f: (net(), *f), {"optimizer": "sgd", "batch_size": 7}),
    "sgd, cross-entropy": (lambda f: (net(), *f), {"optimizer": "sgd", "batch_size": 7, "loss": "cross-entropy"}),
    "nesterov, cross-entropy": (lambda f: (net(), *f), {"optimizer": "nesterov", "loss": "cross-entropy"}),
    "adam, cross-entropy": (lambda f: (net(), *f), {"optimizer": "adam", "loss": "cross-entropy"}),
    "no test rows": (lambda f: (net(), *f[:2]), {"optimizer": "gd"}),
    "no test rows, empty": (lambda f: (net(), *f[:2], f[2][:0], f[3][:0]), {"optimizer": "gd"}),
    "regression": (lambda f: (net(2), f[0], real(24, 2), f[2], real(9, 2)), {"optimizer": "gd"}),
    "regression, sgd": (lambda f: (net(1), f[0], real(24, 1)[:, 0], f[2], real(9, 1)[:, 0]), {"batch_size": 5}),
    "one row": (lambda f: (net(1), f[0][:1], real(1, 1)), {"optimizer": "gd"}),
    "convolutional": (lambda f: (cnn((1, 8, 8), 3, depth=3, width=4), *f), {"width": 4, "steps": 3}),
    "residual": (lambda f: (ResNet((1, 8, 8), 3, depth=4, width=8), *f), {"optimizer": "gd"}),
    "standard": (lambda f: (net(bias=True), *f), {"parametrization": "standard", "width": "auto"}),
    "own": (lambda f: (net(bias=True), *f), {"parametrization": "own", "width": "auto"}),
    "own, softmax": (lambda f: (with_softmax(), *f), {"parametrization": "own", "width": "auto"}),
    "own, MaxPool": (lambda f: (max_pool(), *f), {"parametrization": "own", "width": "auto", "optimizer": "gd"}),
    "allen-zhu": (lambda f: (mlp((1, 8, 8), 3, depth=4, width=8), *f), {"parametrization": "allen-zhu"}),
    "allen-zhu, residual": (lambda f: (ResNet((1, 8, 8), 3, depth=4), *f), {"parametrization": "allen-zhu"}),
    "no hidden layer": (lambda f: (linear(), *f), {"optimizer": "gd"}),
    "equal rows": (lambda f: (net(), *twice(f)), {"optimizer": "gd"}),
    "conflict": (lambda f: (net(), f[0][[0, 0, 1]], torch.tensor([0, 1, 1])), {}),
    "diverged": (lambda f: (net(), *f), {"optimizer": "gd", "lr": 1e3}),
    "diverged to NaN": (lambda f: (net(), *f), {"optimizer": "sgd", "lr": 1e20}),
    "no step": (lambda f: (net(), *f), {"optimizer": "gd", "steps": 0}),
    "float64": (lambda f: (net(), *f), {"dtype": torch.float64}),
}  # fmt: skip


def run(few, name, **more):
    make, settings = CASES[name]
    torch.manual_seed(0)
    module, x, y, *test = make(few)
    tests = dict(zip(("x_test", "y_test"), test, strict=False))
    return certify(module, x, y, **tests, **SMALL | settings | more)


@pytest.fixture(scope="module")
def found(few):
    """Each case once."""
    known = {}

    def get(name):
        if name not in known:
            known[name] = run(few, name)
        return known[name]

    return get


@pytest.mark.parametrize("name", CASES)
def test_every_run_is_whole(name, found, tmp_path):
    one = found(name)
    assert len(one.answer) == 3
    for sentence in one.answer:
        assert sentence[0].isupper()
        assert sentence.endswith(".")
        assert "None" not in sentence
        assert "nan" not in sentence.split() or name == "diverged to NaN"
    assert one.status == f"{one.did}, {one.why}"
    ways = {("reached", PROVED), ("reached", OBSERVED), ("not reached", OBSERVED), ("impossible", IMPLIED)}
    assert (one.did, one.why) in ways
    assert {c.status for c in one} <= {IMPLIED, OBSERVED, NOT_SHOWN, PROVED, NOT_PROVED}  # never a contradiction
    for certificate in one:
        assert json.loads(certificate.to_json(), parse_constant=pytest.fail)["status"] == certificate.status
    assert one.run["status"] == one.status
    assert str(one).startswith(f"{one.run['title']}: {one.status}\n")
    again = pickle.loads(pickle.dumps(one))
    assert str(again) == str(one)
    assert [c.to_dict() for c in again] == [c.to_dict() for c in one]
    page, facts = one.write(str(tmp_path))
    text = page.read_text(encoding="utf-8")
    assert one.answer[0].split(":")[0] in text
    plain = json.loads(facts.read_text(encoding="utf-8"), parse_constant=pytest.fail)
    assert plain["runs"][0]["answer"] == list(one.answer)
    assert len(one.run["loss"]["steps"]) == len(one.run["loss"]["measured"])
    if one.trace is not None:
        assert one.run["origin"]["parameters"] > 0
        assert plain["data"]["n_train"] == one.trace.config["n_train"]


def test_all_of_them_fit_into_one_report(found, tmp_path):
    many = [found(name) for name in ("gd, squared", "own, softmax", "diverged to NaN", "regression")]
    _, facts = write(report_facts(many, "Four"), tmp_path)
    plain = json.loads(facts.read_text(encoding="utf-8"))
    assert plain["title"] == "Four"
    assert [r["answer"][0] for r in plain["runs"]] == [one.answer[0] for one in many]


@pytest.mark.parametrize(
    ("optimizer", "more"), [("gd", {}), ("sgd", {"batch_size": 7}), ("momentum", {}), ("nesterov", {"momentum": 0.5})]
)
def test_a_linear_network_follows_its_prediction_exactly(optimizer, more, few):
    """Its kernel is the limit's and never moves: losses and test outputs agree to rounding at every measured step."""
    x, y, x_test, y_test = few
    settings = {"x_test": x_test, "y_test": y_test, "optimizer": optimizer, "dtype": torch.float64, "steps": 40}
    one = certify(linear(), x, y, **settings, **more)
    loss = one.run["loss"]
    assert loss["steps"][-1] == 40
    torch.testing.assert_close(torch.tensor(loss["measured"]), torch.tensor(loss["predicted"]), rtol=1e-9, atol=0)
    torch.testing.assert_close(
        torch.tensor(loss["measured"]), torch.tensor(loss["predicted_initial"]), rtol=1e-9, atol=0
    )
    assert one.run["test"]["network_error"] == pytest.approx(one.run["test"]["kernel_curve"])
    (exact,) = [c for c in one if c.reference == "arXiv:1904.11955"]
    assert exact.conclusion[0].has > 0.1  # the predictor is where training ends, without the initial outputs


def test_the_default_run_reaches_the_minimum_and_says_so(few):
    x, y, x_test, y_test = few
    one = certify(net(), x, y, x_test=x_test, y_test=y_test, optimizer="gd", width=256)
    steps = one.trace.measured["loss"].steps[-1]
    assert one.reached
    assert one.holds
    assert one.status == "reached, proved"
    assert one.answer[0].startswith("Reached: gradient descent brought the training loss to 0.")
    assert f", with 100% training accuracy in {steps} steps; the global minimum counts as" in one.answer[0]
    assert "75% of the largest stable one" in one.answer[1]
    assert f"this one took {steps}" in one.answer[1]
    assert one.run["accuracy"]["train"][-1] == 1.0
    share = torch.bincount(few[1]).double() / 24
    best_constant = 24 * float(1 - share.square().sum()) / 2  # of one-hot rows about their mean
    assert one.run["goal"]["best_constant"] == pytest.approx(best_constant)
    assert one.run["loss"]["measured"][-1] <= 0.01 * best_constant
    assert one.run["width"]["run_width"] == 256


def test_a_run_that_is_too_short_says_how_far_it_came(found):
    one = found("gd, squared")
    goal = one.run["goal"]
    assert goal["share"] == one.run["loss"]["measured"][-1] / goal["best_constant"]
    assert one.did == "not reached"
    assert not one.reached
    assert not one.holds
    left = f"{100 * goal['share']:.3g}% of the best"
    assert one.answer[0].startswith(f"Not reached: after 12 steps gradient descent left the training loss at {left} ")
    assert "with at most 1% of the best constant predictor's loss, and every training row right" in one.answer[0]


def test_a_rate_that_is_too_large_is_told_and_no_bound_is_met(found):
    for name in ("diverged", "diverged to NaN"):
        one = found(name)
        assert one.answer[0].startswith("Not reached: training diverged at this learning rate: the loss ")
        assert "; try " in one.answer[1]
        assert one.status == "not reached, observed"
        assert "times the largest stable one" in one.answer[1]
        assert "predicted loss" not in one.answer[1]
        bounds = [k for c in one for k in c.conclusion if "over its bound" in k.says]
        assert bounds
        assert not any(k.holds for k in bounds)
        assert one.run["spectrum"]["final"] is None


def test_a_run_whose_premises_hold_is_implied(few):
    """Three rows, wide, a small rate, measured after every step: all that the argument of Du et al. asks."""
    y = torch.tensor([[1.0], [-1.0], [0.5]])
    settings = {"width": 512, "lr": 0.05, "steps": 8, "dtype": torch.float64}
    one = certify(net(1), few[0][:3], y, optimizer="gd", **settings)
    (stable,) = [c for c in one if "argument for descent" in c.theorem]
    assert stable.failing == ()
    assert stable.status == IMPLIED
    assert one.status == "not reached, observed"  # 8 steps at a small rate: whatever side statements hold
    settings["steps"] = 200
    assert certify(net(1), few[0][:3], y, optimizer="gd", prove=False, **settings).status == "reached, implied"
    assert certify(net(1), few[0][:3], y, optimizer="gd", **settings).status == "reached, proved"
    settings["steps"] = 8
    by_sgd = certify(net(1), few[0][:3], y, optimizer="sgd", batch_size=1, **settings)
    (stable,) = [c for c in by_sgd if "argument for descent" in c.theorem]
    assert "plain gradient descent on all samples" in [c.says for c in stable.failing]
    assert stable.status != IMPLIED


def test_equal_rows_with_different_labels_end_it_before_anything_is_trained(few):
    x, y, *_ = few
    module = with_softmax()
    before = copy.deepcopy(module.state_dict())
    x, y = torch.cat([x, x[4:5], x[9:10]]), torch.cat([y, (y[4:5] + 1) % 3, (y[9:10] + 1) % 3])
    one = certify(module, x, y, parametrization="own", description=Description(name="mine", rows=range(1000, 1026)))
    assert one.answer[0] == (
        "No network can: rows 1004 and 1024 are the same input with different labels, and so is one more pair (equal: "
        "all numbers are, in float64, in which the network gets them)."
    )
    assert "below 1.97% of" not in one.answer[1]
    assert f"{one.run['goal']['floor']:.3g} of" in one.answer[1]
    assert "nothing was trained" in one.answer[2]
    assert one.trace is None
    assert not one.reached
    assert one.status == "impossible, implied"
    assert one.data["geometry"]["conflicts"] == [[1004, 1024], [1009, 1025]]
    assert str(one).startswith("mine: impossible, implied\n  No network can")
    for key, value in module.state_dict().items():
        assert torch.equal(value, before[key])


def test_rows_that_differ_by_a_factor_are_different_inputs(few):
    x, y, *_ = few
    one = certify(net(), torch.cat([x, 2 * x[4:5]]), torch.cat([y, (y[4:5] + 1) % 3]), **SMALL)
    assert one.did == "not reached"
    assert one.data["geometry"]["duplicates"] == []


def test_equal_rows_with_equal_labels_are_warned_of(found):
    one = found("equal rows")
    assert one.data["geometry"]["duplicates"] == [[0, 24], [1, 25]]
    assert "2 group(s) of equal rows: the Gram matrix is singular." in one.run["warnings"]
    assert one.run["spectrum"]["limit"][-1] == pytest.approx(0, abs=1e-9)
    assert one.trace.losses


def test_without_a_limit_only_the_network_s_own_matrix_is_shown(found):
    for name, layer in (("own, softmax", "softmax"), ("own, MaxPool", "max_pool2d")):
        one = found(name)
        assert layer in one.run["warnings"][0]
        assert "no limit kernel" in one.answer[2]
        assert one.run["loss"]["predicted"] is None
        assert one.run["loss"]["predicted_initial"] is not None
        assert one.run["spectrum"]["limit"] is None
        assert len(one.run["spectrum"]["initial"]) == len(one.run["spectrum"]["final"]) == 24
        assert one.run["test"]["kernel_error"] is None


def test_only_the_squared_loss_without_adam_is_predicted(found):
    for name in ("sgd, cross-entropy", "adam, squared"):
        assert found(name).run["loss"]["predicted"] is None
    assert any("squared loss" in w for w in found("sgd, cross-entropy").run["warnings"])
    for name in ("gd, squared", "sgd, squared", "momentum, squared", "nesterov, squared", "regression, sgd"):
        loss = found(name).run["loss"]
        assert loss["predicted"][0] == pytest.approx(loss["measured"][0], rel=1e-5)


def test_the_kernel_predictor_is_kernel_regression(found, few):
    x, y, x_test, y_test = few
    arch = gramian.architecture(net(), x[:2])
    theta, cross = arch.ntk(x), arch.ntk(x_test, x)
    targets = torch.eye(3)[y] - 1 / 3
    wrong = (cross @ torch.linalg.solve(theta, targets)).argmax(1) != y_test
    assert found("gd, squared").run["test"]["kernel_error"] == pytest.approx(float(wrong.double().mean()))


def test_sgd_s_largest_stable_rate_is_never_above_that_of_all_rows(few):
    """A batch's block, times n / |S|, has at least the largest eigenvalue of the whole, on average over batches."""
    rates = {
        o: certify(net(), *few[:2], optimizer=o, batch_size=6 if o == "sgd" else None, **SMALL).run["loss"]["lr_max"]
        for o in ("gd", "sgd")
    }
    assert rates["sgd"] <= rates["gd"] * 1.01


def test_the_same_seed_gives_the_same_certification(few):
    def plain(one):
        facts = copy.deepcopy(one.run)
        for key in ("date", "seconds"):
            facts["origin"].pop(key)
        return facts

    one, again, other = (run(few, "sgd, squared", seed=seed) for seed in (5, 5, 6))
    assert plain(one) == plain(again)
    assert one.trace.losses == again.trace.losses
    assert one.trace.losses != other.trace.losses
    torch.manual_seed(99)  # the caller's random state is not asked
    assert run(few, "sgd, squared", seed=5).trace.losses == one.trace.losses


def test_the_caller_s_data_and_random_state_stay(few):
    x, y, x_test, y_test = (v.clone() for v in few)
    state = torch.get_rng_state()
    certify(net(), x, y, x_test=x_test, y_test=y_test, **SMALL)
    for now, before in zip((x, y, x_test, y_test), few, strict=True):
        assert torch.equal(now, before)
    torch.manual_seed(0)
    assert len(state) == len(torch.get_rng_state())


def test_ctrl_c_ends_the_training_and_the_answer_is_written_all_the_same(few, monkeypatch, tmp_path):
    move = Loop._move

    def press(self, loss):
        if self.step == 3:
            signal.raise_signal(signal.SIGINT)
        move(self, loss)

    path = tmp_path / "run.safetensors"
    settings = {"optimizer": "gd", "width": 16, "steps": 10, "dtype": torch.float64, "checkpoint": path}
    with monkeypatch.context() as patched:
        patched.setattr(Loop, "_move", press)
        one = certify(net(), *few[:2], **settings)
    assert one.trace.interrupted
    assert one.answer[0].startswith("Not reached: interrupted after 4 steps, with the training loss at ")
    assert one.run["origin"]["interrupted"]
    assert not one.reached
    assert len(one.run["spectrum"]["final"]) == 24
    page, _ = one.write(str(tmp_path))
    assert "interrupted after 4 steps" in page.read_text(encoding="utf-8")
    resumed = certify(net(), *few[:2], **settings, resume=True)
    whole = certify(net(), *few[:2], **settings | {"checkpoint": None})
    assert resumed.trace.losses == whole.trace.losses
    assert resumed.answer == whole.answer


def test_a_sweep_goes_before_and_says_the_useful_width(few):
    one = certify(net(), *few[:2], parametrization="ntk", steps=2, tolerance=0.3)
    width = one.run["width"]
    assert width["slope"] == pytest.approx(-0.5, abs=0.25)
    assert width["run_width"] == 64 * math.ceil(width["useful_width"] / 64)
    assert width["in_regime"] == (width["run_error"] <= 0.3)
    assert [p["theorem"] for p in width["papers"]] == [
        "Allen-Zhu, Li, Song 2019", "Du, Lee, Li, Wang, Zhai 2019", "Du, Zhai, Poczos, Singh 2019",
    ]  # fmt: skip
    assert "30% is expected from width" in one.answer[2]


def test_progress_says_what_is_being_done(few, capsys):
    certify(net(), *few[:2], **SMALL, progress=True)
    said = capsys.readouterr()
    assert said.out == ""
    for part in ("limit kernel ...", "width sweep ...", "training"):
        assert part in said.err


def test_numpy_arrays_and_other_integers_are_taken(few):
    x, y, x_test, y_test = few
    one = certify(net(), x, y, x_test=x_test, y_test=y_test, **SMALL)
    arrays = certify(net(), x.numpy(), y.int().numpy(), x_test=x_test.numpy(), y_test=y_test.int(), **SMALL)
    assert arrays.trace.losses == one.trace.losses
