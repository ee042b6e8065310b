"""The scale of the inputs: found on the training rows, remembered, and applied to new rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gramian.errors import BadArgument

from .normalize import unit_norm

NORMALIZATIONS = ("auto", "unit", "standardize", "none")


def known_normalization(normalize: str) -> str:
    """The word, if it is one of "auto", "unit", "standardize", "none".

    Raises:
        BadArgument: another word.
    """
    if normalize not in NORMALIZATIONS:
        raise BadArgument(
            f"normalize={normalize!r} is unknown.",
            where="normalize (--normalize)",
            why="inputs are scaled in one of three ways, or as their kind asks.",
            fix='"unit" (rows to norm 1), "standardize" (columns to mean 0, deviation 1), "none", or "auto": tables '
            "are standardized, images and series are not.",
        )
    return normalize


@dataclass(frozen=True, eq=False)
class Scaling:
    r"""The map from numbers as they lie in the source to the inputs of a network.

    In this order: division by `divisor`; missing numbers of tables become `fill`; then columns to mean 0 and deviation
    1 ("standardize"), rows to norm 1 ("unit"), or nothing ("none").

    Args:
        kind: "standardize", "unit" or "none".
        divisor: 255 for pixels in bytes; 1 where nothing is divided.
        mean: of the training rows, per column or channel; shape (1, d) or (1, c, 1, ...). None unless standardized.
        sigma: standard deviation (with 1/n), as `mean`; 0 for what is constant, which becomes 0.
        fill: means of the columns' known numbers in the training rows, shape (1, d); None where nothing can be missing.

    Example:
        >>> x = torch.tensor([[1.0, 7.0], [3.0, 7.0]])
        >>> scaling = Scaling.of(x, "standardize")
        >>> scaling(torch.tensor([[5.0, 8.0]])).tolist()
        [[3.0, 0.0]]
    """

    kind: str
    divisor: float = 1.0
    mean: Tensor | None = None
    sigma: Tensor | None = None
    fill: Tensor | None = None

    @classmethod
    def of(cls, x: Tensor, kind: str, *, divisor: float = 1.0, missing: bool = False) -> Scaling:
        """The scaling that belongs to training rows.

        Args:
            x: training rows as in the source; shape (n, *in_shape).
            kind: "standardize", "unit" or "none".
            divisor: as above.
            missing: whether NaN stands for a missing number, in a table.
        """
        if divisor != 1:
            x = x / divisor
        else:
            x = x
        fill = None
        if missing:
            fill = x.nanmean(0, keepdim=True)
            x = torch.where(x.isnan(), fill, x)
        if kind != "standardize":
            return cls(kind, divisor, fill=fill)
        over = [0, *range(2, x.ndim)]
        sigma = x.std(over, correction=0, keepdim=True)
        # by range, not by deviation: the mean of a constant column may be off in its last digit
        varies = x.amax(over, keepdim=True) > x.amin(over, keepdim=True)
        return cls(kind, divisor, x.mean(over, keepdim=True), torch.where(varies, sigma, 0.0), fill)

    def __call__(self, x: Tensor | np.ndarray, *, rows: Tensor | None = None, name: str = "x") -> Tensor:
        """Rows on the scale of the training rows; shape of `x`, the dtype of the scaling's numbers or of `x`.

        Args:
            x: rows as in the source; shape (n, *in_shape).
            rows: numbers by which errors name the rows; shape (n,).
            name: what errors call `x`.

        Raises:
            BadData: a row of zeros cannot be brought to norm 1.
        """
        x = torch.as_tensor(x)
        if not x.is_floating_point():
            x = x.double()
        if self.divisor != 1:
            x = x / self.divisor
        if self.fill is not None:
            x = torch.where(x.isnan(), self.fill.to(x.dtype), x)
        if self.kind == "unit":
            if len(x):
                return unit_norm(x, rows=rows, name=name)
            return x
        if self.mean is None or self.sigma is None:
            return x
        mean, sigma = self.mean.to(x.dtype), self.sigma.to(x.dtype)
        return torch.where(sigma > 0, (x - mean) / torch.where(sigma > 0, sigma, 1.0), 0.0)

    @property
    def says(self) -> str:
        """One sentence: what is done to the inputs."""
        if self.divisor != 1:
            divided = f" after a division by {self.divisor:g}"
        else:
            divided = ""
        if self.kind == "standardize":
            return f"Inputs: columns (channels) brought to mean 0 and deviation 1 by the training rows{divided}."
        if self.kind == "unit":
            return f"Inputs: each row divided by its norm{divided}."
        if divided:
            return f"Inputs: divided by {self.divisor:g} and not scaled further."
        return "Inputs: taken as they are."
