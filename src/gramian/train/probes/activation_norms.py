"""How inputs travel through the layers: norms at initialization, and whether samples stay apart.

Allen-Zhu, Li and Song 2018 (arXiv:1811.03962): with their initialization every ||h_i|| is 1 up to a few sqrt(L/m), and
samples that are delta apart stay delta/2 apart at every layer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from gramian.train.activation_sites import visit_activations
from gramian.train.probes.probe import NotApplicable, Reading
from gramian.train.run import Run


class ForwardNorms:
    """||h_i|| after each activation at initialization: mean over samples, with the smallest and the largest."""

    name, title, unit, cost = "forward_norms", "Norm of the activations at initialization", "", "cheap"

    def start(self, run: Run) -> None:
        self.norms = _at_activations(run, lambda h: h.norm(dim=1))
        if not self.norms:
            raise NotApplicable("no elementwise activation was seen")

    def measure(self, run: Run) -> Reading | None:
        if run.step:
            return None
        mean, low, high = ({k: float(f(v)) for k, v in self.norms.items()} for f in (torch.mean, torch.min, torch.max))
        return Reading(mean, low, high)


class Separability:
    """Smallest distance between two samples' activations, each scaled to norm 1, after each activation."""

    name, title, unit, cost = "separability", "Smallest distance between normalized activations", "", "cheap"

    def start(self, run: Run) -> None:
        if len(run.rows) < 2:
            raise NotApplicable("one sample only")
        if not _at_activations(run, len):
            raise NotApplicable("no elementwise activation was seen")

    def measure(self, run: Run) -> dict[str, float]:
        return _at_activations(run, smallest_distance)


def smallest_distance(h: Tensor) -> float:
    """Smallest distance between rows of norm 1; the closest pair is found by angle, its distance taken directly.

    Example:
        >>> round(smallest_distance(torch.tensor([[2.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])) ** 2, 4)
        2.0
    """
    unit = h / h.norm(dim=1, keepdim=True).clamp_min(torch.finfo(h.dtype).tiny)
    # |u - v|^2 = 2 - 2 cos for unit rows: the closest pair has the largest cosine; but 1 - cos of a close pair has
    # lost its digits, so the distance is taken from the difference
    cosine = (unit @ unit.T).fill_diagonal_(-torch.inf)
    i, j = divmod(int(cosine.argmax()), len(h))
    return float((unit[i] - unit[j]).norm())


def _at_activations(run: Run, measure: Callable[[Tensor], Any]) -> dict[str, Any]:
    """`measure` of the activations, a row per sample, by label; one activation at a time, as they are large."""
    values: dict[str, Any] = {}

    def see(label: str, before: Tensor, after: Tensor) -> None:
        values[label] = measure(after.flatten(1))

    visit_activations(run.module, run.x_rows, see)
    return values
