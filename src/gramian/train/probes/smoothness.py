r"""Residual of the semi-smoothness inequality along the step that was taken.

For a step from $W$ to $W + W'$, what the first-order expansion leaves,
$F(W + W') - F(W) - \langle \nabla F(W), W' \rangle$, over a quadratic term. Allen-Zhu, Li and Song 2018
(arXiv:1811.03962, Theorem 4) bound the remainder by $O(n L^2 m / d)\, \|W'\|_2^2$ plus a first-order term that vanishes
with the width: pass that factor as `scale`. Without one, the quadratic term is that of the network's linearization at
    initialization, $\tfrac12 c \lambda_{\max}(J_0 J_0^\top) \|W'\|_F^2$, with c the loss's curvature.
"""

from __future__ import annotations

import math

from torch import Tensor

from gramian.train.largest_eigenvalue import largest_eigenvalue
from gramian.train.probes.distance import spectral_norm
from gramian.train.probes.probe import NotApplicable
from gramian.train.run import Run


class SemiSmoothness:
    """Remainder of the first-order expansion over the quadratic term; at most 1 where theory's smoothness holds.

    Args:
        scale: factor of ||W'||_2^2 (largest spectral norm over the layers), such as n L^2 m / d.
    """

    name, title, unit, cost = "semi_smoothness", "Semi-smoothness residual of the step taken", "", "gram"

    def __init__(self, scale: float | None = None) -> None:
        self.scale = scale

    def start(self, run: Run) -> None:
        self.step: int | None = None
        if self.scale is None:
            if run.objective.curvature is None:
                raise NotApplicable("the curvature of this loss is not known: give SemiSmoothness(scale=...)")
            largest = largest_eigenvalue(run.module, run.train.x, outputs=run.numbers_out)
            self.half = run.objective.curvature * largest / 2

    def before(self, run: Run) -> None:
        """Keep the point from which the step is taken."""
        self.step, self.loss, self.gradient = run.step, run.loss(), run.gradient()
        self.origin = {name: p.detach().clone() for name, p in run.parameters().items()}

    def measure(self, run: Run) -> float | None:
        if self.step is None or self.step + 1 != run.step:
            return None
        change = {name: p.detach() - self.origin[name] for name, p in run.parameters().items()}
        first = math.fsum(float((self.gradient[name].double() * w.double()).sum()) for name, w in change.items())
        quadratic = self._quadratic(change)
        if quadratic:
            return (run.loss() - self.loss - first) / quadratic
        return None

    def _quadratic(self, change: dict[str, Tensor]) -> float:
        if self.scale is None:
            return self.half * math.fsum(float(w.double().square().sum()) for w in change.values())
        return self.scale * max(_operator_norm(w) for w in change.values()) ** 2


def _operator_norm(w: Tensor) -> float:
    if w.ndim >= 2:
        return spectral_norm(w)
    return float(w.norm())
