"""Second stage of `certify`: the limit kernel of the rows, and its spectrum."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

from torch import Tensor

from gramian.certify.kernel_prediction import settled
from gramian.certify.limit_cost import matrix, spectrum_seconds, words
from gramian.certify.prepared_data import PreparedData
from gramian.certify.study_clock import PATIENCE, Clock
from gramian.gram.spectrum import Eigensystem, eigensystem


@dataclass(frozen=True, eq=False)
class LimitSide:
    """The limit NTK on the rows of a study; all None for a network without a limit here.

    Args:
        theta: on the training rows; shape (n, n).
        cross: between test and training rows; shape (m, n); None without test rows.
        system: eigenvalues, ascending, and eigenvectors of `theta`; eigenvalues that rounding makes of a zero are 0.
    """

    theta: Tensor | None = None
    cross: Tensor | None = None
    system: Eigensystem | None = None

    @property
    def singular(self) -> bool | None:
        """Whether the Gram matrix is singular to working precision; None without a limit."""
        if self.system is None:
            return None
        return float(self.system.values[0]) <= 0

    def times(self, scale: float) -> LimitSide:
        """The same of a kernel that is `scale` times as large."""
        if scale == 1.0 or self.theta is None or self.system is None:
            return self
        if self.cross is None:
            cross = None
        else:
            cross = scale * self.cross
        return LimitSide(scale * self.theta, cross, replace(self.system, values=scale * self.system.values))


def limit_side(data: PreparedData, clock: Clock) -> LimitSide:
    """The limit side at width 1; `LimitSide.times(setup.limit_scale(width))` is that of another width."""
    if data.setup.kernel is None:
        return LimitSide()
    kernel, x, x_test = partial(data.setup.kernel, 1), data.setup.x, data.setup.x_test
    n, per_pair = len(x), data.seconds_per_pair
    # the kernel of the training rows is symmetric: half of its pairs are computed
    expected_seconds = per_pair * n * (n / 2 + len(x_test))
    if expected_seconds > PATIENCE:
        clock.say(f"limit kernel of {n:,} training and {len(x_test):,} test rows: {words(expected_seconds)}")
    with clock("limit kernel") as tell:
        theta = matrix(kernel, x, None, per_pair, tell)
        if data.has_test:
            cross = matrix(kernel, x_test, x, per_pair, tell)
        else:
            cross = None
    with clock("spectrum"):
        expected_seconds = spectrum_seconds(theta)
        if expected_seconds > PATIENCE:
            clock.say(f"spectrum of {n:,} rows: {words(expected_seconds)}")
        system = settled(eigensystem(theta))
    return LimitSide(theta, cross, system)
