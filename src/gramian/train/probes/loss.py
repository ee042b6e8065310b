"""Loss on the training samples and on the test samples."""

from __future__ import annotations

from gramian.train.probes.probe import NotApplicable
from gramian.train.run import Run


class TrainLoss:
    """Loss summed over all training samples, in eval mode."""

    name, title, unit, cost = "loss", "Training loss", "", "cheap"

    def start(self, run: Run) -> None:
        pass

    def measure(self, run: Run) -> float:
        return run.loss()


class TestLoss:
    """Loss summed over all test samples, in eval mode."""

    __test__ = False  # not pytest's
    name, title, unit, cost = "test_loss", "Test loss", "", "cheap"

    def start(self, run: Run) -> None:
        if run.test is None:
            raise NotApplicable("no test samples")

    def measure(self, run: Run) -> float:
        assert run.test is not None
        return float(run.objective(run.test_outputs(), run.test.targets))
