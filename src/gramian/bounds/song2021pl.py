r"""The Polyak-Lojasiewicz condition on a ball of weights, with numbers in place of constants: after Song et al. 2021.

On the ball of radius $\varrho$: $\|J^\top r\| \ge \mu\|r\|$, $\|J\| \le \nu$, J Lipschitz with constant $\beta$. Three
arguments that descent never leaves the ball differ in the residual that they
allow; docs/proofs/other-theorems.md proves all.
With $c = 1 - \frac\eta2(\nu^2 + \beta R)$:

- geometric sum, the paper's: $R < c\,\mu^2\varrho / \nu$ (with $\mu$ and $\varrho$ of the order of the centre's $\mu$
  and $\mu/\beta$: half the squared residual below a constant times $\mu^6/(\beta^2\nu^2)$);
- path length: $R < c\,\mu\varrho$;
- path length with $\mu$ decreasing along it, `gramian.prove`'s "descent": $R < c\,(\sigma\varrho - \beta\varrho^2/2)$.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from gramian.bounds.certificate import NumericCertificate
from gramian.bounds.singular_values import extreme_singular_values
from gramian.checker.balls import Ball, outward, product, spectral_norm
from gramian.checker.functions import bounds as slope_bounds
from gramian.checker.growth import bounded
from gramian.checker.program import JacobianGram, NetworkProgram, Values, evaluate, jacobian_gram
from gramian.checker.statements import residual_norm
from gramian.checker.two_layer_program import NotTwoLayer, two_layer
from gramian.conditions import TRAINING, Condition
from gramian.errors import BadArgument, Unsupported, named_in_errors
from gramian.prove.problem import problem_of
from gramian.prove.read_program import checked_program

RADII = tuple(2.0 ** (-j / 2) for j in range(-8, 25))  # times sigma over beta of the centre
FAR = 1e9
ROOM = 1 - 1e-9
REFERENCE = "arXiv:2111.01875"


@dataclass(frozen=True)
class OnBall:
    """Numbers on one ball: mu, nu, beta and the centre's sigma."""

    radius: float
    mu: float
    nu: float
    beta: float
    sigma: float


@named_in_errors
def song2021(
    module: nn.Module, x: Any, y: Any, *, lr: float | None = None, constants: str = "measured"
) -> NumericCertificate:
    r"""Whether gradient descent from these weights stays where the Polyak-Lojasiewicz condition holds.

    Args:
        module: a smooth network that `gramian.prove` can read.
        x: inputs (n, ...).
        y: real targets (n, C), or class numbers (n,).
        lr: the step on half the sum of squared errors; None: half the largest that the proof allows.
        constants: "measured": mu is the smallest singular value of the Jacobian, with beta and nu by the rules of
            docs/proofs.md. "paper": the paper's, for a two-layer network whose layers both train:
            $\mu = \sigma_{\min}(\phi(XW^\top))$, $\nu \le \phi'_{\max}\|X\|\|A\| + \|\phi(XW^\top)\|$,
            $\beta \le \|X\|(\phi'_{\max} + \phi''_{\max}\|A\|\max_i\|x_i\|)$, without
            the paper's $\sqrt2$: derived here.

    Returns:
        Certificate, "proved" if the path-length argument holds on some ball: then
        $\|r_k\| \le (1 - \eta c\mu^2)^k R$ with these numbers. `numbers`: residual, and what each argument allows:
        allowed_geometric, allowed_path, allowed_descent.

    Raises:
        Unsupported: a layer without a rule, or `constants="paper"` for another network than a two-layer one.
        BadArgument: a kinked activation.

    References:
        Song, Ramezani-Kebrya, Pethick, Eftekhari, Cevher 2021, arXiv:2111.01875.

    Example:
        >>> torch.manual_seed(0)                                                          # doctest: +ELLIPSIS
        <torch._C.Generator object at ...>
        >>> net = torch.nn.Sequential(torch.nn.Linear(3, 40), torch.nn.Tanh(), torch.nn.Linear(40, 1)).double()
        >>> x = torch.randn(4, 3).double()
        >>> song2021(net, x, net(x).detach() + 1e-6).status, song2021(net, x, net(x).detach() + 10).status
        ('proved', 'not proved')
    """
    if constants not in ("measured", "paper") or (lr is not None and not 0 < lr < math.inf):
        raise BadArgument(
            f"`constants` is {constants!r} and `lr` {lr!r}.",
            why="they choose between two sets of constants, and a positive step",
            fix="constants='measured' or 'paper', lr=None",
        )
    problem = problem_of(module, x, y, "squared")
    program = checked_program(problem.module, problem.x)
    rows = problem.x.reshape(len(problem.x), -1).numpy()
    values = evaluate(program, rows)
    residual = residual_norm(values, problem.y.numpy())
    if constants == "paper":
        on_ball = _paper_constants(program, values, rows, problem.y.numpy())
    else:
        on_ball = _measured_constants(program, values)
    centre = on_ball(0.0)
    if not math.isfinite(centre.beta):
        raise BadArgument(
            "The network has a kinked activation: its Jacobian has no Lipschitz constant.",
            where="song2021",
            why="the condition is kept on a ball by that constant",
            fix="a smooth activation (GELU, softplus, tanh), or gramian.bounds.du2019",
        )
    return _certificate(on_ball, centre, residual, lr, constants)


def _certificate(
    on_ball: Callable[[float], OnBall], centre: OnBall, residual: float, lr: float | None, constants: str
) -> NumericCertificate:
    largest = centre.sigma / max(centre.beta, 1e-300)
    allowed = {"geometric": 0.0, "path": 0.0, "descent": 0.0}
    chosen, step, share = centre, lr or 1 / centre.nu**2, 0.0
    for factor in RADII:
        ball = on_ball(factor * largest)
        eta = lr
        if eta is None:
            eta = 1 / (ball.nu**2 + ball.beta * residual)
        c = 1 - eta / 2 * (ball.nu**2 + ball.beta * residual)
        if c <= 0:
            continue
        decreasing = max(ball.sigma * ball.radius - ball.beta * ball.radius**2 / 2, 0.0)
        if ball.beta * ball.radius >= ball.sigma:
            decreasing = 0.0
        here = {
            "geometric": c * ball.mu**2 * ball.radius / ball.nu,
            "path": c * ball.mu * ball.radius,
            "descent": c * decreasing,
        }
        if here["path"] > allowed["path"]:
            chosen, step, share = ball, eta, c
        allowed = {name: max(allowed[name], here[name] * ROOM) for name in allowed}
    rate = step * share * chosen.mu**2
    premises = (
        Condition("smallest singular value mu on the ball", 0.0, chosen.mu, ">"),
        Condition("norm of the residual", allowed["path"], residual, "<", "c mu rho, the Polyak-Lojasiewicz argument"),
    )
    verdict = f"asks for a residual below {allowed['path']:.3g}, and it is {residual:.3g}"
    return NumericCertificate(
        "The Polyak-Lojasiewicz condition holds along gradient descent, after Song et al. 2021",
        REFERENCE,
        premises,
        (),
        summary=f"With {constants} constants the argument {verdict}; the paper's geometric sum allows "
        f"{allowed['geometric']:.3g}, the statement 'descent' {allowed['descent']:.3g}.",
        about=TRAINING,
        numbers={
            "residual": residual, "mu": centre.sigma, "nu": centre.nu, "beta": centre.beta, "radius": chosen.radius,
            "lr": step, "rate": rate, **{f"allowed_{name}": number for name, number in allowed.items()},
        },
        paper={"mu^6 / (beta nu)^2": centre.sigma**6 / max(centre.beta * centre.nu, 1e-300) ** 2},
    )  # fmt: skip


def _measured_constants(program: NetworkProgram, values: Values) -> Callable[[float], OnBall]:
    gram = jacobian_gram(program, values)
    sigma, norm = extreme_singular_values(gram)

    def on_ball(radius: float) -> OnBall:
        bounds = bounded(program, values, radius)
        beta = bounds.lipschitz
        if math.isfinite(bounds.kink_margin) or not math.isfinite(beta):
            beta = math.inf
        return OnBall(radius, max(sigma - beta * radius, 0.0), norm + beta * radius, beta, sigma)

    return on_ball


def _paper_constants(
    program: NetworkProgram, values: Values, x: np.ndarray, y: np.ndarray
) -> Callable[[float], OnBall]:
    try:
        task, weights = two_layer(program, x, y, 1.0)
    except NotTwoLayer as error:
        raise Unsupported(
            f"the paper's constants are those of two-layer networks with a smooth activation; {error}"
        ) from None
    if not task.readout_trained:
        raise Unsupported("the paper's constants are those of a network whose layers both train")
    features = values.values[-2]
    scale = abs(task.scale)
    matrix = product(features, Ball(features.middle.T, features.radius.T))
    sigma, norm = extreme_singular_values(
        JacobianGram(matrix.middle, float(outward(np.sqrt((matrix.radius**2).sum()))), 0.0)
    )
    steepest, bend = (float(bound) for bound in slope_bounds(task.activation, -FAR, FAR))
    inputs = spectral_norm(Ball.exact(task.x))
    longest = float(Ball.exact(task.x).norms().max())
    readout = spectral_norm(Ball.exact(weights.a))
    bias = abs(task.bias_scale) * math.sqrt(len(x))

    def on_ball(radius: float) -> OnBall:
        chi = readout + radius
        curve = chi * bend * longest
        beta = scale * inputs * (curve / 2 + math.sqrt((curve / 2) ** 2 + steepest**2))
        moved = steepest * inputs * radius
        nu = math.hypot(scale * steepest * inputs * chi, scale * (norm + moved), bias)
        # the features' singular value falls by how far they move; not by beta times the radius
        return OnBall(radius, max(scale * (sigma - moved), 0.0) * ROOM, nu / ROOM, beta / ROOM, scale * sigma * ROOM)

    return on_ball
