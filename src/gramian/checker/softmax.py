r"""Softmax over groups of neighbouring entries, as one step: spelled with exp and a sum its bounds would explode.

$\sigma_j = m_j e^{z_j} / \sum_k m_k e^{z_k}$, $D\sigma[\delta]_j = \sigma_j(\delta_j - \sum_k \sigma_k\delta_k)$.
"""

from __future__ import annotations

import numpy as np

from gramian.checker.balls import UNIT, Ball, gamma, outward
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
    # the largest is one rounding of each argument. Each exp errs by LAST_PLACES u (1 + e) <= 2 LAST_PLACES u, their sum,
    # which is at least 1, by k times that and by its own roundings; the quotient by as much again.
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
