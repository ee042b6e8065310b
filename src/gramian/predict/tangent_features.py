r"""Ridge regression on the tangent features of a two-layer ReLU network: what the network is before it moves."""

from __future__ import annotations

import numpy as np
from scipy.linalg import eigh
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from gramian.errors import BadArgument


class TangentFeatureRegressor(RegressorMixin, BaseEstimator):
    r"""Min-norm or ridge regression on $\phi(x) = (Nd)^{-1/2}\,[1(w_l \cdot x > 0)\,x]_{l \le N}$, Nd numbers.

    The features are the gradient of a two-layer ReLU network with N neurons in its first layer, at random weights: it
    has as many parameters as Nd. Without a ridge it fits any labels from Nd = n on; there its test error is largest,
    and beyond it comes to that of the infinitely wide network's kernel.

    Args:
        neurons: N.
        ridge: added to the kernel's diagonal; 0 takes the least norm.
        random_state: seed of the weights.

    References:
        Montanari, Zhong 2022, arXiv:2007.12826.

    Example:
        >>> x, y = np.random.default_rng(0).standard_normal((30, 5)), np.arange(30.0)
        >>> few, enough = (TangentFeatureRegressor(neurons=n).fit(x, y) for n in (3, 12))
        >>> bool(few.score(x, y) < 0.9), round(enough.score(x, y), 6)
        (True, 1.0)
    """

    def __init__(self, neurons: int = 100, ridge: float = 0.0, random_state: int = 0) -> None:
        self.neurons = neurons
        self.ridge = ridge
        self.random_state = random_state

    def fit(self, X, y):
        """Fit on rows X (n, d) and real targets y, (n,) or (n, C)."""
        X, y = validate_data(self, X, y, multi_output=True, y_numeric=True, dtype=np.float64)
        if self.neurons < 1 or self.ridge < 0:
            raise BadArgument(
                f"neurons={self.neurons}, ridge={self.ridge} make no sense.",
                where="TangentFeatureRegressor",
                fix="neurons of 1 or more, ridge of 0 or more",
            )
        self.weights_ = np.random.default_rng(self.random_state).standard_normal((self.neurons, X.shape[1]))
        self.rows_ = X
        values, vectors = eigh(self.kernel(X, X))
        # of Nd < n features n - Nd eigenvalues are 0, but for rounding: these directions are left alone
        rounding = len(X) * np.finfo(float).eps * max(float(values[-1]), 0.0)
        kept = values > rounding
        inverse = vectors[:, kept] / (values[kept] + self.ridge)
        self.alpha_ = inverse @ (vectors[:, kept].T @ y)
        return self

    def predict(self, X):
        """Predictions, in the shape of the targets."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=np.float64)
        return self.kernel(X, self.rows_) @ self.alpha_

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def kernel(self, X, X2):
        r"""$\phi(x) \cdot \phi(x') = \frac1{Nd} \sum_l 1(w_l\cdot x > 0)\,1(w_l\cdot x' > 0)\,x\cdot x'$."""
        check_is_fitted(self, "weights_")
        active = [(rows @ self.weights_.T > 0).astype(np.float64) for rows in (X, X2)]
        return (active[0] @ active[1].T) * (X @ X2.T) / (self.neurons * X.shape[1])
