"""Lanczos' method, once: a Krylov space that grows by a product, and the largest eigenvalue to a stated accuracy."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

MAX_BYTES = 2**31  # of basis vectors
LEAST_VECTORS = 8  # vectors that are kept in any case
VECTORS_OF_ROOM = 16  # vectors that memory is taken for at once: mostly that is all
FAILURE_PROBABILITY = 1e-3


class Krylov:
    """An orthonormal basis of the Krylov space of a symmetric matrix, and the tridiagonal matrix in it.

    Every new vector is orthogonalized against all others, twice, so that no eigenvalue comes again as a copy.

    Attributes:
        basis: vectors in rows, the first `steps` of them made, and some room; shape (at most `most`, n).
        alpha, beta: diagonal and off-diagonal numbers; the last beta is 0 where the space is exhausted.
    """

    def __init__(self, product: Callable[[Tensor], Tensor], start: Tensor, most: int, eps: float) -> None:
        self.product, self.eps, self.most = product, eps, most
        self.basis = start.new_empty(min(most, VECTORS_OF_ROOM), len(start))
        self.basis[0] = start / start.norm()
        self.alpha: list[float] = []
        self.beta: list[float] = []

    @property
    def steps(self) -> int:
        return len(self.alpha)

    @property
    def full(self) -> bool:
        """Exhausted, or at `most` vectors."""
        return self.steps == self.most or (self.steps > 0 and not self.beta[-1] > 0)

    def grow(self) -> None:
        """One product more."""
        j, n = self.steps, self.basis.shape[1]
        w = self.product(self.basis[j]).to(self.basis)
        self.alpha.append(float(w @ self.basis[j]))
        # the first pass leaves rounding of the size of what it takes away, the second removes that too
        for _ in range(2):  # twice is enough
            w = w - self.basis[: j + 1].mT @ (self.basis[: j + 1] @ w)
        size = float(w.norm())
        scale = max([size, *map(abs, self.alpha), *self.beta])
        # n orthogonal vectors span everything, and a rest no larger than rounding has no direction of its own
        if j + 1 == n or size <= 10 * self.eps * math.sqrt(n) * scale:
            size = 0.0
        self.beta.append(size)
        if size > 0 and j + 1 < self.most:
            if j + 1 == len(self.basis):
                self.basis = torch.cat([self.basis, self.basis.new_empty(min(VECTORS_OF_ROOM, self.most - j - 1), n)])
            self.basis[j + 1] = w / size

    def ritz(self) -> tuple[Tensor, Tensor]:
        """Ritz values, ascending, and their vectors in the basis, in columns; float64."""
        alpha, beta = (torch.tensor(v, dtype=torch.float64) for v in (self.alpha, self.beta[:-1]))
        pairs = torch.linalg.eigh(tridiagonal(alpha, beta))
        return pairs.eigenvalues, pairs.eigenvectors

    def grows_at(self, lam: float) -> float:
        r"""$\log p(\lambda)$ above all Ritz values, of the polynomial with $p(A) v_1 = v_{k+1}$; inf if exhausted."""
        # beta_k v_(k+1) = A v_k - alpha_k v_k - beta_(k-1) v_(k-1), each vector a polynomial of A times v_1: these obey
        # the same recursion in lam
        last, now, log = 0.0, 1.0, 0.0
        for a, before, b in zip(self.alpha, (0.0, *self.beta), self.beta, strict=False):  # beta_0 is zero
            if not b > 0:
                return math.inf
            last, now = now, ((lam - a) * now - before * last) / b
            # scaled to 1 after each step: p itself may overflow
            log, last, now = log + math.log(now), last / now, 1.0
        return log


def tridiagonal(diagonal: Tensor, beside: Tensor) -> Tensor:
    """The symmetric tridiagonal matrix."""
    return torch.diag(diagonal) + torch.diag(beside, 1) + torch.diag(beside, -1)


def top_eigenvalue(
    product: Callable[[Tensor], Tensor],
    start: Tensor,
    tolerance: float,
    *,
    most: int = 300,
    failure: float = FAILURE_PROBABILITY,
    max_bytes: int = MAX_BYTES,
) -> float:
    r"""Largest eigenvalue of a symmetric positive semidefinite matrix, to a relative accuracy that holds.

    Lanczos from $v_1 = A g / \|A g\|$, g random. A small residual says that *some* eigenvalue is near, not that it is
    the largest: g may have hardly any part along that eigenvector u. What is known is that
    $|p(\lambda)|\, |u^\top v_1| \le 1$ for the Lanczos polynomial p, which grows fast above the Ritz values, and that
    $|u^\top g| > \epsilon \|g\| \sqrt{\pi / 2(n-1)}$ with probability $1 - \epsilon$, whatever the spectrum. It ends
    as soon as both together leave no room for an eigenvalue above 1 + `tolerance` times the largest Ritz value.

    Args:
        product: of the matrix with a vector.
        start: g, standard normal; shape (n,). All vectors have its dtype and device.
        tolerance: relative accuracy; not below ten times the rounding of the dtype.
        most: products; after so many what was found is returned.
        failure: $\epsilon$, probability that the accuracy does not hold.
        max_bytes: of the vectors that are kept. Where more would be needed (and at least 8 are) it starts again from
            the Ritz vector, and ends where the residual is below `tolerance` of the Ritz value.

    Returns:
        A Ritz value, never above the true one but for rounding; 0 if the matrix is, NaN if a product is not finite.

    References:
        van Dorsselaer, Hochstenbach, van der Vorst 2000, 'Computing probabilistic bounds for extreme eigenvalues of
        symmetric matrices with the Lanczos method'.

    Example:
        >>> from gramian.gram.krylov import top_eigenvalue
        >>> lam = torch.tensor([1.0, 4.9, 5.0])
        >>> round(top_eigenvalue(lambda v: lam * v, torch.randn(3), 1e-6), 4)
        5.0
    """
    n, eps = len(start), torch.finfo(start.dtype).eps
    tolerance = max(tolerance, 10 * eps)
    first = product(start / start.norm()).to(start)
    size, products = float(first.norm()), 1
    if not (math.isfinite(size) and size > 0):
        if size == 0:
            return 0.0
        return math.nan
    # with probability 1 - failure, -log(|u'g| / |g|) is below this
    hidden = -math.log(failure * math.sqrt(math.pi / (2 * max(n - 1, 1))))
    kept = max(LEAST_VECTORS, min(most, n, max_bytes // (n * start.element_size())))
    space, restarted = Krylov(product, first, kept, eps), False
    while True:
        space.grow()
        products += 1
        if not math.isfinite(space.alpha[-1] + space.beta[-1]):
            return math.nan
        lam, u = space.ritz()
        value = max(float(lam[-1]), 0.0)
        above = (1 + tolerance) * value
        # v_1 = A g / |A g| and A u = lam u: |u'v_1| = |u'g| / |g| times lam / size, where size = |A g| / |g|. With
        # |p(lam)| |u'v_1| <= 1 an eigenvalue at `above` or beyond, where lam p(lam) only grows, needs a smaller |u'g|.
        # After a restart v_1 is not random any more; the residual of a Ritz pair is beta times its vector's last entry.
        if restarted:
            known = space.beta[-1] * abs(float(u[-1, -1])) <= tolerance * value
        else:
            known = value > 0 and space.grows_at(above) + math.log(above / size) >= hidden
        if known or products >= most or not space.beta[-1] > 0:
            return value
        if space.full:
            best = u[:, -1].to(start) @ space.basis[: space.steps]
            space, restarted = Krylov(product, best, kept, eps), True
