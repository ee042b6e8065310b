"""The examples run, small, and say what they are there to say."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def said(name, *arguments, cwd, data=None):
    environment = {key: value for key, value in os.environ.items() if key != "GRAMIAN_DATA"}
    environment |= {} if data is None else {"GRAMIAN_DATA": str(data)}
    command = [sys.executable, str(EXAMPLES / name), *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def cifar(folder):
    """A folder with a few random images in CIFAR-10's form."""
    random, home = np.random.default_rng(0), folder / "cifar10"
    home.mkdir()
    arrays = {}
    for split, n in (("train", 80), ("test", 1000)):
        arrays[f"{split}_x"] = random.integers(0, 256, (n, 32, 32, 3), dtype=np.uint8)
        arrays[f"{split}_y"] = np.arange(n) % 10
    np.savez(home / "cifar10.npz", **arrays)
    return folder


@pytest.mark.parametrize(
    ("there", "name"),
    [pytest.param(True, "80 images of cifar10", marks=pytest.mark.slow), (False, "80 images of digits")],
)
def test_the_monitor_on_cifar_or_on_what_is_there(there, name, tmp_path):
    data = cifar(tmp_path) if there else None
    out = said("monitor_cifar.py", "--rows", 80, "--steps", 6, "--out", "found", cwd=tmp_path, data=data)
    assert out.startswith(name)
    assert "After 6 steps" in out
    run = json.loads((tmp_path / "found" / "report.json").read_text())["runs"][0]
    assert run["samples"][0]["image"].startswith("data:image/png")
    assert (tmp_path / "found" / "report.html").exists()


@pytest.mark.slow
def test_the_edge_is_a_cliff_after_some_steps_and_not_at_random_weights(tmp_path):
    """256 digits, momentum 0.9, after 200 steps. Highest loss over the first, observed: 1, 1, 79 and more than 500."""
    out = said("suggest_edge.py", cwd=tmp_path)
    _, tables = out.split("at random weights:")
    _, after = tables.split("after 200 steps:")
    rows = [line.split() for line in after.splitlines() if line.strip()[:3] in ("0.5", "0.9", "1.1", "1.5")]
    highest = {float(factor): float(high) for factor, high, _ in rows}
    assert highest[0.5] == highest[0.9] == 1
    assert not highest[1.1] < 5
    assert not highest[1.5] < 50


def test_every_example_is_run_here():
    text = Path(__file__).read_text(encoding="utf-8")
    assert not [p.name for p in EXAMPLES.glob("*.py") if f'"{p.name}"' not in text]
