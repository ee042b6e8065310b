r"""The step that was taken, against gradient descent on the linearized network: what convergence proofs ask of a run.

With u the outputs on all samples, r = u - y, H the Gram matrix $J J^\top$ over all samples and outputs and $\eta$ the
learning rate, a step is $u_{k+1} - u_k = -\eta H_k r_k + e_k$, which defines its remainder $e_k$: what the curvature of
the network adds (Du, Zhai, Poczos and Singh 2018, arXiv:1810.02054, bound it in their proof for descent).
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from torch import Tensor

from gramian.train.probes.probe import NotApplicable
from gramian.train.run import Run


class StepRemainder:
    """Each step's remainder e_k and the Gram matrix H_k that it started from, on all samples and outputs.

    Measured after every step, not at chosen ones, from float64 numbers: the smallest and the largest eigenvalue of
    H_k, ||r_k||, ||e_k|| and ||r_{k+1}||.
    """

    name, title, unit, cost = "step_remainder", "What linearization leaves of a step", "", "step"

    def start(self, run: Run) -> None:
        if not run.asks_after_each_step:
            raise NotApplicable("only `train` measures after each step")
        if run.objective.name != "squared":
            raise NotApplicable("the recursion of the residual is that of the squared loss")
        if len(run.full_rows) < len(run.train):
            raise NotApplicable(f"{len(run.train)} rows with {run.n_outputs} outputs are too many for every step")
        run.full_gram()  # kept for the first step; refuses modules that have none

    def before(self, run: Run) -> None:
        """Keep the outputs, residual and Gram matrix from which the step is taken."""
        self.step = run.step
        self.outputs = run.train_outputs().double()
        self.residual = self.outputs - run.train.targets.double()
        self.gram, self.eigenvalues = run.full_gram(), run.full_eigenvalues()

    def measure(self, run: Run) -> dict[str, float] | None:
        if getattr(self, "step", None) != run.step - 1:
            return None
        outputs = run.train_outputs().double()
        # e_k is defined by this very H_k and r_k, so rounding in them is in e_k, and the recursion holds exactly
        linear = self.gram @ self.residual.flatten()
        remainder = (outputs - self.outputs).flatten() + run.lr * linear
        values = {
            "smallest eigenvalue": float(self.eigenvalues[0]),
            "largest eigenvalue": float(self.eigenvalues[-1]),
            "residual": float(self.residual.norm()),
            "remainder": float(remainder.norm()),
            "next residual": float((outputs - run.train.targets.double()).norm()),
        }
        if all(math.isfinite(v) for v in values.values()):
            return values
        return None


class UpdateError:
    """How far the step was from plain gradient descent: ||W_{k+1} - W_k + lr grad F(W_k)|| / ||lr grad F(W_k)||.

    Zero up to rounding for full batches without momentum, weight decay or noise. In float32 a step may be lost in the
    rounding of the weights; then it is not small.
    """

    name, title, unit, cost = "update_error", "Distance of the step from gradient descent", "share", "cheap"

    def start(self, run: Run) -> None:
        self.step: int | None = None

    def before(self, run: Run) -> None:
        """Keep the point and the gradient from which the step is taken."""
        self.step, self.gradient = run.step, run.gradient()
        self.origin = {name: p.detach().clone() for name, p in run.parameters().items()}

    def measure(self, run: Run) -> float | None:
        if self.step is None or self.step + 1 != run.step:
            return None
        wanted = {name: run.lr * g.double() for name, g in self.gradient.items()}
        size = _norm(wanted.values())
        off = _norm(p.detach().double() - self.origin[n].double() + wanted[n] for n, p in run.parameters().items())
        if size > 0 and math.isfinite(off):
            return off / size
        return None


def _norm(parts: Iterable[Tensor]) -> float:
    return math.sqrt(math.fsum(float(part.square().sum()) for part in parts))


__all__ = ["StepRemainder", "UpdateError"]
