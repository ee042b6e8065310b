"""What probes see of a watched loop: as of a training run, for any loss and for outputs of any number."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gramian.empirical import empirical_ntk
from gramian.empirical.modules.arguments import Samples as Rows
from gramian.monitor.watched_module import OutputColumns
from gramian.train.forward import outputs_of, passes
from gramian.train.objective import Objective, Samples
from gramian.train.run import Run


class WatchedRun(Run):
    """A `Run` whose loss is one number of all watched rows: it may couple them, weight them, or leave some out.

    Args:
        test_module: the module that takes the test rows, where their structure is another.
        numbers_out: numbers of a sample on its way out, where they are more than its inputs.
        columns: outputs over which kernels are averaged; None for all of them.
    """

    def __init__(
        self,
        module: nn.Module,
        train: Samples,
        test: Samples | None,
        objective: Objective,
        rows: Tensor,
        *,
        test_module: nn.Module | None = None,
        columns: Tensor | None = None,
        numbers_out: int = 0,
    ) -> None:
        super().__init__(module, train, test, objective, rows)
        self.numbers_out = numbers_out
        self._test_module = module if test_module is None else test_module
        if columns is None:
            self._for_kernels = module
        else:
            self._for_kernels = OutputColumns(module, columns)

    def test_outputs(self) -> Tensor:
        """Outputs on all test samples; shape (m, C)."""
        assert self.test is not None
        x, module = self.test.x, self._test_module

        def compute() -> Tensor:
            with torch.no_grad():
                return torch.cat([outputs_of(module, part) for part in passes(module, x, self.numbers_out)])

        return self._once("test outputs", compute)

    def slope(self) -> Tensor:
        """Gradient of the loss, summed over samples, in the outputs: the residual, for any loss; shape (n, C)."""
        return self._once("slope", lambda: self._slope(self.train_outputs(), self.train.targets))

    def _slope(self, f: Tensor, targets: Tensor) -> Tensor:
        with torch.enable_grad():
            f = f.detach().requires_grad_()
            (slope,) = torch.autograd.grad(self.objective(f, targets), f, materialize_grads=True)
        return slope.detach()

    def gradient_of(self, x: Rows, targets: Tensor) -> dict[str, Tensor]:
        """Gradient of the loss of some samples, by name: back from its slope in the outputs, in parts."""
        parameters = self.parameters()
        whole = targets is self.train.targets
        if whole:
            slope = self.slope()
        else:
            slope = self._slope(self.outputs(x), targets)
        total = {name: torch.zeros_like(p) for name, p in parameters.items()}
        parts = passes(self.module, x, self.numbers_out)
        with torch.enable_grad():
            for part, pull in zip(parts, slope.split([len(part) for part in parts]), strict=True):
                out = outputs_of(self.module, part)
                if not out.requires_grad:
                    continue
                gradients = torch.autograd.grad(out, list(parameters.values()), pull.to(out.dtype), allow_unused=True)
                for name, g in zip(total, gradients, strict=True):
                    total[name] += 0 if g is None else g
        return total

    def kernel(self, rows: Tensor) -> Tensor:
        """NTK of the network as it stands on some rows, averaged over the outputs looked at; float64."""
        if torch.equal(rows, self.rows):
            return self.gram()
        return empirical_ntk(self._for_kernels, self.train.x[rows]).double()

    def gram(self) -> Tensor:
        """The same on `rows`; shape (r, r)."""
        return self._once("gram", lambda: empirical_ntk(self._for_kernels, self.x_rows).double(), shared=True)
