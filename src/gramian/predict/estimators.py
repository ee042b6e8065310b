"""Kernel predictors of neural networks as scikit-learn estimators."""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor, nn

from gramian.data.tensors import numbers_of
from gramian.errors import BadArgument, BadData, NotPositive
from gramian.gram import Gram
from gramian.network import architecture
from gramian.network.biases import says_uncounted
from gramian.network.zoo import mlp
from gramian.solve import Solution, solve
from gramian.solve.in_place import solve_in_place

MOST_ROWS_COPIED = 4000  # rows up to which `solve`'s copies of the kernel matrix are small (128 MB each)
Progress = Callable[[str, float], object]  # what is done, and the finished share of it

TILE_LINE = "        tile: rows of the kernel that are computed at a time.\n"
SCALE_LINE = (
    "        scale_targets: targets to mean 0 and deviation 1 before, predictions back after: as `gramian fit` does.\n"
)
PARAMETERS = r"""
    Parameters:
        kernel: what the predictor is made of. None: the limit of a fully connected ReLU network with three affine
            layers and no biases, hence f(2 x) = 2 f(x): good for images, poor where a threshold decides. A module:
            its infinite-width limit, read by `gramian.architecture` with `law`. Any other callable: a kernel on float64
            tensors, `kernel(x, x2=None)`, (n, \*in), (m, \*in) -> (n, m).
        which: "ntk" (all parameters trained) or "nngp" (the readout alone); not for a callable.
        law: of the random weights, as in `gramian.architecture`; not for a callable.
        ridge: added to the kernel matrix, as a multiple of the mean of its diagonal; 0 interpolates, which needs
            distinct inputs. In absolute units it is `ridge_`.
        input_shape: shape of one sample, for instance (1, 28, 28), into which the rows of X are folded; None: (d,).
        tile: rows of the kernel that are computed at a time.

    Attributes:
        solution_: the `gramian.solve.Solution`; its dual coefficients are float64.
        kernel_: the kernel, as a callable on tensors.
        X_fit_: training inputs; shape (n, \*input_shape), a float64 tensor.
        ridge_: the ridge in the units of the kernel.
        n_features_in_: number of columns of X.
"""


class _KernelPredictor(BaseEstimator):
    _progress: Progress | None = None  # see `watched`

    def __init__(
        self,
        kernel: Callable[..., Tensor] | nn.Module | None = None,
        *,
        which: str = "ntk",
        law: Any = "he",
        ridge: float = 1e-3,
        input_shape: tuple[int, ...] | None = None,
        tile: int = 1024,
    ) -> None:
        self.kernel = kernel
        self.which = which
        self.law = law
        self.ridge = ridge
        self.input_shape = input_shape
        self.tile = tile

    @torch.no_grad()
    def _solve(self, x: np.ndarray, targets: np.ndarray) -> None:
        self.X_fit_ = self._fold(x)
        self.kernel_ = self._kernel(self.X_fit_[:1])
        if not 0 <= self.ridge < math.inf:
            raise BadArgument(f"ridge={self.ridge}", why="it is added to every eigenvalue", fix="ridge=1e-3")
        gram = self._gram()
        self.ridge_ = float(self.ridge * gram.diagonal().mean())
        mean = float(gram.diagonal().mean())
        y = torch.from_numpy(targets)
        try:
            if len(gram) <= MOST_ROWS_COPIED:
                self.solution_: Solution = solve(gram, y, self.ridge_)
            else:
                self.solution_ = solve_in_place(gram, y, self.ridge_, progress=self._tell("factorization"))
        except NotPositive as error:
            raise self._in_our_unit(error, mean) from None

    def _gram(self) -> Tensor:
        """The kernel matrix of the training inputs, float64, with no copy beside it."""
        gram = Gram(self.kernel_, self.X_fit_, tile=self.tile, dtype=torch.float64, keep=False)
        n, finished, tell = gram.shape[0], 0, self._tell("kernel")
        dense = torch.empty(n, n, dtype=torch.float64)
        for rows, columns, tile in gram.tiles():
            dense[rows, columns] = tile.cpu()
            finished += tile.numel()
            tell(finished / n**2)
        return dense

    def _tell(self, what: str) -> Callable[[float], object]:
        progress = self._progress
        if progress is None:
            return lambda share: None
        return lambda share: progress(what, share)

    def _in_our_unit(self, error: NotPositive, mean: float) -> NotPositive:
        """The error with a ridge as `ridge` counts it here, a multiple of the mean of the kernel's diagonal."""
        if mean > 0:
            relative = (error.enough or 0.0) / mean
        else:
            relative = 0.0
        if not relative:
            return error
        if "equal to the kernel" in error.why:
            drop = "drop one row of each pair, or "
        else:
            drop = ""
        return NotPositive(
            error.what,
            where=f"{type(self).__name__}(ridge={self.ridge}).fit",
            why=error.why,
            fix=f"{drop}`ridge={1.1 * relative:.1e}`, a multiple of the mean of the kernel's diagonal",
        )

    @torch.no_grad()
    def _outputs(self, X) -> np.ndarray:
        check_is_fitted(self)
        x = self._fold(validate_data(self, _numbers(X), dtype=np.float64, reset=False))
        outputs = x.new_empty(len(x), *self.solution_.alpha.shape[1:])
        tell = self._tell("predictions")
        for start in range(0, len(x), self.tile):
            part = x[start : start + self.tile]
            outputs[start : start + self.tile] = self.solution_.predict(
                Gram(self.kernel_, part, self.X_fit_, tile=self.tile, keep=False)
            )
            tell((start + len(part)) / len(x))
        return outputs.numpy()

    def _fitted_outputs(self, targets: np.ndarray) -> np.ndarray:
        r"""Outputs at the training rows without their kernel: $K\alpha = y - \rho\alpha$, up to the residual."""
        return targets - self.ridge_ * self.solution_.alpha.numpy()

    def _kernel(self, like: Tensor) -> Callable[..., Tensor]:
        if self.which not in ("ntk", "nngp"):
            raise BadArgument(f"which={self.which!r}", why="a limit has these two kernels", fix='which="ntk" or "nngp"')
        if inspect.isclass(self.kernel):
            raise BadArgument(
                f"kernel={self.kernel.__name__} is a class, not a network",
                where="kernel",
                why="a class was given where an object of it was meant",
                fix=f"kernel={self.kernel.__name__}(...), called",
            )
        if self.kernel is not None and not isinstance(self.kernel, nn.Module):
            if not callable(self.kernel):
                raise BadArgument(
                    f"kernel={self.kernel!r} is neither a module nor a function",
                    where="kernel",
                    why="a kernel is the limit of a torch.nn.Module, or computed by a function of two sets of rows",
                    fix="kernel=None, a module, or a function kernel(x, x2=None)",
                )
            return self.kernel
        module = mlp(tuple(like.shape[1:]), 1) if self.kernel is None else self.kernel
        arch = architecture(module, like, law=self.law)
        said = says_uncounted(arch, self.law)
        if said:
            warnings.warn(said, stacklevel=4)
        return getattr(arch, self.which)

    def _fold(self, x: np.ndarray) -> Tensor:
        shape: tuple[int, ...]
        if self.input_shape is None:
            shape = (x.shape[1],)
        else:
            shape = tuple(self.input_shape)
        if math.prod(shape) != x.shape[1]:
            raise BadArgument(
                f"input_shape={shape} has {math.prod(shape)} numbers, X has {x.shape[1]} columns",
                why="each row of X is folded into one input",
                fix=f"an input_shape with the product {x.shape[1]}",
            )
        # A copy in plain order: X may be read-only, and torch takes no negative strides.
        return torch.from_numpy(np.array(x, dtype=np.float64, order="C")).reshape(-1, *shape)


@contextmanager
def watched(predictor: _KernelPredictor, progress: Progress | None) -> Iterator[None]:
    """Inside, `progress(what, share)` is called as the predictor works; it is not stored with it."""
    if progress is not None:
        predictor._progress = progress
    try:
        yield
    finally:
        predictor.__dict__.pop("_progress", None)


def _numbers(X: Any) -> Any:
    """Tensors and frames as numbers; anything else is scikit-learn's to judge."""
    if isinstance(X, Tensor):
        return X.detach().cpu().numpy()
    if isinstance(X, pd.DataFrame):
        numbers_of(X, "X")  # refuses text and dates by name
    return X


class NTKRegressor(RegressorMixin, _KernelPredictor):
    __doc__ = rf"""Kernel ridge regression with the kernel of a network: what gradient descent finds at infinite width.

    $f(x) = k(x, X) (K + \rho I)^{{-1}} y$, for one or several targets, without an intercept; put a `StandardScaler`
    before it where the columns' scales differ.
{PARAMETERS.replace(TILE_LINE, TILE_LINE + SCALE_LINE)}
        y_mean_, y_sigma_: what targets are shifted and divided by.

    References:
        Jacot et al. 2018, arXiv:1806.07572; Arora et al. 2019, arXiv:1904.11955.

    Example:
        >>> from sklearn.datasets import load_diabetes
        >>> from sklearn.model_selection import cross_val_score
        >>> X, y = load_diabetes(return_X_y=True)
        >>> y = (y - y.mean()) / y.std()
        >>> bool(cross_val_score(NTKRegressor(ridge=0.1), X, y).mean() > 0.4)
        True
    """

    def __init__(
        self,
        kernel: Callable[..., Tensor] | nn.Module | None = None,
        *,
        which: str = "ntk",
        law: Any = "he",
        ridge: float = 1e-3,
        input_shape: tuple[int, ...] | None = None,
        tile: int = 1024,
        scale_targets: bool = False,
    ) -> None:
        super().__init__(kernel, which=which, law=law, ridge=ridge, input_shape=input_shape, tile=tile)
        self.scale_targets = scale_targets

    def fit(self, X, y) -> NTKRegressor:
        """Solve for the dual coefficients; X of shape (n, d), y of shape (n,) or (n, C)."""
        X, y = validate_data(self, _numbers(X), _numbers(y), dtype=np.float64, multi_output=True, y_numeric=True)
        y = np.array(y, dtype=np.float64)
        self.y_mean_, self.y_sigma_ = np.zeros(y.shape[1:]), np.ones(y.shape[1:])
        if self.scale_targets:
            sigma = y.std(0)
            self.y_mean_, self.y_sigma_ = y.mean(0), np.where(sigma > 0, sigma, 1.0)
        self._solve(X, (y - self.y_mean_) / self.y_sigma_)
        return self

    def predict(self, X) -> np.ndarray:
        """Predictions, float64; shape (m,) or (m, C)."""
        return self._outputs(X) * self.y_sigma_ + self.y_mean_

    def _fitted(self, y: np.ndarray) -> np.ndarray:
        """Predictions at the training rows, whose targets are `y`."""
        return self._fitted_outputs((y - self.y_mean_) / self.y_sigma_) * self.y_sigma_ + self.y_mean_

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


class NTKClassifier(ClassifierMixin, _KernelPredictor):
    __doc__ = rf"""Classification by kernel regression on centered one-hot targets $e_c - 1/C$, with a network's kernel.

    The class with the largest output is predicted: what gradient descent on the squared loss finds at infinite width.
{PARAMETERS.rstrip()}
        classes_: the labels, sorted; shape (C,).

    References:
        Jacot et al. 2018, arXiv:1806.07572; Arora et al. 2019, arXiv:1904.11955.

    Example:
        >>> from sklearn.datasets import load_digits
        >>> X, y = load_digits(return_X_y=True)
        >>> bool(NTKClassifier().fit(X[:500], y[:500]).score(X[500:], y[500:]) > 0.9)
        True
    """

    def fit(self, X, y) -> NTKClassifier:
        """Solve for the dual coefficients; X of shape (n, d), y: n labels of at least two classes."""
        X, y = validate_data(self, _numbers(X), _numbers(y), dtype=np.float64)
        check_classification_targets(y)
        self.classes_, code = np.unique(y, return_inverse=True)
        c = len(self.classes_)
        if c < 2:
            raise BadData(
                f"all {len(y)} samples are of one class, {self.classes_[0]!r}",
                where="y",
                why="there is nothing to tell apart",
                fix="samples of at least two classes",
            )
        # centered over the classes, so that the outputs of a row sum to 0
        self._solve(X, np.eye(c)[code] - 1 / c)
        return self

    def _fitted(self, y: np.ndarray) -> np.ndarray:
        """Predicted classes of the training rows, whose labels are `y`."""
        c = len(self.classes_)
        outputs = self._fitted_outputs(np.eye(c)[np.searchsorted(self.classes_, y)] - 1 / c)
        return self.classes_[outputs.argmax(1)]

    def decision_function(self, X) -> np.ndarray:
        """Outputs; shape (m, C), or for two classes the second minus the first, shape (m,)."""
        outputs = self._outputs(X)
        if len(self.classes_) == 2:
            return outputs[:, 1] - outputs[:, 0]
        return outputs

    def predict(self, X) -> np.ndarray:
        """The class with the largest output; shape (m,)."""
        outputs = self.decision_function(X)
        if outputs.ndim == 2:
            return self.classes_[outputs.argmax(1)]
        return self.classes_[(outputs > 0).astype(int)]
