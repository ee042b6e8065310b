"""From a CSV to the answer: the command line and Python give the same numbers, for tables of practitioners."""

import contextlib
import io
import json
import re
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import accuracy_score, balanced_accuracy_score, r2_score
from typer.testing import CliRunner

import gramian
import gramian.data
import gramian.predict
from gramian.certify.limit_cost import seconds_per_pair
from gramian.cli import app
from gramian.network.zoo import ZOO


@pytest.fixture
def command(tmp_path, monkeypatch):
    """Runs a command in an empty folder; its result, with the words of stdout and stderr in one line each."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    torch.set_default_dtype(torch.float32)  # as a user has it

    def run(words):
        done = CliRunner().invoke(app, words.split())
        assert done.exit_code in (0, 1), done.stderr + done.stdout
        return " ".join(done.stdout.split()), " ".join(done.stderr.split())

    return run


def rings():
    rng = np.random.default_rng(0)
    radius = np.where(np.arange(200) % 2, 1.0, 2.0) + rng.normal(0, 0.08, 200)
    angle = rng.uniform(0, 2 * np.pi, 200)
    names = np.where(np.arange(200) % 2, "inner", "outer")
    return pd.DataFrame({"a": radius * np.cos(angle), "b": radius * np.sin(angle), "label": names})


def sine():
    x = np.linspace(-3, 3, 100)
    return pd.DataFrame({"x": x, "target": np.sin(x)})


def houses():
    """Prices around 200,000, with a column of text and a missing number."""
    rng = np.random.default_rng(0)
    area, town = rng.uniform(40, 200, 120), rng.choice(["north", "south"], 120)
    price = 1500 * area + np.where(town == "north", 50_000, 0) + rng.normal(0, 5000, 120)
    area[7] = np.nan
    return pd.DataFrame({"area": area, "town": town, "price": price + 200_000 - price.mean()})


def wine():
    from sklearn.datasets import load_wine

    return load_wine(as_frame=True).frame


def minority():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(300, 4)), columns=list("abcd"))
    score = frame.a + frame.b
    return frame.assign(ill=np.where(score > np.quantile(score, 0.97), "yes", "no"))


TABLES = {
    "rings": (rings, "label", "--bias"),
    "sine": (sine, "target", "--bias"),
    "houses": (houses, "price", "--bias --missing mean"),
    "wine": (wine, "target", ""),
    "minority": (minority, "ill", ""),
}
LAW_OF_BIAS = {"readout": (1.0, 0.1), "*": (2**0.5, 0.1)}  # what --bias says that it takes


def written(name):
    make, target, options = TABLES[name]
    table = make()
    table.to_csv("rows.csv", index=False)
    return table, target, options


def printed(stdout, what):
    """The number after a word of the answer, such as "test accuracy"."""
    found = re.search(rf"{what} +([-\d.,]+)( %)?", stdout)
    assert found, f"no {what} in {stdout}"
    number = float(found[1].replace(",", ""))
    return number / 100 if found[2] else number


def in_python(target, options):
    """The data and the model of `gramian fit`, made in Python."""
    missing = "mean" if "mean" in options else "refuse"
    data = gramian.data.load("rows.csv", target=target, missing=missing)
    if "--bias" not in options:
        return data, gramian.predict.fit(data)
    net = ZOO["mlp"](data.in_shape, data.n_outputs, bias=True)
    return data, gramian.predict.fit(data, net, law=LAW_OF_BIAS)


@pytest.mark.parametrize("name", TABLES)
def test_fit_and_predict_give_the_numbers_of_python(name, command):
    table, target, options = written(name)
    stdout, stderr = command(f"fit --data rows.csv --target {target} --out m {options}")
    assert ("standard deviation 0.1 unless" in stderr) == ("--bias" in options)
    predicted, _ = command("predict m --data rows.csv --out p.csv --quiet")
    table[table.columns[::-1]].to_csv("backwards.csv", index=False)
    command("predict m --data backwards.csv --out b.csv --quiet")
    found, backwards = pd.read_csv("p.csv"), pd.read_csv("b.csv")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # rows with empty cells, which the command's notes name too
        data, model = in_python(target, options)
        python = model.predict(table)
    held = ~found.trained_on.to_numpy()
    assert sorted(found.row[~held]) == sorted(data.rows.tolist())
    truth = table[target].to_numpy()
    if data.classes:
        truth = truth.astype(str)
        assert (found.prediction.astype(str) == python).all()
        assert (backwards.prediction == found.prediction).all()
        scores = {"accuracy": accuracy_score, "balanced": balanced_accuracy_score}
    else:
        np.testing.assert_allclose(found.prediction, python, rtol=1e-9)
        np.testing.assert_allclose(backwards.prediction, python, rtol=1e-9)
        scores = {"R²": r2_score}
    for score, of in scores.items():
        value = of(truth[held], python[held])
        assert printed(predicted, score) == pytest.approx(value, abs=6e-4)
        after = stdout[stdout.rindex("test ") :]
        assert printed(after, score) == pytest.approx(value, abs=6e-4)
    if not data.classes:
        error = np.sqrt(((truth[held] - python[held]) ** 2).mean())
        assert printed(predicted, "error") == pytest.approx(error, rel=6e-3)
    least = {"rings": 0.98, "sine": 0.97, "houses": 0.9, "wine": 0.9, "minority": 0.9}[name]
    assert next(iter(scores.values()))(truth[held], python[held]) > least


def certified(command, options):
    """The facts of a certification by the command, and the certification that the report's line of Python makes."""
    command(f"certify --data rows.csv --out report --quiet {options}")
    facts = json.loads(Path("report/report.json").read_text(encoding="utf-8"))["runs"][0]
    lines = facts["origin"]["python"].split("; ")
    names = {}
    with contextlib.redirect_stderr(io.StringIO()):
        exec("; ".join(lines[:-1]), names)
        return facts, eval(lines[-1], names)


def same(one, other):
    """Two trees of facts, with equal numbers."""
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            same(one[key], other[key])
    elif isinstance(one, list):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            same(a, b)
    elif isinstance(one, float):
        assert other == pytest.approx(one, rel=1e-6, nan_ok=True)
    else:
        assert one == other


COMPARED = ("did", "why", "goal", "scores", "loss", "accuracy", "spectrum", "test", "certificates")


def compare_certified(name, command, options):
    _, target, more = written(name)
    facts, python = certified(command, f"--target {target} {more} {options}")
    other = json.loads(json.dumps(python.run))
    for part in COMPARED:
        same(facts[part], other[part])
    return facts


def test_certify_gives_the_numbers_of_python(command):
    compare_certified("houses", command, "--n 40 --n-test 20 --depth 2 --width 16 --steps 20")


@pytest.mark.slow
@pytest.mark.parametrize("name", TABLES)
def test_certify_as_people_call_it_gives_the_numbers_of_python(name, command):
    facts = compare_certified(name, command, "--steps 3000")
    print(f"{name}: {facts['status']} after {facts['goal']['steps']} steps, {facts['scores']}")


def test_what_a_kernel_costs_does_not_depend_on_pauses_of_the_machine():
    """The sine was certified with 7 theorems on the command line and 8 in Python: the machine paused for 20 ms."""

    def kernel(a, b):
        time.sleep(0.03)
        return a @ b.T

    assert seconds_per_pair(kernel, torch.ones(80, 1)) < 3 / 80**2


def test_rings_without_biases_are_warned_of(command):
    rings().to_csv("rings.csv", index=False)
    stdout, stderr = command("fit --data rings.csv --out m.joblib")
    assert "has no biases" in stderr
    assert "none in the network; --bias adds them" in stdout
    stdout, stderr = command("fit --data rings.csv --out m.joblib --bias")
    assert "has no biases" not in stderr
    assert "biases 3, of standard deviation 0.1" in stdout
    assert printed(stdout, "test accuracy") == 1


def test_what_is_replaced_is_said(command):
    sine().to_csv("rows.csv", index=False)
    for said in (False, True):
        for words, saying in (
            ("kernel --data rows.csv --n 20 --out k.npy", "k.npy, which was there before"),
            ("fit --data rows.csv --n 20 --out m.joblib", "m.joblib, which was there before"),
            ("certify --data rows.csv --n 20 --depth 2 --width 8 --steps 1", "report.html, in place of the one"),
        ):
            stdout, _ = command(words)
            assert (saying in stdout) == said


def test_one_is_singular(command):
    Path("t.csv").write_text("a,c,label\n1,x,0\n2,y,1\n3,x,0\n4,y,1\n5,x,1\n6,y,0\n", encoding="utf-8")
    Path("one.csv").write_text("a,c\n1,x\n,y\n", encoding="utf-8")
    said = [*command("fit --data t.csv --out m"), *command("predict m --data t.csv")]
    said += [*command("predict m --data one.csv --missing drop"), *command("predict m --data one.csv --missing mean")]
    wrong = re.findall(
        r"(?<![\d,.])1 (?:[a-z]+ )?(?:rows|cells|columns|labels|classes|samples|steps|files)\b", " ".join(said)
    )
    assert not wrong
    assert "1 of 2 rows has empty cells" in " ".join(said)
