"""Numbers of an imagined run, for the theorems; a dozen digits of three classes, for whole runs."""

from itertools import pairwise

import pytest
import torch

from gramian.certify import Evidence
from gramian.certify.width import Sweep
from gramian.data import load
from gramian.train.trace import Series, Trace


def imagined(measured=None, **changes):
    """Evidence of a run of 10 steps in which the loss halved each time; `changes` replace its fields."""
    losses = [2.0 * 0.5**k for k in range(11)]
    series = {
        "loss": Series("loss", "", list(range(11)), losses),
        "gram_min": Series("", "", list(range(11)), [0.9] * 11),
        "gram_max": Series("", "", list(range(11)), [2.0] * 11),
        "gradient_over_loss": Series("", "", [0, 10], [4.0, 8.0]),
        "spectral_distance": Series("", "", [0, 10], [{"1": 0.0, "2": 0.0}, {"1": 1e-3, "2": 2e-3}]),
        "distance": Series("", "", [0, 10], [{"1": 0.0, "2": 0.0}, {"1": 3e-3, "2": 4e-3}]),
        "kernel_drift": Series("", "", [0, 10], [0.0, 0.05]),
        "kernel_entry_drift": Series("", "", [0, 10], [0.0, 0.06]),
        "update_error": Series("", "", list(range(1, 11)), [1e-7] * 10),
        "step_remainder": steps(losses),
    }
    series |= measured or {}
    trace = Trace({}, list(range(11)), losses, {k: v for k, v in series.items() if v is not None}, reason="done")
    fields = {
        "n": 4, "in_features": 6, "n_outputs": 2, "separation": 0.4, "norm_error": 0.0, "label_norm": 0.7,
        "family": "fully connected", "depth": 2, "width": 64, "pixels": 1, "window": 1, "activations": ("ReLU",),
        "analytic": False, "biases": False, "trained": "all", "initialization": "NTK parametrization, law he",
        "paper_initialization": False, "lambda_min": 1.0, "lambda_max": 2.0, "lambda_last": 0.3, "gram_rows": 4,
        "gram_error": 0.04, "unit": 16.0, "stretch": 0.2, "loss": "squared", "optimizer": "gd",
        "batch_size": 4, "lr": 0.3, "accuracy": 0.01, "accuracy_steps": 7, "predicted_error": 0.03, "test_gap": 0.1,
        "last_coordinate_error": 0.3, "form": "chain", "scaling_error": 0.0, "gaussian": True, "sign_readout": False,
        "independent_batches": True, "predictor_gap": 0.1, "trace": trace,
    }  # fmt: skip
    return Evidence(**fields | changes)


def steps(losses, smallest=0.9, largest=2.0, remainder=0.01):
    """What was measured after every step of a run with these losses: eigenvalues, and remainders of this size."""
    norms = [(2 * loss) ** 0.5 for loss in losses]
    values = [
        {
            "smallest eigenvalue": smallest, "largest eigenvalue": largest, "residual": before,
            "remainder": remainder * before, "next residual": after,
        }
        for before, after in pairwise(norms)
    ]  # fmt: skip
    return Series("", "", list(range(1, len(losses))), values)


@pytest.fixture
def evidence():
    return imagined


@pytest.fixture
def sweep_of():
    """A sweep with this constant."""
    return lambda constant: Sweep((64, 128), (0.2, 0.14), -0.5, constant, 0.1, 24)


@pytest.fixture(scope="session")
def few():
    """24 digits 0, 1 and 2 and 9 test rows, entries of size 1; x (24, 1, 8, 8), y (24,), x_test, y_test."""
    data = load("digits", n=300, n_test=60, normalize="unit", dtype=torch.float64)
    rows, test = (data.y < 3).nonzero().flatten()[:24], (data.y_test < 3).nonzero().flatten()[:9]
    return 8 * data.x[rows], data.y[rows], 8 * data.x_test[test], data.y_test[test]
