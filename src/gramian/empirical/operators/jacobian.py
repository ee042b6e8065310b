"""The explicit Jacobian, row by row: slow, short, and right for every module. The oracle, and the last resort."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gramian.arch.inputs import Inputs
from gramian.empirical.jacobian_products.pullback import rows_of_samples
from gramian.empirical.modules.arguments import samples
from gramian.empirical.modules.calling import call_at, lent
from gramian.empirical.modules.checks import check_product, check_repeats, check_samples, taken, trainable
from gramian.empirical.modules.gradient_hooks import checked_backward
from gramian.empirical.modules.output_functions import Batch


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
        each = rows_of_samples(lambda row: call_at(module, {}, row.x), parameters, Batch(points))
    j = torch.cat(each, 2)
    check_product(module, (j,), ())
    return j
