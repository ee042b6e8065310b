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
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from gramian.bounds.certificate import ROOMS, NumericCertificate
from gramian.bounds.singular_values import extreme_singular_values
from gramian.checker import Checked, Line
from gramian.checker.certificate_file import Content
from gramian.checker.growth import bounded
from gramian.checker.polyak import POLYAK, PolyakBall, polyak_ball
from gramian.checker.program import NetworkProgram, Values, jacobian_gram
from gramian.checker.sentences import assumptions, sentence
from gramian.checker.song2021 import SONG2021, TwoLayerConstants, claimed_ball, song2021_lines, two_layer_constants
from gramian.checker.statements import evaluated, local_lines, residual_norm
from gramian.checker.two_layer_program import NotTwoLayer
from gramian.checker.well_formed import NotWellFormed
from gramian.conditions import TRAINING, Condition
from gramian.errors import BadArgument, Unsupported, named_in_errors
from gramian.prove.problem import problem_of
from gramian.prove.read_program import checked_layers

RADII = tuple(2.0 ** (-j / 2) for j in range(-8, 25))  # times sigma over beta of the centre
ROOM = 1 - 1e-9
OTHER_MACHINES = 1 + 1e-6  # room for sums in another order
REFERENCE = "arXiv:2111.01875"


@dataclass(frozen=True)
class BallConstants:
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
    program = checked_layers(problem.module, problem.x)
    rows = problem.x.reshape(len(problem.x), -1).numpy()
    values = evaluated(program, rows)
    residual = residual_norm(values, problem.y.numpy())
    if constants == "paper":
        on_ball: OnBall = _PaperConstants(_paper_constants(program, values, rows, problem.y.numpy()))
    else:
        on_ball = _MeasuredConstants(program, values)
    centre = on_ball.at(0.0)
    if not math.isfinite(centre.beta):
        raise BadArgument(
            "The network has a kinked activation: its Jacobian has no Lipschitz constant.",
            where="song2021",
            why="the condition is kept on a ball by that constant",
            fix="a smooth activation (GELU, softplus, tanh), or gramian.bounds.du2019",
        )
    search = _searched(on_ball, centre, residual, lr)
    had = _claims(on_ball, search, residual)
    statement = on_ball.statement
    says = sentence(statement, had, len(rows))
    assumes = (*assumptions(statement), *problem.assumes)
    content = Content(statement, says, assumes, had, program, rows, problem.y.numpy())
    judged = Checked(statement, says, assumes, tuple(on_ball.lines(content)))
    return _certificate(centre, search, residual, constants, content, judged)


@dataclass(frozen=True)
class _Search:
    """The ball that allows the largest residual, the step there, and what each argument allows on its best ball."""

    ball: BallConstants
    step: float
    rate: float
    allowed: Mapping[str, float]


def _searched(on_ball: OnBall, centre: BallConstants, residual: float, lr: float | None) -> _Search:
    largest = centre.sigma / max(centre.beta, 1e-300)
    allowed = {"geometric": 0.0, "path": 0.0, "descent": 0.0}
    chosen, step, share = centre, lr or 1 / centre.nu**2, 0.0
    for factor in RADII:
        ball = on_ball.at(factor * largest)
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
    return _Search(chosen, step, step * share * chosen.mu**2, allowed)


def _claims(on_ball: OnBall, search: _Search, residual: float) -> dict[str, float]:
    """What the certificate claims: the residual with as much room for other machines' rounding as the ball has."""
    had = on_ball.claims(search.ball) | {"step": search.step}
    for room in ROOMS:
        had["residual"] = room * residual
        ball = on_ball.polyak(had)
        if 0 < ball.residual < ball.allowed:
            break
    return had


def _certificate(
    centre: BallConstants, search: _Search, residual: float, constants: str, content: Content, judged: Checked
) -> NumericCertificate:
    allowed = search.allowed
    premises = (
        Condition("smallest singular value mu on the ball", 0.0, search.ball.mu, ">"),
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
        statement=content.statement,
        content=content,
        checked=judged,
        fix="a point nearer to a minimum (gramian.prove polishes), a wider network, or a smaller learning rate",
        numbers={
            "residual": residual, "mu": centre.sigma, "nu": centre.nu, "beta": centre.beta,
            "radius": search.ball.radius, "lr": search.step, "rate": search.rate,
            **{f"allowed_{name}": number for name, number in allowed.items()},
        },
        paper={"mu^6 / (beta nu)^2": centre.sigma**6 / max(centre.beta * centre.nu, 1e-300) ** 2},
    )  # fmt: skip


class _MeasuredConstants:
    """From the singular values of the Jacobian at the centre, and its Lipschitz constant on the ball."""

    statement = POLYAK

    def __init__(self, program: NetworkProgram, values: Values) -> None:
        self.program, self.values = program, values
        self.gram = jacobian_gram(program, values)
        self.sigma, self.norm = extreme_singular_values(self.gram)

    def at(self, radius: float) -> BallConstants:
        bounds = bounded(self.program, self.values, radius)
        beta = bounds.lipschitz * OTHER_MACHINES
        if math.isfinite(bounds.kink_margin) or not math.isfinite(beta):
            beta = math.inf
        mu = max(self.sigma - beta * radius, 0.0)
        return BallConstants(radius, mu, self.norm + beta * radius, beta, self.sigma)

    def claims(self, ball: BallConstants) -> dict[str, float]:
        return {"sigma": self.sigma, "largest": self.norm, "lipschitz": ball.beta, "radius": ball.radius}

    def polyak(self, had: Mapping[str, float]) -> PolyakBall:
        return polyak_ball(had)

    def lines(self, content: Content) -> list[Line]:
        return local_lines(POLYAK, self.program, self.values, self.gram, content.y, content.numbers)


class _PaperConstants:
    """Those of the paper: the hidden features' singular values, and norms of the layers."""

    statement = SONG2021

    def __init__(self, constants: TwoLayerConstants) -> None:
        self.constants = constants
        self.sigma, self.norm = extreme_singular_values(constants.features)

    def at(self, radius: float) -> BallConstants:
        numbers = self.constants
        return BallConstants(
            radius,
            numbers.smallest(self.sigma, radius) / OTHER_MACHINES,
            numbers.largest(self.norm, radius) * OTHER_MACHINES,
            numbers.lipschitz(radius) * OTHER_MACHINES,
            numbers.smallest(self.sigma, 0.0),
        )

    def claims(self, ball: BallConstants) -> dict[str, float]:
        return {
            "sigma": self.sigma, "norm": self.norm, "mu": ball.mu, "nu": ball.nu, "lipschitz": ball.beta,
            "radius": ball.radius,
        }  # fmt: skip

    def polyak(self, had: Mapping[str, float]) -> PolyakBall:
        return claimed_ball(had)

    def lines(self, content: Content) -> list[Line]:
        return song2021_lines(content.program, content.x, content.y, content.numbers)


OnBall = _MeasuredConstants | _PaperConstants


def _paper_constants(program: NetworkProgram, values: Values, x: np.ndarray, y: np.ndarray) -> TwoLayerConstants:
    try:
        return two_layer_constants(program, values, x, y)
    except (NotTwoLayer, NotWellFormed) as error:
        raise Unsupported(
            f"the paper's constants are those of two-layer networks with a smooth activation; {error}"
        ) from None
