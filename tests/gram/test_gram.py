"""Tiles are the kernel, whatever their size, and computed no more often than needed."""

import pickle
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gramian.errors import BadArgument, BadData
from gramian.gram import Gram


def rbf(x, y=None):
    return torch.exp(-torch.cdist(x.flatten(1), (x if y is None else y).flatten(1)).square() / 2)


@given(n=st.integers(1, 12), m=st.integers(1, 12), tile=st.integers(1, 14), symmetric=st.booleans())
@settings(deadline=None)
def test_tiles_are_the_kernel_and_cover_each_entry_once(n, m, tile, symmetric):
    generator = torch.Generator().manual_seed(n + 13 * m)
    x, y = torch.randn(n, 2, 3, generator=generator), torch.randn(m, 2, 3, generator=generator)
    gram = Gram(rbf, x, None if symmetric else y, tile=tile)
    whole = rbf(x) if symmetric else rbf(x, y)
    assert gram.shape == whole.shape
    seen, rebuilt = torch.zeros_like(whole), torch.zeros_like(whole)
    for rows, columns, block in gram.tiles():
        seen[rows, columns] += 1
        rebuilt[rows, columns] = block
    assert bool((seen == 1).all())
    torch.testing.assert_close(rebuilt, whole)
    torch.testing.assert_close(gram.dense(), whole)
    v = torch.randn(whole.shape[1], 2, generator=generator)
    torch.testing.assert_close(gram @ v, whole @ v)
    torch.testing.assert_close(gram @ v[:, 0], whole @ v[:, 0])
    if symmetric:
        torch.testing.assert_close(gram.diagonal(), whole.diagonal())
        assert torch.equal(gram.dense(), gram.dense().mT)


@pytest.mark.parametrize(("keep", "calls"), [(True, 6), (False, 12)])
def test_only_upper_tiles_are_computed_and_kept_if_wanted(keep, calls):
    count = []

    def counting(x, y=None):
        count.append(1)
        return rbf(x, y)

    gram = Gram(counting, torch.randn(7, 2), tile=3, keep=keep)
    assert not count
    gram.dense(), gram.dense()
    assert len(count) == calls  # 3 x 3 tiles, 6 of them on or above the diagonal


def test_a_wider_vector_makes_the_product_wider():
    x = torch.randn(5, 2)
    gram = Gram(rbf, x, tile=2, dtype=torch.float32)
    assert gram.dtype == gram.dense().dtype == torch.float32
    v = torch.randn(5)
    torch.testing.assert_close(gram @ v, rbf(x).float().double() @ v)
    assert (gram @ v).dtype == torch.float64


def test_a_pickle_carries_the_matrix_without_its_tiles():
    gram = Gram(rbf, torch.randn(9, 2), tile=4)
    dense = gram.dense()
    copy = pickle.loads(pickle.dumps(gram))
    assert "kept 6 of 6" in repr(gram)
    assert "kept 0 of 6" in repr(copy)
    assert torch.equal(copy.dense(), dense)


def test_errors_say_what_to_do():
    x = torch.randn(4, 2)
    with pytest.raises(BadData, match=r"(?s)no entries.*fix: pass at least one row"):
        Gram(rbf, x[:0])
    with pytest.raises(BadArgument, match=r"(?s)shape \(4, 4, 2, 2\) for 4 rows and 4 columns.*outputs=\"mean\""):
        Gram(lambda x, y=None: torch.zeros(4, 4, 2, 2), x).dense()
    with pytest.raises(BadArgument, match=re.escape("Gram(kernel, x).diagonal()")):
        Gram(rbf, x, x).diagonal()
    with pytest.raises(BadArgument, match=r"times a tensor \(3,\)"):
        Gram(rbf, x) @ torch.ones(3)


@given(n=st.integers(1, 12), tile=st.integers(1, 5), of=st.integers(1, 4))
@settings(deadline=None)
def test_shares_together_are_all_tiles(n, tile, of):
    x = torch.randn(n, 2, generator=torch.Generator().manual_seed(n))
    seen = torch.zeros(n, n)
    for k in range(of):
        for rows, columns, block in Gram(rbf, x, tile=tile).tiles(share=(k, of)):
            seen[rows, columns] += 1
            torch.testing.assert_close(block, rbf(x)[rows, columns])
    assert bool((seen == 1).all())
    with pytest.raises(BadArgument, match=r"(?s)share=\(2, 2\).*why: shares are counted.*fix"):
        next(Gram(rbf, x).tiles(share=(2, 2)))
