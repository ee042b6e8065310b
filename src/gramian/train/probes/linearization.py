r"""Gap to the linearized network: $\|f_t - f_{lin}\| / \|f_t\|$ with $f_{lin} = f_0 + J_0 (W_t - W_0)$.

Both are taken at the same weights, those that training reached (Lee et al. 2019, arXiv:1902.06720, compare two runs
instead).
"""

from __future__ import annotations

import torch

from gramian.empirical.jacobian_products.pushforward import along
from gramian.train.forward import batch_statistics
from gramian.train.run import Run


class LinearizationGap:
    """Relative distance of the outputs from the linearization's, on at most `gram_rows` training samples."""

    name, title, unit, cost = "linearization_gap", "Gap to the linearized network", "share", "gram"

    def start(self, run: Run) -> None:
        pass

    def measure(self, run: Run) -> float | None:
        # with the statistics of the batch the outputs are a function of the weights alone, at the start and now
        with torch.no_grad(), batch_statistics(run.module):
            f0, change = along(run.module, run.initial, run.moved(), run.x_rows)
            f = run.outputs(run.x_rows)
        size = float(f.norm())
        if size:
            return float((f - (f0 + change).reshape(f.shape)).norm()) / size
        return None
