r"""Antisymmetric (coupled) initialization of any module: output 0 at the start, and the kernel as it was."""

from __future__ import annotations

import copy
import math
from typing import Any

from torch import Tensor, nn


class Antisymmetric(nn.Module):
    r"""$f(x) = (g(x; \theta_+) - g(x; \theta_-)) / \sqrt2$ of two copies of a module with equal weights at the start.

    The output at the start is exactly 0, whatever the module is, and the NTK there is that of the module:
    $\tfrac12(K_+ + K_-) = K$. What the labels would have to pay for undoing a random start, they no longer do.

    Args:
        module: it stays as it is; frozen parameters stay frozen in both copies.

    References:
        Munteanu, Omlor, Song, Woodruff 2022, arXiv:2206.12802, for pairs of neurons.

    Example:
        >>> net = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2))
        >>> float(Antisymmetric(net)(torch.ones(1, 3)).detach().abs().max())
        0.0
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.plus = copy.deepcopy(module)
        self.minus = copy.deepcopy(module)

    def forward(self, *inputs: Any, **keywords: Any) -> Tensor:
        """Outputs, as those of the module."""
        return (self.plus(*inputs, **keywords) - self.minus(*inputs, **keywords)) / math.sqrt(2)
