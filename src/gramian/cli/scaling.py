"""The scaling of rows inside a stored model; its pickle names this file."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from numpy.typing import NDArray


def norm_sqrt_d(X: NDArray) -> NDArray:
    r"""Each row times $\sqrt d / \lVert x \rVert$: entries of size 1, as kernels want them; zero rows stay zero.

    Example:
        >>> import numpy as np
        >>> norm_sqrt_d(np.array([[3.0, 4.0]])) / np.sqrt(2)
        array([[0.6, 0.8]])
    """
    import numpy as np

    norms = np.linalg.norm(X, axis=1, keepdims=True)
    return X * np.sqrt(X.shape[1]) / np.where(norms > 0, norms, 1.0)
