r"""The bivariate normal's upper tail $P(x > h, y > k)$ to full double precision, vectorized."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gramian.duals.quadrature import legendre

NODES_IN_CORRELATION = 20
NEAR_ONE = 0.925  # correlation from which the integral is expanded around 1
ROOT_2_PI = math.sqrt(2 * math.pi)


def tail(x: Tensor) -> Tensor:
    """P(z > x)."""
    return torch.erfc(x / math.sqrt(2)) / 2


def density(x: Tensor) -> Tensor:
    """Density of the standard normal law."""
    return torch.exp(-x * x / 2) / ROOT_2_PI


def orthant(h: Tensor, k: Tensor, theta: Tensor) -> Tensor:
    r"""$P(x > h, y > k)$ at correlation $\cos\vartheta$; lists of the same length, h and k zero or more.

    The integral of the density over the correlation from 0, in the arcsine (Drezner and Wesolowsky 1990, 'On the
    computation of the bivariate normal integral'); near 1 and -1 from there, less an expansion in closed form (Genz
    2004, 'Numerical computation of rectangular bivariate and trivariate normal and t probabilities'). Error below
    2e-16.
    """
    near = torch.cos(theta).abs() > NEAR_ONE
    probability = torch.empty_like(theta)
    for index, part in ((~near, _far), (near, _near)):
        where = torch.nonzero(index).flatten()
        if len(where):
            probability[where] = part(h[where], k[where], theta[where])
    return probability.clamp(0, 1)


def _far(h: Tensor, k: Tensor, theta: Tensor) -> Tensor:
    x, weight = legendre(NODES_IN_CORRELATION, h.device)
    # dP/dr is the density at (h, k); with r = sin(a) its factor 1 / sqrt(1 - r^2) goes into da, and at r = 0 the two
    # are independent: tail(h) tail(k).
    half = (math.pi / 2 - theta) / 2
    sine = torch.sin(half[:, None] * (1 + x))
    exponent = (sine * (h * k)[:, None] - ((h * h + k * k) / 2)[:, None]) / (1 - sine * sine)
    return half / (2 * math.pi) * (torch.exp(exponent) @ weight) + tail(h) * tail(k)


def _near(h: Tensor, k: Tensor, theta: Tensor) -> Tensor:
    """Letters as in Genz's program: a the sine of the angle, b the distance of h and k."""
    x, weight = legendre(NODES_IN_CORRELATION, h.device)
    # P(x > h, y > k) at correlation -r is tail(h) less P(x > h, y > -k) at r, whose value at r = 1 is tail(h) too: so a
    # negative correlation returns the integral alone, with the other sign.
    negative = theta > math.pi / 2
    k = torch.where(negative, -k, k)
    hk, b = h * k, (h - k).abs()
    a = torch.sin(theta)
    sa, sb = a * a, b * b
    # In x = sqrt(1 - r^2) the density is exp(-(sb / x^2 + hk) / 2) times exp(-hk / 2 x^2 / (1 + r)^2) / r. The first
    # factor (`outer`) is singular at 0, the second (`exact`) is 1 + c x^2 (1 + 5 d x^2) there (`expansion`). Their
    # product has a closed form, `first` - `second`, and the rule below sums only what the expansion leaves.
    c, d = (4 - hk) / 8, (12 - hk) / 80
    ratio = sb / sa.clamp_min(1e-300)
    first = a * torch.exp(-(ratio + hk) / 2) * (1 - c * (sb - sa) * (1 - d * sb) / 3 + c * d * sa * sa)
    second = torch.exp(-hk / 2) * ROOT_2_PI * tail(b / a.clamp_min(1e-300)) * b * (1 - c * sb * (1 - d * sb) / 3)
    half = a / 2
    xs = (half[:, None] * (1 + x)).square()
    expansion = 1 + c[:, None] * xs * (1 + 5 * d[:, None] * xs)
    rs = torch.sqrt(1 - xs)
    exact = torch.exp(-hk[:, None] / 2 * xs / (1 + rs).square()) / rs
    outer = torch.exp(-(sb[:, None] / xs.clamp_min(1e-300) + hk[:, None]) / 2)
    rest = half * ((outer * (expansion - exact)) @ weight)
    integral = (rest - first + second) / (2 * math.pi)
    return torch.where(negative, -integral, integral + tail(torch.maximum(h, k)))
