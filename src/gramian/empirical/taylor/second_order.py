"""The second-order model of a network around its present parameters."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from gramian.empirical.modules.arguments import Arguments
from gramian.empirical.taylor.first_order import Expansion
from gramian.empirical.taylor.second_derivatives import MODES, checked_mode


class Quadratic(Expansion):
    """Second-order Taylor model of a module; made by `quadratic`.

    Its modes: "forward over forward", "three backward passes".
    """

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """f(x; theta_0) + J (theta - theta_0) + (theta - theta_0)^T H (theta - theta_0) / 2."""
        out, change, half = self.terms(*args, **kwargs)
        return out + change + half

    def terms(self, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor, Tensor]:
        """The three terms of the sum, each of the output's shape; arguments as the module takes them."""
        x = Arguments(args, kwargs)
        if self.mode is None:
            self.check_output(x)
            self.mode = checked_mode(self.at_origin(), x)
        origin, step = self.moved()
        out, change, second = MODES[self.mode](self.module, origin, step, x)
        return out, change, second / 2


def quadratic(module: nn.Module) -> Quadratic:
    r"""Second-order Taylor model of a module around its present parameters $\theta_0$.

    $f_{quad}(x; \theta) = f(x; \theta_0) + J(x)\, \delta + \tfrac12\, \delta^\top H(x)\, \delta$ with $\delta$ the step
    $\theta - \theta_0$ and H the Hessian of each output, by forward mode over forward mode: nothing of the size of H is
    made. Its tangent kernel moves with $\theta$, to first order as the network's does. `terms(x)` gives the three
    terms: where the linear one vanishes, by symmetric initialization say, the quadratic one is what learns.

    Args:
        module: as of `linearize`. Of a network with ReLU the Hessian is that of its linear
            pieces.

    Returns:
        A module with its own trainable copy of the parameters, at $\theta = \theta_0$; arguments as before.

    Raises:
        BadArgument: as `linearize`; or, at the first call of the model, torch's second
            derivative of the module is none. That is checked in float64 on one sample against a difference of first
            derivatives, because torch (2.13) is wrong without a word for layer normalization in forward mode, where
            three backward passes do instead, and for `weight_norm` in any.

    References:
        Bai and Lee 2020, 'Beyond linearization: on quadratic and higher-order approximation of wide neural networks',
        arXiv:1910.01619.

    Example:
        The cube of a parameter, w = 1, at w = 2; the cube itself gives 8:

        >>> class Cube(torch.nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.w = torch.nn.Parameter(torch.tensor([1.0]))
        ...
        ...     def forward(self, x):
        ...         return self.w**3 * x
        >>> model = quadratic(Cube())
        >>> with torch.no_grad():
        ...     _ = model.module.w.add_(1)
        >>> [term.item() for term in model.terms(torch.tensor([1.0]))]  # 1, 3 and 6 / 2
        [1.0, 3.0, 3.0]
    """
    return Quadratic(module)
