"""From a CSV to predictions: `gramian fit` and `predict`, with text, missing values and columns in any order."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import gramian


def gramian_command(*words):
    env = os.environ | {"PYTHONPATH": str(Path(gramian.__file__).parents[1])}  # the folder changes, the package not
    done = subprocess.run(
        [sys.executable, "-m", "gramian", *words], capture_output=True, text=True, check=False, env=env
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return " ".join((done.stdout + done.stderr).split())


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
    rng = np.random.default_rng(0)
    area, town = rng.uniform(40, 200, 120), rng.choice(["north", "south"], 120)
    price = 2000 * area + np.where(town == "north", 50_000, 0) + rng.normal(0, 5000, 120)
    area[7] = np.nan
    return pd.DataFrame({"area": area, "town": town, "price": price})


TABLES = {
    "rings": (rings, "label", ["--bias"]),
    "sine": (sine, "target", ["--bias"]),
    "houses": (houses, "price", ["--missing", "mean", "--bias"]),
}


@pytest.mark.parametrize("name", TABLES)
def test_a_model_of_the_command_fits_its_rows_with_columns_in_any_order(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make, target, options = TABLES[name]
    table = make()
    table.to_csv("rows.csv", index=False)
    gramian_command("fit", "--data", "rows.csv", "--target", target, "--out", "m", "--quiet", *options)
    backwards = table[table.columns[::-1]]
    backwards.to_csv("backwards.csv", index=False)
    for file in ("rows", "backwards"):
        gramian_command("predict", "m", "--data", f"{file}.csv", "--out", f"{file}-out.csv", "--quiet")
    found, other = pd.read_csv("rows-out.csv"), pd.read_csv("backwards-out.csv")
    name_of = next(c for c in found.columns if "predict" in c)
    if name == "rings":
        assert (found[name_of] == table[target]).mean() > 0.98
        assert (other[name_of] == found[name_of]).all()
    else:
        error = found[name_of] - table[target]
        assert 1 - (error**2).mean() / table[target].var(ddof=0) > 0.97
        np.testing.assert_allclose(other[name_of], found[name_of], rtol=1e-9)


def test_rings_without_biases_are_warned_of(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rings().to_csv("rings.csv", index=False)
    assert "has no biases" in gramian_command("fit", "--data", "rings.csv", "--out", "m.joblib")
    assert "has no biases" not in gramian_command("fit", "--data", "rings.csv", "--out", "m.joblib", "--bias")
