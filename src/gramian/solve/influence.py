"""Which training rows a prediction rests on: exact removal of one row from kernel ridge regression."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from gramian.errors import BadArgument, named_in_errors
from gramian.gram import Features, Gram, as_tensor, symmetric_dense
from gramian.solve.cholesky import positive_factor, targets


@dataclass(frozen=True, eq=False)
class Attribution:
    r"""What each training row does to each test prediction of kernel ridge regression.

    Attributes:
        prediction: $f(x_t)$; shape (m, C), float64.
        leave_one_out: $y_i - f_{-i}(x_i)$, the error at row i of the predictor fitted without it; shape (n, C).
        weights: $M_{ti}$ in $f(x_t) = \sum_i M_{ti} y_i$; shape (m, n).
        ridge: as the caller gave it, in the units of the kernel matrix.
    """

    prediction: Tensor
    leave_one_out: Tensor
    weights: Tensor
    ridge: float

    def influence(self, output: int = 0) -> Tensor:
        r"""$f(x_t) - f_{-i}(x_t) = M_{ti}\, (y_i - f_{-i}(x_i))$, exactly: what row i adds to prediction t; (m, n)."""
        return self.weights * self.leave_one_out[:, output]

    def top(self, test: int, k: int = 5, output: int = 0) -> tuple[Tensor, Tensor]:
        """The `k` training rows with the largest influence, of either sign, on a test row: numbers and influences."""
        influences = self.influence(output)[test]
        order = influences.abs().argsort(descending=True)[:k]
        return order, influences[order]

    def __repr__(self) -> str:
        (m, c), n = self.prediction.shape, len(self.leave_one_out)
        return f"Attribution({m} predictions of {c} outputs, {n} training rows, ridge={self.ridge:.3g})"


@named_in_errors
def attribution(gram: Gram | Tensor, k_test_train: Gram | Tensor, y: Tensor, ridge: float = 0.0) -> Attribution:
    r"""Influence of each training row on each test prediction, and leave-one-out errors, in closed form.

    With $G = (K + \rho I)^{-1}$: $M = k(x_t, X)\, G$, the error without row i is $[G y]_i / G_{ii}$, and leaving it out
    changes a prediction by $M_{ti}$ times that, because the predictor without row i is the one with $y_i$ replaced by
    $f_{-i}(x_i)$. No refit, no first-order approximation. For a network near its linearization: K its tangent kernel
    and y the targets minus its outputs at initialization.

    Args:
        gram: kernel on the training inputs; shape (n, n).
        k_test_train: between test and training inputs; shape (m, n).
        y: targets; shape (n, C) or (n,).
        ridge: $\rho \ge 0$, in the units of `gram`.

    Raises:
        NotPositive: `gram + ridge` is not positive definite.
        BadArgument, BadData: as `solve`.

    References:
        Craven and Wahba 1979, 'Smoothing noisy data with spline functions', for the error without a row.

    Example:
        The prediction at 0 between two equal neighbors rests on both alike:

        >>> from gramian.solve import attribution
        >>> k = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
        >>> found = attribution(k, torch.tensor([[0.5, 0.5]]), torch.tensor([2.0, 4.0]))
        >>> found.prediction.item(), found.influence().tolist()
        (3.0, [[1.0, 2.0]])
    """
    k = symmetric_dense(gram)
    y = targets(y, len(k)).to(k).reshape(len(k), -1)
    if isinstance(k_test_train, Gram):
        cross = k_test_train.dense()
    else:
        cross = as_tensor(k_test_train)
    if cross.ndim != 2 or cross.shape[1] != len(k):
        raise BadArgument(
            f"a test kernel of shape {tuple(cross.shape)} for {len(k)} training samples",
            where="attribution(gram, k_test_train, ...)",
            why="its columns must be the training samples, in their order",
            fix="attribution(kernel(x), kernel(x_test, x), y)",
        )
    # with row i's target replaced by f_-i(x_i) the fit is that without row i: its error there is alpha_i / G_ii
    g = _inverse(k, ridge, "gram")
    weights = cross.to(k) @ g
    return Attribution(weights @ y, g @ y / g.diagonal()[:, None], weights, float(ridge))


@named_in_errors
def attribution_of_features(
    features: Features | Tensor, test_features: Features | Tensor, y: Tensor, ridge: float
) -> Attribution:
    r"""The same for the kernel $\Phi \Phi^\top$, by one k x k factorization whatever the number of rows.

    $M = \Phi_t (\Phi^\top \Phi + \rho I)^{-1} \Phi^\top$, and the error without row i is
    $(y_i - f(x_i)) / (1 - H_{ii})$ with H the matrix M at the training rows. With `projected_gradients` this is the
    kernel regime of any network on data whose Gram matrix does not fit; the result's only large part is `weights`.

    Args:
        features, test_features: (n, k) and (m, k).
        y: targets; shape (n, C) or (n,).
        ridge: positive, in the units of the kernel.

    Raises:
        NotPositive: $\Phi^\top \Phi + \rho$ is not positive definite.
        BadArgument, BadData: as `solve`.

    References:
        Park et al. 2023, arXiv:2303.14186, for projected gradients as features of a linear model.

    Example:
        >>> from gramian.solve import attribution, attribution_of_features
        >>> phi, y = torch.randn(100, 3), torch.randn(100)
        >>> found = attribution_of_features(phi, phi[:2], y, 0.1)
        >>> dual = attribution(phi @ phi.mT, phi[:2] @ phi.mT, y, 0.1)
        >>> torch.testing.assert_close(found.influence(), dual.influence())
    """
    n, k = features.shape
    y = targets(y, n).double().reshape(n, -1)
    if test_features.shape[1] != k:
        raise BadArgument(
            f"test features of shape {tuple(test_features.shape)} for training features of {k} columns",
            where="attribution_of_features(features, test_features, ...)",
            why="both sides need the same map",
            fix="the same Sketch for both, with its seed",
        )
    if isinstance(features, Features):
        normal, right = features.moments(), features.moments(y)
    else:
        phi = features.detach().double()
        normal, right = phi.mT @ phi, phi.mT @ y
    g = _inverse(normal, ridge, "features' normal matrix")
    if isinstance(test_features, Features):
        test_features = test_features.dense()
    test = test_features.detach().double()
    reach, beta = g @ test.mT, g @ right
    errors, weights = torch.empty_like(y), y.new_empty(len(test), n)
    tiles: Iterable[tuple[slice, Tensor]]
    if isinstance(features, Features):
        tiles = features.tiles()
    else:
        tiles = [(slice(0, n), features.detach())]
    for rows, tile in tiles:
        wide = tile.double()
        # H_ii = phi_i' (Phi'Phi + rho)^-1 phi_i, the leverage of row i
        own = ((wide @ g) * wide).sum(1)
        errors[rows] = (y[rows] - wide @ beta) / (1 - own)[:, None]
        weights[:, rows] = (wide @ reach).mT
    return Attribution(test @ beta, errors, weights, float(ridge))


def _inverse(k: Tensor, ridge: float, name: str) -> Tensor:
    return torch.cholesky_inverse(positive_factor(k, ridge, name, k.dtype)[1])
