r"""Hermite series of smooth activations, as the vector engine's loops sum them.

With $a_r(q) = E\,\phi(\sqrt q\,z)\,h_r(z)$ and A the same over the root of $\sum_r a_r^2$, the kernel of two values of
variances q, q' and correlation c, over the root of both variances after, is $\sum_r A_r A_r' c^r$ (Mehler), and its
derivative in c is the slope's kernel over the same root, times $\sqrt{q q'}$ (Price 1958).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from gramian.arch.ops import Activation, Cos, Erf, Exp, Gaussian, Polynomial, Sin
from gramian.arch.ops.smooth import Series
from gramian.errors import NoLimit

TERMS = 1024  # longest series
LEFT_OUT = {torch.float32: 1e-9, torch.float64: 3e-14}  # of a series, as a share of its sum
ABSENT = 1e-26  # of the variance: even (or odd) terms that quadrature's rounding alone has made
ROUNDING = 1e-12  # by which a function's own dual may differ from its series
ALL, EVEN, ODD = 0, 2, 3  # which terms there are from the third on, as in native/src/vector_series.h


class TooLong(ValueError):
    """A sum with more terms than the loops are made for."""


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
        even, odd = (bool((weights[k::2].sum(0) > ABSENT).any()) for k in (0, 1))
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
        if which == ODD and not bool((first[0].square() > ABSENT).any()):  # exactly odd: the loops then use it
            first = torch.stack([torch.zeros_like(first[0]), first[1]])
        # the first factor is (1 - A_0^2) / 2, of which the loops take the series away where c is far from 1
        return len(rest), which, torch.cat([self.a[1:].square().sum(0, keepdim=True) / 2, first, rest])


def powers(op: Activation, q: Tensor, dtype: torch.dtype) -> Powers:
    """The series of a smooth activation at variances q, shape (n,), in float64.

    Terms left out change no covariance by more than LEFT_OUT of the variance, by Cauchy and Schwarz.

    Raises:
        TooLong: it has a kink, or the variances are so large that it looks as if it had.
    """
    if op.sharp:
        raise TooLong(f"{op.name} has a kink.")
    distinct, where = q.unique(return_inverse=True)
    a = _coefficients(op, distinct)
    squares = a.square()
    # the slope's series is the derivative in c: r a_r^2 at c^(r - 1)
    steep = torch.arange(len(a), dtype=a.dtype)[:, None] * squares
    length = max(2, *(_length(weights, LEFT_OUT[dtype]) for weights in (squares, steep)))
    if length > TERMS:
        raise TooLong(f"The series of {op.name} has {length} terms.")
    total, kept = squares.sum(0), torch.nn.functional.pad(a[:length], (0, 0, 0, max(0, 2 - len(a))))
    kept = kept / kept.square().sum(0).sqrt()
    return Powers(total[where], (steep.sum(0) / distinct)[where], kept[:, where])


def _length(weights: Tensor, left_out: float) -> int:
    """Terms that must be kept, so that no column lacks more than this share of its sum."""
    left = weights.flip(0).cumsum(0).flip(0)
    return int((left > left_out * left[:1]).any(1).sum())


def _coefficients(op: Activation, q: Tensor) -> Tensor:
    """a_r at each variance; shape (terms, n)."""
    closed = _CLOSED.get(type(op))
    if closed is not None:
        return closed(op, q)
    own = isinstance(op, Series)
    try:
        a = (op if isinstance(op, Series) else _OfFunction(op)).coefficients(q, 0)
    except (NoLimit, RuntimeError) as error:  # a RuntimeError: a function of numbers that autograd does not follow
        raise TooLong(str(error).splitlines()[0]) from None
    if not own and not _agrees(op, a, q):
        raise TooLong(f"The dual of {op.name} is not the series of its function.")
    return a


@dataclass(frozen=True)
class _OfFunction(Series):
    """The function of an activation that brings its own dual."""

    op: Activation

    def phi(self, x: Tensor) -> Tensor:
        return self.op.phi(x)


def _agrees(op: Activation, a: Tensor, q: Tensor) -> bool:
    """Whether a dual is that of its function, at each variance with itself and with the smallest."""
    power = torch.arange(len(a), dtype=q.dtype)[:, None]
    for c, other in ((1.0, q), (0.3, q), (-0.8, q[:1].expand_as(q))):
        # Mehler: E phi(u) phi(v) = sum_r a_r(q) a_r(q') c^r
        has = op.dual(q, c * (q * other).sqrt(), other)[0]
        right = (a * (a if other is q else a[:, :1]) * c**power).sum(0)
        size = (a.square().sum(0) * (a if other is q else a[:, :1]).square().sum(0)).sqrt()
        if not bool(((has - right).abs() <= ROUNDING * size).all()):
            return False
    return True


def _of_polynomial(op: Polynomial, q: Tensor) -> Tensor:
    # E f h_r = E f^(r) / sqrt(r!), by parts r times; r derivatives of phi(sqrt(q) z) give q^(r / 2)
    means = op._means(q)
    return torch.stack([m * q ** (r / 2) / math.sqrt(math.factorial(r)) for r, m in enumerate(means)])


def _of_exp(op: Exp, q: Tensor) -> Tensor:
    # every derivative of exp is exp, of mean exp(q / 2): a_r = exp(q / 2) q^(r / 2) / sqrt(r!)
    return _product(torch.exp(q / 2), lambda r: (q / r).sqrt())


def _of_sin(op: Sin | Cos, q: Tensor) -> Tensor:
    """Both, from exp's: every second term, with signs that alternate."""
    # sin and cos are the parts of exp(i x), whose derivatives have mean i^r exp(-q / 2)
    a = _product(torch.exp(-q / 2), lambda r: (q / r).sqrt())
    r = torch.arange(len(a))
    sign = torch.where(r % 2 == int(isinstance(op, Sin)), 1.0 - 2.0 * (r // 2 % 2), 0.0)
    return a * sign.to(a.dtype)[:, None]


def _of_gaussian(op: Gaussian, q: Tensor) -> Tensor:
    wide = 1 + 2 * op.rate * q
    # a_2m = height / sqrt(w) (-rate q / w)^m sqrt((2m)!) / m! with w = 1 + 2 rate q; odd ones are zero
    even = _product(op.height / wide.sqrt(), lambda m: -op.rate * q / wide * math.sqrt((2 * m) * (2 * m - 1)) / m)
    return torch.stack([even, torch.zeros_like(even)], 1).flatten(0, 1)


def _of_erf(op: Erf, q: Tensor) -> Tensor:
    """Its slope is a Gaussian bump, and a_(r + 1) = sqrt(q / (r + 1)) times that of the slope."""
    # erf' = 2 / sqrt(pi) exp(-x^2)
    slope = _of_gaussian(Gaussian(1.0, 2 / math.sqrt(math.pi)), q)
    r = torch.arange(1, len(slope) + 1, dtype=q.dtype)[:, None]
    return torch.cat([torch.zeros_like(q)[None], slope * (q / r).sqrt()])


def _product(first: Tensor, ratio: Callable[[int], Tensor]) -> Tensor:
    """Terms from their ratios, until they are below all rounding."""
    terms, largest = [first], first.square()
    for r in range(1, 2 * TERMS):
        terms.append(terms[-1] * ratio(r))
        square = terms[-1].square()
        if bool((r * square < 1e-20 * largest).all()) and r > 4:
            break
        largest = torch.maximum(largest, square)
    else:
        raise TooLong("The values' variance is large: the series is long.")
    return torch.stack(terms)


_CLOSED: dict[type, Callable[..., Tensor]] = {
    Polynomial: _of_polynomial,
    Exp: _of_exp,
    Sin: _of_sin,
    Cos: _of_sin,
    Gaussian: _of_gaussian,
    Erf: _of_erf,
}
