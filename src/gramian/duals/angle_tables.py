r"""Tables of duals for the vector engine: Chebyshev series in the angle, whose coefficients depend on the variances.

With s, s' the roots of the variances, K the kernel and v(s) = E phi^2, the loops carry (see `factors`)

    1 - K / sqrt(v v') = (s - s')^2 h(s, s') + e e' w G(s, x, s'),   e = s / sqrt(v),

and the slope's kernel D over the same root, times s s'. Of values with angle pi p, x = 2 p - 1 and w = p^2 for a
function with kinks, w = p for one with jumps; x = c, w = 1 - c for a smooth one. h is what is left at angle 0. As
dK/dc = s s' D (Price 1958), G is an integral of D, and no difference: nearly equal inputs keep their digits. Each is
interpolated in s and s'; between kinks at zero alone, or at one variance, all are smooth.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from gramian.duals.chebyshev import chebyshev_nodes, chebyshev_polynomials
from gramian.duals.gaussian_function import GaussianFunction
from gramian.duals.quadrature import FARTHEST_NODE
from gramian.errors import NoLimit, Unsupported

SMOOTH, KINKS, JUMPS = range(3)  # as in native/src/vector_series.h
DEVIATION_NODES = (2, 3, 4, 6, 8, 12, 16)  # in a standard deviation, as there
ANGLE_NODES = (32, 64, 128, 256, 320)  # in the angle
WIDEST_RATIO = 8.0  # ratio of standard deviations in one table
END_STEPS = 8  # of a table's end, in a factor of 2: so that the next tile finds it
SERIES_TAIL_SHARE = {torch.float32: 1e-8, torch.float64: 1e-13}  # share of a series that is left out
TABLE_ERROR = {torch.float32: 2e-7, torch.float64: 5e-13}  # largest difference from the dual, of the diagonal
SMOOTH_PAIRS = {True: 1000, False: 40_000}  # that a table of a smooth function takes, at one variance or many
FEW_VARIANCES = 32  # variances that are asked for one by one
DIAGONAL_NODES = 24  # nodes for the diagonal, where there are more


@dataclass(frozen=True, eq=False)
class AngleTable:
    """Coefficients of the three functions.

    Args:
        form: which angle, see the module.
        low: smallest standard deviation.
        high: largest.
        apart: of h; shape (P, P).
        rest: of G; shape (P, P, R), R even.
        slope: of D; shape (P, P, R).
    """

    form: int
    low: float
    high: float
    apart: Tensor
    rest: Tensor
    slope: Tensor

    def factors(self, s: Tensor, second: Tensor) -> Tensor:
        """Factors of each input, from its standard deviation and E phi^2; shape (2 + P (2 + 2 R), n)."""
        basis = chebyshev_polynomials(self._scaled(s), len(self.apart))  # (P, n)
        e = s / second.sqrt()
        # h, G and D are bilinear in both sides' polynomials: contracted with one side's here, a pair takes dot products
        h = torch.einsum("an,ab->bn", basis, self.apart)
        contracted = [torch.einsum("an,abr->rbn", e * basis, c).flatten(0, 1) for c in (self.rest, self.slope)]
        return torch.cat([s[None], e[None], basis, h, *contracted])

    def _scaled(self, s: Tensor) -> Tensor:
        if len(self.apart) == 1:
            return torch.zeros_like(s)
        return ((2 * s - self.low - self.high) / (self.high - self.low)).clamp(-1, 1)

    def __call__(self, s1: Tensor, theta: Tensor, s2: Tensor, own: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """1 - K / sqrt(v v') and s s' D / sqrt(v v') of pairs, as the loops compute them; shapes (n,)."""
        one, two = (self.factors(s, v) for s, v in zip((s1, s2), own, strict=True))
        p, r = len(self.apart), self.rest.shape[2]
        lead, x = _variables(self.form, theta)
        t = chebyshev_polynomials(x, r)
        at = [2, 2 + p, 2 + 2 * p, 2 + (2 + r) * p, len(one)]
        # u = (s - s')^2 h + e e' w G, where one side's factors hold h and G already; e' is two[1]
        basis, h = two[at[0] : at[1]], (one[at[1] : at[2]] * two[at[0] : at[1]]).sum(0)
        g, d = (
            (one[i:j].reshape(r, p, -1) * basis).sum(1).mul(t).sum(0) * two[1]
            for i, j in ((at[2], at[3]), (at[3], at[4]))
        )
        return (s1 - s2).square() * h * (p > 1) + lead * g, d


def uniform(q: Tensor, dtype: torch.dtype) -> bool:
    """Whether all variances that are not zero are one number, to the rounding of inputs of this dtype."""
    some = q[q > 0]
    few = 8 * torch.finfo(dtype).eps
    return len(some) == 0 or bool(some.max() - some.min() <= few * some.max())


def tabulated(
    op: GaussianFunction, q: Tensor, dtype: torch.dtype, pairs: float = math.inf
) -> tuple[AngleTable, Tensor, Tensor, Tensor]:
    """A table for variances q, and at each of them its standard deviation, E phi^2 and E phi'^2; shapes (n,).

    A smooth function that needs one bends sharply in its values' scale, and each integral takes a millisecond: for
    fewer `pairs` than a table is made of there is none.

    Raises:
        Unsupported: there is none that passes its check; the message says why.
    """
    some = q[q > 0]
    if len(some) == 0:
        raise Unsupported("All inputs are zero.")
    same = uniform(q, dtype)
    if op.integrated and not op.nonsmooth and pairs < SMOOTH_PAIRS[same]:
        raise Unsupported(f"So few pairs do not pay for a table of {op.name}.")
    if not same and any(op.kinks):
        raise Unsupported(f"{op.name} bends elsewhere than at 0, and the values' variances differ.")
    if op.homogeneous:  # as at variance 1
        table, s = _checked_table(op, 1.0, 1.0, dtype), torch.ones_like(q)
    else:
        low, high = _ends(some.min().sqrt(), some.max().sqrt(), same, dtype)
        if high > WIDEST_RATIO * low:
            raise Unsupported("The values' variances differ too much for a table.")
        table, s = _checked_table(op, low, high, dtype), q.sqrt()
    if table is None:
        raise Unsupported(f"No table of {op.name} passes its check at these variances.")
    second, slope = own(op, q)
    return table, s, second, slope


def _ends(low: Tensor, high: Tensor, same: bool, dtype: torch.dtype) -> tuple[float, float]:
    """Ends of a table: as many digits as are sure, or rounded outwards."""
    if same:
        if dtype == torch.float32:
            digits = 6
        else:
            digits = 13
        only = float(f"{float(high):.{digits}e}")
        return only, only
    below = math.floor(END_STEPS * math.log2(low)) / END_STEPS
    above = math.ceil(END_STEPS * math.log2(high)) / END_STEPS
    return 2**below, 2**above


def own(op: GaussianFunction, q: Tensor) -> tuple[Tensor, Tensor]:
    """E phi^2 and E phi'^2 at each variance."""
    distinct, where = q.unique(return_inverse=True)
    if not op.integrated or len(distinct) <= FEW_VARIANCES:
        k, slope = _dual(op, distinct, distinct, distinct, torch.zeros_like(distinct))
        return k[where], slope[where]
    s = q.sqrt()
    low, high = float(s[s > 0].min()), float(s.max())
    x, matrix = chebyshev_nodes(DIAGONAL_NODES)
    at = ((low + high) / 2 + (high - low) / 2 * x).square()
    # so many variances are interpolated in s from the integrals at a few
    basis = chebyshev_polynomials(((2 * s - low - high) / (high - low)).clamp(-1, 1), DIAGONAL_NODES)
    k, slope = _dual(op, at, at, at, torch.zeros_like(at))
    return (matrix @ k) @ basis, (matrix @ slope) @ basis


def of_powers(a: Tensor, q: float, second: float, dtype: torch.dtype) -> AngleTable:
    """The table of a power series at one variance, from its normalized coefficients, shape (terms,)."""
    # 1 - c^k = (1 - c)(1 + ... + c^(k - 1)): G, 1 - K over 1 - c, has the sum of all squares above r at c^r.
    # D is the derivative of K in c
    square = a.square() * (second / q)  # of K / s s'
    r = torch.arange(len(square) - 1, dtype=a.dtype)
    above = square.flip(0).cumsum(0).flip(0)[1:]
    for count in (16, 24, *ANGLE_NODES, len(square)):  # no more than are needed: their rounding errors add up
        x, matrix = chebyshev_nodes(count)
        coefficients = [matrix @ (x[:, None] ** r @ c) for c in (above, (r + 1) * square[1:])]
        length = max(_kept(c[None, None], dtype) for c in coefficients)
        if length < 0.8 * count:
            break
    rest, slope = coefficients
    only = math.sqrt(q)
    return AngleTable(SMOOTH, only, only, a.new_zeros(1, 1), *(_long(c[None, None], length) for c in (rest, slope)))


@lru_cache(maxsize=64)
def _checked_table(op: GaussianFunction, low: float, high: float, dtype: torch.dtype) -> AngleTable | None:
    forms: tuple[int, ...] = SMOOTH, KINKS
    if op.nonsmooth:
        if op.jumps:
            forms = (JUMPS,)
        else:
            forms = (KINKS,)
    try:
        with torch.no_grad():
            for form in forms:
                angles = _angles(op, form, low, high, dtype)
                if angles:
                    order = _order(op, form, low, high, dtype)
                else:
                    order = 0
                if order:
                    table = _interpolated(op, form, low, high, order, angles, dtype)
                    if _right(op, table, dtype):
                        return table
    except NoLimit:
        return None
    return None


def _angles(op: GaussianFunction, form: int, low: float, high: float, dtype: torch.dtype) -> int:
    """Nodes in the angle that resolve the slope's kernel at both ends; 0 if none do."""
    for count in ANGLE_NODES:
        lengths = []
        for s in {low, high}:
            one = torch.tensor([s], dtype=torch.float64)
            lengths.append(_kept(_slopes(op, form, one, one, count), dtype))
        # nodes are enough where the coefficients are below the tail before the last fifth of them
        if max(lengths) < 0.8 * count:
            return count
    return 0


def _order(op: GaussianFunction, form: int, low: float, high: float, dtype: torch.dtype) -> int:
    """Nodes in a standard deviation that resolve what is tabulated at a few angles; 0 if none do."""
    if low == high:
        return 1
    x, to_x = chebyshev_nodes(DEVIATION_NODES[-1] + 8)
    s1 = ((low + high) / 2 + (high - low) / 2 * x)[:, None, None]
    s2, theta = torch.tensor([low, (low + high) / 2, high], dtype=x.dtype)[:, None], torch.tensor([0.1, 1.0, 2.5])
    values = list(_pairs(op, s1, theta.double(), s2)[1:])
    if form == JUMPS:
        values.append(_lost(op, s1, theta.double(), s2) / (s1 * s2))
    enough = max(_kept(torch.einsum("ai,ijt->jta", to_x, v), dtype, even=False) for v in values)
    return next((order for order in DEVIATION_NODES if order >= enough), 0)


def _interpolated(
    op: GaussianFunction, form: int, low: float, high: float, order: int, angles: int, dtype: torch.dtype
) -> AngleTable:
    x, to_x = chebyshev_nodes(order)
    s = (low + high) / 2 + (high - low) / 2 * x
    i, j = torch.triu_indices(order, order)
    half = _slopes(op, form, s[i], s[j], angles)[0]  # (pairs, angles)
    if form == JUMPS:
        rest = _jumps(op, s[i], s[j], angles)
    else:
        rest = _integral(form, half)

    def mapped(values: Tensor) -> Tensor:
        symmetric = values.new_zeros(order, order, angles)
        symmetric[i, j] = symmetric[j, i] = values
        return torch.einsum("ai,bj,ijr->abr", to_x, to_x, symmetric)

    slope, rest = mapped(half), mapped(rest)
    length = max(_kept(slope, dtype), _kept(rest, dtype))
    return AngleTable(form, low, high, _apart(op, low, high, order), _long(rest, length), _long(slope, length))


def _slopes(op: GaussianFunction, form: int, s1: Tensor, s2: Tensor, angles: int) -> Tensor:
    """Chebyshev coefficients of D in the angle's variable; shape (1, pairs, angles)."""
    x, to_x = chebyshev_nodes(angles)
    if form == SMOOTH:
        theta = torch.acos(x)
    else:
        theta = (x + 1) * (math.pi / 2)
    return (_pairs(op, s1[:, None], theta, s2[:, None])[1] @ to_x.T)[None]


def _integral(form: int, slope: Tensor) -> Tensor:
    """G's coefficients from those of D: the mean of D over what the angle (or 1 - c) goes through, weighted."""
    angles = slope.shape[-1]
    x, to_x = chebyshev_nodes(angles)
    y, weight = (torch.from_numpy(t) for t in np.polynomial.legendre.leggauss(angles // 2 + 24))
    y, weight = (y + 1) / 2, weight / 2
    if form == SMOOTH:
        # 1 - K(c) = int_c^1 D, over 1 - c: the mean of D at 1 - (1 - c) y, y from 0 to 1
        inner = 1 - (1 - x)[:, None] * y
        weights = weight.expand_as(inner)
    else:
        # 1 - K(theta) = int_0^theta D(t) sin t dt; with theta = pi P and t = theta y it is P^2 times
        # pi^2 int_0^1 D y sinc(P y) dy, sinc(p) = sin(pi p) / (pi p)
        p = (x + 1)[:, None] / 2 * y
        inner, weights = 2 * p - 1, math.pi**2 * weight * y * torch.sinc(p)
    at_nodes = torch.einsum("rim,im->ri", chebyshev_polynomials(inner, angles), weights)  # (angles, nodes)
    return slope @ at_nodes @ to_x.T


def _jumps(op: GaussianFunction, s1: Tensor, s2: Tensor, angles: int) -> Tensor:
    """G's coefficients of a function with jumps, whose kernel is not the integral of its slope's."""
    x, to_x = chebyshev_nodes(angles)
    theta, s1, s2 = (x + 1) * (math.pi / 2), s1[:, None], s2[:, None]
    return _lost(op, s1, theta, s2) / (s1 * s2) / ((x + 1) / 2) @ to_x.T


def _lost(op: GaussianFunction, s1: Tensor, theta: Tensor, s2: Tensor) -> Tensor:
    """The difference of the kernel from its value at angle 0."""
    return _pairs(op, s1, torch.zeros(1, dtype=s1.dtype), s2)[0] - _pairs(op, s1, theta, s2)[0]


def _apart(op: GaussianFunction, low: float, high: float, order: int) -> Tensor:
    r"""h, half of the mean of $(\phi(s z) / \sqrt v - \phi(t z) / \sqrt w)^2 / (s - t)^2$; no t is an s."""
    if order == 1:
        return torch.zeros(1, 1, dtype=torch.float64)
    (x, to_x), (y, to_y), (z, weight) = chebyshev_nodes(order), chebyshev_nodes(order + 1), _gaussian()
    s, t = ((low + high) / 2 + (high - low) / 2 * at for at in (x, y))
    f, g = (op.phi(at[:, None] * z) for at in (s, t))
    f, g = (k / (k.square() @ weight).sqrt()[:, None] for k in (f, g))
    # 1 - E f g = E (f - g)^2 / 2 for functions of E f^2 = E g^2 = 1: no difference of nearly equal means. t has one
    # node more than s, for the nodes of n and n + 1 alternate: s - t is nowhere zero
    h = ((f[:, None] - g) / (s[:, None] - t)[..., None]).square() @ weight / 2
    coefficients = (to_x @ h @ to_y.T)[:, :order]
    return (coefficients + coefficients.T) / 2


@lru_cache(maxsize=1)
def _gaussian() -> tuple[Tensor, Tensor]:
    """Gauss and Legendre's rule on both sides of 0, with the normal density."""
    x, w = (torch.from_numpy(t) for t in np.polynomial.legendre.leggauss(128))
    z = FARTHEST_NODE / 2 * (x + 1)
    weight = FARTHEST_NODE / 2 * w * torch.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    # each half line on its own: a kink or a jump at 0 is an end of both
    return torch.cat([-z, z]), torch.cat([weight, weight])


def _pairs(op: GaussianFunction, s1: Tensor, theta: Tensor, s2: Tensor) -> tuple[Tensor, Tensor]:
    s1, theta, s2 = torch.broadcast_tensors(s1, theta, s2)
    s = s1 * s2
    # s - k = s (1 - cos theta) = 2 s sin^2(theta / 2), which keeps its digits at small angles
    return _dual(op, s1 * s1, s * torch.cos(theta), s2 * s2, 2 * s * torch.sin(theta / 2) ** 2)


def _dual(op: GaussianFunction, q1: Tensor, k: Tensor, q2: Tensor, gap: Tensor) -> tuple[Tensor, Tensor]:
    return op.untabulated_dual(q1, k, q2, gap)


def _right(op: GaussianFunction, table: AngleTable, dtype: torch.dtype) -> bool:
    """Whether it is the dual at pairs that are no nodes, near angles 0 and pi too."""
    generator = torch.Generator().manual_seed(0)
    width = table.high - table.low
    s1, s2 = (table.low + width * torch.rand(60, generator=generator, dtype=torch.float64) for _ in range(2))
    theta = math.pi * torch.rand(60, generator=generator, dtype=torch.float64)
    theta[:20] = 10.0 ** torch.linspace(-7, 0, 20, dtype=torch.float64)
    theta[20:40] = math.pi - 10.0 ** torch.linspace(-3, 0, 20, dtype=torch.float64)  # nearer, the dual is worse
    v, w = (own(op, s * s)[0] for s in (s1, s2))
    k, slope = _pairs(op, s1, theta, s2)
    size = (v * w).sqrt()
    u, d = table(s1, theta, s2, (v, w))
    steep = d.abs().max()
    wrong = torch.maximum(
        (u - (1 - k / size)).abs().max(), (d - s1 * s2 * slope / size).abs().max() / steep.clamp_min(1)
    )
    return float(wrong) <= TABLE_ERROR[dtype]


def _variables(form: int, theta: Tensor) -> tuple[Tensor, Tensor]:
    p = theta / math.pi
    if form == SMOOTH:
        return 2 * torch.sin(theta / 2) ** 2, torch.cos(theta)
    if form == KINKS:
        return p * p, 2 * p - 1
    return p, 2 * p - 1


def _kept(coefficients: Tensor, dtype: torch.dtype, *, even: bool = True) -> int:
    """Terms that must be kept."""
    size = coefficients.abs().amax((0, 1))
    left = size.flip(0).cumsum(0).flip(0)
    # |T_r| <= 1: what is cut off is at most the sum of the coefficients' sizes
    length = int((left > SERIES_TAIL_SHARE[dtype] * left[0]).sum())
    if even:
        return max(2, length + length % 2)
    return length


def _long(coefficients: Tensor, length: int) -> Tensor:
    """So many terms: the rest cut off, or zeros added."""
    has = coefficients[..., :length]
    return torch.nn.functional.pad(has, (0, length - has.shape[-1]))
