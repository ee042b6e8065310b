import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gramian.data import geometry, unit_norm
from gramian.errors import BadData


def direct(x):
    """By the definition, pair by pair."""
    u = x.flatten(1).double()
    u = u / u.norm(dim=1, keepdim=True)
    return min(((u[i] - u[j]).norm().item(), (i, j)) for i in range(len(u)) for j in range(i + 1, len(u)))


@given(n=st.integers(2, 25), d=st.integers(2, 6), block=st.integers(1, 30), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=60)
def test_separation_is_that_of_all_pairs_whatever_the_block(n, d, block, seed):
    x = torch.randn(n, d, generator=torch.Generator().manual_seed(seed))
    found = geometry(x, block=block)
    separation, pair = direct(x)
    assert found.separation == pytest.approx(separation, rel=1e-12)
    assert found.closest == pair
    assert (found.n, found.d, found.duplicates) == (n, d, ())
    assert found.norm_max == pytest.approx(x.norm(dim=1).max().item())


@pytest.mark.parametrize("gap", [1e-3, 1e-6, 1e-9, 1e-12])
def test_near_duplicates_keep_their_digits(gap):
    """The Gram matrix alone sees nothing below 1e-8."""
    x = unit_norm(torch.randn(40, 30))
    side = torch.randn(30)
    side = side - (side @ x[3]) * x[3]
    x[29] = x[3] + gap * side / side.norm()
    found = geometry(x, block=16)
    assert found.closest == (3, 29)
    # rounding of coordinates near 1 is all that is lost
    assert found.separation == pytest.approx(2 * math.sin(math.atan(gap) / 2), abs=5e-16, rel=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_many_near_duplicates_are_all_measured(seed):
    """All pairs lie within rounding of the Gram matrix, which puts them in a wrong order; only differences tell."""
    torch.manual_seed(seed)
    u = torch.linalg.qr(torch.randn(50, 2)).Q
    angle = 1e-9 * torch.tensor([0.0, 1.0, 3.0, 6.0, 6.5, 10.0, 15.0])
    found = geometry(angle.cos()[:, None] * u[:, 0] + angle.sin()[:, None] * u[:, 1], block=2)
    assert found.closest == (3, 4)
    assert found.separation == pytest.approx(0.5e-9, rel=1e-6)


def test_duplicates_and_conflicts_are_named_by_original_row():
    x = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, -0.0], [1.0, 0.0], [0.0, 1.0]])
    found = geometry(x, torch.tensor([0, 1, 0, 2, 1]), rows=torch.tensor([10, 20, 30, 40, 50]))
    assert found.separation == 0.0
    assert found.closest == (10, 30)
    assert found.duplicates == ((10, 30, 40), (20, 50))
    assert found.conflicts == ((10, 40),)


def test_regression_labels_conflict_too():
    x = torch.ones(3, 2)
    assert geometry(x, torch.tensor([[0.5], [0.5], [0.6]])).conflicts == ((0, 2),)
    assert geometry(x).conflicts == ()


def test_multiples_are_separated_by_nothing_but_are_no_duplicates():
    found = geometry(torch.tensor([[1.0, 1.0], [2.0, 2.0], [0.0, 3.0]]), torch.tensor([0, 1, 0]))
    assert (found.separation, found.closest, found.duplicates, found.conflicts) == (0.0, (0, 1), (), ())
    assert (found.norm_min, found.norm_max) == pytest.approx((math.sqrt(2), 3.0))


def test_images_are_flattened_and_one_row_has_no_partner():
    found = geometry(torch.ones(1, 3, 2, 2))
    assert (found.n, found.d, found.separation, found.closest) == (1, 12, math.inf, None)


def test_float32_rows_are_compared_in_float64():
    x = torch.randn(30, 5)
    assert geometry(x.float()).separation == pytest.approx(direct(x.float())[0], rel=1e-12)


def test_bad_inputs_are_refused():
    with pytest.raises(BadData, match="row 1, column 0"):
        geometry(torch.tensor([[1.0], [torch.nan]]))
    with pytest.raises(BadData, match="2 rows of inputs, but 3 labels"):
        geometry(torch.ones(2, 2), torch.tensor([0, 1, 0]))
