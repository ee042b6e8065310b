r"""The PAC-Bayes-kl bound of a network with Gaussian noise on its weights.

Prior $P_\sigma = N(\theta_P, \sigma^2 I)$ around weights that do not depend on the n samples of the bound; posterior
$Q_\sigma = N(\theta, \sigma^2 I)$ around the trained ones. docs/generalization.md derives every constant.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gramian.bounds.binomial import ROUNDED, kl_inverse, maurer_constant, mean_at_most
from gramian.bounds.classes import labels_of, margins
from gramian.bounds.generalization import GeneralizationBound
from gramian.bounds.paired import paired
from gramian.errors import BadArgument, named_in_errors

GRID = tuple(2.0 ** (-j / 2) for j in range(-4, 24))  # noise over the prior's typical weight
SHARE_OF_DRAWS = 0.1  # of delta, for the estimate by draws
ROWS_AT_ONCE = 4096
REFERENCE = "Maurer 2004, arXiv:cs/0411099; Dziugaite and Roy 2017, arXiv:1703.11008"
ASSUMES = (
    "the samples were drawn independently from one distribution, the one that new samples come from",
    "the prior's weights do not depend on these samples",
    "the noise is Gaussian and independent: torch's generator stands for it",
)


@dataclass(frozen=True)
class _Estimate:
    sigma: float
    seen: float  # average error over draws
    error: float  # upper bound of the noisy network's error on the samples
    divergence: float
    value: float


@named_in_errors
def pac_bayes(
    module: nn.Module,
    x: Any,
    y: Any,
    prior: nn.Module,
    *,
    radius: float = 0.0,
    failure_probability: float = 0.05,
    draws: int = 1000,
    pilot_draws: int = 12,
    sigmas: Sequence[float] | None = None,
    seed: int = 0,
) -> GeneralizationBound:
    r"""Error on new samples of a network whose weights get Gaussian noise at each prediction.

    With probability at least $1 - \delta$ over the n samples and the draws, for the noise chosen among K sizes,

    $$\mathrm{kl}\Big(\hat e(Q) \,\Big\|\, e(Q)\Big) \le \frac{1}{n}\Big(\frac{(\|\theta - \theta_P\| + \varrho)^2}{2
    \sigma^2} + \log\frac{K\,\xi(n)}{0.9\,\delta}\Big), \qquad \hat e(Q) \le \bar e_{\max} +
    \frac{\varrho}{2\sigma},$$

    $\bar e_{\max}$ what T fresh draws allow (`mean_at_most`), $\xi(n) \le 2\sqrt n$ (`maurer_constant`). The size is
    chosen by other draws before. The prior's weights are the initial ones, or were trained on other samples than these:
    a network trained on half of the data is a prior for the other half, on which the bound is then taken.

    Args:
        module: trained, for instance on all data; only parameters that train get noise. Evaluation mode is used.
        x: inputs (n, ...), those of the bound alone.
        y: class numbers (n,); of a network with one output 1 and -1.
        prior: the same network with the prior's weights.
        radius: the posterior's centre is any point within this distance, such as the minimum that `gramian.prove`
            places there.
        failure_probability: delta.
        draws: T.
        pilot_draws: of each noise size, to choose it.
        sigmas: K standard deviations of the noise; None: 28 between 4 and 1/2900 times the prior's root mean square
            weight. They must not depend on these samples.
        seed: of the noise.

    Returns:
        `value`, the bound; `numbers` with sigma, divergence, distance and the noisy network's error on the samples.

    Raises:
        BadArgument: the two networks differ in more than trained weights, or an option is out of range.
        BadData: labels that are no classes.

    References:
        Maurer 2004, arXiv:cs/0411099 (the constant); Langford and Caruana 2001, Dziugaite and Roy 2017,
        arXiv:1703.11008 (networks, and the estimate by draws); Perez-Ortiz et al. 2021, arXiv:2007.12911 (priors from
        part of the data).

    Example:
        Weights that did not move have divergence 0; what remains is the samples' number:

        >>> net = torch.nn.Linear(2, 1, bias=False)
        >>> _ = net.weight.data.copy_(torch.tensor([[1.0, 0.0]]))
        >>> x = torch.tensor([[1.0, 0.1], [-1.0, 0.1]]).repeat(500, 1)
        >>> bound = pac_bayes(net, x, x[:, 0].sign(), net)
        >>> bound.numbers["divergence"], bound.value < 0.05, bound.vacuous
        (0.0, True, False)
    """
    _check(failure_probability, draws, pilot_draws, radius)
    pair = paired(module, prior)
    inputs = torch.as_tensor(x).detach().cpu()
    with torch.no_grad():
        outputs = pair.module(inputs[:1]).reshape(1, -1).shape[1]
    labels = labels_of(y, len(inputs), outputs)
    sizes = _sizes(sigmas, pair.typical_weight)
    noise = torch.Generator().manual_seed(seed)
    task = (pair.module, pair.parameters, inputs, labels)
    errors = _errors(*task, sizes, pilot_draws, noise).mean(1)
    terms = (len(inputs), pair.distance + radius, len(sizes), failure_probability)
    # any choice is allowed: the bound holds for all sizes at once
    guesses = [_estimate(s, float(e), float(e), 0.0, *terms) for s, e in zip(sizes, errors, strict=True)]
    sigma = min(guesses, key=lambda guess: guess.value).sigma
    drawn = _errors(*task, [sigma], draws, noise)[0]
    seen = float(drawn.mean())
    best = _estimate(sigma, seen, mean_at_most(drawn.numpy(), SHARE_OF_DRAWS * failure_probability), radius, *terms)
    return GeneralizationBound(
        "PAC-Bayes",
        best.value,
        failure_probability,
        len(inputs),
        "the network with Gaussian noise on its weights",
        1 - 1 / max(outputs, 2),
        {
            "sigma": sigma,
            "error on the samples, noisy": seen,
            "its upper bound": best.error,
            "error on the samples, without noise": _error(pair.module, inputs, labels),
            "distance": pair.distance,
            "divergence": best.divergence,
            "divergence over n": best.divergence / len(inputs),
        },
        ASSUMES,
        REFERENCE,
    )


def _error(module: nn.Module, inputs: Tensor, labels: Tensor) -> float:
    with torch.no_grad():
        return float((margins(_outputs(module, inputs), labels) <= 0).double().mean())


def noisy_error(module: nn.Module, x: Any, y: Any, sigma: float, *, draws: int = 100, seed: int = 1) -> float:
    """Share of misclassified samples, averaged over draws of noise of size `sigma` on the trained weights.

    Args:
        module: the posterior's centre.
        x: inputs (n, ...), such as test rows.
        y: labels, as for `pac_bayes`.
        sigma: standard deviation of the noise.
        draws: how many networks are drawn.
        seed: of the noise.
    """
    pair = paired(module, module)
    inputs = torch.as_tensor(x).detach().cpu()
    with torch.no_grad():
        outputs = pair.module(inputs[:1]).reshape(1, -1).shape[1]
    labels = labels_of(y, len(inputs), outputs)
    generator = torch.Generator().manual_seed(seed)
    return float(_errors(pair.module, pair.parameters, inputs, labels, [sigma], draws, generator).mean())


def _estimate(
    sigma: float, seen: float, error: float, radius: float, n: int, distance: float, sizes: int, delta: float
) -> _Estimate:
    # the total variation of two Gaussians of size sigma, rho apart, is below rho / (2 sigma)
    error = min(error + radius / (2 * sigma), 1.0)
    divergence = distance**2 / (2 * sigma**2) * (1 + ROUNDED)
    spent = divergence + math.log(sizes * maurer_constant(n) / ((1 - SHARE_OF_DRAWS) * delta))
    return _Estimate(sigma, seen, error, divergence, kl_inverse(error, spent / n))


def _errors(
    module: nn.Module, parameters: list[nn.Parameter], x: Tensor, labels: Tensor, sizes: Sequence[float],
    draws: int, generator: torch.Generator,
) -> Tensor:  # fmt: skip
    """Errors (K, T) on all samples; one draw of noise serves every size, the weights are left as they were."""
    centre = [p.detach().clone() for p in parameters]
    result = torch.zeros(len(sizes), draws, dtype=torch.float64)
    with torch.no_grad():
        for draw in range(draws):
            noise = [torch.randn(c.shape, generator=generator, dtype=c.dtype) for c in centre]
            for row, size in enumerate(sizes):
                for p, c, e in zip(parameters, centre, noise, strict=True):
                    torch.add(c, e, alpha=size, out=p.data)
                # an output that is no number counts as an error
                right = margins(_outputs(module, x), labels) > 0
                result[row, draw] = 1 - right.double().mean()
        for p, c in zip(parameters, centre, strict=True):
            p.copy_(c)
    return result


def _outputs(module: nn.Module, x: Tensor) -> Tensor:
    return torch.cat([module(rows).reshape(len(rows), -1) for rows in x.split(ROWS_AT_ONCE)])


def _sizes(sigmas: Sequence[float] | None, typical: float) -> list[float]:
    if sigmas is None:
        return [typical * factor for factor in GRID]
    sizes = [float(s) for s in sigmas]
    if not sizes or not all(0 < s < math.inf for s in sizes):
        raise BadArgument(
            f"`sigmas` is {sigmas!r}.", why="they are standard deviations of the noise", fix="positive numbers"
        )
    return sizes


def _check(delta: float, draws: int, pilot_draws: int, radius: float) -> None:
    if not 0 < delta < 1:
        raise BadArgument(
            f"`failure_probability` is {delta!r}.", why="it is a probability", fix="a number such as 0.05"
        )
    if draws < 1 or pilot_draws < 1:
        raise BadArgument(
            f"`draws` is {draws!r} and `pilot_draws` {pilot_draws!r}.",
            why="the noisy network's error is an average over draws",
            fix="draws=1000, pilot_draws=12",
        )
    if not 0 <= radius < math.inf:
        raise BadArgument(f"`radius` is {radius!r}.", why="it is a distance", fix="a number from 0 on")
