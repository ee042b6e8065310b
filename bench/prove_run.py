"""How far does statement `run` reach: whole training runs proved on digits, at which width, rate and cost?

Two-layer networks, NTK parametrization, antisymmetric start (outputs 0 at step 0), rows of norm one, even against odd
digits or ten classes as one-hot rows; erf with hidden weights of standard deviation 2. `share` is the rate in units of
2 / lambda_max of the Gram matrix at the start: "half" is 1 / lambda_max, "largest" is looked for. `growth` is the
logarithm of the factor by which a rounding error of step 0 may have grown at the end. Arguments: names of settings,
none for all.
"""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
from sklearn.datasets import load_digits
from timing import keep

from gramian.checker.two_layer import Task, TwoLayerWeights
from gramian.prove.run import RunProof, largest_certified, largest_eigenvalue

ACCURACIES = (1e-2, 1e-3, 1e-6)
# name: activation, width, rows, centred, both layers, outputs, rates, most steps
SETTINGS = {
    "erf 64": ("erf", 64, 200, True, False, 1, ("half", "largest"), 20_000),
    "erf 128": ("erf", 128, 200, True, False, 1, ("half", "largest"), 20_000),
    "erf 256": ("erf", 256, 200, True, False, 1, ("half", "largest"), 20_000),
    "tanh 64": ("tanh", 64, 200, True, False, 1, ("half", "largest"), 20_000),
    "tanh 128": ("tanh", 128, 200, True, False, 1, ("half", "largest"), 20_000),
    "tanh 256": ("tanh", 256, 200, True, False, 1, ("half",), 20_000),
    "erf 128 both": ("erf", 128, 200, True, True, 1, ("half", "largest"), 20_000),
    "tanh 128 both": ("tanh", 128, 200, True, True, 1, ("half",), 20_000),
    "erf 256 ten": ("erf", 256, 100, True, False, 10, ("half",), 20_000),
    "erf 256 ten both": ("erf", 256, 100, True, True, 10, ("half",), 20_000),
    "erf 256 not centred": ("erf", 256, 200, False, False, 1, ("half",), 40_000),
    "erf 256 not centred both": ("erf", 256, 200, False, True, 1, ("half",), 40_000),
    "tanh 256 not centred": ("tanh", 256, 200, False, False, 1, ("half",), 120_000),
}


def problem(
    activation: str, width: int, n: int, centred: bool, both: bool, outputs: int
) -> tuple[Task, TwoLayerWeights]:
    x, classes = load_digits(return_X_y=True)
    x, classes = x[:n], classes[:n]
    if centred:
        x = x - x.mean(0)
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    y = np.where(classes % 2 == 0, 1.0, -1.0)[:, None]
    if outputs > 1:
        y = np.eye(10)[classes]
    rng = np.random.default_rng(0)
    std = 2.0 if activation == "erf" else 1.0
    w, a = std * rng.standard_normal((width // 2, 64)), rng.choice([-1.0, 1.0], (outputs, width // 2))
    start = TwoLayerWeights(np.vstack([w, w]), np.hstack([a, -a]), np.zeros(outputs))
    return Task(x, y, activation, width**-0.5, 0.0, both, 1.0), start


def show(name: str, rate: str, proof: RunProof) -> None:
    row: dict[str, object] = {
        "setting": name,
        "rate": rate,
        "proved": proof.proved,
        "lr": float(f"{proof.task.lr:.6g}"),
    }
    row |= {"share": round(proof.share, 4), "growth": round(proof.growth, 2), "seconds": round(proof.seconds, 1)}
    row |= {"left": float(f"{proof.inequality.left:.4g}"), "right": float(f"{proof.inequality.right:.4g}")}
    if proof.tail is not None:
        row |= {"step": proof.tail.step, "distance": float(f"{proof.tail.distance:.3g}")}
    if proof.proved:
        row |= {f"steps_{eps:g}": steps for eps, steps in proof.times.items()}
    else:
        row["fails"] = proof.inequality.says
    keep("prove_run", dtype="float64", **row)


def main(names: list[str]) -> None:
    for name in names or SETTINGS:
        activation, width, n, centred, both, outputs, rates, most_steps = SETTINGS[name]
        task, start = problem(activation, width, n, centred, both, outputs)
        task = replace(task, lr=1 / largest_eigenvalue(task, start))
        for rate in rates:
            searched = rate == "largest"
            show(name, rate, largest_certified(task, start, ACCURACIES, most_steps, search=searched))


if __name__ == "__main__":
    main(sys.argv[1:])
