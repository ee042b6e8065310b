"""Gram matrices: tiles, stores on disk, spectra."""

from gramian.gram.estimate import Estimate
from gramian.gram.extreme import condition_number, largest_eigenpairs
from gramian.gram.features import Features, store_features
from gramian.gram.gram import Gram
from gramian.gram.hutchinson import trace
from gramian.gram.lanczos import SpectralDensity, log_determinant, spectral_density
from gramian.gram.positive import check_psd, not_positive
from gramian.gram.spectrum import (
    Eigensystem,
    as_tensor,
    eigensystem,
    eigenvalues,
    extreme_eigenvalues,
    real_matrix,
    symmetric_dense,
)

__all__ = [
    "Eigensystem",
    "Estimate",
    "Features",
    "Gram",
    "SpectralDensity",
    "as_tensor",
    "check_psd",
    "condition_number",
    "eigensystem",
    "eigenvalues",
    "extreme_eigenvalues",
    "largest_eigenpairs",
    "log_determinant",
    "not_positive",
    "real_matrix",
    "spectral_density",
    "store_features",
    "symmetric_dense",
    "trace",
]
