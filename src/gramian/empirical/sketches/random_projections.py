"""Random projections whose matrix is never stored: its blocks are made again from a seed, wherever they are needed."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import brentq
from torch import Tensor

from gramian.errors import BadArgument

KINDS = ("rademacher", "sparse")
BLOCK = 1024  # coordinates; it decides the numbers, so it is no option
WORD = 2**64


@dataclass(frozen=True)
class Sketch:
    r"""A random linear map S from any dimension to `size` numbers: $E \langle Sa, Sb \rangle = \langle a, b \rangle$.

    "rademacher": entries $\pm 1/\sqrt{size}$; "sparse": each coordinate goes to `nonzeros` places, one in each of as
    many groups, with a random sign over $\sqrt{nonzeros}$. Of both the variance is exactly
    $(|a|^2 |b|^2 + \langle a, b \rangle^2 - 2 \sum_i a_i^2 b_i^2) / size$. The bits are those of numpy's counter-based
    Philox generator at the block's number: the same on every machine, device, and for every way of chunking the work.

    Attributes:
        size: dimension of the features, k.
        kind: "rademacher" costs k multiplications a coordinate, "sparse" costs `nonzeros`.
        seed: a number in 0..2^64 - 1.
        nonzeros: of "sparse"; it divides `size`.

    References:
        Achlioptas 2003, 'Database-friendly random projections: Johnson-Lindenstrauss with binary coins'; Kane and
        Nelson 2014, 'Sparser Johnson-Lindenstrauss transforms', arXiv:1012.1577.

    Example:
        >>> from gramian.empirical import Sketch
        >>> round(Sketch(4096).distortion(n=1000), 3)  # of every entry, relative to the norms
        0.144
    """

    size: int
    kind: str = "rademacher"
    seed: int = 0
    nonzeros: int = 4

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise BadArgument(
                f"kind={self.kind!r}", where="Sketch(...)", why="no such projection", fix=f"one of {', '.join(KINDS)}"
            )
        if self.size < 1 or not 0 <= self.seed < WORD:
            raise BadArgument(
                f"size={self.size}, seed={self.seed}",
                where="Sketch(...)",
                why="there is at least one feature, and a seed has 64 bits",
                fix="Sketch(size=4096, seed=0)",
            )
        if self.kind == "sparse" and (self.nonzeros < 1 or self.size % self.nonzeros):
            raise BadArgument(
                f"size={self.size} with nonzeros={self.nonzeros}",
                where='Sketch(kind="sparse", ...)',
                why="each of the groups has the same number of places",
                fix=f"size={max(1, self.size // max(1, self.nonzeros)) * max(1, self.nonzeros)}",
            )

    def add_to(self, features: Tensor, values: Tensor, part: int, copy: int = 0) -> None:
        """features += S values, for the coordinates of one part of the vector.

        Args:
            features: shape (rows, size); changed in place.
            values: coordinates of the part; shape (rows, m).
            part: its number, the parameter's say: another part has other random numbers.
            copy: another number that tells independent maps apart.
        """
        for block, start in enumerate(range(0, values.shape[1], BLOCK)):
            piece = values[:, start : start + BLOCK].to(features.dtype)
            bits = np.random.Philox(key=[self.seed, 0], counter=[0, block, part, copy])
            if self.kind == "rademacher":
                features += piece @ self._signs(bits, piece.shape[1]).to(features)
            else:
                places, signs = (t.to(features.device) for t in self._places(bits, piece.shape[1]))
                for group in range(self.nonzeros):
                    signed = piece * signs[:, group].to(features)
                    features.index_add_(1, places[:, group], signed, alpha=1 / math.sqrt(self.nonzeros))

    def _signs(self, bits: np.random.Philox, m: int) -> Tensor:
        raw = np.ascontiguousarray(bits.random_raw(-(-m * self.size // 64)).astype("<u8"))
        ones = torch.from_numpy(np.unpackbits(raw.view(np.uint8), count=m * self.size, bitorder="little"))
        return ones.reshape(m, self.size).float().mul_(2).sub_(1).div_(math.sqrt(self.size))

    def _places(self, bits: np.random.Philox, m: int) -> tuple[Tensor, Tensor]:
        raw = bits.random_raw(m * self.nonzeros).astype(np.uint64).reshape(m, self.nonzeros)
        group = self.size // self.nonzeros
        place = ((raw >> np.uint64(32)) * np.uint64(group)) >> np.uint64(32)  # uniform up to group / 2^32
        place += np.arange(self.nonzeros, dtype=np.uint64) * np.uint64(group)
        sign = 2 * (raw & np.uint64(1)).astype(np.int8) - 1
        return torch.from_numpy(place.astype(np.int64)), torch.from_numpy(sign)

    def standard_error(self, kernel: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        r"""Standard errors of the entries: $\sqrt{(K_{ii} K_{jj} + K_{ij}^2) / size}$, a bound with exact K.

        Args:
            kernel: (n, m).
            rows, columns: the diagonal entries, (n,) and (m,).
        """
        return ((rows[:, None] * columns + kernel.square()) / self.size).sqrt()

    def distortion(self, n: int, failure_probability: float = 0.01) -> float:
        r"""With probability 1 - failure, $|\hat K_{ij} - K_{ij}| \le \epsilon \sqrt{K_{ii} K_{jj}}$ for all of n rows.

        "rademacher": Achlioptas's tail $2 e^{-k (\epsilon^2/2 - \epsilon^3/3) / 2}$ for the norm of one vector, over
        the n^2 sums and differences of unit rows that the entries are made of. "sparse": Chebyshev's inequality over
        the entries, far from sharp. `math.inf` where `size` is too small to promise anything below 1.

        Args:
            n: rows, of both sides together.
            failure_probability: between 0 and 1.
        """
        if n < 1 or not 0 < failure_probability < 1:
            raise BadArgument(
                f"n={n}, failure_probability={failure_probability}",
                where="Sketch.distortion(...)",
                why="a bound for at least one row that fails with a probability between 0 and 1",
                fix="distortion(n=1000, failure_probability=0.01)",
            )
        if self.kind == "sparse":
            # n (n + 1) / 2 entries of variance at most 2 |a|^2 |b|^2 / size: Chebyshev's bounds add up to the failure
            error = math.sqrt(n * (n + 1) / self.size / failure_probability)
            if error < 1:
                return error
            return math.inf
        # 2 n^2 exp(-size (e^2/2 - e^3/3) / 2) = failure, solved for the polynomial in e
        need = 2 / self.size * math.log(2 * n**2 / failure_probability)
        if need >= 1 / 6:  # the exponent's largest value, at 1
            return math.inf
        return float(brentq(lambda e: e**2 / 2 - e**3 / 3 - need, 0.0, 1.0))
