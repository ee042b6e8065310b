"""The largest eigenvalue of a matrix that is dear to multiply with: Lanczos that stops as soon as it is known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

KEPT = 8  # vectors; then it goes on from the best of them


def top_eigenvalue(
    product: Callable[[np.ndarray], np.ndarray], start: np.ndarray, tolerance: float, *, most: int = 100
) -> float:
    r"""Largest eigenvalue of a symmetric positive semidefinite matrix, from its products with vectors.

    Lanczos with full reorthogonalization, restarted from its Ritz vector. It ends where the residual is below
    `tolerance` of the Ritz value: some eigenvalue is as near (Parlett 1998, 'The symmetric eigenvalue problem', chapter
    4), the largest unless two are close. ARPACK asks the same after nine products at the earliest; where eigenvalues
    stand out, as those of a loss's curvature do, five or six are enough.

    Args:
        product: of the matrix with a vector.
        start: a vector with a part along the eigenvector; shape (p,), its dtype is that of all vectors.
        tolerance: relative accuracy.
        most: products.

    Returns:
        Never above the true one but for rounding; 0 if the matrix is, NaN if a product is not finite.

    Example:
        >>> matrix = np.diag([1.0, 2.0, 5.0])
        >>> round(top_eigenvalue(lambda v: matrix @ v, np.ones(3), 1e-10), 8)
        5.0
    """
    size = float(np.linalg.norm(start))
    if not np.isfinite(size) or size == 0:
        return 0.0 if size == 0 else float("nan")
    vector, made, value = start / size, 0, 0.0
    floor = 10 * float(np.finfo(start.dtype).eps)
    while True:
        basis, steps = [vector], np.zeros((KEPT + 1, KEPT + 1))
        for j in range(KEPT):
            w, made = product(basis[j]), made + 1
            steps[j, j] = float(w @ basis[j])
            for _ in range(2):  # twice is enough
                for v in basis:
                    w = w - (w @ v) * v
            left = float(np.linalg.norm(w))
            if not np.isfinite(left):
                return float("nan")
            lam, u = np.linalg.eigh(steps[: j + 1, : j + 1])
            value = max(float(lam[-1]), 0.0)
            residual = left * abs(float(u[-1, -1]))
            if residual <= max(tolerance, floor) * value or made >= most:
                return value
            steps[j, j + 1] = steps[j + 1, j] = left
            basis.append(w / left)
        vector = sum((c * v for c, v in zip(u[1:, -1], basis[1:KEPT], strict=True)), u[0, -1] * basis[0])
        vector = (vector / np.linalg.norm(vector)).astype(start.dtype)
