r"""The bounds that "minimum" and "descent" claim: found here, judged by the checker.

A claim leaves room for another machine's rounding: the residual, which is nothing but rounding after polishing, by a
factor; the others by a hundredth.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from scipy import linalg
from scipy.sparse.linalg import ArpackError, LinearOperator, eigsh

from gramian.checker import Checked
from gramian.checker.certificate_file import Content
from gramian.checker.eigenvalues import hidden_by_rounding, largest_provable, smallest_provable
from gramian.checker.growth import bounded
from gramian.checker.program import JacobianGram, NetworkProgram, Values, jacobian_gram
from gramian.checker.sentences import assumptions, rounded_up, sentence
from gramian.checker.statements import contraction, evaluated, local_lines, residual_norm
from gramian.prove.problem import Problem
from gramian.prove.proof import Proof, proof, rank_in_doubt

RESIDUAL_ROOM, OTHER_ROOM = 4.0, 1.01
DENSE_EIGENVALUES = 1_500  # rows up to which all eigenvalues are computed
TOO_FAR = (
    "polishing (polished=True), more training, or a wider network: no bound of the Jacobian's change is known on a "
    "ball as large as the residual asks for"
)
FIXES = {
    "residual": "outputs that are finite numbers",
    "sizes": "a wider network, or fewer rows that lie further apart: the smallest singular value is lost in rounding",
    "sigma": "a wider network, or fewer rows that lie further apart: the smallest singular value is lost in rounding",
    "lipschitz": "an activation whose derivatives are bounded on the ball",
    "ball": "polishing (polished=True), more training, or a wider network",
    "pattern": "a smooth activation (GELU, softplus), or weights a little elsewhere: an argument is 0",
    "largest": "a smaller learning rate",
    "share": "a smaller learning rate",
    "path": "polishing (polished=True), more training, or a wider network",
}


def prove_minimum(problem: Problem, program: NetworkProgram, numbers: Mapping[str, float], began: float) -> Proof:
    """See `gramian.prove`."""
    values, gram, had = _bounds(problem, program)
    if had["sigma"] == 0:
        return rank_in_doubt("minimum", numbers, had["eigenvalue"], hidden_by_rounding(gram))
    had["radius"] = 2 * had["residual"] / had["sigma"]
    for _ in range(2):  # the second time on the smaller ball that the first one shows to be enough
        had["lipschitz"] = OTHER_ROOM * bounded(program, values, had["radius"]).lipschitz
        had["radius"] = min(_root(had, 1.0), had["radius"])
    says = sentence("minimum", had, len(problem.x))
    summary = f"{says[:-1]}{_from_yours(numbers, had['radius'])}."
    return _judged("minimum", "An exact global minimum exists here", says, summary, problem, program, values, gram,
                   had, numbers, began)  # fmt: skip


def prove_descent(
    problem: Problem, program: NetworkProgram, numbers: Mapping[str, float], began: float, lr: float | None
) -> Proof:
    """See `gramian.prove`."""
    values, gram, had = _bounds(problem, program)
    if had["sigma"] == 0:
        return rank_in_doubt("descent", numbers, had["eigenvalue"], hidden_by_rounding(gram))
    had["largest"] = OTHER_ROOM * largest_provable(gram, _extreme(gram.matrix)[1])
    had["step"] = lr or 1 / had["largest"] ** 2
    had["radius"] = 2 * had["residual"] / had["sigma"]
    for _ in range(8):
        had["lipschitz"] = OTHER_ROOM * bounded(program, values, had["radius"]).lipschitz
        norm = had["largest"] + had["lipschitz"] * had["radius"]
        share = 1 - had["step"] * norm**2 / 2 - had["lipschitz"] * had["step"] * had["residual"] / 2
        wanted = _root(had, share)
        if wanted <= had["radius"]:
            had["radius"] = max(wanted, 0.5 * had["radius"])
            break
        had["radius"] = min(1.5 * wanted, 4 * had["radius"])
    had["lipschitz"] = OTHER_ROOM * bounded(program, values, had["radius"]).lipschitz
    rate = contraction(had)
    says = sentence("descent", had, len(problem.x))
    return _judged("descent", "Gradient descent from here reaches an exact global minimum", says, says, problem,
                   program, values, gram, had, {**numbers, "contraction": rate}, began)  # fmt: skip


def _bounds(problem: Problem, program: NetworkProgram) -> tuple[Values, JacobianGram, dict[str, float]]:
    values = evaluated(program, problem.arrays[0])
    residual = residual_norm(values, problem.y.numpy())
    gram = jacobian_gram(program, values)
    eigenvalue = _extreme(gram.matrix)[0]
    sigma = smallest_provable(gram, eigenvalue) / OTHER_ROOM
    return values, gram, {"residual": RESIDUAL_ROOM * residual, "sigma": sigma, "eigenvalue": eigenvalue}


def _root(had: Mapping[str, float], share: float) -> float:
    r"""A little more than the smaller root of $c(\sigma\varrho - L\varrho^2/2) = R$; else 2 R / sigma."""
    residual, sigma, lipschitz = had["residual"], had["sigma"], had["lipschitz"]
    if share <= 0 or not math.isfinite(lipschitz):
        return 2 * residual / sigma
    h = 2 * lipschitz * residual / (share * sigma**2)
    if h >= 1:
        return 2 * residual / sigma
    return (1 + 1e-6) * 2 * residual / (share * sigma * (1 + math.sqrt(1 - h)))


def _extreme(matrix: np.ndarray) -> tuple[float, float]:
    """About the smallest and largest eigenvalue; what is claimed of them is proved by factorizations afterwards."""
    if not np.isfinite(matrix).all():
        return 0.0, math.inf
    if len(matrix) <= DENSE_EIGENVALUES:
        eigenvalues = np.linalg.eigvalsh(matrix)
        return float(eigenvalues[0]), float(eigenvalues[-1])
    largest = float(eigsh(matrix, 1, which="LA", return_eigenvectors=False, tol=1e-4)[0])
    try:
        factor = linalg.cho_factor(matrix, lower=True, check_finite=False)
        inverse = LinearOperator(matrix.shape, lambda v: linalg.cho_solve(factor, v, check_finite=False))
        smallest = 1 / float(eigsh(inverse, 1, which="LA", return_eigenvectors=False, tol=1e-4)[0])
    except (linalg.LinAlgError, ArpackError):
        return 0.0, largest
    return (1 - 1e-3) * smallest, (1 + 1e-3) * largest


def _from_yours(numbers: Mapping[str, float], radius: float) -> str:
    if numbers.get("moved"):
        moved = numbers["moved"] * (1 + 1e-12)  # it was computed in floating point
        return f", which are {rounded_up(moved)} from yours (in all {rounded_up(moved + radius, 3)})"
    return ", which are yours"


def _judged(
    statement: str, title: str, says: str, summary: str, problem: Problem, program: NetworkProgram, values: Values,
    gram: JacobianGram, had: Mapping[str, float], numbers: Mapping[str, float], began: float,
) -> Proof:  # fmt: skip
    x, y = problem.arrays
    had = {name: bound for name, bound in had.items() if name != "eigenvalue"}
    lines = local_lines(statement, program, values, gram, y, had)
    content = Content(statement, says, (*assumptions(statement), *problem.assumes), had, program, x, y)
    checked = Checked(statement, says, content.assumes, tuple(lines))
    every = {**numbers, **had, "h": 2 * had["lipschitz"] * had["residual"] / had["sigma"] ** 2}
    every["seconds"] = time.perf_counter() - began
    fixes = FIXES
    if not math.isfinite(had["lipschitz"]):
        fixes = {**FIXES, "sizes": TOO_FAR}
    result = proof(statement, title, content, checked, every, fixes)
    if checked.valid:
        return replace(result, summary=summary)
    return result
