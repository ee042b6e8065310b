"""What probes see of a run: the network now and at the start, its data, and what is dear to compute, once a step."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from gramian.empirical import empirical_ntk
from gramian.empirical.modules.arguments import Samples as Rows
from gramian.empirical.modules.arguments import in_parts
from gramian.timing import stopwatch
from gramian.train.forward import outputs_of, passes, rows_per_pass
from gramian.train.objective import Objective, Samples

MOST_FULL_GRAM_ROWS = 640  # largest number of rows times outputs whose whole Gram matrix is computed


def sum_over_parts(
    loss: Objective,
    module: nn.Module,
    x: Rows,
    targets: Tensor,
    outputs: Callable[[nn.Module, Rows], Tensor] = outputs_of,
) -> Iterator[Tensor]:
    """The losses of parts of the samples, one after another, each with its graph."""
    size = rows_per_pass(x)
    for part, target in zip(in_parts(x, size), targets.split(size), strict=True):
        yield loss(outputs(module, part), target)


class Run:
    """The network now and at initialization, its data and its loss.

    Attributes:
        module: the network, in eval mode while probes measure.
        train, test: `Samples`; test may be None.
        objective: the loss.
        step: number of steps taken.
        initial: parameters at initialization by name; trainable ones only.
        rows: row numbers of the training samples that expensive probes use; shape (r,).
        gram_is_due: whether Gram matrices may be computed at this step.
        lr: learning rate.
        asks_after_each_step: whether probes of cost "step" are asked: `train` does, a monitor of another loop does not.
        numbers_out: numbers of a sample on its way out, where they are more than its inputs: see `rows_per_pass`.
        shared_seconds: spent on Gram matrices, which several probes share.
    """

    def __init__(
        self, module: nn.Module, train: Samples, test: Samples | None, objective: Objective, rows: Tensor
    ) -> None:
        self.module, self.train, self.test, self.objective, self.rows = module, train, test, objective, rows
        self.lr, self.step, self.gram_is_due = 0.0, 0, False
        self.asks_after_each_step = False
        self.numbers_out = 0
        self.shared_seconds = 0.0
        self.initial = {name: p.detach().clone() for name, p in self.parameters().items()}
        self._known: dict[str, object] = {}

    def at(self, step: int) -> None:
        """The network has moved: it is now that of `step`."""
        self.step, self.gram_is_due = step, False
        self._known.clear()

    def parameters(self) -> dict[str, nn.Parameter]:
        """Trainable parameters by name."""
        return {name: p for name, p in self.module.named_parameters() if p.requires_grad}

    def moved(self) -> dict[str, Tensor]:
        """Parameters minus their initial values, by name."""
        return {name: p.detach() - self.initial[name] for name, p in self.parameters().items()}

    @property
    def n_outputs(self) -> int:
        return self.train.matrix.shape[1]

    @property
    def x_rows(self) -> Rows:
        """Inputs that expensive probes use, r samples."""
        return self.train.x[self.rows]

    @property
    def full_rows(self) -> Tensor:
        """Rows whose Gram matrix over all outputs is computed: as many of `rows` as `MOST_FULL_GRAM_ROWS` allows."""
        return self.rows[: max(MOST_FULL_GRAM_ROWS // self.n_outputs, 1)]

    def outputs(self, x: Rows) -> Tensor:
        """Outputs without a graph; shape (n, C)."""
        with torch.no_grad():
            return torch.cat([outputs_of(self.module, part) for part in passes(self.module, x, self.numbers_out)])

    def train_outputs(self) -> Tensor:
        """Outputs on all training samples; shape (n, C)."""
        return self._once("outputs", lambda: self.outputs(self.train.x))

    def test_outputs(self) -> Tensor:
        """Outputs on all test samples; shape (m, C)."""
        assert self.test is not None
        x = self.test.x
        return self._once("test outputs", lambda: self.outputs(x))

    def loss(self) -> float:
        """Loss over all training samples."""
        return self._once("loss", lambda: float(self.objective(self.train_outputs(), self.train.targets)))

    def gradient(self) -> dict[str, Tensor]:
        """Gradient of the loss over all training samples, by name."""
        return self._once("gradient", lambda: self.gradient_of(self.train.x, self.train.targets))

    def gradient_of(self, x: Rows, targets: Tensor) -> dict[str, Tensor]:
        """Gradient of the loss over some samples, by name."""
        parameters = self.parameters()
        total = {name: torch.zeros_like(p) for name, p in parameters.items()}
        with torch.enable_grad():
            for loss in sum_over_parts(self.objective, self.module, x, targets):
                parts = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
                for name, part in zip(total, parts, strict=True):
                    total[name] += 0 if part is None else part
        return total

    def gram(self) -> Tensor:
        """NTK of the network as it stands on `rows`, averaged over outputs; shape (r, r), float64."""
        return self._once("gram", lambda: empirical_ntk(self.module, self.x_rows).double(), shared=True)

    def gram_eigenvalues(self) -> Tensor:
        """Eigenvalues of `gram()`, ascending; shape (r,)."""
        k = self.gram()
        return self._once("gram eigenvalues", lambda: torch.linalg.eigvalsh(k), shared=True)

    def full_gram(self) -> Tensor:
        """J J^T on `full_rows` and all outputs, row after row; shape (r C, r C), float64."""
        return self._once("full gram", self._full_gram, shared=True)

    def full_eigenvalues(self) -> Tensor:
        """Eigenvalues of `full_gram()`, ascending; shape (r C,)."""
        k = self.full_gram()
        return self._once("full eigenvalues", lambda: torch.linalg.eigvalsh(k), shared=True)

    def _full_gram(self) -> Tensor:
        blocks = empirical_ntk(self.module, self.train.x[self.full_rows], outputs="full").double()  # (r, r, C, C)
        # (r, r, C, C) to (r, C, r, C): outputs of a sample side by side, as flattened outputs have them
        size = blocks.shape[0] * blocks.shape[2]
        return blocks.permute(0, 2, 1, 3).reshape(size, size)

    def _once(self, name: str, compute: Callable, *, shared: bool = False):
        if name not in self._known:
            with stopwatch() as watch:
                self._known[name] = compute()
            if shared:
                self.shared_seconds += watch.seconds
        return self._known[name]
