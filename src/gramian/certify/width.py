"""From which width on is a network in the regime of its limit? Measured at a few small widths."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from gramian.certify.network_ntk import KernelError, kernel_error
from gramian.certify.prepared_data import PreparedData
from gramian.certify.request import check_width
from gramian.certify.setup import Setup
from gramian.certify.study_clock import Clock
from gramian.report.facts import WidthFacts

ErrorOf = Callable[[nn.Module, Tensor, Tensor | None], KernelError]
VECTOR_WIDTHS, IMAGE_WIDTHS = (64, 128, 256, 512), (16, 32, 64, 128)
MOST_SECONDS, LEAST_ROWS = 10.0, 8  # of the limit kernel of the sweep's rows, and how few these may be
VECTOR_ROWS, IMAGE_ROWS = 64, 32  # more rows cost more and say the same: the error is mostly one factor of the whole
# The squared error of one draw has a deviation of 1.2 to 1.6 times its mean, as a square of one Gaussian number has:
# some 350 draws make that 7 %, and a useful width that is right within 15 % in 95 of 100 cases.
VECTOR_DRAWS, IMAGE_DRAWS = (128, 96, 64, 48), (160, 96, 48, 32)
FEWER_DRAWS = 4  # times fewer draws where the width is given, and the sweep decides nothing
LEAST_DRAWS = 8
SWEEP_OPERATIONS = 4e11  # for all draws: some ten seconds
BOOTSTRAPS = 1000
# what "auto" chooses at most, at a few ms a step
MOST_AUTO_WIDTH, MOST_AUTO_IMAGE_WIDTH = 1024, 64


@dataclass(frozen=True)
class Sweep:
    r"""How the finite kernel approaches its limit: error(m) = constant / sqrt(m).

    Args:
        widths: that were drawn.
        errors: $\|\hat\Theta_m - \Theta\|_F / \|\Theta\|_F$, root mean square over the draws.
        slope: of log error against log width, fitted; theory says -1/2.
        constant: root mean square of error times sqrt(m) over all draws of all widths.
        tolerance: relative error that counts as being in the regime.
        rows: training samples used.
        draws: networks drawn at each width.
        interval: of the constant, 95 %, by the bootstrap over the draws; None where there is none.
    """

    widths: tuple[int, ...]
    errors: tuple[float, ...]
    slope: float
    constant: float
    tolerance: float
    rows: int
    draws: tuple[int, ...] = ()
    interval: tuple[float, float] | None = None

    @property
    def useful_width(self) -> int:
        """Smallest width whose expected error is within the tolerance."""
        return self._width(self.constant)

    @property
    def useful_interval(self) -> tuple[int, int] | None:
        """95 % interval of the useful width."""
        if self.interval is None:
            return None
        return (self._width(self.interval[0]), self._width(self.interval[1]))

    def _width(self, constant: float) -> int:
        # error(m) = constant / sqrt(m) is the tolerance at m = (constant / tolerance)^2
        return max(1, math.ceil((constant / self.tolerance) ** 2))

    @property
    def words(self) -> str:
        """The useful width with its interval, in the digits that they have.

        Example:
            >>> Sweep((), (), -0.5, 2.502, 0.1, 64, (), (2.3, 2.72)).words
            '630 (530 to 740)'
        """
        if self.useful_interval is None or self.useful_interval[0] == self.useful_interval[1]:
            return f"{self.useful_width:,}"
        low, high = self.useful_interval
        return f"{_two_digits(self.useful_width):,} ({_two_digits(low):,} to {_two_digits(high):,})"

    def facts(self) -> WidthFacts:
        """The sweep for a report, without a run."""
        low, high = self.useful_interval or (None, None)
        return WidthFacts(
            widths=list(self.widths),
            errors=list(self.errors),
            slope=self.slope,
            constant=self.constant,
            tolerance=self.tolerance,
            rows=self.rows,
            draws=list(self.draws),
            useful_width=self.useful_width,
            useful_low=low,
            useful_high=high,
            useful_words=self.words,
        )


def _two_digits(number: int) -> int:
    return int(float(f"{number:.1e}"))


def sweep(
    setup: Setup, tolerance: float, seed: int, dtype: torch.dtype, few: bool = False, per_pair: float = 0.0,
    tell: Callable[[int, int], object] | None = None, error_of: ErrorOf = kernel_error,
) -> Sweep | None:  # fmt: skip
    """Draws networks of a few small widths and compares their NTK with the limit; None where there is no limit.

    Args:
        setup: the network and its limit.
        tolerance: relative error that counts as being in the regime.
        seed: that of the run; the draws have others.
        dtype: of the draws.
        few: take a quarter of the draws.
        per_pair: seconds that one entry of the limit kernel takes; dear ones are compared on fewer rows.
        tell: called with (operations done, all of them) after each draw.
        error_of: how far a network's kernel is from a limit.
    """
    if setup.kernel is None or setup.fixed_width:
        return None
    image = setup.pixels > 1
    widths: tuple[int, ...]
    if image:
        widths, wanted = IMAGE_WIDTHS, list(IMAGE_DRAWS)
        rows = IMAGE_ROWS
    else:
        widths, wanted = VECTOR_WIDTHS, list(VECTOR_DRAWS)
        rows = VECTOR_ROWS
    if few:
        wanted = [draws // FEWER_DRAWS for draws in wanted]
    while rows > LEAST_ROWS and per_pair * rows**2 / 2 > MOST_SECONDS:
        rows //= 2
    x = setup.x[:rows]
    inputs = x.to(dtype)
    if setup.depth == 0:  # a linear network is its limit
        wanted = [LEAST_DRAWS] * len(widths)
    widths, draws, cost = affordable_draws(setup, widths, wanted, inputs, error_of=error_of)
    # of a network of width 1: the paper's kernel grows in proportion to its width
    unit = setup.kernel(1, x, None)
    number, done, samples = 0, 0, []
    for width, count in zip(widths, draws, strict=True):
        limit = setup.limit_scale(width) * unit
        off = []
        for _ in range(count):
            number += 1
            off.append((error_of(setup.build(width, seed + number), inputs, limit).relative or 0.0) ** 2)
            done += cost[width]
            if tell is not None:
                tell(done, sum(cost[w] * d for w, d in zip(widths, draws, strict=True)))
        samples.append(torch.tensor(off, dtype=torch.float64))
    return fitted(widths, samples, tolerance, len(x), seed)


def affordable_draws(
    setup: Setup,
    widths: tuple[int, ...],
    wanted: list[int],
    x: Tensor,
    *,
    operations: float = SWEEP_OPERATIONS,
    error_of: ErrorOf = kernel_error,
) -> tuple[tuple[int, ...], tuple[int, ...], dict[int, int]]:
    """Widths, draws and operations a draw, within so many `operations`: fewer draws, and without the largest widths.

    Counted, not timed: the same seed measures the same on every machine and on every day.
    """
    cost = {}
    for width in widths:
        with FlopCounterMode(display=False) as counter:
            error_of(setup.build(width, 0), x, None)
        cost[width] = max(counter.get_total_flops(), 1)
        if len(cost) > 2 and sum(cost.values()) * LEAST_DRAWS > operations:
            del cost[width]
            break
    widths = tuple(cost)
    wanted = wanted[: len(widths)]
    share = min(1.0, operations / sum(cost[w] * d for w, d in zip(widths, wanted, strict=True)))
    return widths, tuple(min(d, max(LEAST_DRAWS, int(share * d))) for d in wanted), cost


def fitted(widths: tuple[int, ...], samples: list[Tensor], tolerance: float, rows: int, seed: int) -> Sweep:
    """The sweep of squared relative errors, one tensor of draws a width."""
    means = [float(s.mean()) for s in samples]
    # networks without a hidden layer are their limit, and an error of 0 has no logarithm
    tiny = torch.finfo(torch.float64).tiny
    # half the log of the mean square is the log of the root mean square
    logs_m, logs_e = [math.log(m) for m in widths], [math.log(max(e, tiny)) / 2 for e in means]
    mean_m, mean_e = sum(logs_m) / len(widths), sum(logs_e) / len(widths)
    # least squares of log error on log width
    slope = sum((a - mean_m) * (b - mean_e) for a, b in zip(logs_m, logs_e, strict=True))
    slope /= sum((a - mean_m) ** 2 for a in logs_m)
    # m error^2 has the mean constant^2 at every width, so the draws of all widths count together
    scaled = [m * s for m, s in zip(widths, samples, strict=True)]
    low, high = (math.sqrt(v) for v in mean_interval(scaled, seed))
    constant = math.sqrt(float(torch.cat(scaled).mean()))
    return Sweep(
        widths, tuple(math.sqrt(e) for e in means), slope, constant, tolerance, rows, tuple(map(len, samples)),
        (low, high),
    )  # fmt: skip


def mean_interval(samples: list[Tensor], seed: int) -> tuple[float, float]:
    """95 % interval of the mean of positive draws in groups, by the studentized bootstrap (Efron and Tibshirani 1993).

    Quantiles of the resampled means alone are too narrow for numbers as skewed as a square of one Gaussian: 84 to 93 of
    100 intervals covered, with 8 to 128 draws a group, where these are 92 to 95.
    """
    count = sum(map(len, samples))
    mean, error = float(torch.cat(samples).mean()), _standard_error([s[None] for s in samples], count)
    if float(error) <= 1e-12 * mean:  # all draws are equal
        return mean, mean
    generator = torch.Generator().manual_seed(seed)
    again = [s[torch.randint(len(s), (BOOTSTRAPS, len(s)), generator=generator)] for s in samples]  # in each group
    errors = _standard_error(again, count)
    off = (sum(s.sum(1) for s in again) / count - mean) / errors.clamp_min(1e-12 * mean)
    low, high = torch.quantile(off, torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    # (mean* - mean) / error* of the resamplings stands for (mean - truth) / error: solved for the truth, the high
    # quantile gives the low end
    return max(mean - high * float(error), 0.0), mean - low * float(error)


def _standard_error(groups: list[Tensor], count: int) -> Tensor:
    """Standard error of the mean over all groups, of shape (resamplings, draws)."""
    # the variance of a sum is the sum of variances; a group of one draw has none, hence no correction there
    variances = [s.shape[1] * s.var(1, correction=min(1, s.shape[1] - 1)) for s in groups]
    return torch.stack(variances).sum(0).sqrt() / count


@dataclass(frozen=True, eq=False)
class WidthChoice:
    """The width of a run, and the sweep that led to it; sentences for the report."""

    width: int
    sweep: Sweep | None
    warnings: tuple[str, ...] = ()


def width_of_run(data: PreparedData, clock: Clock) -> WidthChoice:
    """Third stage of `certify`: from which width on the limit describes the network, and at which it is trained."""
    request, seed = data.request, data.request.settings.seed
    with clock("width sweep") as tell:
        measured = sweep(
            data.setup, request.tolerance, seed, request.training_dtype, request.width != "auto",
            data.seconds_per_pair, tell,
        )  # fmt: skip
    width, warning = choose_width(data.setup, measured, request.width)
    return WidthChoice(width, measured, (warning,) if warning else ())


def choose_width(setup: Setup, width_sweep: Sweep | None, asked: int | str) -> tuple[int, str]:
    """The width to train at, and a warning where it is not what was asked for or hoped for."""
    check_width(asked)
    if setup.fixed_width:
        if asked in ("auto", setup.own_width):
            return setup.own_width, ""
        kept = f"width={asked} has no effect: in this parametrization the network keeps its own widths."
        return setup.own_width, kept
    if asked != "auto":
        return int(asked), ""
    if width_sweep is None:
        return setup.own_width, ""
    image = setup.pixels > 1
    if image:
        step, most = (16, MOST_AUTO_IMAGE_WIDTH)
    else:
        step, most = (64, MOST_AUTO_WIDTH)
    width = step * math.ceil(width_sweep.useful_width / step)
    if width > most:
        return most, (
            f"The useful width is {width_sweep.words}; the network was trained at {most}, the most `auto` takes. "
            f"For the regime of the limit: --width {step * math.ceil(width_sweep.useful_width / step)}."
        )
    return max(width, step), ""
