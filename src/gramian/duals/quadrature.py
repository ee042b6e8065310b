"""Gaussian integrals of functions with kinks and jumps: E f(u), E f(u) g(v), accurate at every correlation."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from gramian.duals.covariance_gap import safe_sqrt

Function = Callable[[Tensor], Tensor]
FARTHEST_NODE = 9.5  # the normal density is 1e-20 there
FUNCTION_VALUES_HELD = 2**16  # function values held at once


def expectation(f: Function, q: Tensor, kinks: tuple[float, ...], nodes: int, reach: float = FARTHEST_NODE) -> Tensor:
    r"""$E f(u)$ for $u \sim N(0, q)$ by Gauss-Legendre between the kinks of f; shape of `q`, at most float64."""
    s = safe_sqrt(q.double())[..., None]
    z, weight = nodes_between(_places(kinks, s), nodes, reach)
    return (f(s[..., None] * z) * weight).sum((-1, -2)).to(q.dtype)


def product_expectation(
    f: Function,
    g: Function,
    q1: Tensor,
    k: Tensor,
    q2: Tensor,
    kinks: tuple[float, ...],
    nodes: int,
    reach: float = FARTHEST_NODE,
    gap: Tensor | None = None,
    opposite: Tensor | None = None,
) -> Tensor:
    r"""$E f(u) g(v)$ for $(u, v) \sim N(0, [[q_1, k], [k, q_2]])$, where f and g are smooth between `kinks`.

    With $p, m \sim N(0, 1)$ independent, $u = \sqrt{q_1}(C p + S m)$ and $v = \pm\sqrt{q_2}(C p - S m)$, where
    $C \ge S$ and $C^2 - S^2$ is the correlation's size. For each m the integrand has its kinks in p at known places;
    what it integrates to has its kinks in m where two of those places meet. Gauss-Legendre rules between all of
    these converge exponentially at every correlation, also at 1 and -1, where S is zero.

    Args:
        f: elementwise function.
        g: elementwise function.
        q1: variances; shapes broadcast.
        k: covariances.
        q2: variances.
        kinks: where f or g is not smooth.
        nodes: Gauss-Legendre nodes in each piece.
        reach: standard deviations beyond which nothing is summed.
        gap: $\sqrt{q_1 q_2} - k$, where it is known to more digits than k has.
        opposite: $\sqrt{q_1 q_2} + k$, where that is.

    Returns:
        The expectations in the dtype of `k`; computed in float64, and differentiable.
    """
    shape, dtype = torch.broadcast_shapes(q1.shape, k.shape, q2.shape), k.dtype
    few = 8 * torch.finfo(dtype).eps
    known = [t for t in (gap, opposite) if t is not None]
    flat = [t.double().expand(shape).flatten() for t in (q1, k, q2, *known)]
    # about as many function values for a pair: the pieces in m times the pieces in p, and nodes in both
    rows = max(1, FUNCTION_VALUES_HELD // (nodes**2 * (len(kinks) ** 2 + 1) * (2 * len(kinks) + 1)))

    def part(q1: Tensor, k: Tensor, q2: Tensor, *known: Tensor) -> Tensor:
        rest = iter(known)
        gaps = tuple(None if t is None else next(rest) for t in (gap, opposite))
        return _part(f, g, q1, k, q2, kinks, nodes, reach, few, *gaps)

    parts = []
    for chunk in zip(*(t.split(rows) for t in flat), strict=True):
        graph = torch.is_grad_enabled() and any(t.requires_grad for t in chunk)
        if graph:
            parts.append(checkpoint(part, *chunk, use_reentrant=False))
        else:
            parts.append(part(*chunk))
    return torch.cat(parts).reshape(shape).to(dtype)


def smooth_expectation(
    f: Function,
    g: Function,
    q1: Tensor,
    k: Tensor,
    q2: Tensor,
    splits: tuple[float, ...],
    nodes: int,
    reach: float = FARTHEST_NODE,
    gap: Tensor | None = None,
    opposite: Tensor | None = None,
) -> Tensor:
    r"""`product_expectation` of functions that are smooth everywhere, and bend at the scale of one between the splits.

    $E\,f(u)\,E[g(v) | u]$, Gauss-Legendre rules between the splits in u, and for each u in v: nothing else is sharp, at
    any correlation. A tenth of the work of the rule for kinks.
    """
    shape, dtype = torch.broadcast_shapes(q1.shape, k.shape, q2.shape), k.dtype
    few = 8 * torch.finfo(dtype).eps
    q1, k, q2 = (t.detach().double().expand(shape).flatten() for t in (q1, k, q2))
    s1, s2 = safe_sqrt(q1), safe_sqrt(q2)
    s = s1 * s2

    def known(given: Tensor | None, difference: Tensor) -> Tensor:
        if given is not None:
            return given.detach().double().expand(shape).flatten()
        return torch.where(difference > few * s, difference, torch.zeros_like(s))

    turned = s2 > s1  # the wider value is the outer one: in it the other's bends are not sharp
    wide, other = torch.maximum(s1, s2), torch.minimum(s1, s2)
    one = torch.where(wide > 0, wide, torch.ones_like(s1))
    # given u, v has the mean k u / q1 and the variance (s - k)(s + k) / q1
    slope, spread = k / (one * one), (known(gap, s - k) * known(opposite, s + k)).sqrt() / one
    spread = torch.where(s > 0, spread, other)
    order = torch.argsort(wide)  # pieces out of reach are left out for all pairs of a chunk
    rows = max(1, 2**19 // (nodes**2 * (len(splits) + 1) * (len(splits) + 5)))
    expectations = torch.empty_like(s)
    for (outer, inner), group in (((f, g), order[~turned[order]]), ((g, f), order[turned[order]])):
        if not len(group):
            continue
        for at in group.split(rows):
            expectations[at] = _inside(outer, inner, wide[at], slope[at], spread[at], splits, nodes, reach)
    return expectations.reshape(shape).to(dtype)


def _inside(f, g, s1, slope, spread, splits, nodes, reach) -> Tensor:
    # far from the bends v's mean is a step in u, as wide as its spread: tan(angle) in units of the deviation
    wide = spread / (slope.abs() * s1).clamp_min(1e-300)
    steps = wide[:, None] * s1.new_tensor([-8.0, -2.0, 2.0, 8.0])
    z, weight = _pieces(torch.cat([_places(splits, s1[:, None]), steps], 1), nodes, reach)
    u = s1[:, None] * z  # (pairs, nodes)
    mean, t = slope[:, None] * u, spread.clamp_min(1e-300)[:, None, None]
    w, inner = _pieces((u.new_tensor(splits) - mean[..., None]) / t, nodes, reach)
    of_v = (g(mean[..., None] + t * w) * inner).sum(-1)
    return (f(u) * of_v * weight).sum(-1)


def _pieces(places: Tensor, nodes: int, reach: float) -> tuple[Tensor, Tensor]:
    """`_between`, in one axis, without the pieces that are empty everywhere."""
    z, weight = nodes_between(places, nodes, reach)
    full = (z[..., -1] - z[..., 0]).flatten(0, -2).amax(0) > 0
    return z[..., full, :].flatten(-2), weight[..., full, :].flatten(-2)


def overlooks(f: Function, q: Tensor, seen: Tensor, places: tuple[float, ...] = ()) -> bool:
    """Whether a rule's E f^2, `seen` at variances q of shape (p,), lacks what f does close to zero or to the places.

    A bump much narrower than the values' standard deviation falls between the nodes of any rule in their scale, and
    more nodes would agree that it is not there. So this rule's nodes are dense around the places at every scale.
    """
    s = q.double().sqrt()[:, None]
    fine = 1e-2 * s.clamp(1e-300, 1.0)
    # sinh of equal steps: steps of the size `fine` at the place, and in proportion to the distance far from it
    grid = fine * torch.sinh(
        torch.asinh(FARTHEST_NODE * s / fine) * torch.linspace(-1, 1, 2001, dtype=s.dtype, device=s.device)
    )
    x = torch.cat([grid + t for t in (0.0, *places)], 1).sort(-1).values
    y = f(x) ** 2 * torch.exp(-((x / s) ** 2) / 2) / (math.sqrt(2 * math.pi) * s)
    second = torch.trapezoid(torch.where(x.abs() <= FARTHEST_NODE * s, y, torch.zeros_like(y)), x, dim=-1)
    return bool(((second - seen.double()).abs() > 0.05 * second.clamp_min(1e-140)).any())


def _part(f, g, q1, k, q2, kinks, nodes, reach, few, gap, known_opposite) -> Tensor:
    s1, s2 = safe_sqrt(q1), safe_sqrt(q2)
    s = s1 * s2
    some = s > 0
    safe = torch.where(some, s, torch.ones_like(s))
    # S^2 = (s - k) / 2s and C^2 = (s + k) / 2s, exchanged below where the correlation is negative
    apart, opposite = ((torch.where(some, s - sign * k, safe) / (2 * safe)) for sign in (1, -1))
    apart, opposite = (torch.where(t > few / 2, t, torch.zeros_like(t)).clamp(max=1.0) for t in (apart, opposite))
    if gap is not None:
        apart = torch.where(some, gap / (2 * safe), apart)
    if known_opposite is not None:
        opposite = torch.where(some, known_opposite / (2 * safe), opposite)
    flip = opposite < apart
    large = safe_sqrt(torch.where(flip, apart, opposite))[:, None]
    small = safe_sqrt(torch.where(flip, opposite, apart))[:, None]
    sign = torch.where(flip, -1.0, 1.0).to(s.dtype)[:, None]
    a, b = _places(kinks, s1[:, None]), sign * _places(kinks, s2[:, None])
    # u has its kinks at p = (a - S m) / C, v at p = (b + S m) / C: two of them meet at m = (a - b) / 2S.
    meet = (a[:, :, None] - b[:, None, :]).flatten(1).detach() / (2 * small.detach()).clamp_min(1e-300)
    meet = torch.cat([meet, torch.zeros_like(s)[:, None]], 1)  # and at the density's peak
    m, weight_m = nodes_between(meet, nodes, reach)
    full = (m[..., -1] - m[..., 0]).amax(0) > 0  # pieces that are empty for every pair of this chunk are left out
    m, weight_m = m[:, full].flatten(1), weight_m[:, full].flatten(1)
    shift = (small * m)[..., None]
    places = torch.cat([(a[:, None] - shift) / large[..., None], (b[:, None] + shift) / large[..., None]], -1)
    p, weight_p = nodes_between(places, nodes, reach)
    along, across = large[..., None, None] * p, shift[..., None]
    u = s1[:, None, None, None] * (along + across)
    v = (s2[:, None] * sign)[..., None, None] * (along - across)
    return ((f(u) * g(v) * weight_p).sum((-1, -2)) * weight_m).sum(-1)


def _places(kinks: tuple[float, ...], s: Tensor) -> Tensor:
    """Where z has the kinks of f(s z); shape (..., number of kinks), from s of shape (..., 1)."""
    t = s.new_tensor(kinks)
    return (t / torch.where(s > 0, s, torch.full_like(s, 1e-300))).clamp(-1e3, 1e3)


def nodes_between(places: Tensor, nodes: int, reach: float) -> tuple[Tensor, Tensor]:
    """Nodes between -reach, each of the places and reach, and their weights with the normal density.

    Places out of reach divide at zero instead, the density's peak, which shortens the pieces.
    Shapes (..., pieces, nodes), from places of shape (..., places).
    """
    x, w = legendre(nodes, places.device)
    places = torch.where(places.abs() < reach, places, torch.zeros_like(places))
    end = places.new_full((*places.shape[:-1], 1), reach)
    edges = torch.cat([-end, places.sort(-1).values, end], -1)
    low, high = edges[..., :-1, None], edges[..., 1:, None]
    half = (high - low) / 2
    z = (high + low) / 2 + half * x
    return z, half * w * torch.exp(-z * z / 2) / math.sqrt(2 * math.pi)


@lru_cache(maxsize=32)
def legendre(nodes: int, device: torch.device) -> tuple[Tensor, Tensor]:
    x, w = np.polynomial.legendre.leggauss(nodes)
    return torch.from_numpy(x).to(device), torch.from_numpy(w).to(device)


def rule(kinks: tuple[float, ...]) -> Callable[..., Tensor]:
    """The quadrature of a function with these kinks."""
    if kinks:
        return product_expectation
    return smooth_expectation
