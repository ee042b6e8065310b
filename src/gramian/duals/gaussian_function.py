"""What the tables and series of this package ask of a function of Gaussian values."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Protocol

from torch import Tensor


class GaussianFunction(Hashable, Protocol):
    """An elementwise function with its dual; every `gramian.arch.ops.Activation` is one. Equal ones hash alike."""

    @property
    def name(self) -> str:
        """For messages."""

    @property
    def nonsmooth(self) -> bool:
        """Whether its dual has a square root at correlation 1, as a kink or a jump makes it."""

    @property
    def jumps(self) -> bool:
        """Whether the function itself jumps."""

    @property
    def by_series(self) -> bool:
        """Whether its dual is computed from the Hermite series of `phi`, so that both agree."""

    @property
    def homogeneous(self) -> bool:
        """Whether phi(a x) is a power of a times phi(x) for a > 0: then its table is that of variance 1."""

    @property
    def kinks(self) -> tuple[float, ...]:
        """Where it is not smooth; empty for a dual in closed form."""

    @property
    def integrated(self) -> bool:
        """Whether its dual is integrals by quadrature, each of which takes a while."""

    def phi(self, x: Tensor) -> Tensor:
        """The function."""

    def dual(self, q1: Tensor, k: Tensor, q2: Tensor) -> tuple[Tensor, Tensor]:
        """`(E phi(u) phi(v), E phi'(u) phi'(v))`."""

    def untabulated_dual(self, q1: Tensor, k: Tensor, q2: Tensor, gap: Tensor) -> tuple[Tensor, Tensor]:
        r"""The same where $g = \sqrt{q_1 q_2} - k$ is known to more digits than k has, and not from a table."""

    def closed_coefficients(self, q: Tensor) -> Tensor | None:
        """Hermite coefficients in closed form, shape (terms, n); None where there is no such form."""
