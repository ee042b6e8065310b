"""A number that was estimated with random vectors, and how far off it may be."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from scipy.special import stdtrit
from torch import Tensor

from gramian.errors import BadArgument


@dataclass(frozen=True)
class Estimate:
    """An estimate with its error.

    Attributes:
        value: the mean over the probes.
        standard_error: standard deviation of `value`, from the spread of the probes.
        probes: independent random vectors.
        products: products with the matrix that it took.
        bracket: what the quadrature may be off beside it, to both sides; a bound in exact arithmetic and no
            estimate. 0 where there is no quadrature; NaN where its error is not known.
    """

    value: float
    standard_error: float
    probes: int
    products: int
    bracket: float = 0.0

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """Student's interval over the probes, widened by the bracket.

        It is as good as the probes are normal: a trace that one eigenvalue dominates is skewed, and its interval
        too short; Hutch++ takes that eigenvalue out.

        Raises:
            BadArgument: the error of the quadrature is not known, or `confidence` is no probability.

        Example:
            >>> low, high = Estimate(value=10.0, standard_error=1.0, probes=10, products=10).interval()
            >>> round(low, 3), round(high, 3)
            (7.738, 12.262)
        """
        if not 0 < confidence < 1:
            raise BadArgument(f"confidence={confidence}", why="a probability", fix="confidence=0.95")
        if not math.isfinite(self.bracket):
            raise BadArgument(
                f"no interval for {self.value:.6g}: how far its quadrature is off is not known",
                where="Estimate.interval()",
                why="the spread over the probes does not see an error that all of them share",
                fix="more `steps` until the value settles, or as many as the matrix has rows: then it is exact",
            )
        half = self.bracket
        if self.standard_error:
            half += float(stdtrit(self.probes - 1, (1 + confidence) / 2)) * self.standard_error
        return self.value - half, self.value + half

    def __str__(self) -> str:
        if self.bracket:
            more = f" ± {self.bracket:.1e} (quadrature)"
        else:
            more = ""
        if math.isnan(self.bracket):
            more = " (of the probes; the quadrature's error is not known)"
        return f"{self.value:.6g} ± {self.standard_error:.1e}{more}, {self.probes} probes, {self.products} products"


def mean_of(samples: Tensor, products: int, *, add: float = 0.0, bracket: float = 0.0) -> Estimate:
    """The estimate from independent unbiased samples, plus a number that is known."""
    n = len(samples)
    mean, error = add, 0.0
    if n:
        mean += float(samples.double().mean())
    if n > 1:
        error = float(samples.double().std(correction=1)) / math.sqrt(n)
    return Estimate(mean, error, n, products, bracket)


def generator(seed: int) -> torch.Generator:
    """Random numbers of our own: the caller's state stays as it was."""
    return torch.Generator().manual_seed(seed)
