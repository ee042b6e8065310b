"""Balls hold what they should: against rational arithmetic, and against python-flint."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from gramian.checker import balls
from gramian.checker.balls import Ball, mapped, outward, product, spectral_norm

SIZES = st.tuples(st.integers(1, 6), st.integers(1, 40), st.integers(1, 6))


def exact(array):
    return np.vectorize(Fraction, otypes=[object])(array)


def drawn(seed, shape, spread):
    rng = np.random.default_rng(seed)
    middle = rng.standard_normal(shape) * 10.0 ** rng.integers(-spread, spread + 1, shape)
    return Ball(middle, np.abs(middle) * rng.random(shape) * 10.0 ** -rng.integers(6, 17))


def corner(ball, seed):
    """A member of the ball at its rim, exactly."""
    signs = np.random.default_rng(seed).choice([-1, 1], ball.shape)
    return exact(ball.middle) + exact(ball.radius) * signs


def held(ball, truth):
    return np.all(np.abs(exact(ball.middle) - truth) <= exact(ball.radius))


@settings(max_examples=60)
@given(sizes=SIZES, seed=st.integers(0, 10**6), spread=st.integers(0, 12), split=st.booleans())
@pytest.mark.parametrize("by_flint", [0, balls.FLINT_PRODUCTS])
def test_a_product_holds_the_product_of_members(by_flint, sizes, seed, spread, split):
    n, k, m = sizes
    a, b = drawn(seed, (n, k), spread), drawn(seed + 1, (k, m), spread)
    result = product(a, b, split=split, by_flint=by_flint)
    assert held(result, corner(a, seed).dot(corner(b, seed)))


@settings(max_examples=60)
@given(seed=st.integers(0, 10**6), spread=st.integers(0, 12))
def test_sums_products_and_sparse_maps_hold_their_members(seed, spread):
    a, b = drawn(seed, (4, 7), spread), drawn(seed + 1, (4, 7), spread)
    x, y = corner(a, seed), corner(b, seed + 1)
    assert held(a + b, x + y)
    assert held(a * b, x * y)
    assert held(a.scaled(0.1), x * Fraction(0.1))
    matrix = sparse.random(5, 7, density=0.5, random_state=seed % 1000, format="csr")
    assert held(mapped(matrix, a), x.dot(exact(matrix.toarray()).T))
    norms = a.norms()
    assert all(Fraction(n) ** 2 >= sum(v * v for v in row) for n, row in zip(norms, x, strict=True))


def test_a_product_with_twice_the_digits_is_nearly_free_of_rounding():
    a, b = Ball.exact(drawn(0, (30, 500), 0).middle), Ball.exact(drawn(1, (500, 30), 0).middle)
    plain, fine = product(a, b), product(a, b, split=True)
    assert fine.radius.max() < plain.radius.max() / 50


def test_moving_numbers_costs_no_rounding():
    matrix = sparse.csr_matrix(([1.0, -1.0], ([0, 1], [1, 0])), shape=(2, 2))
    assert mapped(matrix, Ball.exact(np.array([[3.0, 4.0]]))).radius.max() <= balls.SMALLEST


@pytest.mark.parametrize("shape", [(1, 1), (3, 50), (50, 3), (60, 60)])
def test_the_spectral_norm_is_bounded_from_above_and_not_far(shape):
    for seed, scale in ((0, 1.0), (1, 1e-150), (2, 1e150)):
        matrix = np.random.default_rng(seed).standard_normal(shape) * scale
        bound, truth = spectral_norm(Ball.exact(matrix)), np.linalg.norm(matrix / scale, 2) * scale
        assert truth <= bound <= 1.3 * truth


def test_the_spectral_norm_of_zeros_is_zero():
    assert spectral_norm(Ball.exact(np.zeros((3, 4)))) <= 1e-280


def test_sums_that_are_too_long_are_refused():
    with pytest.raises(ValueError, match="longer"):
        balls.gamma(2 * balls.LONGEST_SUM)


def test_outward_covers_the_rounding_of_long_sums():
    terms = np.random.default_rng(0).random(1_000_000)
    assert Fraction(float(outward(np.sum(terms)))) >= sum(map(Fraction, terms.tolist()))
