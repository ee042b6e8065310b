r"""Gradient descent on one two-layer ReLU network, proved before it runs: the theorem behind `du2019`, on its numbers.

The neurons that can change a sign are counted instead of estimated: no probability is left.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from gramian.bounds.certificate import ROOMS, NumericCertificate
from gramian.bounds.singular_values import extreme_singular_values
from gramian.checker import checked
from gramian.checker.balls import Ball, outward, spectral_norm
from gramian.checker.certificate_file import Content
from gramian.checker.program import Values, jacobian_gram
from gramian.checker.relu_descent import RELU_DESCENT, ReluLayers, relu_layers
from gramian.checker.sentences import assumptions, sentence
from gramian.checker.statements import evaluated, residual_norm
from gramian.checker.well_formed import NotWellFormed
from gramian.conditions import TRAINING, Condition
from gramian.errors import Unsupported, named_in_errors
from gramian.prove.layer_form import in_layers
from gramian.prove.problem import problem_of
from gramian.prove.read_program import read_program

ROOM = 1 - 1e-8  # below what the checker's outward rounding adds to a reach
OTHER_MACHINES = 1 + 1e-7  # room for sums in another order
SAME_OUTPUTS = 1e-10
REFERENCE = "docs/proofs/other-theorems.md; after arXiv:1810.02054"


@named_in_errors
def relu_descent(module: nn.Module, x: Any, y: Any, *, lr: float | None = None) -> NumericCertificate:
    r"""Whether gradient descent from these initial weights is proved to converge, without running it.

    $f(x_i) = \sum_r b_r\,\mathrm{relu}(w_r\cdot x_i)$, the first layer trained, the readout fixed. With
    $q^2 = \sum_{i,r}\|b_r\|^2\|x_i\|^2\,1[|w_r\cdot x_i| \le \|b_r\|T\|x_i\|]$, counted, $s = \sigma_{\min}(J) - q$ and
    $c = 1 - q/s - \frac\eta2\nu^2$: if $\|X\|R < T s^2c$ for some T, then
    $\|r_k\| \le (1 - \eta s^2c)^k R$ at every step.

    Args:
        module: Linear, ReLU, Linear; only the first layer trains, all of it.
        x: inputs (n, d).
        y: real targets (n, C), or class numbers (n,).
        lr: the step on half the sum of squared errors; None: $1/\nu^2$, $\nu$ a bound of the Jacobian's norm.

    Returns:
        Certificate, "proved" or "not proved"; `numbers`: allowed (the residual for which it would be proved),
        residual, sigma, flips (q), reach (T), rate.

    Raises:
        Unsupported: another network.

    Example:
        >>> torch.manual_seed(0)                                                          # doctest: +ELLIPSIS
        <torch._C.Generator object at ...>
        >>> net = torch.nn.Sequential(torch.nn.Linear(3, 100), torch.nn.ReLU(), torch.nn.Linear(100, 1)).double()
        >>> _ = net[2].requires_grad_(False)
        >>> x = torch.randn(4, 3).double()
        >>> y = net(x).detach()
        >>> relu_descent(net, x, y + 1e-4).status, relu_descent(net, x, y + 1).status
        ('proved', 'not proved')
    """
    problem = problem_of(module, x, y, "squared")
    program = in_layers(read_program(problem.module, problem.x))
    rows, targets = problem.x.reshape(len(problem.x), -1).numpy(), problem.y.numpy()
    values = evaluated(program, rows)
    try:
        layers = relu_layers(program, values)
    except NotWellFormed as error:
        raise Unsupported(f"relu_descent has no proof for this network: {error}") from None
    _check_outputs(problem.module(problem.x).detach().numpy(), values, layers)
    residual = residual_norm(values, targets)
    had, allowed = _searched(layers, extreme_singular_values(jacobian_gram(program, values)), lr)
    for room in ROOMS:
        had["residual"] = room * residual
        if had["residual"] < allowed:
            break
    says = sentence(RELU_DESCENT, had, len(rows))
    content = Content(RELU_DESCENT, says, (*assumptions(RELU_DESCENT), *problem.assumes), had, program, rows, targets)
    s = had["sigma"] - had["flips"]
    rate = had["step"] * s**2 * max(1 - had["flips"] / max(s, 1e-300) - had["step"] * had["norm"] ** 2 / 2, 0.0)
    premises = (
        Condition("smallest singular value of the Jacobian at the start, proved", 0.0, had["sigma"], ">"),
        Condition("norm of the residual at the start", allowed, residual, "<", "s^2 c T / ||X||"),
    )
    return NumericCertificate(
        "Gradient descent on this two-layer ReLU network reaches a global minimum",
        REFERENCE,
        premises,
        (),
        summary=f"The proof asks for a residual below {allowed:.3g} at the start, and it is {residual:.3g}.",
        about=TRAINING,
        statement=RELU_DESCENT,
        content=content,
        checked=checked(content),
        fix="a larger output multiplier with neurons in pairs of opposite signs, a wider network, or fewer rows",
        numbers={
            "residual": residual, "allowed": allowed, "sigma": had["sigma"], "flips": had["flips"],
            "reach": had["reach"], "rate": float(rate), "lr": had["step"],
        },
    )  # fmt: skip


def _searched(
    layers: ReluLayers, singular_values: tuple[float, float], lr: float | None
) -> tuple[dict[str, float], float]:
    """The claims with the reach that allows the largest residual, and that residual."""
    sigma, largest = singular_values
    inputs = spectral_norm(layers.inputs) * OTHER_MACHINES
    bound = inputs * spectral_norm(layers.readout) * OTHER_MACHINES
    step = lr or 1 / min(bound, largest) ** 2
    # up to the reach of the k-th change of sign, k of them are uncertain
    reaches, costs = _costs(layers)
    flips = np.sqrt(outward(costs)) * OTHER_MACHINES
    s = (sigma - flips) * ROOM
    norm = np.minimum(bound, (largest + flips) / ROOM)  # of the secants' matrix
    with np.errstate(divide="ignore"):
        share = np.where(s > 0, 1 - flips / np.maximum(s, 1e-300) - step * norm**2 / 2, 0.0)
    allowed = np.where(share > 0, reaches * s**2 * share / inputs * ROOM, 0.0)
    best = int(np.argmax(allowed))
    reach = float(reaches[best])
    counted = max(layers.flips(reach) * OTHER_MACHINES, float(flips[best]))
    claims = {
        "sigma": sigma, "flips": counted, "inputs": inputs, "norm": float(norm[best]),
        "reach": reach, "step": step,
    }  # fmt: skip
    return claims, float(allowed[best])


def _check_outputs(outputs: NDArray, values: Values, layers: ReluLayers) -> None:
    """The formula as read is the module: an error relative to the sum of sizes, as neurons of opposite signs cancel."""
    middle = values.output.middle
    total = np.maximum(layers.preactivations.middle, 0) @ np.abs(layers.readout.middle).T
    if float(np.abs(outputs.reshape(middle.shape) - middle).max()) > SAME_OUTPUTS * float(total.max()):
        raise Unsupported("the module's outputs differ from those of its formula as it was read by relu_descent")


def _costs(layers: ReluLayers) -> tuple[NDArray, NDArray]:
    r"""Reaches T at which one more sign becomes uncertain, sorted, each a little smaller; and $q^2$ below each."""
    lengths = layers.inputs.norms()
    sizes = Ball(layers.readout.middle.T, layers.readout.radius.T).norms()
    z = layers.preactivations
    with np.errstate(divide="ignore", invalid="ignore"):
        reach = np.maximum(np.abs(z.middle) - z.radius, 0.0) / (lengths[:, None] * sizes[None]) * ROOM
    cost = lengths[:, None] ** 2 * sizes[None] ** 2
    reach = np.where(np.isnan(reach), 0.0, reach).ravel()
    reach, cost = reach[reach < np.inf], cost.ravel()[reach < np.inf]
    order = np.argsort(reach)
    return reach[order] * ROOM, np.concatenate([[0.0], np.cumsum(cost[order])[:-1]])
