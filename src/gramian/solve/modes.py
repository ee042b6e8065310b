"""One eigenmode of the linear dynamics: what each optimizer does to a residual along an eigenvector.

Along an eigenvector of eigenvalue lam, with x = lr * lam and all residuals in units of the initial one, a step is

    gradient descent     d' = d + a                              (momentum with beta = 0)
    momentum             b' = beta b + a,   d' = d + b'          (torch.optim.SGD(momentum=beta))
    nesterov             b' = beta b + a,   d' = d + a + beta b' (torch.optim.SGD(momentum=beta, nesterov=True))

with the residual a = 1 - x d, the buffer b and the displacement d. The state (a, b, d) moves by one 3 x 3 matrix, so
that any step is a matrix power; a does not depend on d, and keeping d instead of (1 - a) / x serves x = 0 as well.
"""

from __future__ import annotations

import math
from numbers import Real

import torch
from torch import Tensor

from gramian.errors import BadArgument

DESCENT_METHODS = ("gd", "momentum", "nesterov")


def check_method(method: str, beta: float, flow: bool = False) -> None:
    names: tuple[str, ...]
    if flow:
        names = (*DESCENT_METHODS, "flow")
    else:
        names = DESCENT_METHODS
    if method not in names:
        raise BadArgument(f"method={method!r}", why="no such dynamics", fix=f"one of {', '.join(map(repr, names))}")
    if not isinstance(beta, Real) or not 0 <= beta < 1:
        raise BadArgument(f"beta={beta}", why="the buffer stays bounded only for 0 <= beta < 1", fix="beta=0.9")
    if method in ("gd", "flow") and beta:
        raise BadArgument(f"beta={beta} with method={method!r}", why="it has no momentum", fix='method="momentum"')


def check_lr(lr: float | Tensor | None) -> float:
    if isinstance(lr, Tensor) and lr.numel() == 1:
        lr = float(lr)
    if not isinstance(lr, Real) or not 0 < lr < math.inf:
        raise BadArgument(f"lr={lr}", why="a learning rate is a positive number", fix="lr=0.5 * max_lr(lambda_max)")
    return float(lr)


def transition(x: Tensor, method: str, beta: float) -> Tensor:
    """One step on the state (a, b, d) for each mode; (n,) -> (n, 3, 3)."""
    one, zero = torch.ones_like(x), torch.zeros_like(x)
    # nesterov: d' - d = a + beta b' = (1 + beta) a + beta^2 b; and for all methods a' = 1 - x d' = a - x (d' - d)
    buffer = torch.stack([one, beta * one, zero], -1)
    if method != "nesterov":
        step = buffer
    else:
        step = torch.stack([(1 + beta) * one, beta**2 * one, zero], -1)
    residual = torch.stack([one, zero, zero], -1) - x[:, None] * step
    displacement = step + torch.stack([zero, zero, one], -1)
    return torch.stack([residual, buffer, displacement], 1)


def powers(matrix: Tensor, steps: Tensor) -> Tensor:
    """The state after each step, from (1, 0, 0), by repeated squaring; (n, p, p), (s,) -> (n, p, s)."""
    # the way to the first step is common to all: only what is left differs
    base = int(steps.min())
    start = matrix.new_zeros(*matrix.shape[:2], 1)
    start[:, 0] = 1
    start = _advance(matrix, start, torch.tensor([base]))
    offsets = steps - base
    if int(offsets.max()) > 2 * len(steps):
        return _advance(matrix, start.expand(-1, -1, len(steps)).clone(), offsets)
    while start.shape[-1] <= int(offsets.max()):  # nearly every step is wanted: make them all, twice as many each time
        start = torch.cat([start, matrix @ start], -1)
        matrix = matrix @ matrix
    return start[:, :, offsets]


def _advance(matrix: Tensor, state: Tensor, steps: Tensor) -> Tensor:
    bits = int(steps.max()).bit_length()
    for bit in range(bits):
        # `matrix` is M^(2^bit) here: it acts on the steps that have this binary digit
        on = (steps >> bit & 1).bool().to(state.device)
        state[:, :, on] = matrix @ state[:, :, on]
        if bit + 1 < bits:
            matrix = matrix @ matrix
    return state


def damping(
    lam: Tensor, t: Tensor, lr: float | None, method: str, beta: float, displacement: bool
) -> tuple[Tensor, Tensor]:
    r"""Residual and displacement of each mode, (s, n) each; for flow $e^{-\lambda t}$ and
    $(1 - e^{-\lambda t})/\lambda$.

    The displacement is in units of time: the test residual is $r_0 - K_{ts} U\, d\, U^\top r_0$ for every method.
    """
    if method == "flow":
        exponent = t[:, None] * lam
        # expm1 keeps the digits of 1 - exp(-lam t) where lam t is small; over lam it tends to t
        safe = torch.where(lam > 0, lam, 1.0)
        return (-exponent).exp(), torch.where(lam > 0, -torch.expm1(-exponent) / safe, t[:, None])
    assert lr is not None
    matrix = transition(lr * lam, method, beta)
    if not displacement:  # the recursion of the residual alone
        matrix = matrix[:, :2, :2]
    state = powers(matrix, t).permute(1, 2, 0)  # (p, s, n)
    return state[0], lr * state[-1]


def characteristic(x: Tensor, method: str, beta: float) -> tuple[Tensor, Tensor, Tensor]:
    """Trace T, determinant D and first step a_1 of a_{k+1} = T a_k - D a_{k-1}, a_0 = 1."""
    if method == "nesterov":
        return (1 + beta) * (1 - x), beta * (1 - x), 1 - (1 + beta) * x
    return 1 + beta - x, torch.full_like(x, beta), 1 - x


def roots(x: Tensor, method: str, beta: float) -> tuple[Tensor, Tensor, Tensor]:
    """Moduli of the larger and the smaller root of z^2 - T z + D, and the distance between the two roots."""
    trace, det, _ = characteristic(x, method, beta)
    gap = trace**2 - 4 * det
    root = gap.abs().sqrt()
    # real roots are (T +- sqrt(T^2 - 4 D)) / 2; complex ones are conjugate, each of modulus sqrt(D)
    large = torch.where(gap >= 0, (trace.abs() + root) / 2, det.abs().sqrt())
    small = torch.where(gap >= 0, (trace.abs() - root).abs() / 2, large)
    # (1 - z)(1 - w) = x: a root near 1 keeps the digits of 1 - z, on which 1e9 steps depend
    slow = (trace > 0) & (gap >= 0)
    return torch.where(slow, (1 - x / (1 - torch.where(det < 0, -small, small))).abs(), large), small, root
