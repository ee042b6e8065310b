"""How far does statement `run` reach: whole training runs proved on digits, at which width, rate and cost?

Fully connected networks, NTK parametrization, antisymmetric start (outputs 0 at step 0), rows of norm one, even against
odd digits or ten classes as one-hot rows; erf with hidden weights of standard deviation 2. `share` is the rate in units
of 2 / lambda_max of the Gram matrix at the start: "half" is 1 / lambda_max, "largest" is looked for. In deeper
networks, all of whose layers train, lambda_max grows as they learn: smaller shares are tried. `growth` is the logarithm
of the factor by which a rounding error of step 0 may have grown at the end. Arguments: names of settings, none for all.
"""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
from sklearn.datasets import load_digits
from timing import keep

from gramian.checker.deep_network import DeepTask, DeepWeights
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
    "tanh 256 not centred": ("tanh", 256, 200, False, False, 1, ("half",), 240_000),
}

# name: activation, hidden widths, rows, directions of the inputs (0: all), centred, outputs, output multiplier, shares
DEEP_SETTINGS = {
    "tanh 32-32": ("tanh", (32, 32), 50, 0, True, 1, 1.0, (0.5, 0.75)),
    "tanh 64-64": ("tanh", (64, 64), 50, 0, True, 1, 1.0, (0.5,)),
    "erf 32-32": ("erf", (32, 32), 50, 0, True, 1, 1.0, (0.5,)),
    "tanh 32-32 times four": ("tanh", (32, 32), 50, 0, True, 1, 4.0, (0.5,)),
    "tanh 32-32 ten": ("tanh", (32, 32), 20, 0, True, 10, 1.0, (0.25,)),
    "tanh 32-32 not centred": ("tanh", (32, 32), 50, 0, False, 1, 1.0, (0.5,)),
    "tanh 32-32 100 rows": ("tanh", (32, 32), 100, 0, True, 1, 1.0, (0.3,)),
    "tanh 48-48 200 rows": ("tanh", (48, 48), 200, 0, True, 1, 1.0, (0.25,)),
    "tanh 24-24-24": ("tanh", (24, 24, 24), 50, 0, True, 1, 1.0, (0.2,)),
    "tanh 24-24-24-24": ("tanh", (24, 24, 24, 24), 30, 16, True, 1, 1.0, (0.15,)),
}
DEEP_STEPS = 100_000


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


def deep_problem(
    activation: str, widths: tuple[int, ...], n: int, inputs: int, centred: bool, outputs: int, multiplier: float
) -> tuple[DeepTask, DeepWeights]:
    """The same data, on their leading directions; the last hidden layer's second half repeats its first half, and the
    readout has the opposite signs there."""
    x, classes = load_digits(return_X_y=True)
    x, classes = x[:n], classes[:n]
    if centred:
        x = x - x.mean(0)
    if inputs:
        x = x @ np.linalg.svd(x, full_matrices=False)[2][:inputs].T
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    y = np.where(classes % 2 == 0, 1.0, -1.0)[:, None]
    if outputs > 1:
        y = np.eye(10)[classes]
    rng, std, half = np.random.default_rng(0), 1.5 if activation == "erf" else 1.0, widths[-1] // 2
    before = (x.shape[1], *widths[:-1])
    matrices = [std * rng.standard_normal(shape) for shape in zip(widths, before, strict=True)]
    matrices[-1][half:] = matrices[-1][:half]
    signs = rng.choice([-1.0, 1.0], (outputs, half))
    matrices.append(np.hstack([signs, -signs]))
    scales = [1.0, *(float(width) ** -0.5 for width in widths)]
    scales[-1] *= multiplier
    start = DeepWeights(tuple(matrices), tuple(np.zeros(len(w)) for w in matrices))
    task = DeepTask(x, y, (activation,) * len(widths), tuple(scales), (0.0,) * len(scales), 1.0)
    return task, start


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
    for name in names or [*SETTINGS, *DEEP_SETTINGS]:
        if name in DEEP_SETTINGS:
            *setting, shares = DEEP_SETTINGS[name]
            task, start = deep_problem(*setting)
            for share in shares:
                task = replace(task, lr=2 * share / largest_eigenvalue(replace(task, lr=1.0), start))
                show(name, f"{share:g}", largest_certified(task, start, ACCURACIES, DEEP_STEPS, search=False))
            continue
        activation, width, n, centred, both, outputs, rates, most_steps = SETTINGS[name]
        task, start = problem(activation, width, n, centred, both, outputs)
        task = replace(task, lr=1 / largest_eigenvalue(task, start))
        for rate in rates:
            searched = rate == "largest"
            show(name, rate, largest_certified(task, start, ACCURACIES, most_steps, search=searched))


if __name__ == "__main__":
    main(sys.argv[1:])
