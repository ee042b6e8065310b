"""Smallest and largest eigenvalue of the Gram matrix of the network as it stands, on a subsample, mean over outputs."""

from __future__ import annotations

from gramian.train.run import Run


class GramMin:
    """Smallest eigenvalue of the current NTK on at most `gram_rows` training samples."""

    name, title, unit, cost = "gram_min", "Smallest eigenvalue of the Gram matrix", "", "gram"

    def start(self, run: Run) -> None:
        run.gram()  # kept for the first measurement; refuses modules that have none

    def measure(self, run: Run) -> float:
        return float(run.gram_eigenvalues()[0])


class GramMax:
    """Largest eigenvalue of the current NTK on at most `gram_rows` training samples."""

    name, title, unit, cost = "gram_max", "Largest eigenvalue of the Gram matrix", "", "gram"

    def start(self, run: Run) -> None:
        run.gram()  # kept for the first measurement; refuses modules that have none

    def measure(self, run: Run) -> float:
        return float(run.gram_eigenvalues()[-1])
