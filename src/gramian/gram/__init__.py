"""Gram matrices: tiles, stores on disk, spectra."""

from gramian.gram.gram import Gram
from gramian.gram.spectrum import (
    Eigensystem,
    check_psd,
    eigensystem,
    eigenvalues,
    extreme_eigenvalues,
    not_positive,
    symmetric_dense,
)

__all__ = [
    "Eigensystem",
    "Gram",
    "check_psd",
    "eigensystem",
    "eigenvalues",
    "extreme_eigenvalues",
    "not_positive",
    "symmetric_dense",
]
