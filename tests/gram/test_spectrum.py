"""Lanczos and LAPACK agree; what is no Gram matrix is refused."""

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matrices import matrix_with

from gramian.errors import BadArgument, BadData, GramianError, NotPositive
from gramian.gram import Gram, check_psd, eigensystem, eigenvalues, extreme_eigenvalues


def test_eigenvalues_are_those_that_were_put_in():
    lam = torch.logspace(-8, 2, 30)
    k = matrix_with(lam)
    torch.testing.assert_close(eigenvalues(k), lam, rtol=0, atol=1e-12)
    system = eigensystem(k)
    torch.testing.assert_close((system.vectors * system.values) @ system.vectors.mT, k)
    assert eigenvalues(k.float()).dtype == torch.float64


SPECTRA = {
    "well conditioned": torch.linspace(1, 50, 150),
    "decaying like a kernel's": torch.arange(1.0, 151).pow(-3),
    "singular": torch.cat([torch.zeros(40), torch.linspace(0.1, 9, 110)]),
    "indefinite": torch.linspace(-3, 5, 150),
    "mostly negative": torch.linspace(-500, 5, 150),
}


@pytest.mark.parametrize("name", SPECTRA)
@given(k=st.integers(1, 5), seed=st.integers(0, 5))
@settings(deadline=None, max_examples=8)
def test_lanczos_finds_both_ends(name, k, seed):
    lam = SPECTRA[name].double().sort().values
    smallest, largest = extreme_eigenvalues(matrix_with(lam, seed), k)
    torch.testing.assert_close(largest, lam[-k:], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(smallest, lam[:k], rtol=0, atol=1e-12 * float(lam.abs().max()) * len(lam))


def test_lanczos_without_a_dense_copy_uses_tiles_or_says_that_it_failed():
    lam = torch.linspace(1, 50, 150)
    k = matrix_with(lam)
    index = torch.arange(150.0)[:, None]
    gram = Gram(lambda x, y=None: k[x[:, 0].long()][:, (x if y is None else y)[:, 0].long()], index, tile=40)
    for operator in (gram, k):
        smallest, largest = extreme_eigenvalues(operator, 2, max_bytes=0)
        torch.testing.assert_close(smallest, lam[:2])
        torch.testing.assert_close(largest, lam[-2:])
    hard = matrix_with(torch.logspace(-14, 2, 300))
    with pytest.raises(GramianError, match=r"(?s)Lanczos found .* of 3.*why: .*fix: max_bytes=1440000"):
        extreme_eigenvalues(hard, 3, tol=1e-14, max_bytes=0)


def test_small_matrices_and_bad_k():
    k = matrix_with(torch.tensor([1.0, 2.0, 4.0]))
    smallest, largest = extreme_eigenvalues(k, 3)
    torch.testing.assert_close(smallest, largest)
    with pytest.raises(BadArgument, match=r"k=4 eigenvalues of a 3 x 3 matrix"):
        extreme_eigenvalues(k, 4)


def test_what_is_no_gram_matrix_is_refused():
    k = torch.eye(3)
    with pytest.raises(BadArgument, match=r"(?s)shape \(3, 2\).*must be square"):
        eigenvalues(k[:, :2])
    with pytest.raises(BadArgument, match=r"(?s)not symmetric.*5\.0e-01"):
        eigenvalues(k + torch.tensor([[0, 0.5, 0], [0, 0, 0], [0, 0, 0]]))
    k[2, 1] = float("nan")
    with pytest.raises(BadData, match=r"(?s)nan in row 2, column 1.*x\[2\] and x\[1\]"):
        eigenvalues(k)


@given(n=st.integers(2, 50), top=st.floats(1e-6, 1e6), factor=st.floats(0, 10))
def test_negative_means_more_negative_than_rounding(n, top, factor):
    lam = torch.full((n,), top)
    for dtype in (torch.float32, torch.float64):
        lam[0] = -factor * n * torch.finfo(dtype).eps * top
        if factor <= 0.999:
            check_psd(lam, "theta", dtype)
        elif factor > 1.001:
            with pytest.raises(NotPositive, match=r"`theta`") as caught:
                check_psd(lam, "theta", dtype)
            ridge = float(re.search(r"ridge=(\S+)`", str(caught.value))[1])
            assert (
                -float(lam[0]) < ridge <= -3 * float(lam[0]) + 120 * max(n, 10) * 2.3e-16 * top
            )  # no more than solves
