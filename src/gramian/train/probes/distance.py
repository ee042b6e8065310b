"""How far each layer moved from its initialization: Frobenius, relative, and spectral norm of W_t - W_0."""

from __future__ import annotations

import torch
from torch import Tensor

from gramian.train.probes.probe import NotApplicable
from gramian.train.run import Run


def spectral_norm(matrix: Tensor, *, tolerance: float = 1e-5, iterations: int = 200) -> float:
    """Largest singular value by power iteration; a convolution's weight counts as (out, in * window).

    An SVD of a 1024 x 1024 layer costs more than the training step. The result is never above the true value; it ends
    at a relative change of `tolerance`.

    Example:
        >>> round(spectral_norm(torch.diag(torch.tensor([3.0, 1.0]))), 4)
        3.0
    """
    w = matrix.detach().double().flatten(1)
    generator = torch.Generator().manual_seed(0)  # ours, so that a run's own random numbers stay as they are
    v = torch.randn(w.shape[1], generator=generator, dtype=w.dtype).to(w.device)
    value = 0.0
    for _ in range(iterations):
        # ||W v|| for a unit v is at most the norm, and W^T W turns v to the largest singular vector
        u = w @ (v / v.norm())
        last, value = value, float(u.norm())
        if value == 0 or abs(value - last) <= tolerance * value:
            break
        v = w.T @ u
    return value


class Distance:
    """||W_t - W_0||_F of each trainable parameter."""

    name, title, unit, cost = "distance", "Distance from initialization", "", "cheap"

    def start(self, run: Run) -> None:
        pass

    def measure(self, run: Run) -> dict[str, float]:
        return {name: float(w.norm()) for name, w in run.moved().items()}


class RelativeDistance:
    """||W_t - W_0||_F / ||W_0||_F of each trainable parameter that does not start at zero."""

    name, title, unit, cost = "relative_distance", "Distance from initialization over initial norm", "share", "cheap"

    def start(self, run: Run) -> None:
        self.size = {name: float(w.norm()) for name, w in run.initial.items() if float(w.norm()) > 0}
        if not self.size:
            raise NotApplicable("all trainable parameters start at zero")

    def measure(self, run: Run) -> dict[str, float]:
        moved = run.moved()
        return {name: float(moved[name].norm()) / size for name, size in self.size.items()}


class SpectralDistance:
    """Largest singular value of W_t - W_0 for each trainable weight of two or more dimensions."""

    name, title, unit, cost = "spectral_distance", "Spectral distance from initialization", "", "cheap"

    def start(self, run: Run) -> None:
        self.names = [name for name, w in run.initial.items() if w.ndim >= 2]
        if not self.names:
            raise NotApplicable("no trainable parameter is a matrix")

    def measure(self, run: Run) -> dict[str, float]:
        moved = run.moved()
        return {name: spectral_norm(moved[name]) for name in self.names}
