"""Intervals over seeds and exponents, against numbers known by other means."""

import math

import numpy as np
import pytest

from gramian.claims import crossing, exponent, over_seeds, worst_ratio
from gramian.errors import BadArgument


def test_the_interval_covers_as_often_as_it_says():
    rng = np.random.default_rng(0)
    covered = [i.low <= 3.0 <= i.high for i in (over_seeds(rng.normal(3.0, 2.0, 5)) for _ in range(2000))]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.02)  # four standard errors of 2000 draws


def test_one_seed_has_no_interval_and_a_missing_one_no_mean():
    assert math.isnan(over_seeds([1.0]).low)
    assert over_seeds([1.0]).effect("x").low is None
    assert over_seeds([1.0, math.nan]).effect("x").value is None


def test_an_exponent_is_found_through_noise():
    rng = np.random.default_rng(1)
    sizes = [np.array([64.0, 128, 256, 512, 1024])] * 5
    fitted = exponent(sizes, [7 * x**-0.5 * np.exp(rng.normal(0, 0.02, len(x))) for x in sizes])
    assert fitted.low < -0.5 < fitted.high
    assert fitted.high - fitted.low < 0.05


def test_three_sizes_give_no_exponent():
    with pytest.raises(BadArgument, match=r"(?s)3 sizes.*fix: at least 4"):
        exponent([[1, 2, 3]], [[1, 2, 3]])


def test_a_missing_value_gives_no_exponent():
    assert math.isnan(exponent([[1, 2, 3, 4]] * 2, [[1, 2, 3, 4], [1, math.nan, 3, 4]]).value)


def test_a_curve_that_never_crosses():
    assert math.isnan(crossing([0, 1], [1, 2], 3))
    assert crossing([0, 1], [1, 2], 1) == 0
    assert crossing([0, 1], [1, 2], 2) == 1


def test_the_worst_step_of_a_bound():
    assert worst_ratio([1, 2, 1], [2, 2, 4]) == 1
    assert worst_ratio([0, 1], [0, 2]) == 0.5
    assert worst_ratio([1e-9, 1], [0, 2]) == math.inf
