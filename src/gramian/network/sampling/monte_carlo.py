"""Kernels by Monte Carlo, with their standard errors: for every module, also where no closed form exists."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn

from gramian.arch.inputs import Inputs, cast_floating, leaves, precision
from gramian.arch.inputs import rows as few
from gramian.arch.law import Law
from gramian.empirical.modules import checks
from gramian.empirical.modules.arguments import Samples, changed, samples
from gramian.errors import BadArgument, BadData, NoLimit
from gramian.module_state.random_numbers import random_numbers_apart
from gramian.network.parametrization import PARAMETRIZATIONS
from gramian.network.read_module import architecture
from gramian.network.sampling import batch_kernels
from gramian.network.sampling.parameter_laws import Draw
from gramian.network.sampling.sampled_networks import Sampler, arch_sampler, own_sampler

LEAST_DRAWS = 8  # draws before the standard error is believed
KERNEL_KINDS = ("ntk", "nngp", "both")
FEATURE_LEARNING = ("mup", "mean_field")  # parametrizations


@dataclass(frozen=True, eq=False)
class MonteCarlo:
    """Kernels averaged over random networks; made by `gramian.monte_carlo`. What was not asked for is None.

    Args:
        ntk: mean NTK; shape (n, m).
        nngp: mean second moment of an output; shape (n, m).
        ntk_error: standard error of each entry of `ntk`; shape (n, m).
        nngp_error: of `nngp`; shape (n, m).
        draws: networks drawn; of each width, with `extrapolate`.
        width: the hidden width that was asked for; None: the module's own widths.
        accuracy: the relative error reached: Frobenius norm of the errors over that of the kernel, the larger of the
            two kernels'.
        reached: whether `accuracy` is as small as was asked.
        ntk_bias: with `extrapolate`, what finite width adds at width 2w, estimated, and already taken off `ntk`.
        nngp_bias: the same of `nngp`.
    """

    ntk: Tensor | None
    nngp: Tensor | None
    ntk_error: Tensor | None
    nngp_error: Tensor | None
    draws: int
    width: int | None
    accuracy: float
    reached: bool
    ntk_bias: Tensor | None = None
    nngp_bias: Tensor | None = None

    def __str__(self) -> str:
        kernels = " and ".join(name for name in ("ntk", "nngp") if getattr(self, name) is not None)
        if self.width is None:
            at = "the module's own width"
        else:
            at = f"width {self.width}"
        if self.reached:
            more = ""
        else:
            more = ", less accurate than asked"
        return f"Monte-Carlo {kernels}: {self.draws} draws at {at}, relative error {self.accuracy:.2g}{more}"


class Running:
    """Mean and variance of a stream of matrices, in float64 (Welford's recursion)."""

    def __init__(self) -> None:
        self.count = 0
        self.mean = self.squares = torch.zeros((), dtype=torch.float64)

    def add(self, value: Tensor) -> None:
        """One more value."""
        self.count += 1
        value = value.detach().to(torch.float64)
        # mean' = mean + step / n, and the sum of squared deviations grows by step (value - mean')
        step = value - self.mean.to(value.device)
        self.mean = self.mean.to(value.device) + step / self.count
        self.squares = self.squares.to(value.device) + step * (value - self.mean)

    def error(self) -> Tensor:
        """Standard error of the mean."""
        return (self.squares / max(self.count - 1, 1) / self.count).sqrt()

    def relative(self) -> float:
        """Frobenius norm of the standard errors over that of the mean."""
        error, mean = float(self.error().norm()), float(self.mean.norm())
        if mean > 0:
            return error / mean
        if error == 0:
            return 0.0
        return math.inf


def monte_carlo(
    module: nn.Module | Callable[[int], nn.Module],
    x: Inputs,
    x2: Inputs | None = None,
    *,
    law: Law = "he",
    width: int | None = None,
    extrapolate: bool = False,
    accuracy: float = 0.05,
    draws: int = 1000,
    kind: str = "ntk",
    parametrization: str = "ntk",
    draw: Draw | None = None,
    seed: int = 0,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    progress: Callable[[int, float], None] | None = None,
) -> MonteCarlo:
    r"""Kernels of a random network, averaged over draws of its parameters until an asked accuracy is reached.

    $\Theta = E\,\frac1C \sum_c \sum_p g_p \langle \nabla_p f_c(x), \nabla_p f_c(x') \rangle$ and
    $K = E\,\frac1C \sum_c f_c(x) f_c(x')$, with weights N(0, sigma_w^2 / fan-in), biases N(0, sigma_b^2), norm layers
    at one and zero, and $g_p$ each parameter's variance ("ntk") or 1 ("standard"). Where one Linear layer makes the
    output, K is averaged over that layer exactly: $\sigma_w^2 h^\top h' / m + \sigma_b^2$, h its inputs.

    These are expected kernels *at a finite width m*; they differ from the limit by O(1/m). With a module alone, m is
    its own width. Give `width` to widen a module that `architecture` can read; for any other pass a factory
    `make(width)` in its place. `extrapolate` draws widths w and 2w and returns $2 K_{2w} - K_w$: the O(1/m) goes, and
    the standard error counts both; this estimate need not be positive semidefinite.

    In eval mode or with neither dropout nor BatchNorm, each sample goes through the network on its own. In training
    mode the network is evaluated on all of x at once: with BatchNorm the kernel is that of this batch, with dropout
    the mean is over the masks too.

    Args:
        module: any module, copied and not changed, or a function that makes one of a given width.
        x: inputs; shape (n, *in_shape). Of a module that takes several a tuple, or a dict by name.
        x2: other inputs; shape (m, *in_shape). None: the same as `x`.
        law: as in `architecture`; the readout is each layer with no other one above it. A parameter of no known layer
            takes an entry by its own name: `{"scale": (s, 0), "*": "he"}` draws it from N(0, s^2).
        width: hidden width; None: the module's own.
        extrapolate: whether to take off the O(1/width) difference to the limit; needs `width`.
        accuracy: relative standard error at which to stop: Frobenius norm of the errors over that of the kernel.
        draws: most networks to draw, of each width. If they are not enough, `reached` is False.
        kind: "ntk", "nngp" or "both".
        parametrization: "ntk", "standard", or, as in `architecture`, "mup" and "mean_field": then `ntk` is that of the
            first step, the same as under "ntk", and `nngp` is the finite width's, which vanishes like 1 / width.
        draw: gives the values of parameters with another law, `draw(name, parameter, generator)`, or None for those
            that follow `law`. Their share of the NTK is not scaled.
        seed: of the draws; the same seed gives the same numbers.
        dtype: of the computation; that of `x`, or of the module for inputs that are integers.
        device: of the computation; that of `x`.
        progress: called after every draw with their number and the relative error so far.

    Returns:
        `ntk`, `nngp`, their standard errors and the number of draws; float64.

    Raises:
        BadData: an input is empty or not finite, the module cannot take it, or the values overflow.
        BadArgument: a parameter that has no law (its name is said), a width that the module cannot be given, `x2` for
            a module that mixes samples, or an option out of range.

    References:
        Jacot et al. 2018, arXiv:1806.07572; Novak et al. 2019, arXiv:1810.05148 (Monte-Carlo NNGP).

    Example:
        >>> net = torch.nn.Sequential(torch.nn.Linear(2, 64), torch.nn.ReLU(), torch.nn.Linear(64, 1))
        >>> k = monte_carlo(net, torch.ones(1, 2), accuracy=0.02, kind="both")
        >>> k.reached, bool(abs(k.ntk - 2) < 4 * k.ntk_error), bool(abs(k.nngp - 1) < 4 * k.nngp_error)
        (True, True, True)
    """
    _check(accuracy, draws, kind, parametrization, width, extrapolate)
    rows, rows2, dtype = _inputs(module, x, x2, dtype, device)
    widths = [width]
    if extrapolate and width is not None:
        widths.append(2 * width)
    samplers = [_sampler(module, x, rows, rows2, law, w, parametrization, draw, dtype) for w in widths]
    names = [name for name in ("ntk", "nngp") if kind in (name, "both")]
    value, bias = {name: Running() for name in names}, {name: Running() for name in names}
    generator, reached = Generator().manual_seed(seed), False
    with random_numbers_apart(rows.device):
        torch.manual_seed(seed)  # dropout draws its masks from the global generator
        while not reached and value[names[0]].count < draws:
            for sampler in samplers:
                sampler.redraw(generator)
            for name in names:
                kernels = [_finite(getattr(sampler, name)(rows, rows2)) for sampler in samplers]
                if extrapolate:
                    # K_w = K + a / w + O(1 / w^2): in 2 K_2w - K_w the a goes, and K_w - K_2w is a / 2w
                    value[name].add(2 * kernels[1] - kernels[0])
                    bias[name].add(kernels[0] - kernels[1])
                else:
                    value[name].add(kernels[0])
            error, count = max(v.relative() for v in value.values()), value[names[0]].count
            reached = count >= min(LEAST_DRAWS, draws) and error <= accuracy
            if progress is not None:
                progress(count, error)
    fields: dict[str, Tensor | None] = dict.fromkeys(("ntk", "nngp", "ntk_error", "nngp_error"))
    for name in names:
        fields |= {name: value[name].mean, f"{name}_error": value[name].error()}
        if extrapolate:
            fields[f"{name}_bias"] = bias[name].mean
    return MonteCarlo(draws=count, width=width, accuracy=error, reached=reached, **fields)


def _finite(kernel: Tensor) -> Tensor:
    if not bool(kernel.isfinite().all()):
        raise BadData(
            f"The kernel of a random network has NaN or infinite entries, in {kernel.dtype}.",
            where="monte_carlo(module, x)",
            why="under this law the values grow from layer to layer until they overflow",
            fix="a smaller sigma_w in `law`, or dtype=torch.float64",
        )
    return kernel.to(torch.float64)


def _sampler(
    module: nn.Module | Callable[[int], nn.Module],
    like: Inputs,
    x: Samples,
    x2: Samples | None,
    law: Law,
    width: int | None,
    parametrization: str,
    draw: Draw | None,
    dtype: torch.dtype,
) -> Sampler:
    """Draws of the module, of its network at a width, or of what a function makes; `x` are the checked inputs."""
    standard, features = parametrization == "standard", parametrization in FEATURE_LEARNING
    if isinstance(module, nn.Module) and (width is not None or features):
        return _widened(module, few(like, slice(2)), x, law, width, parametrization, dtype)
    if features:
        raise BadArgument(
            f"The {parametrization} parametrization of what a function makes.",
            where="monte_carlo(make, x, width=...)",
            why="its output is divided by the root of the hidden width, which is known of modules that are read alone",
            fix='the module itself; or parametrization="ntk", whose NTK is the same at the first step',
        )
    module = _module_of_width(module, width)
    sampler = own_sampler(module, x, law, standard=standard, draw=draw, dtype=dtype)
    if sampler.samples == batch_kernels.BATCH_DEPENDENT and x2 is not None:
        raise BadArgument(
            "The module mixes the samples of a batch, so its kernel between two batches is not defined.",
            where="monte_carlo(module, x, x2)",
            why="batch normalization by the batch's own mean and variance, or a mean over the batch axis",
            fix="module.eval(); or the kernel of one batch: monte_carlo(module, torch.cat([x, x2]))",
        )
    return sampler


def _widened(
    module: nn.Module,
    like: Inputs,
    x: Samples,
    law: Law,
    width: int | None,
    parametrization: str,
    dtype: torch.dtype,
) -> Sampler:
    """Draws of the module's network at a width, or in a parametrization whose output scale depends on the width."""
    try:
        arch = architecture(module, like, law, parametrization=parametrization)
        return arch_sampler(arch, width, x, dtype)
    except NoLimit as error:
        asked = "its own width"
        if width is not None:
            asked = f"width {width}"
        fix = "monte_carlo(make, x, width=...) with make(width) -> nn.Module; or no width: the module's own"
        if parametrization in FEATURE_LEARNING:
            asked += f" in the {parametrization} parametrization"
            fix = 'parametrization="ntk", whose NTK is the same at the first step'
        raise BadArgument(
            f"This module cannot be given {asked}: {error.what}",
            where=error.where or "monte_carlo(module, x, width=...)",
            why="only what `architecture` can read is widened by itself, or has a width that scales its output",
            fix=fix,
        ) from error


def _module_of_width(module: nn.Module | Callable[[int], nn.Module], width: int | None) -> nn.Module:
    """The module itself, or the one that a function makes."""
    if isinstance(module, nn.Module):
        return module
    network = None
    if callable(module) and width is not None:
        network = module(width)
    if isinstance(network, nn.Module):
        return network
    raise BadArgument(
        f"`module` is a {type(module).__name__}, and `width` is {width}: this makes no torch.nn.Module.",
        where="monte_carlo(module, x)",
        why="a module, or a function of the width that returns one, is what is drawn",
        fix="monte_carlo(make, x, width=128) with make(width) -> nn.Module",
    )


def _inputs(
    module: nn.Module | Callable[[int], nn.Module],
    given: Inputs,
    other: Inputs | None,
    dtype: torch.dtype | None,
    device: torch.device | str | None,
) -> tuple[Samples, Samples | None, torch.dtype]:
    """The inputs, on their device and in their precision; that of the module."""
    if isinstance(module, nn.Module):
        checks.whole(module)
    x, x2 = samples(module, given, other)
    x = checks.check_samples("x", x)
    if x2 is None or other is given:
        x2 = None
    else:
        x2 = checks.check_samples("x2", x2)
    checks.check_same_shapes(x, x2, "monte_carlo(module, x, x2)")
    if dtype is None:
        if isinstance(module, nn.Module):
            own = module.parameters()
        else:
            own = iter(())
        floating = [t for t in leaves(given) if t.is_floating_point()]
        if floating:
            dtype = precision(floating)
        else:
            dtype = next((p.dtype for p in own), torch.get_default_dtype())
    device = device or x.device

    def moved(t: Tensor) -> Tensor:
        return cast_floating(t, dtype).to(device)

    return changed(x, moved), None if x2 is None else changed(x2, moved), dtype


def _check(accuracy: float, draws: int, kind: str, parametrization: str, width: int | None, extrapolate: bool) -> None:
    where = "monte_carlo(...)"
    if not (isinstance(accuracy, int | float) and 0 < accuracy < 1):
        raise BadArgument(
            f"`accuracy` is {accuracy!r}; it must be between 0 and 1.",
            where=where,
            why="it is the standard error divided by the size of the kernel, and costs 1 / accuracy^2 draws",
            fix="accuracy=0.05 for five per cent",
        )
    if not isinstance(draws, int) or draws < 2:
        raise BadArgument(
            f"`draws` is {draws!r}; it must be a whole number, 2 or more.",
            where=where,
            why="a standard error needs two networks",
            fix="draws=1000",
        )
    for name, given, known in (("kind", kind, KERNEL_KINDS), ("parametrization", parametrization, PARAMETRIZATIONS)):
        if given not in known:
            raise BadArgument(
                f"`{name}` is {given!r}; known are {', '.join(map(repr, known))}.",
                where=where,
                why=f"there is no {name} of this name",
                fix=f"{name}={known[0]!r}",
            )
    if width is not None and (not isinstance(width, int) or width < 1):
        raise BadArgument(
            f"`width` is {width!r}.", where=where, why="a width is a whole number, 1 or more", fix="width=256"
        )
    if extrapolate and width is None:
        raise BadArgument(
            "`extrapolate` without `width`.",
            where=where,
            why="it compares the networks of widths w and 2w",
            fix="width=128, and a factory make(width) if the module cannot be widened by itself",
        )
