"""The divergence of coins, its inverse against brute force, and Maurer's constant."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from gramian.bounds.binomial import KL_ERROR, kl, kl_inverse, maurer_constant, mean_at_most
from gramian.errors import BadArgument

shares = st.floats(0, 1)


@given(q=shares, bound=st.floats(0, 5))
def test_the_inverse_is_the_largest_chance_on_a_fine_grid(q, bound):
    grid = np.linspace(0, 1, 2001)
    allowed = [p for p in grid if p >= q and kl(q, float(p)) <= bound]
    inverse = kl_inverse(q, bound)
    assert q <= inverse <= 1
    assert all(p <= inverse for p in allowed)
    above = [p for p in grid if p > inverse]
    assert all(kl(q, float(p)) > bound for p in above)


@given(q=shares, p=shares)
def test_the_divergence_bounds_the_distance(q, p):
    assert kl(q, p) >= 2 * (q - p) ** 2 * (1 - 1e-9) - KL_ERROR  # Pinsker


@given(q=shares, bound=st.floats(0, 3), more=st.floats(0, 1))
def test_the_inverse_grows_with_both(q, bound, more):
    assert kl_inverse(q, bound + more) >= kl_inverse(q, bound) - 1e-8
    assert kl_inverse(min(q + more, 1.0), bound) >= kl_inverse(q, bound) - 1e-8


@pytest.mark.parametrize("n", [1, 2, 5, 8, 30, 200])
def test_the_constant_bounds_the_exponential_moment_of_every_coin(n):
    k = np.arange(n + 1)
    for p in (0.001, 0.03, 0.2, 0.5, 0.9):
        moment = sum(math.exp(stats.binom.logpmf(j, n, p) + n * kl(j / n, p)) for j in k.tolist())
        assert moment <= maurer_constant(n) * (1 + 1e-9)
    if n >= 8:
        assert math.sqrt(n) <= maurer_constant(n) <= 2 * math.sqrt(n)


def test_the_inverse_covers_the_chance_as_often_as_it_says():
    # the share of n trials falls so far below its chance with probability at most delta: 20,000 repetitions
    draws, n, delta = np.random.default_rng(0), 200, 0.05
    for p in (0.01, 0.1, 0.5):
        seen = draws.binomial(n, p, 20_000)
        bounds = {int(k): kl_inverse(int(k) / n, math.log(1 / delta) / n) for k in np.unique(seen)}
        violated = np.mean([bounds[int(k)] < p for k in seen])
        assert violated <= delta


def test_what_is_no_share_is_refused():
    with pytest.raises(BadArgument, match="no inverse"):
        kl_inverse(1.5, 0.1)
    with pytest.raises(BadArgument, match="n=0"):
        maurer_constant(0)


@pytest.mark.parametrize("spread", [0.3, 1.0, 50.0])
def test_the_mean_is_covered_as_often_as_it_says(spread):
    # beta variables of mean 0.1, from nearly coins to nearly constant; 30 values, 3,000 repetitions
    draws, delta = np.random.default_rng(1), 0.2
    samples = draws.beta(0.1 * spread, 0.9 * spread, (3_000, 30))
    violated = np.mean([mean_at_most(values, delta) < 0.1 for values in samples])
    assert violated <= delta
