r"""The Rademacher bound of all networks within a distance B of the initial one.

Near $\theta_0$ the network is its linearization and a remainder of second order; the linearization's complexity is
$B\|J\|_F/n$, the remainder's at most its size. docs/generalization.md derives every constant.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import nn

from gramian.bounds.binomial import ROUNDED
from gramian.bounds.classes import labels_of, margins
from gramian.bounds.generalization import GeneralizationBound
from gramian.bounds.paired import paired
from gramian.checker.functions import bounds as slope_bounds
from gramian.checker.growth import bounded
from gramian.checker.program import NetworkProgram, Values, evaluate, jacobian_gram
from gramian.checker.two_layer_program import NotTwoLayer, two_layer
from gramian.errors import BadArgument, named_in_errors
from gramian.prove.read_program import checked_program

FAR = 1e9  # the suprema of slopes are over all arguments up to this
GROWTH = 2.0**0.25  # from one distance of the grid to the next
MOST_STEPS_DOWN = -40
ROWS_AT_ONCE = 256
REFERENCE = "Arora et al. 2019, arXiv:1901.08584; Cao and Gu 2019, arXiv:1905.13210; Maurer 2016, arXiv:1605.00251"
ASSUMES = (
    "the samples were drawn independently from one distribution, the one that new samples come from",
    "the initial weights do not depend on these samples",
)


@named_in_errors
def rademacher(
    module: nn.Module,
    x: Any,
    y: Any,
    initial: nn.Module,
    *,
    margin: float = 1.0,
    radius: float = 0.0,
    unit: float = 1.0,
    failure_probability: float = 0.05,
) -> GeneralizationBound:
    r"""Error on new samples of a trained network, from how far its weights moved.

    With probability at least $1 - \delta$ over the n samples, for every network within $B = u\,2^{j/4} \ge
    \|\theta - \theta_0\| + \varrho$ (j a whole number, also a negative one) of the initial one,

    $$e \le \frac1n\sum_i \mathrm{ramp}\Big(\frac{m_i}{\gamma}\Big) + \frac{2c}{\gamma}\Big(\frac{B\|J\|_F}{n} +
    \frac{\sqrt C L B^2}{2\sqrt n}\Big) + 3\sqrt{\frac{\log(2(|j|+1)(|j|+2)/\delta)}{2n}},$$

    $\mathrm{ramp}(m) = \min(1, \max(0, 1 - m))$, $m_i$ the margins, c = 1 for one output and 2 for several; J the
    Jacobian of all outputs at the initial weights, L its Lipschitz constant on the ball, both with bounds of their
    rounding errors. At a proved minimum of the squared loss with targets 1 and -1 the ramp of margin 1 is 0.

    Args:
        module: trained; a smooth network that `gramian.prove` can read.
        x: inputs (n, ...) that the initial weights do not depend on; those trained on.
        y: class numbers (n,); of a network with one output 1 and -1.
        initial: the same network with the initial weights.
        margin: gamma. It must be chosen without looking at these samples.
        radius: the statement is also about any network within this distance whose margins are not smaller, such as
            the minimum that `gramian.prove` places there.
        unit: u, the distance that costs least in the last term; chosen without looking at these samples.
        failure_probability: delta.

    Returns:
        `value`, the bound; `numbers` with its parts.

    Raises:
        Unsupported: a layer whose Lipschitz constants have no rule.
        BadArgument: the two networks differ in more than trained weights; a kinked activation, whose Jacobian jumps.

    References:
        Arora et al. 2019, arXiv:1901.08584 and Cao and Gu 2019, arXiv:1905.13210 (the argument, for ReLU at large
        width); Maurer 2016, arXiv:1605.00251 (several outputs).

    Example:
        >>> torch.manual_seed(0)                                                          # doctest: +ELLIPSIS
        <torch._C.Generator object at ...>
        >>> net = torch.nn.Linear(2, 1, bias=False).double()
        >>> x = torch.randn(4000, 2).double()
        >>> bound = rademacher(net, x, net(x).detach().sign()[:, 0], net, margin=0.01)
        >>> bound.numbers["distance"], bound.numbers["remainder"] < 1e-12
        (0.0, True)
    """
    _check(margin, radius, unit, failure_probability)
    pair = paired(module, initial)
    own, start = pair.module.double(), paired(initial, initial).module.double()
    inputs = torch.as_tensor(x).detach().cpu().double()
    n = len(inputs)
    program = checked_program(start, inputs)
    values = evaluate(program, inputs.reshape(n, -1).numpy())
    outputs = values.output.middle.shape[1]
    labels = labels_of(y, n, outputs)
    step, distance = _grid(pair.distance + radius, unit)
    lipschitz = second_order(program, values, distance) / math.sqrt(n)  # at least the mean over samples
    norm = jacobian_norm(program, inputs.reshape(n, -1).numpy())
    linear = distance * norm / n
    remainder = math.sqrt(outputs) * lipschitz * distance**2 / 2
    factor = 2 / margin
    if outputs > 1:
        factor = 4 / margin  # sqrt 2 for the margin's slope, sqrt 2 for a vector's contraction
    with torch.no_grad():
        ramp = float((1 - margins(own(inputs), labels) / margin).clamp(0, 1).mean())
    spread = 3 * math.sqrt(math.log(2 * (abs(step) + 1) * (abs(step) + 2) / failure_probability) / (2 * n))
    value = ramp + factor * (linear + remainder) + spread
    return GeneralizationBound(
        "Rademacher",
        value * (1 + 1e-9) + ROUNDED,
        failure_probability,
        n,
        "the network",
        1 - 1 / max(outputs, 2),
        {
            "distance": pair.distance,
            "distance of the grid": distance,
            "ramp loss on the samples": ramp,
            "complexity of the linearization": factor * linear,
            "remainder": factor * remainder,
            "deviation": spread,
        },
        ASSUMES,
        REFERENCE,
    )


def jacobian_norm(program: NetworkProgram, x: np.ndarray) -> float:
    r"""An upper bound of $\|J\|_F$ over all samples (n, d), some of them at a time."""
    square, error = 0.0, 0.0
    for first in range(0, len(x), ROWS_AT_ONCE):
        rows = x[first : first + ROWS_AT_ONCE]
        gram = jacobian_gram(program, evaluate(program, rows))
        square += float(np.trace(gram.matrix))
        error += gram.jacobian_error**2
    return (math.sqrt(square) + math.sqrt(error)) * (1 + 1e-9)


def second_order(program: NetworkProgram, values: Values, radius: float) -> float:
    r"""L with $\sum_i \|Df_i(\theta) - Df_i(\theta')\|^2 \le L^2\|\theta - \theta'\|^2$ on the ball of this radius.

    Of a two-layer network whose first layer alone trains the derivative of a neuron depends on that neuron's weights:
    $L_i = s \max_r \|a_{\cdot r}\| \sup|\phi''| \|x_i\|^2$ does not grow with the width.

    Raises:
        BadArgument: a kinked activation.
    """
    bounds = bounded(program, values, radius)
    if np.isfinite(bounds.kink_margin):
        raise BadArgument(
            "The network has a kinked activation: its Jacobian jumps, and has no Lipschitz constant.",
            where="rademacher",
            why="the remainder of its linearization is bounded by that constant",
            fix="a smooth activation (GELU, softplus, tanh), or gramian.bounds.pac_bayes",
        )
    samples, outputs = values.output.middle.shape
    try:
        task, weights = two_layer(program, values.values[0].middle, np.zeros((samples, outputs)), 1.0)
    except NotTwoLayer:
        return bounds.lipschitz
    if task.readout_trained:
        return bounds.lipschitz
    bend = float(slope_bounds(task.activation, -FAR, FAR)[1])
    neuron = float(np.sqrt((weights.a**2).sum(0)).max())
    inputs = float(np.sqrt(((task.x**2).sum(1) ** 2).sum()))
    return min(bounds.lipschitz, abs(task.scale) * neuron * bend * inputs * (1 + 1e-9))


def _grid(distance: float, unit: float) -> tuple[int, float]:
    """The number and the value of the first distance of the grid that is at least this one."""
    # distances below the smallest step of the grid are taken for that step
    step = MOST_STEPS_DOWN
    if distance > 0:
        step = max(math.floor(math.log(distance / unit, GROWTH)) - 1, MOST_STEPS_DOWN)
    while unit * GROWTH**step * (1 - ROUNDED) < distance:
        step += 1
    return step, unit * GROWTH**step


def _check(margin: float, radius: float, unit: float, delta: float) -> None:
    if not (0 < margin < math.inf and 0 < unit < math.inf and 0 <= radius < math.inf):
        raise BadArgument(
            f"`margin` is {margin!r}, `unit` {unit!r} and `radius` {radius!r}.",
            why="the first two are positive numbers, the third a distance",
            fix="margin=1.0, unit=1.0, radius=0.0",
        )
    if not 0 < delta < 1:
        raise BadArgument(
            f"`failure_probability` is {delta!r}.", why="it is a probability", fix="a number such as 0.05"
        )
