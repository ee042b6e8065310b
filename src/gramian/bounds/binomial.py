r"""The divergence of two coins, its inverse, and the constant of the PAC-Bayes-kl bound."""

from __future__ import annotations

import math

import numpy as np
from scipy import special

from gramian.errors import BadArgument

BISECTIONS = 200  # halvings of [q, 1]: until the two ends are neighbouring floats
KL_ERROR = 1e-14
ROUNDED = 1e-12  # above what float64 loses in the bounds of this package; added to each


def kl(q: float, p: float) -> float:
    r"""$\mathrm{kl}(q\|p) = q \log\frac qp + (1 - q) \log\frac{1 - q}{1 - p}$ of coins with chances q and p.

    Example:
        >>> kl(0.5, 0.5), kl(0.0, 0.5) == math.log(2), kl(0.5, 1.0)
        (0.0, True, inf)
    """
    if (p <= 0 < q) or (p >= 1 > q):
        return math.inf
    total = 0.0
    if q > 0:
        total += q * math.log(q / p)
    if q < 1:
        total += (1 - q) * (math.log1p(-q) - math.log1p(-p))
    return max(total, 0.0)


def kl_inverse(q: float, bound: float) -> float:
    r"""The largest chance that `bound` allows: $\sup\{p : \mathrm{kl}(q\|p) \le \text{bound}\}$, rounded up.

    Args:
        q: observed share, in [0, 1].
        bound: at least 0.

    Raises:
        BadArgument: q is no share, or the bound is negative.

    Example:
        With no failure among n trials it is $1 - e^{-\text{bound}}$:

        >>> round(kl_inverse(0.0, math.log(2)), 9)
        0.5
    """
    if not (0 <= q <= 1 and bound >= 0):
        raise BadArgument(
            f"q={q!r} and bound={bound!r} have no inverse of the divergence.",
            where="kl_inverse",
            why="q is a share of trials and the bound a divergence",
            fix="0 <= q <= 1 and bound >= 0",
        )
    low, high = q, 1.0
    allowed = bound + KL_ERROR * (1 + bound)  # what `kl` errs by must not take chances away
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        if kl(q, middle) > allowed:
            high = middle
        else:
            low = middle
    return min(high + ROUNDED, 1.0)


def maurer_constant(n: int) -> float:
    r"""$\xi(n) = \sum_k \binom nk (k/n)^k (1 - k/n)^{n-k}$, at most $2\sqrt n$ from n = 8 on.

    For n independent values in [0, 1] of mean p and their average q, $E\, e^{n\,\mathrm{kl}(q\|p)} \le \xi(n)$: for
    coins each of the n + 1 terms is at most the one above whatever p is, and other values are convex combinations of
    coins (Maurer 2004, arXiv:cs/0411099).

    Example:
        >>> maurer_constant(1), maurer_constant(100) < 2 * math.sqrt(100)
        (2.0, True)
    """
    if n < 1:
        raise BadArgument(f"n={n} samples.", where="maurer_constant", why="an average needs one", fix="n >= 1")
    k = np.arange(n + 1)
    logs = special.gammaln(n + 1) - special.gammaln(k + 1) - special.gammaln(n - k + 1)
    logs += special.xlogy(k, k / n) + special.xlogy(n - k, 1 - k / n)
    return float(np.exp(logs).sum())


def mean_at_most(values: np.ndarray, failure_probability: float) -> float:
    r"""An upper bound of the mean of independent values in [0, 1], with probability at least $1 - \delta$.

    The smaller of two bounds, each with $\delta/2$: Chernoff's, $\mathrm{kl}^{-1}(\bar v, \frac1T\log\frac2\delta)$,
    and the empirical Bernstein bound $\bar v + \sqrt{2V\log(4/\delta)/T} + 7\log(4/\delta)/(3(T-1))$ with the sample
    variance V (Maurer and Pontil 2009, arXiv:0907.3740), which is the smaller one where values differ little.

    Args:
        values: (T,).
        failure_probability: delta.

    Example:
        >>> mean_at_most(np.full(1000, 0.1), 0.01) < 0.12
        True
    """
    count, mean = len(values), float(np.mean(values))
    chernoff = kl_inverse(mean, math.log(2 / failure_probability) / count)
    if count == 1:
        return chernoff
    room = math.log(4 / failure_probability)
    bernstein = mean + math.sqrt(2 * float(np.var(values, ddof=1)) * room / count) + 7 * room / (3 * (count - 1))
    return min(chernoff, bernstein + ROUNDED)
