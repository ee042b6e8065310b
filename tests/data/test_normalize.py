import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gramian.data import normalize_and_pad, standardize, unit_norm
from gramian.data.normalize import row_norms
from gramian.errors import BadData


@given(scale=st.sampled_from([1e-200, 1e-3, 1.0, 1e200]), shape=st.sampled_from([(3, 4), (2, 1, 5, 5), (4, 1)]))
def test_rows_get_norm_one_at_any_scale(scale, shape):
    x = torch.randn(shape)
    torch.testing.assert_close(row_norms(unit_norm(x * scale)), torch.ones(shape[0]))
    torch.testing.assert_close(unit_norm(x * scale), unit_norm(x))


def test_a_zero_row_is_named_by_its_number_in_the_source():
    x = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    with pytest.raises(BadData, match=r"(?s)1 of 2 rows are all zeros.*where: file, row 17 .*fix: normalize="):
        unit_norm(x, rows=torch.tensor([4, 17]), name="file")


def test_standardize_uses_training_statistics_and_leaves_constant_columns_at_zero():
    x = torch.cat([torch.randn(50, 3) * 4 + 7, torch.full((50, 1), 0.1)], 1)
    test = torch.cat([torch.randn(5, 3), torch.full((5, 1), 3.0)], 1)
    out = standardize(x)
    torch.testing.assert_close(out.mean(0), torch.zeros(4))
    torch.testing.assert_close(out.std(0, correction=0), torch.tensor([1.0, 1.0, 1.0, 0.0]))
    mean, sigma = x.mean(0), x.std(0, correction=0)
    torch.testing.assert_close(standardize(test, x)[:, :3], ((test - mean) / sigma)[:, :3])
    assert (standardize(test, x)[:, 3] == 0).all()


def test_images_are_standardized_by_channel():
    x = torch.randn(6, 2, 4, 4) * torch.tensor([1.0, 5.0])[:, None, None] + 3
    out = standardize(x)
    torch.testing.assert_close(out.mean((0, 2, 3)), torch.zeros(2))
    torch.testing.assert_close(out.std((0, 2, 3), correction=0), torch.ones(2))


@given(d=st.integers(1, 6), scale=st.sampled_from([1e-3, 1.0, 1e3]))
def test_padding_gives_the_form_of_allen_zhu_li_song(d, scale):
    x = torch.randn(7, d) * scale
    out = normalize_and_pad(x)
    assert out.shape == (7, d + 2)
    torch.testing.assert_close(out.norm(dim=1), torch.ones(7))
    torch.testing.assert_close(out[:, -1], torch.full((7,), 1 / math.sqrt(2)))
    # inner products of the inputs are kept up to one common factor
    factor = 1 / (2 * row_norms(x).max() ** 2)
    torch.testing.assert_close(out[:, :d] @ out[:, :d].T, factor * x @ x.T)


def test_padding_keeps_multiples_of_one_another_apart():
    x = torch.tensor([[1.0, 1.0], [2.0, 2.0]])
    assert unit_norm(x)[0].equal(unit_norm(x)[1])
    assert (normalize_and_pad(x)[0] - normalize_and_pad(x)[1]).norm() > 0.1


def test_padding_refuses_rows_longer_than_said():
    with pytest.raises(BadData, match=r"(?s)longest of 2 rows has norm 3.*at most 2.*where: row 1.*fix: `largest`"):
        normalize_and_pad(torch.tensor([[1.0], [3.0]]), largest=2.0)
    with pytest.raises(BadData, match="has norm 0"):
        normalize_and_pad(torch.zeros(2, 2))
