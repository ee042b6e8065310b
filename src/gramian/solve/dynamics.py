"""Predicted residuals and losses under a constant kernel: gradient flow, gradient descent, heavy ball, Nesterov."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from gramian.errors import BadArgument, BadData, named_in_errors
from gramian.gram import Eigensystem, Gram, check_psd, eigensystem, real_matrix
from gramian.solve.modes import check_lr, check_method, damping

Theta = Tensor | Gram | Eigensystem
Cross = tuple[Tensor, Tensor]


@named_in_errors
def gradient_flow(theta: Theta, r0: Tensor, t: Tensor | Sequence[float], *, cross: Cross | None = None):
    r"""Training residual `f(x) - y` of gradient flow under a constant kernel.

    Solves $\dot r(t) = -\Theta\, r(t)$, the flow of the loss $\tfrac12 \sum_i \|f(x_i) - y_i\|^2$, by one
    eigendecomposition: $r(t) = U e^{-\Lambda t} U^\top r(0)$. Cost: $O(n^3)$ once, $O(n^2 C)$ per time. On test inputs
    $r_*(t) = r_*(0) - \Theta_{*} U \Lambda^{-1}(1 - e^{-\Lambda t}) U^\top r(0)$; an eigenvalue of zero gives $t$.

    Args:
        theta: NTK on the training inputs, symmetric positive semidefinite; shape (n, n). Its `eigensystem` serves as
            well, so that several curves cost one decomposition. Eigenvalues that rounding made negative count as zero.
        r0: residual at initialization; shape (n, C), or (n,) for C = 1.
        t: times; shape (s,). Time is learning rate times step: 1000 steps at lr 0.1 is t = 100.
        cross: for test inputs too: the NTK between test and training inputs (m, n), and the test residual at
            initialization (m, C).

    Returns:
        Residuals at each time; shape (s, n, C), computed in float64, dtype of `theta`. With `cross` a pair, the second
        of shape (s, m, C). Residuals that grew beyond the largest number are infinite or NaN.

    Raises:
        NotPositive: the smallest eigenvalue is below `-n * eps * largest`.
        BadArgument: shapes that do not fit together, or a negative time.

    References:
        Lee et al. 2019, arXiv:1902.06720.

    Example:
        The residual along an eigenvector of eigenvalue 2 halves in time log(2)/2:

        >>> theta, r0 = torch.diag(torch.tensor([2.0, 1.0])), torch.tensor([[1.0], [0.0]])
        >>> gradient_flow(theta, r0, [0.0, 0.34657359])[:, 0, 0].tolist()
        [1.0, 0.5...]
    """
    return _residuals(theta, r0, t, None, "flow", 0.0, cross)


@named_in_errors
def gradient_descent(theta: Theta, r0: Tensor, lr: float, steps: Tensor | Sequence[int], *, cross: Cross | None = None):
    r"""Training residual after each of `steps` full-batch steps of gradient descent under a constant kernel.

    $r_k = (I - \eta\Theta)^k r_0$. Stable below `max_lr(lambda_max)` = $2 / \lambda_{max}$. Other arguments, returns
    and errors as for `gradient_flow`; `steps` are whole numbers, in any order.

    References:
        Lee et al. 2019, arXiv:1902.06720.

    Example:
        >>> gradient_descent(torch.eye(1), torch.ones(1, 1), 0.5, [0, 1, 2]).flatten().tolist()
        [1.0, 0.5, 0.25]
    """
    return _residuals(theta, r0, steps, check_lr(lr), "gd", 0.0, cross)


@named_in_errors
def momentum(
    theta: Theta, r0: Tensor, lr: float, beta: float, steps: Tensor | Sequence[int], *, cross: Cross | None = None
):
    r"""Training residual under heavy ball, as `torch.optim.SGD(lr, momentum=beta)`, with a constant kernel.

    $r_{k+1} = r_k - \eta\Theta r_k + \beta(r_k - r_{k-1})$, $r_1 = (I - \eta\Theta) r_0$. Stable below
    `max_lr(lambda_max, "momentum", beta)` = $2(1 + \beta)/\lambda_{max}$. Else as `gradient_descent`.

    References:
        Polyak 1964, 'Some methods of speeding up the convergence of iteration methods'.
    """
    return _residuals(theta, r0, steps, check_lr(lr), "momentum", beta, cross)


@named_in_errors
def nesterov(
    theta: Theta, r0: Tensor, lr: float, beta: float, steps: Tensor | Sequence[int], *, cross: Cross | None = None
):
    r"""Training residual under Nesterov, as `torch.optim.SGD(lr, momentum=beta, nesterov=True)`, constant kernel.

    $r_{k+1} = (1 + \beta)(I - \eta\Theta) r_k - \beta (I - \eta\Theta) r_{k-1}$,
    $r_1 = (I - (1 + \beta)\eta\Theta) r_0$: the residual at the parameters that torch holds, which are the extrapolated
    ones of the two-line form. Stable below `max_lr(lambda_max, "nesterov", beta)` =
    $(2 + 2\beta)/((1 + 2\beta)\lambda_{max})$. Else as `gradient_descent`.

    References:
        Liu, Pan, Tao 2022, arXiv:2107.01832, for over-parameterized networks.
    """
    return _residuals(theta, r0, steps, check_lr(lr), "nesterov", beta, cross)


@named_in_errors
def loss(r: Tensor) -> Tensor:
    r"""Squared loss $\tfrac12 \sum_{i,c} r_{ic}^2$ of residuals; (..., n, C) -> (...), summed in float64."""
    if r.ndim < 2:
        raise BadArgument(f"residuals of shape {tuple(r.shape)}", why="the last two are summed", fix="r[:, None]")
    return r.double().square().sum((-2, -1)) / 2


@named_in_errors
def loss_curve(
    theta: Theta,
    r0: Tensor,
    steps: Tensor | Sequence[float],
    lr: float | None = None,
    method: str = "gd",
    beta: float = 0.0,
    *,
    cross: Cross | None = None,
    max_bytes: int = 2**24,
):
    r"""Predicted loss $\tfrac12 \sum_{i,c} r_{ic}(k)^2$ at each step, without holding a residual per step.

    In the eigenbasis it is $\tfrac12 \sum_j a_j(k)^2 \|u_j^\top r_0\|^2$: a step costs O(n), whatever C is.

    Args:
        theta, r0, cross: as for `gradient_flow`.
        steps: whole numbers, or times if `method` is "flow"; shape (s,).
        lr: learning rate; not for "flow".
        method: "gd", "momentum", "nesterov" or "flow".
        beta: momentum.
        max_bytes: largest working tensor; steps are worked off in pieces that fit.

    Returns:
        Losses, shape (s,), float64, infinite where they overflow. With `cross` the pair (training, test).
    """
    system, r0, t, lr = _prepare(theta, r0, steps, lr, method, beta)
    q = system.vectors.mT @ r0
    weight = q.square().sum(1)
    rows = 3 * len(q)
    if cross is not None:
        projected, test0 = _test(cross, system, r0)
        rows = 3 * len(q) * q.shape[1] + test0.numel()
    train, test = [], []
    for piece in t.split(max(1, max_bytes // (8 * rows))):
        a, d = damping(system.values, piece, lr, method, beta, cross is not None)
        # U is orthogonal: |U (a * q)|^2 = sum_j a_j^2 |q_j|^2, with |q_j|^2 the weight of mode j over all outputs
        train.append(a.square() @ weight / 2)
        if cross is not None:
            test.append(loss(test0 - projected @ (d[:, :, None] * q)))
    curve = _overflow(torch.cat(train))
    if cross is None:
        return curve
    return (curve, _overflow(torch.cat(test)))


def _overflow(curve: Tensor) -> Tensor:
    return curve.nan_to_num(nan=float("inf"), posinf=float("inf"))  # inf - inf and inf * 0 on the way of a divergence


def _residuals(theta, r0, steps, lr, method, beta, cross):
    system, r0, t, lr = _prepare(theta, r0, steps, lr, method, beta)
    q = system.vectors.mT @ r0  # (n, C)
    a, d = damping(system.values, t, lr, method, beta, cross is not None)
    train = torch.einsum("ij,sjc->sic", system.vectors, a[:, :, None] * q).to(system.dtype)
    if cross is None:
        return train
    projected, test0 = _test(cross, system, r0)
    return train, (test0 - torch.einsum("ij,sjc->sic", projected, d[:, :, None] * q)).to(system.dtype)


def _prepare(theta, r0, steps, lr, method, beta) -> tuple[Eigensystem, Tensor, Tensor, float | None]:
    check_method(method, beta, flow=True)
    if method != "flow":
        lr = check_lr(lr)
    elif lr is not None:
        raise BadArgument(f'lr={lr} with method="flow"', why="flow is counted in time", fix="t = lr * steps, lr=None")
    system = modes(theta)
    r0 = _columns(r0, len(system.values), "r0", "the training samples").to(system.values)
    return system, r0, _times(steps, method == "flow").to(system.values.device), lr


def modes(theta: Theta) -> Eigensystem:
    """Eigensystem of a positive semidefinite kernel, with the eigenvalues that rounding made negative set to zero."""
    if isinstance(theta, Eigensystem):
        system = theta
    else:
        system = eigensystem(theta, "theta")
    check_psd(system.values, "theta", system.dtype, system.entries)
    return replace(system, values=system.values.clamp(min=0))


def _columns(r: Tensor, n: int, name: str, of: str) -> Tensor:
    r = real_matrix(r, name)
    if r.ndim == 1:
        r = r[:, None]
    if r.ndim != 2 or len(r) != n:
        raise BadArgument(f"`{name}` has shape {tuple(r.shape)}", why=f"its rows are {of}", fix=f"({n}, C)")
    if not bool(r.isfinite().all()):
        row = int((~r.isfinite()).any(1).nonzero()[0])
        raise BadData(
            f"`{name}` is NaN or infinite in row {row}",
            why="a target or an output of the network there is not finite",
            fix=f"drop row {row} of the kernel and of `{name}`",
        )
    return r


def _times(steps, flow: bool) -> Tensor:
    if isinstance(steps, range | Iterator):
        steps = list(steps)
    t = torch.as_tensor(steps).reshape(-1)
    whole = flow or not t.is_floating_point() or bool((t == t.round()).all())
    if not len(t) or not whole or not bool((t >= 0).all()) or not bool(t.isfinite().all()):
        if not len(t):
            bad = "there are none"
        else:
            bad = f"from {float(t.min()):g} to {float(t.max()):g}"
        if flow:
            kind, needed = "times", "finite"
        else:
            kind, needed = "steps", "whole"
        raise BadArgument(
            f"`{kind}`: {bad}",
            why=f"{kind} are {needed} and not negative",
            fix="torch.arange(100)",
        )
    if flow:
        return t.double()
    return t.long()


def _test(cross: Cross, system: Eigensystem, r0: Tensor) -> Cross:
    theta, n = real_matrix(cross[0], "cross[0]"), len(r0)
    if theta.ndim != 2 or theta.shape[1] != n:
        raise BadArgument(
            f"cross[0] has shape {tuple(theta.shape)}",
            why=f"its columns are the {n} training samples",
            fix="cross=(kernel(x_test, x), f_0(x_test) - y_test)",
        )
    test0 = _columns(cross[1], len(theta), "cross[1]", "the test samples").to(r0)
    if test0.shape[1] != r0.shape[1]:
        raise BadArgument(
            f"cross[1] has {test0.shape[1]} columns, r0 has {r0.shape[1]}",
            why="training and test residuals have the same outputs",
            fix=f"a test residual of shape ({len(theta)}, {r0.shape[1]})",
        )
    return theta.to(r0) @ system.vectors, test0
