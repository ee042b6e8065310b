r"""Gradient descent on one two-layer ReLU network, proved before it runs: the theorem behind `du2019`, on its numbers.

The neurons that can change a sign are counted instead of estimated: no probability is left.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from gramian.bounds.certificate import NumericCertificate
from gramian.bounds.singular_values import extreme_singular_values
from gramian.checker.balls import Ball, outward, spectral_norm
from gramian.checker.program import NetworkProgram, Values, evaluate, jacobian_gram
from gramian.checker.statements import residual_norm
from gramian.conditions import TRAINING, Condition
from gramian.errors import Unsupported, named_in_errors
from gramian.prove.problem import problem_of
from gramian.prove.read_program import read_program

ROOM = 1 - 1e-9
SAME_OUTPUTS = 1e-10
REFERENCE = "docs/proofs/other-theorems.md; after arXiv:1810.02054"


@dataclass(frozen=True, eq=False)
class _Network:
    """$f_c(x_i) = \\sum_r b_{cr} relu(w_r \\cdot x_i)$ with its preactivations."""

    inputs: NDArray  # (n, d), a bias as a constant column
    readout: NDArray  # b (C, m)
    preactivations: Ball  # (n, m)


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
    program = read_program(problem.module, problem.x)
    values = evaluate(program, problem.x.reshape(len(problem.x), -1).numpy())
    network = _read(program, values)
    _check_outputs(problem.module(problem.x).detach().numpy(), values, network)
    residual = residual_norm(values, problem.y.numpy())
    gram = jacobian_gram(program, values)
    sigma, largest = extreme_singular_values(gram)
    inputs, readout = spectral_norm(Ball.exact(network.inputs)), spectral_norm(Ball.exact(network.readout))
    step = lr or 1 / min(inputs * readout, largest) ** 2
    # up to the reach of the k-th change of sign, k of them are uncertain
    reaches, costs = _costs(network)
    flips = np.sqrt(outward(costs))
    s = (sigma - flips) * ROOM
    norm = np.minimum(inputs * readout, largest + flips) / ROOM  # of the secants' matrix
    with np.errstate(divide="ignore"):
        share = np.where(s > 0, 1 - flips / np.maximum(s, 1e-300) - step * norm**2 / 2, 0.0)
    allowed = np.where(share > 0, reaches * s**2 * share / inputs * ROOM, 0.0)
    best = int(np.argmax(allowed))
    numbers = {
        "residual": residual, "allowed": float(allowed[best]), "sigma": sigma, "flips": float(flips[best]),
        "reach": float(reaches[best]), "rate": float(step * s[best] ** 2 * share[best]), "lr": step,
    }  # fmt: skip
    premises = (
        Condition("smallest singular value of the Jacobian at the start, proved", 0.0, sigma, ">"),
        Condition("norm of the residual at the start", numbers["allowed"], residual, "<", "s^2 c T / ||X||"),
    )
    return NumericCertificate(
        "Gradient descent on this two-layer ReLU network reaches a global minimum",
        REFERENCE,
        premises,
        (),
        summary=f"The proof asks for a residual below {numbers['allowed']:.3g} at the start, and it is {residual:.3g}.",
        about=TRAINING,
        numbers=numbers,
    )


def _read(program: NetworkProgram, values: Values) -> _Network:
    steps = list(program.steps)
    kinds = [step.kind for step in steps]
    chained = all(step.inputs == (number,) for number, step in enumerate(steps[1:]))
    if kinds != ["input", "affine", "function", "affine"] or not chained or steps[2].function != "relu":
        raise Unsupported("relu_descent takes Linear, ReLU, Linear on vectors, and this network is another one")
    hidden, readout = steps[1], steps[3]
    own = {name for name in (hidden.weight, hidden.bias) if name}
    if program.trained != own or hidden.positions != 1:
        raise Unsupported("relu_descent takes a network whose first layer trains as a whole, and nothing else of it")
    x = values.values[0].middle
    columns = [hidden.weight_scale * x]
    if hidden.bias:
        columns.append(np.full((len(x), 1), hidden.bias_scale))
    weights = np.asarray(program.arrays[readout.weight], dtype=np.float64)
    return _Network(np.hstack(columns), readout.weight_scale * weights, values.values[1])


def _check_outputs(outputs: NDArray, values: Values, network: _Network) -> None:
    """The formula as read is the module: an error relative to the sum of sizes, as neurons of opposite signs cancel."""
    middle = values.output.middle
    total = np.maximum(values.values[1].middle, 0) @ np.abs(network.readout).T
    if float(np.abs(outputs.reshape(middle.shape) - middle).max()) > SAME_OUTPUTS * float(total.max()):
        raise Unsupported("the module's outputs differ from those of its formula as it was read by relu_descent")


def _costs(network: _Network) -> tuple[NDArray, NDArray]:
    r"""Reaches T at which one more sign becomes uncertain, sorted, each a little smaller; and $q^2$ below each."""
    lengths = Ball.exact(network.inputs).norms()
    sizes = Ball.exact(network.readout.T).norms()
    z = network.preactivations
    with np.errstate(divide="ignore", invalid="ignore"):
        reach = np.maximum(np.abs(z.middle) - z.radius, 0.0) / (lengths[:, None] * sizes[None]) * ROOM
    cost = lengths[:, None] ** 2 * sizes[None] ** 2
    reach = np.where(np.isnan(reach), 0.0, reach).ravel()
    reach, cost = reach[reach < np.inf], cost.ravel()[reach < np.inf]
    order = np.argsort(reach)
    return reach[order] * ROOM, np.concatenate([[0.0], np.cumsum(cost[order])[:-1]])
