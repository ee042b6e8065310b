r"""How the NTK moves: its drift, its turn, and its alignment with the targets.

The drift is $\|K_t - K_0\|_F / \|K_0\|_F$, the cosine $\langle K_t, K_0\rangle / (\|K_t\|_F \|K_0\|_F)$, the
alignment $\langle K, YY^\top\rangle / (\|K\|_F \|YY^\top\|_F)$.

In the lazy regime the drift stays near zero (Jacot et al. 2018, arXiv:1806.07572); a network that learns features
drifts, and its kernel aligns with the targets (Cristianini et al. 2001, "On kernel-target alignment"). The cosine tells
a kernel that turns from one that only grows (Fort et al. 2020, arXiv:2010.15110, take one minus it as a distance).
"""

from __future__ import annotations

from gramian.train.probes.probe import NotApplicable
from gramian.train.run import Run


class KernelDrift:
    """Relative distance of the current NTK from that at initialization."""

    name, title, unit, cost = "kernel_drift", "Drift of the NTK since initialization", "share", "gram"

    def start(self, run: Run) -> None:
        self.initial = run.gram()
        if not float(self.initial.norm()) > 0:
            raise NotApplicable("the NTK at initialization is zero")

    def measure(self, run: Run) -> float:
        return float((run.gram() - self.initial).norm() / self.initial.norm())


class KernelCosine:
    """Cosine between the current NTK and that at initialization: 1 where it has only grown (Fort et al. 2020)."""

    name, title, unit, cost = "kernel_cosine", "Cosine of the NTK with that at initialization", "", "gram"

    def start(self, run: Run) -> None:
        self.initial = run.gram()

    def measure(self, run: Run) -> float | None:
        size = float(run.gram().norm() * self.initial.norm())
        if size:
            return float((run.gram() * self.initial).sum()) / size
        return None


class KernelAlignment:
    """Cosine between the current NTK and Y Y^T, the targets' kernel; class numbers count as centered one-hot rows."""

    name, title, unit, cost = "kernel_alignment", "Alignment of the NTK with the targets", "", "gram"

    def start(self, run: Run) -> None:
        y = run.train.matrix[run.rows].double()
        self.target = y @ y.T
        if not float(self.target.norm()) > 0:
            raise NotApplicable("all targets are zero")
        run.gram()  # kept for the first measurement; refuses modules that have none

    def measure(self, run: Run) -> float | None:
        size = float(run.gram().norm() * self.target.norm())
        if size:
            return float((run.gram() * self.target).sum()) / size
        return None


class KernelEntryDrift:
    """Largest |K_t - K_0|(x, x') / sqrt(K_0(x, x) K_0(x', x')), the distance of Allen-Zhu et al., Theorem 5 (c)."""

    name, title, unit, cost = "kernel_entry_drift", "Largest drift of an entry of the NTK", "share", "gram"

    def start(self, run: Run) -> None:
        self.initial = run.gram()
        diagonal = self.initial.diagonal().clamp_min(0).sqrt()
        # by Cauchy-Schwarz no entry of K_0 is larger
        self.scale = diagonal[:, None] * diagonal
        if not float(self.scale.min()) > 0:
            raise NotApplicable("the gradient of a sample is zero at initialization")

    def measure(self, run: Run) -> float:
        return float(((run.gram() - self.initial).abs() / self.scale).max())
