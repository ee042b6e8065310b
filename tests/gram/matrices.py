"""Matrices with the eigenvalues that a test asks for."""

import torch


def matrix_with(lam, seed=0):
    """Symmetric, with these eigenvalues and random eigenvectors."""
    q = torch.linalg.qr(torch.randn(len(lam), len(lam), generator=torch.Generator().manual_seed(seed)))[0]
    k = (q * lam) @ q.mT
    return (k + k.mT) / 2
