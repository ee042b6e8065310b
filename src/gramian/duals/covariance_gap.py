r"""How far covariances are below their bound: $g = \sqrt{q_1 q_2} - k$, kept where a subtraction would lose it.

Of nearly equal inputs the correlation $c = k / \sqrt{q_1 q_2}$ is within rounding of 1, while activations with a kink
depend on the angle, $\sqrt{2 (1 - c)}$. So g is carried beside k from the inputs upwards, by rules that add numbers
of one sign, or nearly so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

NEAR_DISTANCE = 1e-2  # of their norm: pairs of unit vectors whose distance is computed from differences
Pair = tuple[Tensor, Tensor]
MOST_NUMBERS_HELD = 2**22  # numbers held at once


def safe_sqrt(x: Tensor) -> Tensor:
    """Square root with a zero, not infinite, gradient where x <= 0; there it is 0."""
    if not x.requires_grad:
        return x.clamp_min(0).sqrt()
    positive = x > 0
    return torch.where(positive, torch.where(positive, x, torch.ones_like(x)).sqrt(), torch.zeros_like(x))


def not_below_zero(x: Tensor) -> Tensor:
    """x where it is above zero, else zero; with the derivatives of x everywhere: rounding alone makes it less."""
    if x.requires_grad:
        return x + (x.clamp_min(0) - x).detach()
    return x.clamp_min(0)


def of_vectors(x: Tensor, y: Tensor, q1: Tensor, product: Tensor, q2: Tensor) -> tuple[Tensor, Tensor]:
    r"""`(gap, product)` of two sets of vectors: $g = |x| |y|\, |x/|x| - y/|y||^2 / 2$, and the product that fits it.

    Far pairs have it from the product, near ones from differences of directions. Where many are near, as in data far
    from their mean, a second product of what is left after the mean direction goes tells which of them are nearer.

    Args:
        x: shape (n, d).
        y: shape (m, d).
        q1: products of each x with itself, over d; shape (n,).
        product: those of x with y, over d; shape (n, m).
        q2: those of each y with itself, over d; shape (m,).
    """
    r, t = safe_sqrt(q1), safe_sqrt(q2)
    s = r[:, None] * t[None]
    if x.shape[1] == 1:  # numbers of one sign have no angle, whatever they are
        same = product.detach() >= 0
        if bool(same.all()):
            return torch.zeros_like(s), product
        return torch.where(same, torch.zeros_like(s), 2 * s), product
    gap = s - product
    near = (gap < NEAR_DISTANCE * s).detach()
    gap = gap.clamp_min(0)
    a, b = x / _or_one(r)[:, None], y / _or_one(t)[:, None]
    if int(near.sum()) > 8 * (len(x) + len(y)):
        # Distances do not change when all directions are moved by their mean, and the products of what is left are
        # small: their rounding is too.
        centre = a.detach().mean(0)
        p, o = a - centre, b - centre
        # mean squared distances of directions: |p|^2 + |o|^2 - 2 p o
        size = ((p * p).sum(1)[:, None] + (o * o).sum(1)[None]) / x.shape[1]
        apart = (size - 2 / x.shape[1] * p @ o.mT).clamp_min(0)
        gap = torch.where(near, s * apart / 2, gap)
        near &= apart.detach() < NEAR_DISTANCE * size.detach()
    i, j = torch.nonzero(near, as_tuple=True)
    if len(i) == 0:
        return gap, product
    rows = max(1, MOST_NUMBERS_HELD // x.shape[1])
    parts = [((a[p] - b[q]) ** 2).sum(1) for p, q in zip(i.split(rows), j.split(rows), strict=True)]
    close = s[i, j] * torch.cat(parts) / (2 * x.shape[1])
    less, more = torch.minimum(q1[i], q2[j]), torch.maximum(q1[i], q2[j])
    fits = more * safe_sqrt(less / _or_one(more)) - close  # of factors: at sizes far apart a difference keeps no digit
    exact = product[i, j]  # whose derivatives are right to all orders, where those of a minimum are of the first alone
    fits = exact + (fits - exact).detach()
    return gap.index_put((i, j), close), product.index_put((i, j), fits)


def of_positions(x: Tensor, y: Tensor) -> Tensor:
    """The gap at each pair of positions of (n, 1, c, *S, ...) and (1, m, c, ..., *S), which broadcast."""
    c = x.shape[2]
    r, t = (safe_sqrt((v * v).sum(2) / c) for v in (x, y))
    a, b = x / _or_one(r).unsqueeze(2), y / _or_one(t).unsqueeze(2)
    # |x| |y| |x/|x| - y/|y||^2 / 2, channel by channel
    total = sum((p - o).square() for p, o in zip(a.unbind(2), b.unbind(2), strict=True))
    return r * t * total / (2 * c)


def _or_one(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, torch.ones_like(x))


def plus_constant(gap: Tensor, q1: Tensor, q2: Tensor, w: float, b: float) -> Tensor:
    r"""Gap at covariances $w K + b$: $w g + w b (\sqrt{q_1} - \sqrt{q_2})^2 / (s' + w s + b)$, all of one sign."""
    if not b:
        return w * gap
    r, t = safe_sqrt(q1), safe_sqrt(q2)
    above = safe_sqrt(w * q1 + b) * safe_sqrt(w * q2 + b)
    # s'^2 - (w s + b)^2 = w b (r - t)^2, with s' the root after the constant
    return w * gap + w * b * (r - t).square() / (above + w * (r * t) + b)


def opposite_plus_constant(opposite: Tensor, q1: Tensor, q2: Tensor, w: float, b: float) -> Tensor:
    r"""$\sqrt{q_1 q_2} + k$ at covariances $w K + b$: all terms are of one sign."""
    if not b:
        return w * opposite
    s = safe_sqrt(q1) * safe_sqrt(q2)
    above = safe_sqrt(w * q1 + b) * safe_sqrt(w * q2 + b)
    # s'^2 - (w s)^2 = w b (q1 + q2) + b^2
    return w * opposite + b + (w * b * (q1 + q2) + b * b) / (above + w * s)


def plus(gap1: Tensor, q1: Pair, gap2: Tensor, q2: Pair) -> Tensor:
    r"""Gap of $K_1 + K_2$: with roots r, t of the variances, $g_1 + g_2 + (r_1 t_2 - r_2 t_1)^2 / (s + s_1 + s_2)$."""
    (r1, t1), (r2, t2) = (tuple(safe_sqrt(q) for q in pair) for pair in (q1, q2))
    s = safe_sqrt(q1[0] + q2[0]) * safe_sqrt(q1[1] + q2[1])
    # s^2 - (s1 + s2)^2 = (r1 t2 - r2 t1)^2
    total = s + r1 * t1 + r2 * t2
    return gap1 + gap2 + (r1 * t2 - r2 * t1).square() / _or_one(total)


def plus_with_means(parts: Sequence[tuple[Tensor, Pair, Pair]], after: Pair) -> Tensor:
    r"""Gap of the sum of two independent values that have means, from `(gap, variances, means)` of each.

    Squared distances add, and twice $(m_1 - m_1')(m_2 - m_2')$ with them.
    """
    size1, size2 = _sizes(after)
    apart, by_mean = torch.zeros_like(parts[0][0]), torch.full_like(parts[0][0], 2.0)
    for gap, (q1, q2), (m1, m2) in parts:
        # in units of the largest roots, so that inputs of very different sizes keep their digits
        apart = apart + _squared_distance(gap, safe_sqrt(q1) / size1, safe_sqrt(q2) / size2, size1 * size2)
        by_mean = by_mean * (m1 / size1 - m2 / size2)
    r, t = (safe_sqrt(q) for q in after)
    return size1 * size2 * rest(apart + by_mean, r / size1, t / size2)


def averaged(gap: Tensor, before: Pair, after: Pair, average: Callable[[Tensor], Tensor]) -> Tensor:
    r"""Gap after an average that moves both positions together, at variances `before` and `after`; they broadcast.

    The squared distance $(r - t)^2 + 2 g$ is averaged, r and t the roots of the variances. To each pair of inputs these
    are relative to the largest, so that multiples of one input have no distance.
    """
    (r, t), (r2, t2) = (tuple(safe_sqrt(q) for q in pair) for pair in (before, after))
    size1, size2 = _sizes(before)
    apart = average(_squared_distance(gap, r / size1, t / size2, size1 * size2))
    return size1 * size2 * rest(apart, r2 / size1, t2 / size2)


def rest(apart: Tensor, r: Tensor, t: Tensor) -> Tensor:
    r"""Gap $(D - (r - t)^2) / 2$ from squared distances D, less what rounding can make of it."""
    few = 4 * torch.finfo(apart.dtype).eps
    difference = r - t
    # D = (r - t)^2 + 2 g
    gap = torch.addcmul(apart, difference, difference, value=-1)
    return not_below_zero(gap - few * (r * r - t * t).detach().abs()) / 2


def _squared_distance(gap: Tensor, r: Tensor, t: Tensor, size: Tensor) -> Tensor:
    difference = r - t
    return torch.addcmul(gap * (2 / size), difference, difference)


def _sizes(after: Pair) -> tuple[Tensor, ...]:
    """The largest root of a variance over all positions, for each x and each y."""
    tops = (q.detach().amax([a for a in range(q.ndim) if a != axis], keepdim=True) for axis, q in enumerate(after))
    return tuple(_or_one(safe_sqrt(top)) for top in tops)
