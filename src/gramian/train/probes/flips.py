"""Share of activation signs that differ from those at initialization, at each activation of the network.

Allen-Zhu, Li and Song 2018 (arXiv:1811.03962, Lemma 5.2) bound the number of flips in a layer by O(m omega^(2/3) L)
when the weights
moved by at most omega: few flips are why a wide network stays near its linearization.
"""

from __future__ import annotations

from torch import Tensor

from gramian.train.activation_sites import visit_activations
from gramian.train.probes.probe import NotApplicable
from gramian.train.run import Run


class SignFlips:
    """Share of (sample, unit) pairs whose pre-activation changed sign, on at most `gram_rows` training samples."""

    name, title, unit, cost = "sign_flips", "Activation signs flipped since initialization", "share", "cheap"

    def start(self, run: Run) -> None:
        self.initial = self._signs(run)
        if not self.initial:
            raise NotApplicable("no elementwise activation was seen")

    def measure(self, run: Run) -> dict[str, float]:
        now = self._signs(run)
        return {label: float((now[label] != signs).double().mean()) for label, signs in self.initial.items()}

    @staticmethod
    def _signs(run: Run) -> dict[str, Tensor]:
        signs: dict[str, Tensor] = {}

        def see(label: str, before: Tensor, after: Tensor) -> None:
            signs[label] = before >= 0

        visit_activations(run.module, run.x_rows, see)
        return signs
