"""The first-order model of a network around its present parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from gramian.empirical.jacobian_products.pushforward import along, checked_way
from gramian.empirical.modules.arguments import Arguments
from gramian.empirical.modules.calling import call_at, lay_aside, plain
from gramian.empirical.modules.checks import check_counts, check_mode, check_repeats, trainable
from gramian.empirical.modules.gradient_hooks import check_grad_hooks, checked_backward
from gramian.empirical.modules.module_copy import copied
from gramian.empirical.modules.observed_calls import differentiable_math
from gramian.errors import BadArgument
from gramian.module_state.untouched import untouched


class Expansion(nn.Module):
    """A Taylor model of a module around the parameters that it had: a copy to train, and the origin as buffers.

    `train()` and `eval()` do not reach the copy: it stays in the mode that the module had.

    Attributes:
        module: the copy; its parameters are theta, those to train.
        mode: how derivatives are taken; None before the first call, and again after a change of dtype or device.
    """

    mode: str | None = None

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        own = trainable(module)
        check_mode(module)
        check_counts(module)
        check_grad_hooks(module)
        self.module = copied(module)
        for p in self.module.parameters():
            lay_aside(p)
        self.origins: dict[str, str] = {}  # buffer of each parameter that moves, frozen later or not
        for name, p in own.items():
            buffer = "origin_" + name.replace(".", "__")  # a buffer's name has no dot
            while buffer in self.origins.values():
                buffer += "_"
            self.origins[name] = buffer
            self.register_buffer(buffer, p.detach().clone())

    def train(self, mode: bool = True) -> Expansion:
        self.training = mode
        return self

    def _apply(self, fn: Callable, recurse: bool = True) -> Expansion:
        self.mode = None
        return super()._apply(fn, recurse)

    def moved(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The origin theta_0, and the step theta - theta_0, by the parameter's name."""
        theta = dict(self.module.named_parameters())
        # a copy: a forward that writes into its parameters (an embedding with max_norm) would move the origin
        origin = {name: self.get_buffer(buffer).clone() for name, buffer in self.origins.items()}
        return origin, {name: theta[name] - origin[name] for name in origin}

    def at_origin(self) -> nn.Module:
        """A copy of the module itself, at theta_0."""
        module = copied(self.module)
        theta = dict(module.named_parameters())
        with torch.no_grad():
            for name, buffer in self.origins.items():
                theta[name].copy_(self.get_buffer(buffer))
        return module

    def check_output(self, x: Arguments) -> None:
        """Raises what the module itself raises on `x`, and BadArgument where it does not return one tensor, or others
        at each call."""
        with torch.no_grad():
            out = check_repeats(self.module, lambda: call_at(self.module, self.moved()[0], x))
        if not isinstance(out, Tensor) or not out.is_floating_point():
            if isinstance(out, Tensor):
                said = f"a tensor of {out.dtype}"
            else:
                said = f"a {type(out).__name__}"
            raise BadArgument(
                f"The module returns {said}; a Taylor model needs one real tensor.",
                where=f"{type(self).__name__} of {type(self.module).__name__}",
                why="a tuple, a dictionary or an object of several outputs, which cannot be added term by term",
                fix="linearize or quadratic of a module whose forward returns the one tensor, as out.logits or out[0]",
            )


class Linearized(Expansion):
    """First-order Taylor model of a module; made by `linearize`. Its modes are those of `forward.WAYS`."""

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """f(x; theta_0) + J (theta - theta_0); arguments as the module takes them."""
        x = Arguments(args, kwargs)
        if self.mode is None:
            self.mode = self._checked_mode(x)
        origin, step = self.moved()
        out, change = along(self.module, origin, step, x, way=self.mode)
        return out + change

    def _checked_mode(self, x: Arguments) -> str | None:
        """None inside a vmap, whose numbers cannot be looked at: then each call tries forward mode."""
        self.check_output(x)
        with differentiable_math(), torch.no_grad():
            try:
                with untouched(self.module):
                    backward = checked_backward(self.module, x.first().change(plain))
                backward.check_places(self.module)
                return checked_way(self.module, self.moved()[0], x, against=backward.altered, trained=True)[0]
            except torch.OutOfMemoryError:
                raise
            except RuntimeError:
                return None


def linearize(module: nn.Module) -> Linearized:
    r"""First-order Taylor model of a module around its present parameters $\theta_0$.

    $f_{lin}(x; \theta) = f(x; \theta_0) + J(x)\,(\theta - \theta_0)$, with $J(x) = \partial f(x; \theta_0) / \partial
    \theta$ over the parameters with `requires_grad`. Trained by gradient flow it follows the constant kernel
    `empirical_ntk(module, x)` exactly.

    The model is a module like any other: an optimizer trains it, it is saved and moved, and `train()` leaves the copy
    in the mode in which the module was, so that J never changes. A weight decay pulls to 0, not to $\theta_0$:
    `gramian.solve.fit_linearized` has the ridge around $\theta_0$, and the end of training in closed form.

    Args:
        module: any module that returns one tensor and treats samples on their own; it is copied and not changed.

    Returns:
        A module with its own trainable copy of the parameters, at $\theta = \theta_0$; arguments as before, several
        and by name too. A call costs two to three of the module's, and nothing of the size of J is made.

    Raises:
        BadArgument: the module has no trainable parameter, or has dropout or batch normalization in training mode; at
            the first call, it returns something else than one tensor.

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
