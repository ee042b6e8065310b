r"""Hermite series of smooth activations, as the vector engine's loops sum them.

With $a_r(q) = E\,\phi(\sqrt q\,z)\,h_r(z)$ and A the same over the root of $\sum_r a_r^2$, the kernel of two values of
variances q, q' and correlation c, over the root of both variances after, is $\sum_r A_r A_r' c^r$ (Mehler), and its
derivative in c is the slope's kernel over the same root, times $\sqrt{q q'}$ (Price 1958).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gramian.duals.gaussian_function import GaussianFunction
from gramian.duals.hermite_expansion import HermiteExpansion, terms_needed
from gramian.errors import NoLimit, Unsupported

LONGEST_SERIES = 1024  # longest series
LEFT_OUT = {torch.float32: 1e-9, torch.float64: 3e-14}  # of a series, as a share of its sum
ABSENT_TERM_SHARE = 1e-26  # of the variance: even (or odd) terms that quadrature's rounding alone has made
DUAL_ROUNDING = 1e-12  # by which a function's own dual may differ from its series
ALL, EVEN, ODD = 0, 2, 3  # which terms there are from the third on, as in native/src/vector_series.h


@dataclass(frozen=True)
class Powers:
    """The series of one activation at the variances of all inputs.

    Args:
        squares: sum of the squares of all coefficients, E phi^2; shape (n,).
        slopes: sum of r a_r^2 / q, E phi'^2; shape (n,).
        a: coefficients of the terms that count, normalized; shape (terms, n).
    """

    squares: Tensor
    slopes: Tensor
    a: Tensor

    def factors(self) -> tuple[int, int, Tensor]:
        """Terms from the third on, a multiple of 4; which ones; and the factors, shape (3 + terms, n)."""
        weights = self.a[2:].square()
        even, odd = (bool((weights[k::2].sum(0) > ABSENT_TERM_SHARE).any()) for k in (0, 1))
        if even and odd:
            which = ALL
        elif odd:
            which = ODD
        else:
            which = EVEN
        if which == ALL:
            rest = self.a[2:]
        else:
            rest = self.a[which::2]
        rest = torch.nn.functional.pad(rest, (0, 0, 0, -len(rest) % 4))
        first = self.a[:2]
        if which == ODD and not bool(
            (first[0].square() > ABSENT_TERM_SHARE).any()
        ):  # exactly odd: the loops then use it
            first = torch.stack([torch.zeros_like(first[0]), first[1]])
        # the first factor is (1 - A_0^2) / 2, of which the loops take the series away where c is far from 1
        return len(rest), which, torch.cat([self.a[1:].square().sum(0, keepdim=True) / 2, first, rest])


def powers(op: GaussianFunction, q: Tensor, dtype: torch.dtype) -> Powers:
    """The series of a smooth activation at variances q, shape (n,), in float64.

    Terms left out change no covariance by more than LEFT_OUT of the variance, by Cauchy and Schwarz.

    Raises:
        Unsupported: it has a kink, or the variances are so large that it looks as if it had.
    """
    if op.nonsmooth:
        raise Unsupported(f"{op.name} has a kink.")
    distinct, where = q.unique(return_inverse=True)
    a = _coefficients(op, distinct)
    squares = a.square()
    # the slope's series is the derivative in c: r a_r^2 at c^(r - 1)
    steep = torch.arange(len(a), dtype=a.dtype)[:, None] * squares
    length = max(2, *(terms_needed(weights, LEFT_OUT[dtype]) for weights in (squares, steep)))
    if length > LONGEST_SERIES:
        raise Unsupported(f"The series of {op.name} has {length} terms.")
    total, kept = squares.sum(0), torch.nn.functional.pad(a[:length], (0, 0, 0, max(0, 2 - len(a))))
    kept = kept / kept.square().sum(0).sqrt()
    return Powers(total[where], (steep.sum(0) / distinct)[where], kept[:, where])


def _coefficients(op: GaussianFunction, q: Tensor) -> Tensor:
    """a_r at each variance; shape (terms, n)."""
    closed = op.closed_coefficients(q)
    if closed is not None:
        return closed
    try:
        a = HermiteExpansion(op.phi, op.name).coefficients(q, 0)
    except (NoLimit, RuntimeError) as error:  # a RuntimeError: a function of numbers that autograd does not follow
        raise Unsupported(str(error).splitlines()[0]) from None
    if not op.by_series and not agrees(op, a, q):
        raise Unsupported(f"The dual of {op.name} is not the series of its function.")
    return a


def agrees(op: GaussianFunction, a: Tensor, q: Tensor) -> bool:
    """Whether a dual is that of its function, at each variance with itself and with the smallest."""
    power = torch.arange(len(a), dtype=q.dtype)[:, None]
    for c, other in ((1.0, q), (0.3, q), (-0.8, q[:1].expand_as(q))):
        # Mehler: E phi(u) phi(v) = sum_r a_r(q) a_r(q') c^r
        has = op.dual(q, c * (q * other).sqrt(), other)[0]
        a_other = a
        if other is not q:
            a_other = a[:, :1]
        right = (a * a_other * c**power).sum(0)
        size = (a.square().sum(0) * a_other.square().sum(0)).sqrt()
        if not bool(((has - right).abs() <= DUAL_ROUNDING * size).all()):
            return False
    return True
