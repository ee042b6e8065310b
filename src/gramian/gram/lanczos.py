"""Stochastic Lanczos quadrature: spectral density, log-determinant, and the trace of any function of a matrix."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from scipy.special import ndtri
from torch import Tensor

from gramian.errors import BadArgument, named_in_errors
from gramian.gram.estimate import Estimate, generator, mean_of
from gramian.gram.krylov import Krylov, tridiagonal
from gramian.gram.operator import Operator, check_operator, check_probes, device_of, signs
from gramian.gram.positive import not_positive


@dataclass(frozen=True, eq=False)
class SpectralDensity:
    r"""The distribution of a matrix's eigenvalues, as a Gauss quadrature for each of some random vectors.

    With $v$ of random signs $\frac1n v^\top f(K) v$ is $\frac1n \operatorname{tr} f(K)$ on average, and its quadrature
    $\sum_j w_j f(\lambda_j)$ is exact for polynomials f of degree below 2 `steps`.

    Attributes:
        nodes: Ritz values $\lambda_j$, ascending; shape (probes, steps), float64.
        weights: $w_j$, each row sums to 1; shape (probes, steps). 0 where Lanczos ended before.
        n: rows of the matrix.
        products: products with the matrix that were made.
        tails: the last off-diagonal number of each tridiagonal matrix; 0 where its quadrature is exact. (probes,).
        tridiagonal: diagonals and off-diagonals, (probes, steps) and (probes, steps - 1).
    """

    nodes: Tensor
    weights: Tensor
    n: int
    products: int
    tails: Tensor
    tridiagonal: tuple[Tensor, Tensor]

    def trace_of(self, f: Callable[[Tensor], Tensor]) -> Estimate:
        r"""$\operatorname{tr} f(K)$, the standard error from the spread over the probes.

        The error of the quadrature is not known for a general f: `bracket` is 0 where every probe's is exact, NaN else,
        and then the estimate has no `interval`.

        Args:
            f: elementwise, smooth on the spectrum.

        Example:
            The effective dimension of kernel regression with a ridge of 1:

            >>> from gramian.gram import spectral_density
            >>> spectral_density(torch.eye(50), steps=5).trace_of(lambda lam: lam / (lam + 1)).value
            25.0
        """
        values = (self.weights * torch.where(self.weights > 0, f(self.nodes), 0.0)).sum(1)
        exact = not bool(self.tails.any())
        if exact:
            bracket = 0.0
        else:
            bracket = math.nan
        return mean_of(self.n * values, self.products, bracket=bracket)

    def cumulative(self, at: Tensor) -> tuple[Tensor, Tensor]:
        r"""Share of the eigenvalues that are at most each of `at`, and its error; shapes of `at`.

        The error is the sum of two: one standard deviation of the mean over the random vectors, and how far the
        quadrature of each may be off. For an interval with a stated confidence see `cumulative_interval`.
        """
        at = self._places(at)
        share = (self.weights * (self.nodes <= at[..., None, None])).sum(-1).mean(-1)
        low, high = (bound.mean(-1) for bound in self._brackets(at))
        # v' P v / n has variance at most 2 s (1 - s) / n at a share s, see `cumulative_interval`; their mean has that
        # over the number of probes
        spread = torch.maximum(low * (1 - low), high * (1 - high)).sqrt() * (2 / (self.n * len(self.nodes))) ** 0.5
        return share, spread + torch.maximum(share - low, high - share)

    def cumulative_interval(self, at: Tensor, confidence: float = 0.95) -> tuple[Tensor, Tensor]:
        r"""Ends of an interval for the share of the eigenvalues that are at most each of `at`; shapes of `at`.

        With $P$ the projector on these eigenvectors and $r$ its rank, $v^\top P v$ of random signs has mean $r$ and
        variance $2 (r - \sum_i P_{ii}^2) \le 2 r (1 - r / n)$: the share is known no worse than from `n * probes / 2`
        draws that fall below or above, and Wilson's interval for these serves. What Lanczos knows of each quadratic
        form is a bracket, so that the interval reaches from the lower end's to the upper end's.

        References:
            Wilson 1927, 'Probable inference, the law of succession, and statistical inference'.

        Example:
            >>> from gramian.gram import spectral_density
            >>> k = torch.diag(torch.cat([torch.ones(300), 4 * torch.ones(100)]))
            >>> low, high = spectral_density(k, steps=8).cumulative_interval(torch.tensor(2.0))
            >>> round(float(low), 3), round(float(high), 3)
            (0.731, 0.768)
        """
        if not 0 < confidence < 1:
            raise BadArgument(f"confidence={confidence}", why="a probability", fix="confidence=0.95")
        low, high = (bound.mean(-1) for bound in self._brackets(self._places(at)))
        draws, z = self.n * len(self.nodes) / 2, float(ndtri((1 + confidence) / 2))
        return _wilson_below(low, draws, z), 1 - _wilson_below(1 - high, draws, z)

    def density(self, at: Tensor, width: float, *, log: bool = False) -> tuple[Tensor, Tensor]:
        """Density of the eigenvalues smoothed by a Gaussian, and its error; it integrates to 1.

        The error is one standard error over the random vectors plus how far the quadrature of each may be off. It is
        large where `width` is finer than the nodes lie: there the density is not resolved, and more `steps` help.

        Args:
            at: where; shape (s,).
            width: standard deviation of the Gaussian, in the units of `at`.
            log: `at`, `width` and the density are in decades, of log10 of the eigenvalue; those up to 0 are left out.
        """
        if not width > 0:
            raise BadArgument(f"width={width}", why="the density is a sum of points", fix="width=0.1")
        at = self._places(at)
        if log:
            weights = torch.where(self.nodes > 0, self.weights, 0.0)
        else:
            weights = self.weights
        if log:
            place = self.nodes.clamp(min=torch.finfo(torch.float64).tiny).log10()
        else:
            place = self.nodes
        peak = 1 / (width * math.sqrt(2 * math.pi))
        bump = peak * (-0.5 * ((at[:, None, None] - place) / width) ** 2).exp()
        each = (weights * bump).sum(-1)
        spread = each.std(-1, correction=1) / math.sqrt(len(self.nodes))
        return each.mean(-1), spread + self._off_by(at, place, bump, peak).mean(-1)

    def _places(self, at: Tensor) -> Tensor:
        return torch.as_tensor(at, dtype=torch.float64, device=self.nodes.device)

    def _brackets(self, at: Tensor) -> tuple[Tensor, Tensor]:
        r"""Bounds of $\mu(-\infty, t]$ for the spectral measure of each probe; (\*at, probes) each.

        The inequalities of Chebyshev, Markov and Stieltjes: at a node $\lambda_k$ the measure's distribution function
        lies between $\sum_{j<k} w_j$ and $\sum_{j \le k} w_j$. It grows, so between two nodes it lies between the
        lower bound at the left and the upper one at the right. An exhausted Krylov space is the measure itself.
        """
        total = torch.cat([torch.zeros_like(self.weights[:, :1]), self.weights.cumsum(-1)], -1)
        k = (self.nodes <= at[..., None, None]).sum(-1)  # nodes up to t
        m, exact = self.nodes.shape[1], self.tails == 0
        low, high = (k - 1).clamp(min=0), (k + 1).clamp(max=m)
        low, high = torch.where(exact, k, low), torch.where(exact, k, high)
        probe = torch.arange(len(total), device=total.device)
        return total[probe, low].clamp(0, 1), total[probe, high].clamp(0, 1)

    def _off_by(self, at: Tensor, place: Tensor, bump: Tensor, peak: float) -> Tensor:
        r"""How far the quadrature of a bump may be off, for each probe; (s, probes).

        Integrated by parts, $\int f\, d(\mu - \mu_{Gauss}) = -\int (F - F_{Gauss})\, df$: the largest difference of the
        distribution functions between two nodes, times how much f varies there.
        """
        zero = torch.zeros_like(bump[..., :1])
        ends = torch.cat([zero, bump, zero], -1)  # the bump at minus infinity, at the nodes, at infinity
        left = torch.cat([torch.full_like(place[:, :1], -math.inf), place], -1)
        right = torch.cat([place, torch.full_like(place[:, :1], math.inf)], -1)
        inside = (left < at[:, None, None]) & (at[:, None, None] < right)
        rises = (ends[..., 1:] - ends[..., :-1]).abs()
        # monotone between two nodes, a bump varies by the difference of its ends; with its center inside it goes up to
        # the peak and down again
        varies = torch.where(inside, 2 * peak - ends[..., 1:] - ends[..., :-1], rises)
        none = torch.zeros_like(self.weights[:, :1])
        # between nodes j and j + 1 Gauss's distribution function is the sum of the first j weights, the measure's lies
        # between those of j - 1 and j + 1: they differ by at most the larger of the two nodes' weights
        apart = torch.maximum(torch.cat([none, self.weights], -1), torch.cat([self.weights, none], -1))
        apart = torch.where((self.tails == 0)[:, None], 0.0, apart)
        return (apart * varies).sum(-1)

    def __repr__(self) -> str:
        low, high = float(self.nodes[self.weights > 0].min()), float(self.nodes[self.weights > 0].max())
        return (
            f"SpectralDensity({self.n} eigenvalues from {low:.3g} to {high:.3g}, {len(self.nodes)} probes, "
            f"{self.products} products)"
        )


def _wilson_below(share: Tensor, draws: float, z: float) -> Tensor:
    r"""Lower end of Wilson's score interval for a share that was seen in so many draws.

    The two ends are the roots p of $(\hat p - p)^2 = z^2 p (1 - p) / N$; their product is $\hat p^2 / (1 + z^2/N)$,
    which gives the lower one with all digits, zero included.
    """
    more = z * z / draws
    upper = (share + more / 2 + (more * share * (1 - share) + (more / 2) ** 2).sqrt()) / (1 + more)
    return share.square() / (1 + more) / upper


@named_in_errors
def spectral_density(operator: Operator, *, steps: int = 40, probes: int = 10, seed: int = 0) -> SpectralDensity:
    r"""The distribution of the eigenvalues, by stochastic Lanczos quadrature.

    Lanczos with full reorthogonalization from random signs. It keeps `steps` vectors of the matrix's size in float64,
    and makes `probes` times `steps` products, fewer where the Krylov space is exhausted.

    Args:
        operator: symmetric.
        steps: Lanczos steps of each probe: how fine the spectrum is resolved, the ends first.
        probes: random vectors: the error bars fall like one over their root.
        seed: of the random vectors.

    Raises:
        BadArgument: not square, or fewer than 2 probes or 1 step.

    References:
        Ubaru, Chen, Saad 2017, 'Fast estimation of tr(f(A)) via stochastic Lanczos quadrature'; Ghorbani et al. 2019,
        arXiv:1901.10159.

    Example:
        >>> from gramian.gram import spectral_density
        >>> k = torch.diag(torch.cat([torch.ones(30), 4 * torch.ones(10)]))
        >>> found = spectral_density(k, steps=8)
        >>> found
        SpectralDensity(40 eigenvalues from 1 to 4, 10 probes, 20 products)
        >>> round(float(found.cumulative(torch.tensor(2.0))[0]), 6)
        0.75
    """
    n = check_operator(operator, "spectral_density(operator, ...)")
    check_probes(probes, 2, "spectral_density(..., probes=...)")
    if steps < 1:
        raise BadArgument(f"steps={steps}", why="each probe makes one product or more", fix="steps=40")
    steps, device, draw = min(steps, n), device_of(operator), generator(seed)
    matrix: Operator | Tensor
    if isinstance(operator, Tensor):
        matrix = operator.double()
    else:
        matrix = operator
    eps = torch.finfo(operator.dtype).eps
    spaces = []
    for _ in range(probes):
        space = Krylov(matrix.__matmul__, signs(n, 1, draw)[:, 0].to(device), steps, eps)
        while not space.full:
            space.grow()
        spaces.append((_numbers(space.alpha), _numbers(space.beta[:-1]), space.beta[-1]))
    nodes, weights = (torch.zeros(probes, steps, dtype=torch.float64) for _ in range(2))
    diagonal, beside = torch.zeros(probes, steps, dtype=torch.float64), torch.zeros(probes, steps - 1).double()
    tails = torch.zeros(probes, dtype=torch.float64)
    for i, (alpha, beta, tail) in enumerate(spaces):
        m = len(alpha)
        lam, u = torch.linalg.eigh(tridiagonal(alpha, beta))
        # Gauss's nodes are the eigenvalues of the tridiagonal matrix, its weights the squared first entries of their
        # eigenvectors
        nodes[i, :m], weights[i, :m] = lam, u[0].square()
        nodes[i, m:] = lam[-1]  # of weight zero
        diagonal[i, :m], beside[i, : m - 1], tails[i] = alpha, beta, tail
    products = sum(len(alpha) for alpha, _, _ in spaces)
    return SpectralDensity(nodes, weights, n, products, tails, (diagonal, beside))


@named_in_errors
def log_determinant(
    operator: Operator,
    ridge: float = 0.0,
    *,
    lambda_min: float = 0.0,
    steps: int = 40,
    probes: int = 10,
    seed: int = 0,
) -> Estimate:
    r"""$\log\det(K + \rho I)$ by stochastic Lanczos quadrature, with its error.

    Two errors are told apart. The spread over the random vectors gives `standard_error`. The quadrature of each is
    bracketed: Gauss's is above the truth, Gauss-Radau's with a node at the lower end of the spectrum below it, because
    the derivatives of the logarithm alternate in sign; the value is their middle and `bracket` half their distance.

    Args:
        operator: symmetric positive semidefinite.
        ridge: $\rho$, in the units of the matrix.
        lambda_min: a known lower bound of the spectrum; 0 for any kernel. `ridge + lambda_min` must be positive.
        steps, probes, seed: as for `spectral_density`.

    Raises:
        BadArgument: not square, or `ridge + lambda_min` is not positive.
        NotPositive: a Ritz value of `K + ridge` is not positive: K is not positive semidefinite, or rounding of its
            precision is larger than the ridge.

    References:
        Ubaru, Chen, Saad 2017; Golub and Meurant 2010, 'Matrices, moments and quadrature with applications'.

    Example:
        >>> from gramian.gram import log_determinant
        >>> found = log_determinant(torch.diag(torch.arange(1.0, 41)), ridge=1.0, steps=40)
        >>> round(found.value, 6), round(math.lgamma(42), 6)  # 2 * 3 * ... * 41
        (114.034212, 114.034212)
    """
    n = check_operator(operator, "log_determinant(operator, ...)")
    if not (0 < ridge + lambda_min < math.inf and ridge >= 0):
        raise BadArgument(
            f"ridge={ridge}, lambda_min={lambda_min}: their sum must be positive",
            where="log_determinant(operator, ridge)",
            why="the logarithm has no bound near an eigenvalue that may be zero",
            fix="ridge=1e-3 times the largest eigenvalue, or lambda_min from extreme_eigenvalues(operator)",
        )
    density = spectral_density(operator, steps=steps, probes=probes, seed=seed)
    low, top = float(density.nodes.min()), float(density.nodes.max())
    if low + ridge <= 0:
        raise not_positive("operator", n, operator.dtype, low + ridge, top + ridge, ridge)
    values, gaps = torch.zeros(probes).double(), torch.zeros(probes).double()
    for i in range(probes):
        used = density.weights[i] > 0
        gauss = radau = float(density.weights[i][used] @ (density.nodes[i][used] + ridge).log())
        if density.tails[i]:
            alpha, beta = (t[i] for t in density.tridiagonal)
            # strictly below all Ritz values: at one of them the system for the rule is singular
            at = min(lambda_min, low - 1e-9 * (low + ridge))
            lam, w = _radau(alpha, beta, float(density.tails[i]), at)
            radau = float(w @ (lam.clamp(min=at) + ridge).log())  # its lowest node is `at` up to rounding
        values[i], gaps[i] = n * (gauss + radau) / 2, n * (gauss - radau) / 2
    return mean_of(values, density.products, bracket=float(gaps.mean()))


def _radau(alpha: Tensor, beta: Tensor, tail: float, at: float) -> tuple[Tensor, Tensor]:
    """Nodes and weights of the Gauss-Radau rule with one node at `at`, below all of Gauss's nodes."""
    m = len(alpha)
    last = torch.zeros(m, dtype=torch.float64)
    last[-1] = tail**2
    # T with one more row, beta_m beside d on the diagonal, has the eigenvalue `at` if the Schur complement of
    # T - at is zero: d - at = beta_m^2 e' (T - at)^-1 e, with e the last unit vector
    delta = torch.linalg.solve(tridiagonal(alpha, beta) - at * torch.eye(m, dtype=torch.float64), last)
    lam, u = torch.linalg.eigh(tridiagonal(torch.cat([alpha, at + delta[-1:]]), torch.cat([beta, _numbers([tail])])))
    return lam, u[0].square()


def _numbers(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)
