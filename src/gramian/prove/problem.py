"""The network, inputs and targets of a proof: copied, in float64, checked once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gramian.arch.inputs import one_tensor
from gramian.empirical.modules.module_copy import copied
from gramian.errors import BadArgument
from gramian.train.objective import objective, samples


@dataclass(frozen=True, eq=False)
class Problem:
    """What a statement is about.

    Attributes:
        module: a copy in float64, in evaluation mode, on the CPU.
        x: inputs (n, ...), float64.
        y: targets (n, C), float64; of the cross-entropy class numbers (n,).
        assumes: what was decided on the way, in words.
    """

    module: nn.Module
    x: Tensor
    y: Tensor
    assumes: tuple[str, ...]

    @property
    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """Inputs as rows (n, d) and the targets, as the checker takes them."""
        return self.x.reshape(len(self.x), -1).numpy(), self.y.numpy()


def problem_of(module: nn.Module, x: Any, y: Any, loss: str) -> Problem:
    """Inputs and targets as `gramian.train` has them, in float64."""
    one_tensor(x, "prove")
    if not any(p.requires_grad for p in module.parameters()):
        raise BadArgument(
            "The module has no parameter that trains.",
            where=type(module).__name__,
            why="a minimum is looked for among the weights that train",
            fix="requires_grad_() on some parameters",
        )
    assumes = []
    if module.training:
        assumes.append("the network is the one in evaluation mode: no dropout, normalization by its kept statistics")
    own = copied(module).cpu().double().eval()
    inputs = torch.as_tensor(x).detach().cpu()
    if not inputs.is_floating_point():
        raise BadArgument(
            f"x is {inputs.dtype}.",
            where="prove(module, x, y)",
            why="a lookup of whole numbers has no rule in a proof",
            fix="real inputs, such as x.double()",
        )
    targets = torch.as_tensor(y).detach().cpu()
    if targets.is_floating_point():
        targets = targets.double()
    data = samples(own, inputs.double(), targets, objective(loss))
    assert isinstance(data.x, Tensor)  # `one_tensor` refused several
    if loss == "cross-entropy":
        return Problem(own, data.x, data.targets, tuple(assumes))
    return Problem(own, data.x, data.matrix, tuple(assumes))
