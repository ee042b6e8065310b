r"""The exact limit of Allen-Zhu, Li and Song's residual network, whose skips carry post-activations.

$h_0 = \phi(A x)$, $h_l = \phi(h_{l-1} + \tau W_l h_{l-1})$, $f = B h_L$, with $\phi$ the ReLU, all weights Gaussian. No
closed form is known, because $h_{l-1}$ is not Gaussian. But at infinite width each coordinate of $h_l$ is an
independent copy of a function of l + 1 independent Gaussians,

    h_0 = phi(z_0),  h_l = phi(g_l),  g_l = h_{l-1} + tau z_l,  z_l ~ N(0, K_{l-1}),  K_l = E h_l h_l',

so that every number of the two kernels is an expectation over the pairs $(z_0, z_0'), \dots, (z_L, z_L')$.

Backwards, $p_l = \partial f / \partial h_l$ obeys $p_L = B$ and $p_{l-1} = q_l + \tau W_l^\top q_l$ with
$q_l = \phi'(g_l)\, p_l$. The term $\tau W_l^\top q_l$ is Gaussian and independent of all that lies below; but $q_l$,
which the skip hands down, depends on the same coordinate's later signs. Unrolled over where that Gaussian entered,

    E q_l q_l' = Q_l = sum_{j >= l} R_j M_{l,j},   R_L = Var B,  R_{j-1} = tau^2 Q_j,
    M_{l,j} = P(g_k > 0 and g_k' > 0 for all k = l..j).

With weights as $W_l = m^{-1/2} \omega_l$ and gradients with respect to $\omega$ (the NTK parametrization),

    nngp = Var B K_L,   ntk = K_in Q_0 + sum_l tau^2 K_{l-1} Q_l + Var B K_L,   K_in = Cov(A x, A x').

ReLU networks without biases are homogeneous, so all of this is |x| |x'| times a function of the angle between x and x'.
It is computed by randomized quasi-Monte Carlo at Chebyshev points of the angle, and interpolated.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.quasirandom import SobolEngine

from gramian.arch.ops.relu import ReLU
from gramian.errors import BadArgument, BadData

ANGLES = 33  # angles, Chebyshev-Lobatto points of [0, pi]; the functions are smooth in the angle
REPLICATES = 16  # independent scramblings of the Sobol points: their spread is the error
PARTS = ("first", "hidden", "readout")


@dataclass(frozen=True, eq=False)
class ResidualKernels:
    """Limit kernels with their errors; made by `allen_zhu_resnet_kernels`.

    Args:
        nngp: covariance of an output; shape (n, m).
        ntk: tangent kernel; shape (n, m).
        nngp_error: standard error of the integration, with what the interpolation may add; shape (n, m).
        ntk_error: of `ntk`; shape (n, m).
        points: quasi-random points in each of 16 replicates.
        reached: whether the errors are within what was asked.
    """

    nngp: Tensor
    ntk: Tensor
    nngp_error: Tensor
    ntk_error: Tensor
    points: int
    reached: bool


@dataclass(frozen=True)
class Setting:
    """The network: standard deviations of all layers after the fan-in scaling, and what trains."""

    depth: int
    tau: float
    sigma_first: float
    sigma_last: float | None
    sigma_readout: float
    trained: frozenset[str]


def allen_zhu_resnet_kernels(
    x: Tensor,
    x2: Tensor | None = None,
    *,
    depth: int,
    tau: float,
    sigma_first: float = math.sqrt(2),
    sigma_last: float | None = None,
    sigma_readout: float = 1.0,
    trained: Collection[str] = PARTS,
    tolerance: float = 1e-3,
    max_points: int = 2**18,
    seed: int = 0,
) -> ResidualKernels:
    r"""Limit kernels of the ReLU network $h_0 = \phi(Ax)$, $h_l = \phi(h_{l-1} + \tau W_l h_{l-1})$, $f = B h_L$.

    Weights are N(0, sigma^2 / fan-in): A with `sigma_first`, $W_l$ with 1 (`tau` is their scale), B with
    `sigma_readout`; no biases; NTK parametrization. With `sigma_last` there is one more layer without a skip before
    the readout, $h = \phi(W h_L)$: the network of Allen-Zhu, Li and Song of depth L has L - 1 residual layers, then
    this one. Integrated numerically, see the module's own text; the cost does not depend on the number of inputs.

    Args:
        x: inputs; shape (n, d).
        x2: other inputs; shape (m, d). None: the same as `x`.
        depth: number of residual layers, 1 or more.
        tau: scale of the residual branches.
        sigma_first: of A; $\sqrt2$ keeps E h_0^2 = |x|^2 / d.
        sigma_last: of the last layer without a skip; None: there is none.
        sigma_readout: of B.
        trained: which of "first", "hidden" (with the last layer) and "readout" count in the NTK.
        tolerance: largest error of an entry, relative to that kernel's diagonal entry at the same norms. On one core
            1e-3 takes a fraction of a second, 1e-4 some ten seconds.
        max_points: most quasi-random points in a replicate, where the work stops; then `reached` may be False.
        seed: of the scrambling.

    Returns:
        Both kernels, with the estimated error of every entry; dtype of `x`.

    Raises:
        BadData: inputs that are empty, not finite, or not of shape (n, d).
        BadArgument: an option out of range.

    References:
        Allen-Zhu, Li and Song 2018, arXiv:1811.03962 (the network); Yang 2020, arXiv:2006.14548 (gradients independent
        of the forward pass). The recursion over $M_{l,j}$ is ours, and tested against finite networks.

    Example:
        With tau = 0 it is a network with one hidden layer, whose NTK at |x|^2 = d is 2:

        >>> k = gramian.limit.allen_zhu_resnet_kernels(torch.ones(1, 3), depth=2, tau=0.0)
        >>> bool(abs(k.ntk - 2) < 4 * k.ntk_error), k.reached
        (True, True)
    """
    trained = _check(depth, tau, (sigma_first, sigma_last, sigma_readout), trained, tolerance, max_points)
    _check_input("x", x, x)
    if x2 is not None:
        _check_input("x2", x2, x)
    setting = Setting(depth, float(tau), float(sigma_first), sigma_last, float(sigma_readout), trained)
    points = min(2**10, max_points)
    while True:
        replicates = torch.stack([_at_nodes(setting, points, seed * REPLICATES + r) for r in range(REPLICATES)])
        mean, error = replicates.mean(0), replicates.std(0) / math.sqrt(REPLICATES)  # (2, nodes)
        series = _chebyshev(mean)
        # what the interpolation leaves out is taken to be no larger than its last three coefficients together
        error = error + series[:, -3:].abs().sum(1, keepdim=True)
        reached = bool((error <= tolerance * mean[:, :1]).all())
        if reached or points >= max_points:
            break
        points = min(4 * points, max_points)
    t, scale = _angles(x, x2)
    nngp, ntk = (scale * _evaluate(s, t) for s in series)
    nngp_error, ntk_error = (scale * _evaluate(s, t).abs() for s in _chebyshev(error))
    nngp, ntk, nngp_error, ntk_error = (k.to(x.dtype) for k in (nngp, ntk, nngp_error, ntk_error))
    return ResidualKernels(nngp, ntk, nngp_error, ntk_error, points, reached)


def _at_nodes(s: Setting, points: int, seed: int) -> Tensor:
    """NNGP and NTK of inputs of norm sqrt(d) at the nodes' angles, from one scrambling; shape (2, nodes)."""
    z = SobolEngine(2 * (s.depth + 1), scramble=True, seed=seed).draw(points, dtype=torch.float64)
    z = torch.special.ndtri(z * (1 - 2**-30) + 2**-31).T.contiguous()  # never at 0 or 1; (2 (L + 1), points)
    k_in = s.sigma_first**2 * torch.cos(math.pi / 2 * (1 - _nodes()))
    variances = [k_in[0], *_forward(s, z, k_in[0], None)[0]]
    each = [_forward(s, z, k, variances) for k in k_in]  # an angle at a time stays in the cache
    covariances = [torch.stack(k) for k in zip(*(forward[0] for forward in each), strict=True)]
    joint = {key: torch.stack([forward[1][key] for forward in each]) for key in each[0][1]}
    top, last, above = covariances[-1], torch.zeros(()), torch.full((ANGLES,), s.sigma_readout**2, dtype=torch.float64)
    if s.sigma_last is not None:
        below = s.sigma_last**2 * top
        top, kdot = ReLU().dual(below[:1], below, below[:1])
        last, above = below * above * kdot, s.sigma_last**2 * above * kdot
    entered, hidden = {s.depth: above}, last  # R_j
    for l in range(s.depth, -1, -1):
        back = torch.stack([entered[j] * joint[l, j] for j in range(l, s.depth + 1)]).sum(0)  # Q_l
        if l:
            hidden = hidden + s.tau**2 * covariances[l - 1] * back
            entered[l - 1] = s.tau**2 * back
    nngp = s.sigma_readout**2 * top
    parts = {"first": k_in * back, "hidden": hidden, "readout": nngp}
    return torch.stack([nngp, sum((parts[name] for name in PARTS if name in s.trained), start=0 * nngp)])


def _forward(
    s: Setting, z: Tensor, k: Tensor, variances: list[Tensor] | None
) -> tuple[list[Tensor], dict[tuple[int, int], Tensor]]:
    """K_l for l = 0..L and M_{l,j} of two inputs with Cov(A x, A x') = k; `variances`: of z_0..z_L, None if equal."""
    a = b = torch.zeros(1, dtype=torch.float64)
    covariances: list[Tensor] = []
    alive_since: list[Tensor] = []  # for each l so far, where g_l..g_j are positive for both inputs
    joint: dict[tuple[int, int], Tensor] = {}
    for j in range(s.depth + 1):
        if variances is None:
            q = k
        else:
            q = variances[j]
        r = (k / q).clamp(-1, 1)
        step = abs(s.tau if j else 1.0) * q.sqrt()
        # (1 - r)(1 + r) keeps the digits of 1 - r^2 near r = 1
        spread = step * ((1 - r) * (1 + r)).sqrt()
        g, middle = a + step * z[2 * j], b + step * r * z[2 * j]  # the other one is N(middle, spread^2) given g
        h = middle + spread * z[2 * j + 1]
        # the layer's second Gaussian is integrated exactly, given g: P(h > 0) and E max(h, 0) in place of a draw's
        above, part = _mean_above_zero(middle, spread)
        on = (g > 0) * above
        joint |= {(l, j): torch.where(alive, on, 0.0).mean() for l, alive in enumerate(alive_since)}
        joint[j, j] = on.mean()
        a, b = g.clamp_min(0), h.clamp_min(0)
        k = (a * part).mean()
        covariances.append(k)
        positive = (g > 0) & (h > 0)
        alive_since = [alive & positive for alive in alive_since] + [positive]
    return covariances, joint


def _mean_above_zero(mean: Tensor, std: Tensor) -> tuple[Tensor, Tensor]:
    """P(h > 0) and E max(h, 0) of a Gaussian h, also with std 0: smoother integrands than those of one draw of h."""
    c = mean / std.clamp_min(torch.finfo(torch.float64).tiny)
    above = torch.special.ndtr(c)
    return above, mean * above + std / math.sqrt(2 * math.pi) * torch.exp(-c * c / 2)


def _nodes() -> Tensor:
    """Chebyshev-Lobatto points from 1 (equal inputs) to -1 (opposite ones)."""
    return torch.cos(math.pi * torch.arange(ANGLES, dtype=torch.float64) / (ANGLES - 1))


def _chebyshev(values: Tensor) -> Tensor:
    """Coefficients of the polynomials through values at the nodes; shapes (..., nodes)."""
    order = torch.arange(ANGLES, dtype=torch.float64)
    t = torch.cos(order[:, None] * order * math.pi / (ANGLES - 1))  # T_k at node j: (j, k)
    return torch.linalg.solve(t, values[..., None])[..., 0]


def _evaluate(series: Tensor, t: Tensor) -> Tensor:
    """A Chebyshev series at t in [-1, 1], by Clenshaw's recursion."""
    one, two = torch.zeros_like(t), torch.zeros_like(t)
    # b_k = c_k + 2 t b_(k+1) - b_(k+2); the sum is c_0 + t b_1 - b_2
    for c in series[1:].flip(0):
        one, two = 2 * t * one - two + c, one
    return t * one - two + series[0]


def _angles(x: Tensor, x2: Tensor | None) -> tuple[Tensor, Tensor]:
    """1 - 2 angle / pi, and |x| |x'| / d, for all pairs; shapes (n, m). The angle keeps its digits near 0 and pi."""
    a, b = x.double(), (x if x2 is None else x2).double()
    n, m = a.norm(dim=1, keepdim=True), b.norm(dim=1, keepdim=True)
    tiny = torch.finfo(torch.float64).tiny
    u, v = a / n.clamp_min(tiny), b / m.clamp_min(tiny)
    mode = "donot_use_mm_for_euclid_dist"
    # tan(angle / 2) = |u - v| / |u + v|; arccos of u'v would lose half the digits near 0 and pi, and so would distances
    # by matrix products
    angle = 2 * torch.atan2(torch.cdist(u, v, compute_mode=mode), torch.cdist(u, -v, compute_mode=mode))
    if x2 is None:
        angle.fill_diagonal_(0)
    return 1 - 2 * angle / math.pi, n * m.T / x.shape[1]


def _check_input(name: str, x: Tensor, like: Tensor) -> None:
    if (
        not isinstance(x, Tensor)
        or not x.is_floating_point()
        or x.ndim != 2
        or 0 in x.shape
        or x.shape[1] != like.shape[1]
    ):
        if isinstance(x, Tensor):
            has = f"shape {tuple(x.shape)}, {x.dtype}"
        else:
            has = f"type {type(x).__name__}"
        raise BadData(
            f"`{name}` has {has}; this network takes floating-point vectors, shape (n, d).",
            where=f"allen_zhu_resnet_kernels, argument `{name}`",
            why="no rows, images that were not flattened, or two sets of different length d",
            fix=f"{name} = {name}.flatten(1).double()",
        )
    if not bool(x.isfinite().all()):
        row = int((~x.isfinite()).any(1).nonzero()[0])
        raise BadData(
            f"`{name}` has values that are NaN or infinite.",
            where=f"first in row {row}",
            why="a missing value, or a division by zero when the data was normalized",
            fix=f"keep = torch.isfinite({name}).all(1); {name} = {name}[keep]",
        )


def _check(
    depth: int,
    tau: float,
    sigmas: tuple[float | None, ...],
    trained: Collection[str],
    tolerance: float,
    max_points: int,
) -> frozenset[str]:
    """The options in range; `trained` as a set."""
    names = frozenset(trained)
    if isinstance(trained, str):
        names = frozenset([trained])
    wrong = {
        f"`depth` is {depth!r}": (isinstance(depth, int) and 1 <= depth <= 1000, "depth=3, a whole number, 1 to 1000"),
        f"`tau` is {tau!r}": (math.isfinite(tau), "tau=1 / depth"),
        f"the sigmas are {sigmas}": (all(s is None or 0 < s < math.inf for s in sigmas), "sigma_first=2**0.5"),
        f"`trained` is {trained!r}": (bool(names) and names <= set(PARTS), f"trained={PARTS}"),
        f"`tolerance` is {tolerance!r}": (0 < tolerance < 1, "tolerance=1e-3"),
        f"`max_points` is {max_points!r}": (isinstance(max_points, int) and max_points >= 2, "max_points=2**18"),
    }
    for says, (good, fix) in wrong.items():
        if not good:
            raise BadArgument(
                f"{says[0].upper()}{says[1:]}, out of range.",
                where="allen_zhu_resnet_kernels(...)",
                why="this is no network, or no accuracy that could be reached",
                fix=fix,
            )
    return names
