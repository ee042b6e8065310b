"""The explicit Jacobian, row by row: slow, short, and right for every module. The oracle, and the last resort."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from gramian.arch.inputs import Inputs
from gramian.empirical.modules.arguments import samples
from gramian.empirical.modules.calling import call_at, lent
from gramian.empirical.modules.checks import check_product, check_repeats, check_samples, taken, trainable
from gramian.empirical.modules.gradient_hooks import checked_backward
from gramian.empirical.modules.plain_gradients import gradients, named_errors, right_batch_norm


def jacobian(module: nn.Module, x: Inputs) -> Tensor:
    r"""Jacobian of the outputs with respect to the trainable parameters, every number of it.

    $J_{i c p} = \partial f_c(x_i) / \partial \theta_p$, one backward pass for each sample and output. It holds
    n C p numbers: for small problems, and to check `empirical_ntk` against.

    Args:
        module: any module; $f(x_i)$ is its output on the batch of one `x[i : i + 1]`, flattened to C numbers.
        x: inputs; shape (n, *in_shape). Of a module that takes several a tuple, or a dict by name.

    Returns:
        Shape (n, C, p); the p numbers are the parameters with `requires_grad`, each flattened, in the order of
        `module.named_parameters()`.

    Raises:
        BadData: `x` is empty or not finite, the module cannot take it, or a derivative is not finite.
        BadArgument: the module has no trainable parameter, or its output is random.

    Example:
        >>> layer = torch.nn.Linear(2, 1)
        >>> jacobian(layer, torch.tensor([[3.0, 4.0]]))  # the input, and 1 for the bias
        tensor([[[3., 4., 1.]]])
    """
    parameters = list(trainable(module).values())
    points, _ = samples(module, x, None)
    points = check_samples("x", points)
    with lent(module), torch.inference_mode(False), torch.enable_grad():
        with torch.no_grad(), taken(module, "x", points[:1]):
            call_at(module, {}, points[:1])
        with torch.no_grad():
            check_repeats(module, lambda: call_at(module, {}, points[:1]))
        checked_backward(module, points[:1])
        j = torch.stack(
            [
                torch.cat([g.reshape(len(g), -1) for g in rows(partial(call_at, module, {}, point), parameters)], 1)
                for point in (points[i : i + 1] for i in range(len(points)))
            ]
        )
    check_product(module, (j,), ())
    return j


def rows(run: Callable[[], Tensor], parameters: Sequence[Tensor], outputs: range | None = None) -> list[Tensor]:
    """Gradients of some of the numbers that `run()` returns; one (k, *shape) tensor a parameter."""
    with named_errors():
        out = run().reshape(-1)
    right_batch_norm(out)
    columns = [
        gradients(out[c], parameters, keep_graph=True) for c in (range(out.numel()) if outputs is None else outputs)
    ]
    return [torch.stack(column) for column in zip(*columns, strict=True)]
