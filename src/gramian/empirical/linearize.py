"""The first-order model of a network around its present parameters."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor, nn

from gramian.empirical.checks import trainable
from gramian.empirical.forward import along


class Expansion(nn.Module):
    """A Taylor model of a module around the parameters that it had: a copy to train, and the origin as buffers."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        trainable(module)
        self.module = deepcopy(module)  # its parameters are theta, the ones to train
        for name, p in self._trainable().items():
            self.register_buffer(_origin(name), p.detach().clone())

    def _trainable(self) -> dict[str, Tensor]:
        return {name: p for name, p in self.module.named_parameters() if p.requires_grad}

    def moved(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The origin theta_0, and the step theta - theta_0, by the parameter's name."""
        theta = self._trainable()
        origin = {name: self.get_buffer(_origin(name)) for name in theta}
        return origin, {name: p - origin[name] for name, p in theta.items()}

    def at_origin(self) -> nn.Module:
        """A copy of the module itself, at theta_0."""
        module = deepcopy(self.module)
        with torch.no_grad():
            for name, p in module.named_parameters():
                if p.requires_grad:
                    p.copy_(self.get_buffer(_origin(name)))
        return module


class Linearized(Expansion):
    """First-order Taylor model of a module; made by `linearize`."""

    def forward(self, x: Tensor) -> Tensor:
        """f(x; theta_0) + J (theta - theta_0)."""
        origin, step = self.moved()
        out, change = along(self.module, origin, step, x)
        return out + change


def linearize(module: nn.Module) -> Linearized:
    r"""First-order Taylor model of a module around its present parameters $\theta_0$.

    $f_{lin}(x; \theta) = f(x; \theta_0) + J(x)\,(\theta - \theta_0)$, with $J(x) = \partial f(x; \theta_0) / \partial
    \theta$ over the parameters with `requires_grad`. Trained by gradient flow it follows the constant kernel
    `empirical_ntk(module, x)` exactly.

    Args:
        module: any module whose operations have forward-mode derivatives; it is copied and not changed.

    Returns:
        A module with its own trainable copy of the parameters, at $\theta = \theta_0$; inputs and outputs as before.

    Raises:
        BadArgument: the module has no trainable parameter.

    References:
        Lee et al. 2019, arXiv:1902.06720, section 2.2.

    Example:
        The square of a parameter, w = 3, moves along its tangent:

        >>> class Square(torch.nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.w = torch.nn.Parameter(torch.tensor([3.0]))
        ...
        ...     def forward(self, x):
        ...         return self.w**2 * x
        >>> model = linearize(Square())
        >>> with torch.no_grad():
        ...     _ = model.module.w.add_(1)
        >>> model(torch.tensor([1.0])).item()  # 9 + 2 * 3 * 1; the square itself gives 16
        15.0
    """
    return Linearized(module)


def _origin(name: str) -> str:
    return "origin_" + name.replace(".", "__")  # a buffer's name has no dot
