"""Hermite coefficients of functions that have them in closed form: a_r(q) = E phi(sqrt(q) z) h_r(z)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from gramian.errors import Unsupported

MOST_TERMS = 2048


def of_derivative_means(means: Sequence[Tensor], q: Tensor) -> Tensor:
    """Coefficients of a polynomial, from the mean of each of its derivatives."""
    # E f h_r = E f^(r) / sqrt(r!), by parts r times; r derivatives of phi(sqrt(q) z) give q^(r / 2)
    return torch.stack([m * q ** (r / 2) / math.sqrt(math.factorial(r)) for r, m in enumerate(means)])


def of_exp(q: Tensor) -> Tensor:
    """Coefficients of exp."""
    # every derivative of exp is exp, of mean exp(q / 2): a_r = exp(q / 2) q^(r / 2) / sqrt(r!)
    return _by_ratios(torch.exp(q / 2), lambda r: (q / r).sqrt())


def of_sine(q: Tensor, *, odd: bool) -> Tensor:
    """Coefficients of sin (odd) and cos, from those of exp: every second term, with signs that alternate."""
    # sin and cos are the parts of exp(i x), whose derivatives have mean i^r exp(-q / 2)
    a = _by_ratios(torch.exp(-q / 2), lambda r: (q / r).sqrt())
    r = torch.arange(len(a))
    sign = torch.where(r % 2 == int(odd), 1.0 - 2.0 * (r // 2 % 2), 0.0)
    return a * sign.to(a.dtype)[:, None]


def of_gaussian(q: Tensor, rate: float, height: float) -> Tensor:
    """Coefficients of `height exp(-rate x^2)`."""
    wide = 1 + 2 * rate * q
    # a_2m = height / sqrt(w) (-rate q / w)^m sqrt((2m)!) / m! with w = 1 + 2 rate q; odd ones are zero
    even = _by_ratios(height / wide.sqrt(), lambda m: -rate * q / wide * math.sqrt((2 * m) * (2 * m - 1)) / m)
    return torch.stack([even, torch.zeros_like(even)], 1).flatten(0, 1)


def of_erf(q: Tensor) -> Tensor:
    """Coefficients of erf. Its slope is a Gaussian bump, and a_(r + 1) is sqrt(q / (r + 1)) times that of the slope."""
    # erf' = 2 / sqrt(pi) exp(-x^2)
    slope = of_gaussian(q, 1.0, 2 / math.sqrt(math.pi))
    r = torch.arange(1, len(slope) + 1, dtype=q.dtype)[:, None]
    return torch.cat([torch.zeros_like(q)[None], slope * (q / r).sqrt()])


def _by_ratios(first: Tensor, ratio: Callable[[int], Tensor]) -> Tensor:
    """Terms from their ratios, until they are below all rounding.

    Raises:
        Unsupported: the variance makes them too many.
    """
    terms, largest = [first], first.square()
    for r in range(1, MOST_TERMS):
        terms.append(terms[-1] * ratio(r))
        square = terms[-1].square()
        if bool((r * square < 1e-20 * largest).all()) and r > 4:
            return torch.stack(terms)
        largest = torch.maximum(largest, square)
    raise Unsupported("The values' variance is large: the series is long.")
