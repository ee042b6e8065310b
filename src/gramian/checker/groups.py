r"""Softmax, normalization and maximum over groups of neighbouring entries, each as one step: spelled with exponentials,
sums and roots their bounds would explode.

$\sigma_j = m_j e^{z_j} / \sum_k m_k e^{z_k}$, $D\sigma[\delta]_j = \sigma_j(\delta_j - \sum_k \sigma_k\delta_k)$.
Normalization: $\hat z = c / s$ with $c = z - \bar z$, $s^2 = \frac1k\|c\|^2 + \epsilon$, and
$D\hat z = \frac1s (I - \frac1k \hat z\hat z^\top) P$ with the projection P that takes the mean off.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gramian.checker.balls import UNIT, Ball, gamma, outward, root_of_squares
from gramian.checker.functions import LAST_PLACES


def softmax(z: Ball, groups: int, mask: np.ndarray | None) -> Ball:
    """Of z (n, groups x k); `mask` zeros and ones of the same width, with a one in each group."""
    entries = z.middle.reshape(len(z.middle), groups, -1)
    length = entries.shape[-1]
    allowed = np.ones((1, *entries.shape[1:])) if mask is None else np.asarray(mask != 0, float).reshape(1, groups, -1)
    largest = np.where(allowed > 0, entries, -np.inf).max(-1, keepdims=True)
    with np.errstate(all="ignore"):
        shifted = np.where(allowed > 0, entries - largest, 0.0)
        e = allowed * np.exp(shifted)
        values = e / e.sum(-1, keepdims=True)
    # If each argument moves by at most r, sigma_j moves by at most sup sigma_j (1 - sigma_j) 2r <= r/2; the shift by
    # the largest is one rounding of each argument. Each exp errs by LAST_PLACES u (1 + e) <= 2 LAST_PLACES u, their
    # sum, which is at least 1, by k times that and by its own roundings; the quotient by as much again.
    moved = (z.radius.reshape(entries.shape) + UNIT * np.abs(shifted)).max(-1, keepdims=True)
    rounding = 2 * LAST_PLACES * UNIT * (length + 1) + gamma(length + 2)
    radius = np.broadcast_to(outward(0.5 * moved + 1.01 * rounding) * allowed, entries.shape)
    return Ball(values, radius).reshape(*z.shape)


def softmax_back(value: Ball, bar: Ball, groups: int) -> Ball:
    r"""$D\sigma^\top$ applied to bar (n, C, groups x k): $\sigma \circ (\bar h - \langle\sigma, \bar h\rangle)$."""
    sigma = value.reshape(len(value.middle), 1, groups, -1)
    flowing = bar.reshape(*bar.shape[:2], groups, -1)
    weighted = sigma * flowing
    length = sigma.shape[-1]
    total = Ball(
        -weighted.middle.sum(-1, keepdims=True),
        outward(
            weighted.radius.sum(-1, keepdims=True) + gamma(length) * np.abs(weighted.middle).sum(-1, keepdims=True)
        ),
    )
    return (sigma * (flowing + total)).reshape(*bar.shape)


SMALLEST_SCALE = 1e-140


@dataclass(frozen=True)
class NormalizedGroups:
    """The value, and bounds of 1/s that hold for all members of the ball, for each group."""

    value: Ball
    inverse: Ball  # 1 / s, shape (n, groups, 1)


def normalized(z: Ball, groups: int, eps: float) -> NormalizedGroups:
    """Of z (n, groups x k); infinite radii where the variance may vanish."""
    entries, moved = z.middle.reshape(len(z.middle), groups, -1), z.radius.reshape(len(z.middle), groups, -1)
    length = entries.shape[-1]
    centred = entries - entries.mean(-1, keepdims=True)
    largest = np.abs(entries).max(-1, keepdims=True)
    # c is off by what its arguments are (P has norm 1, and moves an entry by at most twice the largest) and by rounding
    off = outward(2 * moved.max(-1, keepdims=True) + gamma(length + 3) * 2 * largest)
    whole = outward(root_of_squares(moved)[..., None] + gamma(length + 3) * 2 * largest * np.sqrt(length))
    with np.errstate(all="ignore"):
        scale = np.sqrt(np.mean(centred**2, -1, keepdims=True) + eps)
        # s is 1/sqrt(k)-Lipschitz in c
        low = scale * (1 - gamma(length + 4)) - outward(whole / np.sqrt(length))
        # outside of these the squares under- or overflow; NaN is outside
        known = (low > 0) & (scale > SMALLEST_SCALE) & (scale < 1 / SMALLEST_SCALE)
        values = centred / scale
        inverse_off = np.where(known, outward((scale - low) / (scale * low) + 4 * UNIT / scale), np.inf)
        # D z^ = (I - z^ z^T / k) / s, and |<z^, dc>| <= sqrt(k) |dc|
        peak = np.minimum((np.abs(centred) + off) / low, np.sqrt(length))
        spread = (off + peak * np.minimum(whole / np.sqrt(length), off)) / low + gamma(length + 8) * np.abs(values)
        radius = np.where(known, outward(spread), np.inf)
        inverse = Ball(1 / scale, inverse_off)
    return NormalizedGroups(Ball(values, radius).reshape(*z.shape), inverse)


def normalized_back(given: NormalizedGroups, bar: Ball, groups: int) -> Ball:
    r"""$D\hat z^\top$ applied to bar (n, C, groups x k)."""
    shape = (*bar.shape[:2], groups, bar.shape[2] // groups)
    unit = given.value.reshape(len(given.value.middle), 1, groups, -1)
    inverse = given.inverse.reshape(len(given.value.middle), 1, groups, 1)
    flowing = bar.reshape(*shape)
    along = _group_mean(unit * flowing)
    turned = (flowing + unit * Ball(-along.middle, along.radius)) * inverse
    mean = _group_mean(turned)
    return (turned + Ball(-mean.middle, mean.radius)).reshape(*bar.shape)


def _group_mean(ball: Ball) -> Ball:
    length = ball.shape[-1]
    middle, size = ball.middle.mean(-1, keepdims=True), np.abs(ball.middle).mean(-1, keepdims=True)
    return Ball(middle, outward(ball.radius.mean(-1, keepdims=True) + gamma(length + 1) * size))


def largest(z: Ball, groups: int, mask: np.ndarray | None) -> tuple[Ball, np.ndarray, np.ndarray]:
    """The largest entry of each group as computed, which one it is, and by how much it is certainly ahead; each
    (n, groups). Where the lead is positive the true largest is the same entry."""
    entries, radii = (part.reshape(len(z.middle), groups, -1) for part in (z.middle, z.radius))
    allowed = np.ones((1, *entries.shape[1:])) if mask is None else np.asarray(mask != 0, float).reshape(1, groups, -1)
    competing = np.where(allowed > 0, entries, -np.inf)
    winner = competing.argmax(-1)[..., None]
    value, radius = np.take_along_axis(entries, winner, -1), np.take_along_axis(radii, winner, -1)
    others = np.where(allowed > 0, entries + radii, -np.inf)
    np.put_along_axis(others, winner, -np.inf, -1)
    second = others.max(-1, keepdims=True)
    with np.errstate(invalid="ignore"):
        lead = value - radius - second
        lead -= 4 * UNIT * (np.abs(value) + radius + np.where(np.isfinite(second), np.abs(second), 0.0))
    # where the winner is not certain another entry may be larger
    radius = np.where(second > value, outward(np.maximum(radius, second - value)), radius)
    return Ball(value[..., 0], radius[..., 0]), winner[..., 0], lead[..., 0]


def largest_back(winner: np.ndarray, bar: Ball, length: int) -> Ball:
    """What flows back goes to the winners alone; bar (n, C, groups)."""
    chosen = np.arange(length) == winner[:, None, :, None]  # (n, 1, groups, length)
    parts = (np.where(chosen, part[..., None], 0.0) for part in (bar.middle, bar.radius))
    middle, radius = (part.reshape(*bar.shape[:2], -1) for part in parts)
    return Ball(middle, radius)
