"""Share of samples classified correctly: largest output, or the sign of a single one. The error is 1 minus it."""

from __future__ import annotations

from gramian.train.probes.probe import NotApplicable
from gramian.train.run import Run


class TrainAccuracy:
    """Share of the training samples that are classified correctly."""

    name, title, unit, cost = "train_accuracy", "Training accuracy", "share", "cheap"

    def start(self, run: Run) -> None:
        if run.train.labels is None:
            raise NotApplicable("y are real numbers, not classes")

    def measure(self, run: Run) -> float:
        return float(run.train.correct(run.train_outputs()).double().mean())


class TestAccuracy:
    """Share of the test samples that are classified correctly."""

    __test__ = False  # not pytest's
    name, title, unit, cost = "test_accuracy", "Test accuracy", "share", "cheap"

    def start(self, run: Run) -> None:
        if run.test is None or run.test.labels is None:
            raise NotApplicable("no test samples with classes")

    def measure(self, run: Run) -> float:
        assert run.test is not None
        return float(run.test.correct(run.test_outputs()).double().mean())
