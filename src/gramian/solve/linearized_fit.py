"""Where gradient flow takes the linearized network, in closed form."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator, cg
from torch import Tensor

from gramian.arch.inputs import Inputs
from gramian.empirical import EmpiricalNTK, Linearized
from gramian.empirical.modules.module_copy import copied
from gramian.errors import BadArgument, BadData, GramianError, named_in_errors
from gramian.gram import eigensystem
from gramian.solve.cholesky import solve

SOLVERS = ("cholesky", "cg")


@named_in_errors
def fit_linearized(
    model: Linearized,
    x: Inputs,
    y: Tensor,
    *,
    ridge: float = 0.0,
    time: float = math.inf,
    solver: str = "cholesky",
    tol: float = 1e-10,
) -> Linearized:
    r"""The linearized network after gradient flow on the squared loss, in closed form.

    From the parameters $\theta$ that `model` has, the flow of $\tfrac12 \sum_{ic} (f_c(x_i) - y_{ic})^2 +
    \tfrac\rho2 |\theta' - \theta|^2$ over $\theta'$ is at time t at $\theta + J^\top u(t)$, with
    $u(t) = (1 - e^{-(K + \rho) t})(K + \rho)^{-1} (y - f(x))$ and $K = J J^\top$. At $t = \infty$ it is the minimizer;
    with $\rho = 0$ the nearest one.

    Args:
        model: from `linearize`; it is not changed.
        x: training inputs; shape (n, *in_shape). Of a module that takes several a tuple, or a dict by name.
        y: targets; the shape of `model(x)`.
        ridge: $\rho$, in the units of the kernel matrix.
        time: learning rate times steps.
        solver: "cholesky" makes K, n C x n C, by `empirical_ntk`; "cg" only products with it (`time` infinite).
        tol: of "cg": the residual relative to that of the start.

    Returns:
        A copy of `model` at those parameters.

    Raises:
        BadArgument: `model` is not linearized, an unknown solver, or a time that has no "cg".
        BadData: `y` has another shape than `model(x)`.
        NotPositive: K + ridge is singular and `time` is infinite.
        GramianError: "cg" did not converge.

    References:
        Lee et al. 2019, arXiv:1902.06720.

    Example:
        >>> from gramian.solve import fit_linearized
        >>> x, y = torch.randn(4, 3), torch.randn(4, 2)
        >>> model = fit_linearized(linearize(torch.nn.Sequential(torch.nn.Linear(3, 9), torch.nn.Tanh(),
        ...     torch.nn.Linear(9, 2))), x, y)
        >>> torch.testing.assert_close(model(x), y)
    """
    if not isinstance(model, Linearized):
        raise BadArgument(
            f"`model` is a {type(model).__name__}",
            where="fit_linearized(model, ...)",
            why="only a model that is linear in its parameters has a closed form",
            fix="fit_linearized(linearize(module), x, y)",
        )
    if solver not in SOLVERS or (solver == "cg" and time < math.inf) or not time >= 0 or not 0 <= ridge < math.inf:
        raise BadArgument(
            f"solver={solver!r}, time={time}, ridge={ridge}",
            where="fit_linearized(...)",
            why='a time and a ridge are not negative, and only "cholesky" follows the flow to a finite time',
            fix='solver="cholesky", time=math.inf, ridge=0.0',
        )
    with torch.no_grad():
        out = _outputs(model, x)
    if not isinstance(y, Tensor) or y.shape != out.shape or not y.is_floating_point():
        if isinstance(y, Tensor):
            has = f"{tuple(y.shape)}, {y.dtype}"
        else:
            has = type(y).__name__
        raise BadData(
            f"`y` is {has}; the model's output on `x` is {tuple(out.shape)}, {out.dtype}",
            where="fit_linearized(model, x, y)",
            why="each output has its own target; class numbers are no targets of a squared loss",
            fix="y of the shape and dtype of model(x); for classes one-hot targets",
        )
    operator = EmpiricalNTK(model.at_origin(), x)
    r = (y - out).reshape(-1).double().cpu()
    if solver == "cg":
        u = _by_products(operator, r, ridge, tol)
    else:
        u = _dense(operator, r, ridge, time)
    fitted = copied(model)
    with torch.no_grad():
        theta = dict(fitted.module.named_parameters())
        for name, step in operator.pull(u).items():
            theta[name].add_(step)
    return fitted


def _outputs(model: Linearized, x: Inputs) -> Tensor:
    if isinstance(x, Tensor):
        return model(x)
    if isinstance(x, Mapping):
        return model(**x)
    return model(*x)


def _dense(operator: EmpiricalNTK, r: Tensor, ridge: float, time: float) -> Tensor:
    k = operator.dense().cpu()
    if time == math.inf:
        return solve(k, r, ridge).alpha
    system = eigensystem(k)
    a = system.values + ridge
    # (1 - exp(-a t)) / a, which tends to t; expm1 keeps its digits where a t is small
    factor = torch.where(a == 0, torch.full_like(a, time), -torch.expm1(-a * time) / a)
    return system.vectors @ (factor * (system.vectors.mT @ r))


def _by_products(operator: EmpiricalNTK, r: Tensor, ridge: float, tol: float) -> Tensor:
    k = operator.to_scipy()
    regular = LinearOperator(k.shape, matvec=lambda v: k @ v + ridge * v, dtype=k.dtype)
    with np.errstate(all="ignore"):  # where the system has no solution, its last step divides by zero
        u, _ = cg(regular, r.numpy(), rtol=tol, atol=0.0)
        left = float(np.linalg.norm(regular @ u - r.numpy()) / max(float(r.norm()), np.finfo(float).tiny))
    if not left <= 10 * tol:  # the recursion's own residual may claim less than the true one
        raise GramianError(
            f"conjugate gradients left a residual of {left:.1e}, asked for {tol:.0e}",
            where='fit_linearized(..., solver="cg")',
            why="the kernel is singular or ill-conditioned, or its precision is below the tolerance",
            fix="a ridge of 1e-3 times the largest eigenvalue, tol=1e-4, or the module and x in float64",
        )
    return torch.from_numpy(u)
