r"""What a certificate says, line by line: each line is an inequality between two numbers that were computed here.

With $r = f - y$ on all samples, $R \ge \|r\|$, $\sigma \le \sigma_{\min}(J)$, and J Lipschitz with constant L on the
ball of radius $\varrho$ around the weights:

- "minimum": if $\sigma \varrho - L \varrho^2 / 2 > R$ and $L \varrho \le \sigma$, weights with r = 0 exactly lie
  within $\varrho$ (the path $\dot\theta = -J^+ r$ is shorter than that).
- "descent": with $S \ge \|J\|$ on the ball and $c = 1 - \eta S^2 / 2 - L \eta R / 2 > 0$: if
  $c(\sigma \varrho - L \varrho^2 / 2) > R$ and $L \varrho < \sigma$, gradient descent on $\frac12\|r\|^2$ with step
  $\eta$ stays in the ball and $\|r_k\| \le (1 - \eta c (\sigma - L \varrho)^2)^k R$.
- "polyak-lojasiewicz": the condition $\|J^T r\| \ge \mu\|r\|$ on the ball, and descent that stays in it (polyak.py).
- "separation": each sample's own class has the largest output; scaling the readout takes the cross-entropy to 0.

docs/proofs.md has the proofs. The last comparisons are made in rational arithmetic, of the numbers as they are stored.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np

from gramian.checker.balls import Ball
from gramian.checker.eigenvalues import largest_is_at_most, smallest_is_at_least
from gramian.checker.growth import bounded
from gramian.checker.high_precision import outputs
from gramian.checker.line import Line, compared, positive, rational, shown
from gramian.checker.polyak import POLYAK, polyak_lines
from gramian.checker.program import JacobianGram, NetworkProgram, Values, evaluate, jacobian_gram
from gramian.checker.well_formed import require, require_targets, require_well_formed

STATEMENTS = ("minimum", "descent", POLYAK, "separation")


def lines(
    statement: str, program: NetworkProgram, x: np.ndarray, y: np.ndarray, numbers: Mapping[str, Any]
) -> list[Line]:
    """All inequalities of a statement for these weights and data; it is proved if each of them holds.

    Raises:
        NotWellFormed: the program or the data are not what a statement can be about.

    Args:
        statement: "minimum", "descent", "polyak-lojasiewicz" or "separation".
        program: the network with its weights.
        x: inputs (n, d).
        y: targets (n, C); for "separation" class numbers (n,).
        numbers: the bounds that the prover claims: residual, sigma, lipschitz, radius; largest, step; margin.
    """
    require(statement in STATEMENTS, f"unknown statement {statement!r}")
    require_targets(statement, y, len(x), require_well_formed(program, x))
    values = evaluated(program, x)
    if statement == "separation":
        return _separation(program, values, y, float(numbers["margin"]))
    had = {name: float(number) for name, number in numbers.items()}
    return local_lines(statement, program, values, jacobian_gram(program, values), y, had)


def local_lines(
    statement: str, program: NetworkProgram, values: Values, gram: JacobianGram, y: np.ndarray, had: Mapping[str, float]
) -> list[Line]:
    """The inequalities of statements about a ball of weights; where a number overflows, its inequality fails."""
    with np.errstate(over="ignore", invalid="ignore"):
        return _local_lines(statement, program, values, gram, y, had)


def _local_lines(
    statement: str, program: NetworkProgram, values: Values, gram: JacobianGram, y: np.ndarray, had: Mapping[str, float]
) -> list[Line]:
    residual = residual_norm(values, y)
    bounds = bounded(program, values, had["radius"])
    result = [
        compared("residual", "the residual is at most as claimed", residual, "<=", had["residual"]),
        shown(
            "sigma",
            "the smallest singular value of the Jacobian is at least as claimed",
            had["sigma"],
            smallest_is_at_least(gram, had["sigma"]),
        ),
        compared(
            "lipschitz", "the Jacobian's Lipschitz constant on the ball", bounds.lipschitz, "<=", had["lipschitz"]
        ),
    ]
    if bounds.kink_margin != np.inf:
        result.append(
            compared(
                "pattern",
                "no activation changes its sign, and no maximum its place, on the ball",
                0.0,
                "<",
                bounds.kink_margin,
            )
        )
    if statement in ("descent", POLYAK):
        holds = largest_is_at_most(gram, had["largest"])
        result.append(shown("largest", "the norm of the Jacobian is at most as claimed", had["largest"], holds))
    if statement == POLYAK:
        return result + polyak_lines(had)
    return result + existence(had, descent=statement == "descent")


def evaluated(program: NetworkProgram, x: np.ndarray) -> Values:
    """All values; of a small network the outputs in high precision."""
    values = evaluate(program, x)
    fine = outputs(program, x)
    if fine is not None:
        values.values[-1] = fine
    output = values.output
    if len(output.middle) < len(x):  # the same for all samples, and yet an equation for each of them
        shape = (len(x), output.shape[1])
        values.values[-1] = Ball(np.broadcast_to(output.middle, shape), np.broadcast_to(output.radius, shape))
    return values


def residual_norm(values: Values, y: np.ndarray) -> float:
    r"""An upper bound of $\|f - y\|$."""
    require(y.shape == values.output.shape, "targets are (n, C), as the outputs")
    return (values.output + Ball.exact(-np.asarray(y, dtype=np.float64))).norm()


def existence(had: Mapping[str, float], *, descent: bool) -> list[Line]:
    """The inequalities between the claimed bounds alone, in rational arithmetic."""
    names = ("residual", "sigma", "lipschitz", "radius", *(("largest", "step") if descent else ()))
    result = [positive({name: had[name] for name in names})]
    if not result[0].holds:
        return result
    bounds = {name: Fraction(had[name]) for name in names}
    residual, sigma, lipschitz, radius = (bounds[name] for name in names[:4])
    share = Fraction(1)
    if descent:
        share = _share(bounds)
        result.append(rational("share", "a step lowers the residual", Fraction(0), "<", share))
    result.append(rational("ball", "the Jacobian keeps its rank on the ball", lipschitz * radius, "<", sigma))
    path = share * (sigma * radius - lipschitz * radius**2 / 2)
    result.append(rational("path", "the path to the minimum is shorter than the radius", residual, "<", path))
    return result


def contraction(had: Mapping[str, float]) -> float:
    r"""$p$ with $\|r_k\| \le (1 - p)^k R$ for a proved "descent", rounded down; 0 where nothing is proved."""
    if not all(np.isfinite(number) for number in had.values()):
        return 0.0
    bounds = {name: Fraction(number) for name, number in had.items()}
    gap = bounds["sigma"] - bounds["lipschitz"] * bounds["radius"]
    share = _share(bounds)
    if share <= 0 or gap <= 0:
        return 0.0
    return float(bounds["step"] * share * gap**2) * (1 - 2.0**-50)


def _share(bounds: Mapping[str, Fraction]) -> Fraction:
    """c of "descent"."""
    step, lipschitz = bounds["step"], bounds["lipschitz"]
    norm = bounds["largest"] + lipschitz * bounds["radius"]  # of J on the ball
    return 1 - step * norm**2 / 2 - lipschitz * step * bounds["residual"] / 2


def _separation(program: NetworkProgram, values: Values, y: np.ndarray, margin: float) -> list[Line]:
    output, classes = values.output, np.asarray(y).astype(np.int64)
    rows = np.arange(len(classes))
    low, high = output.middle - output.radius, output.middle + output.radius
    high = high.copy()
    own = low[rows, classes]
    high[rows, classes] = -np.inf
    gaps = own - high.max(1)
    gaps -= 2.0**-50 * (np.abs(own) + np.abs(high.max(1)))  # three roundings above
    result = [
        compared("classes", "there are at least two classes", 2.0, "<=", float(output.shape[1])),
        compared("margin", "each sample's own class is ahead by the margin", margin, "<=", float(gaps.min())),
        compared("positive", "the margin is positive", 0.0, "<", margin),
    ]
    return [*result, *_readout(program)]


def _readout(program: NetworkProgram) -> list[Line]:
    """That multiplying weights multiplies the outputs: the last step is affine, all of it trains and is used once."""
    step = program.steps[-1]
    names = [step.weight, *([step.bias] if step.bias else [])]
    used = [name for s in program.steps for name in (s.weight, s.bias) if name]
    alone = all(used.count(name) == 1 and name in program.trained for name in names)
    homogeneous = float(step.kind == "affine" and alone)
    return [
        compared(
            "readout", "the outputs are linear in weights that train and stand nowhere else", 1.0, "<=", homogeneous
        )
    ]
