"""From which width on is a network in the regime of its limit? Measured at a few small widths."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from gramian.certify.setup import Setup
from gramian.empirical import empirical_ntk
from gramian.errors import BadArgument

VECTOR_WIDTHS, IMAGE_WIDTHS = (64, 128, 256, 512), (16, 32, 64, 128)
DRAWS = 8
MOST = {False: 1024, True: 64}  # by whether there are pixels: what is chosen by itself, at a few ms a step


@dataclass(frozen=True)
class Sweep:
    r"""How the finite kernel approaches its limit: error(m) = constant / sqrt(m).

    Args:
        widths: that were drawn.
        errors: $\|\hat\Theta_m - \Theta\|_F / \|\Theta\|_F$, root mean square over the draws.
        slope: of log error against log width, fitted; theory says -1/2.
        constant: of the fit with slope -1/2.
        tolerance: relative error that counts as being in the regime.
        rows: training samples used.
    """

    widths: tuple[int, ...]
    errors: tuple[float, ...]
    slope: float
    constant: float
    tolerance: float
    rows: int

    @property
    def useful_width(self) -> int:
        """Smallest width whose expected error is within the tolerance."""
        return max(1, math.ceil((self.constant / self.tolerance) ** 2))

    @property
    def words(self) -> str:
        """The useful width in words."""
        return f"{self.useful_width:,}"

    def to_dict(self) -> dict[str, Any]:
        """Plain data for the report."""
        return {
            "widths": list(self.widths),
            "errors": list(self.errors),
            "slope": self.slope,
            "constant": self.constant,
            "tolerance": self.tolerance,
            "rows": self.rows,
            "useful_width": self.useful_width,
        }


def sweep(made: Setup, tolerance: float, seed: int, dtype: torch.dtype) -> Sweep | None:
    """Draws networks of a few small widths and compares their NTK with the limit; None where there is no limit."""
    if made.kernel is None or made.fixed_width:
        return None
    image = made.pixels > 1
    widths = IMAGE_WIDTHS if image else VECTOR_WIDTHS
    x = made.x[: 64 if image else 128]
    errors = []
    for width in widths:
        limit = made.kernel(width, x, None)
        off = [kernel_error(made.build(width, seed + 1 + draw), x, limit, dtype) for draw in range(DRAWS)]
        errors.append(math.sqrt(sum((e.relative or 0.0) ** 2 for e in off) / DRAWS))
    logs_m, logs_e = [math.log(m) for m in widths], [math.log(e) for e in errors]
    mean_m, mean_e = sum(logs_m) / len(widths), sum(logs_e) / len(widths)
    slope = sum((a - mean_m) * (b - mean_e) for a, b in zip(logs_m, logs_e, strict=True))
    slope /= sum((a - mean_m) ** 2 for a in logs_m)
    return Sweep(widths, tuple(errors), slope, math.exp(mean_e + mean_m / 2), tolerance, len(x))


@dataclass(frozen=True, eq=False)
class KernelError:
    """A network's own NTK (float64, on some rows) and its distance from the limit; None where there is no limit."""

    own: Tensor
    relative: float | None
    spectral: float | None


def kernel_error(network: nn.Module, x: Tensor, limit: Tensor | None, dtype: torch.dtype) -> KernelError:
    """The NTK of a network on these rows, against the limit: relative in Frobenius norm, absolute in spectral norm."""
    device = next(network.parameters()).device
    own = empirical_ntk(network, x.to(device, dtype)).double().cpu()
    if limit is None:
        return KernelError(own, None, None)
    off = own - limit.double().cpu()
    return KernelError(own, float(off.norm() / limit.norm()), float(torch.linalg.matrix_norm(off, 2)))


def affordable_rows(network: nn.Module, x: Tensor, dtype: torch.dtype, operations: float) -> int:
    """On how many rows the network's own NTK takes about so many operations at most, from those that 64 rows take.

    Counted, not timed: the same run watches the same rows on every machine and on every day.
    """
    if len(x) <= 64:
        return len(x)
    with FlopCounterMode(display=False) as counter:
        kernel_error(network, x[:64], None, dtype)
    once = max(counter.get_total_flops(), 1)
    return min(len(x), max(64, int(64 * math.sqrt(operations / once))))


def choose_width(made: Setup, found: Sweep | None, asked: int | str) -> tuple[int, str]:
    """The width to train at, and a warning where it is not what was asked for or hoped for."""
    if asked != "auto" and (not isinstance(asked, int) or isinstance(asked, bool) or asked < 1):
        raise BadArgument(
            f"width={asked!r} is no width.",
            where="argument `width` of certify",
            why='a width is a whole number, 1 or more, or "auto"',
            fix='width=512, or width="auto"',
        )
    if made.fixed_width:
        kept = f"width={asked} has no effect: in this parametrization the network keeps its own widths."
        return made.own_width, kept if asked not in ("auto", made.own_width) else ""
    if asked != "auto":
        return int(asked), ""
    if found is None:
        return made.own_width, ""
    image = made.pixels > 1
    step, most = 16 if image else 64, MOST[image]
    width = step * math.ceil(found.useful_width / step)
    if width > most:
        return most, (
            f"The useful width is {found.useful_width:,}; the network was trained at {most}, the most `auto` takes. "
            f"For the regime of the limit: --width {step * math.ceil(found.useful_width / step)}."
        )
    return max(width, step), ""
