"""The numbers of one data set, one network and one run that theorems ask for."""

from __future__ import annotations

import math
from dataclasses import dataclass

from gramian.train import Trace


@dataclass(frozen=True)
class Evidence:
    r"""Everything a theorem may look at. None: not measured, or not known; then no premise that asks for it holds.

    Lengths and rates are in the run's own units; `unit` and `stretch` turn them into those of Allen-Zhu, Li and Song.
    Inputs are meant as the network takes them, after whatever scaling and padding.

    Args:
        n: training samples.
        in_features: numbers in an input.
        n_outputs: outputs, the d of Allen-Zhu et al.
        separation: smallest distance of two inputs, each scaled to norm one; infinite for one input.
        norm_error: largest deviation of an input's norm from what the paper asks for, relative.
        label_norm: largest norm of a target row, as it was given or as it was trained on, whichever is larger.
        family: "fully connected", "convolutional", "residual" or "other".
        depth: hidden layers, L.
        width: units or channels of the narrowest hidden layer, m.
        pixels: positions of a hidden layer, 1 for vectors.
        window: positions in a filter's window, 1 for vectors.
        activations: names of the activation functions.
        analytic: whether all of them are analytic, not polynomial, Lipschitz and with a Lipschitz derivative.
        biases: whether the network has biases.
        trained: "all", "hidden" (all but the first and the last layer), "first" or "some".
        initialization: the parametrization and law, in words.
        paper_initialization: whether these are the ones of Allen-Zhu et al.
        lambda_min: smallest eigenvalue of the limit NTK on the training inputs.
        lambda_max: largest one.
        lambda_last: smallest eigenvalue of the limit Gram matrix of the last hidden layer alone.
        gram_rows: training samples on which the network's own Gram matrix was computed.
        gram_error: relative Frobenius distance of that matrix at initialization from its limit.
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
        last_coordinate_error: largest deviation of an input's last coordinate from 1 / sqrt 2.
        form: "chain" (linear layers and activations in turn, nothing else), "residual" (the residual network of Du et
            al. 2019), "convolutional residual" (theirs) or "other".
        scaling_error: largest relative deviation of a layer's factor from that in Du et al. 2019.
        gaussian: whether all weights were drawn independently from N(0, 1), with all factors outside of them.
        sign_readout: whether the last layer's weights are 1 or -1 over root m.
        independent_batches: whether each minibatch is drawn anew from all samples.
        lambda_two_layer: smallest eigenvalue of the limit Gram matrix of a two-layer ReLU network's first layer.
        predictor_gap: as `test_gap`, from the outputs of the kernel predictor, which is where training ends.
        resolution: of the norm of the residual: what rounding alone may change, in the run's precision.
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
    analytic: bool | None
    biases: bool
    trained: str
    initialization: str
    paper_initialization: bool
    lambda_min: float | None
    lambda_max: float | None
    lambda_last: float | None
    gram_rows: int
    gram_error: float | None
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
    last_coordinate_error: float | None = None
    form: str = "other"
    scaling_error: float | None = None
    gaussian: bool | None = None
    sign_readout: bool | None = None
    independent_batches: bool | None = None
    lambda_two_layer: float | None = None
    predictor_gap: float | None = None
    resolution: float = 0.0

    @property
    def descends(self) -> bool:
        """Whether each step was plain gradient descent on all samples: no minibatches, momentum or decay."""
        return self.optimizer == "gd" or (self.optimizer == "sgd" and self.batch_size >= self.n)

    @property
    def losses(self) -> tuple[list[int], list[float]]:
        """Steps and full training losses at them."""
        series = self.trace.measured.get("loss")
        if series is None:
            return self.trace.steps, self.trace.losses
        return series.steps, [v for v in series.values if isinstance(v, float)]

    @property
    def steps_taken(self) -> int:
        """How often the weights moved; a run that diverged has no loss measured at its last step."""
        last_ones = [*self.trace.steps[-1:], *self.losses[0][-1:]]
        return max(last_ones, default=0)

    def extreme(self, name: str, pick=max) -> float | None:
        """Largest (or smallest) value of a probe over the run and its labels; None if not measured."""
        series = self.trace.measured.get(name)
        if series is None or not series.values:
            return None
        values = [v for value in series.values for v in (value.values() if isinstance(value, dict) else [value])]
        values = [v for v in values if v is not None and math.isfinite(v)]
        if values:
            return float(pick(values))
        return None

    def series(self, name: str, label: str) -> list[float]:
        """The numbers of one label of a probe over the run; empty if it was not measured."""
        series = self.trace.measured.get(name)
        if series is None:
            return []
        return [float(value[label]) for value in series.values if isinstance(value, dict)]

    def total(self, name: str) -> float | None:
        """Largest root of the sum of squares over a probe's labels: the norm of all layers together."""
        series = self.trace.measured.get(name)
        if series is None or not series.values:
            return None
        return max(math.sqrt(math.fsum(v * v for v in value.values())) for value in series.values
                   if isinstance(value, dict))  # fmt: skip

    def contracts(self, per_step: float) -> float | None:
        """Largest ratio of the loss to `(1 - per_step)^t` times the initial loss: at most 1 if it contracts so.

        Rounding may add `resolution` to the norm of the residual, so that much of it is not counted. None where there
        is no step to look at, or the bound is no share.
        """
        steps, losses = self.losses
        if self.trace.diverged:
            return math.inf
        if len(losses) < 2 or not losses[0] > 0 or not 0 <= per_step <= 1:
            return None
        worst = 0.0
        for t, loss in zip(steps, losses, strict=True):
            # the first loss is the one that all are compared with: rounding is allowed in the later ones
            if t > 0:
                rounding = self.resolution
            else:
                rounding = 0.0
            known = max(math.sqrt(2 * loss) - rounding, 0.0) ** 2 / 2
            # loss over bound by logarithms: (1 - c)^t of a long run is below the smallest float64
            log = math.log(max(known, 1e-300) / losses[0]) - t * math.log1p(-min(per_step, 1 - 1e-12))
            worst = max(worst, math.exp(min(log, 700.0)))
        return worst

    def contraction(self) -> float | None:
        """The largest share with F_t <= (1 - share)^t F_0 wherever measured; None if there is nothing to look at."""
        steps, losses = self.losses
        if self.trace.diverged or len(losses) < 2 or not losses[0] > 0:
            return None
        later = [(t, loss / losses[0]) for t, loss in zip(steps, losses, strict=True) if t > 0]
        # 1 - q^(1/t) through expm1, as q^(1/t) is next to one for slow runs
        if later:
            return min(-math.expm1(math.log(max(q, 1e-300)) / t) for t, q in later)
        return None
