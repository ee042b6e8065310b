"""The argument of Du et al. for descent against any recursion of residuals."""

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gramian.certify import CONTRADICTED, IMPLIED, THEOREMS
from gramian.train.trace import Series, Trace


@given(
    n=st.integers(1, 4), steps=st.integers(1, 5), lr=st.floats(1e-3, 2.5), size=st.floats(0.0, 1.2),
    lowest=st.floats(0.0, 1.0), seed=st.integers(0, 2**16), aligned=st.booleans(), lam=st.none() | st.floats(0.0, 2.0),
)  # fmt: skip
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_recursion_of_residuals_contradicts_the_argument_for_descent(
    evidence, n, steps, lr, size, lowest, seed, aligned, lam
):
    """Any matrices and any remainders, those along the residual included, which are the worst: without a network."""
    rng = np.random.default_rng(seed)
    r, values, losses = rng.normal(size=n), [], []
    for _ in range(steps):
        basis, _ = np.linalg.qr(rng.normal(size=(n, n)))
        spectrum = lowest + rng.exponential(size=n) * (rng.random(n) < 0.7)
        gram = basis * spectrum @ basis.T
        linear = r - lr * gram @ r
        direction = linear if aligned else rng.normal(size=n)
        allowed = lr * spectrum.min() / 2 * np.linalg.norm(r)
        left = size * allowed * direction / max(np.linalg.norm(direction), 1e-300)
        values.append({
            "smallest eigenvalue": spectrum.min(), "largest eigenvalue": spectrum.max(),
            "residual": np.linalg.norm(r), "remainder": np.linalg.norm(left),
            "next residual": np.linalg.norm(linear + left),
        })  # fmt: skip
        losses.append(float(r @ r / 2))
        r = linear + left
    losses.append(float(r @ r / 2))
    series = {
        "loss": Series("", "", list(range(steps + 1)), losses),
        "step_remainder": Series("", "", list(range(1, steps + 1)), values),
    }
    trace = Trace({}, list(range(steps + 1)), losses, series)
    top = None if lam is None else 10.0
    found = THEOREMS["du2019stability"](evidence(trace=trace, lr=lr, lambda_min=lam, lambda_max=top))
    assert found.status != CONTRADICTED
    if size > 1 + 1e-9 and lowest > 0:
        assert found.status != IMPLIED
