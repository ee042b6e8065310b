"""The numbers of one data set, one network and one run that theorems ask for."""

from __future__ import annotations

import math
from dataclasses import dataclass

from gramian.train import Trace


@dataclass(frozen=True)
class Evidence:
    r"""Everything a theorem may look at. None: not measured, or not known.

    Lengths and rates are in the run's own units; `unit` and `stretch` turn them into those of Allen-Zhu, Li and Song.

    Args:
        n: training samples.
        in_features: numbers in an input.
        n_outputs: outputs, the d of Allen-Zhu et al.
        separation: smallest distance of two inputs scaled to norm one.
        norm_error: largest deviation of an input's norm from what the paper asks for, relative.
        label_norm: largest norm of a target row.
        family: "fully connected", "convolutional", "residual" or "other".
        depth: hidden layers, L.
        width: units or channels of the narrowest hidden layer, m.
        pixels: positions of a hidden layer, 1 for vectors.
        window: positions in a filter's window, 1 for vectors.
        activations: names of the activation functions.
        smooth: whether all of them are smooth.
        biases: whether a trained bias enters.
        trained: "all", "hidden" (all but the first and the last layer) or "some".
        initialization: the parametrization and law, in words.
        paper_initialization: whether these are the ones of Allen-Zhu et al.
        lambda_min: smallest eigenvalue of the limit NTK on the training inputs.
        lambda_max: largest one.
        lambda_last: smallest eigenvalue of the limit Gram matrix of the last hidden layer alone.
        gram_rows: training samples on which the network's own Gram matrix was computed.
        gram_error: relative Frobenius distance of that matrix at initialization from its limit.
        gram_gap: the same in spectral norm, absolute.
        unit: what squared gradients and eigenvalues times this are in the units of Allen-Zhu et al.
        stretch: what distances from initialization times this are there.
        loss: name of the loss.
        optimizer: name of the optimizer.
        batch_size: samples in a step.
        lr: learning rate.
        accuracy: the share of the initial loss that was asked for.
        accuracy_steps: first measured step with at most that loss; None if there is none.
        predicted_error: largest relative error of the predicted loss, until it had fallen to `accuracy`.
        test_gap: root mean square difference of the outputs on test rows from those of the kernel prediction, over
            the root mean square of these.
        trace: the run.
        own_error: as `predicted_error`, for the loss predicted from the network's own Gram matrix at initialization.
    """

    n: int
    in_features: int
    n_outputs: int
    separation: float
    norm_error: float
    label_norm: float
    family: str
    depth: int
    width: int
    pixels: int
    window: int
    activations: tuple[str, ...]
    smooth: bool
    biases: bool
    trained: str
    initialization: str
    paper_initialization: bool
    lambda_min: float | None
    lambda_max: float | None
    lambda_last: float | None
    gram_rows: int
    gram_error: float | None
    gram_gap: float | None
    unit: float
    stretch: float
    loss: str
    optimizer: str
    batch_size: int
    lr: float
    accuracy: float
    accuracy_steps: int | None
    predicted_error: float | None
    test_gap: float | None
    trace: Trace
    own_error: float | None = None

    @property
    def losses(self) -> tuple[list[int], list[float]]:
        """Steps and full training losses at them."""
        series = self.trace.measured.get("loss")
        if series is None:
            return self.trace.steps, self.trace.losses
        return series.steps, [v for v in series.values if isinstance(v, float)]

    def extreme(self, name: str, pick=max) -> float | None:
        """Largest (or smallest) value of a probe over the run and its labels; None if not measured."""
        series = self.trace.measured.get(name)
        if series is None or not series.values:
            return None
        values = [v for value in series.values for v in (value.values() if isinstance(value, dict) else [value])]
        values = [v for v in values if v is not None and math.isfinite(v)]
        return float(pick(values)) if values else None

    def contracts(self, per_step: float) -> float | None:
        """Largest ratio of the loss to `(1 - per_step)^t` times the initial loss: at most 1 if it contracts so.

        None where there is no step to look at, or the bound is no share.
        """
        steps, losses = self.losses
        if self.trace.diverged:
            return math.inf
        if len(losses) < 2 or not losses[0] > 0 or not 0 <= per_step <= 1:
            return None
        logs = [math.log(max(l, 1e-300) / losses[0]) - t * math.log1p(-min(per_step, 1 - 1e-12)) for t, l in
                zip(steps, losses, strict=True)]  # fmt: skip
        return math.exp(min(max(logs), 700.0))
