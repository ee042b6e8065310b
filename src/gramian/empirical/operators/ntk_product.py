"""The empirical tangent kernel times a vector, without the kernel."""

from __future__ import annotations

from torch import Tensor, nn

from gramian.arch.inputs import Inputs
from gramian.empirical.modules import checks
from gramian.empirical.modules.packed_inputs import packed
from gramian.empirical.operators.distributed import Share
from gramian.empirical.operators.jacobian_maps import Derivative
from gramian.errors import BadData


def ntk_product(module: nn.Module, x: Inputs, v: Tensor) -> Tensor:
    r"""The product $J J^\top v$ of the full empirical tangent kernel with a vector.

    One backward pass gives $u = J^\top v = \sum_{ic} v_{ic} \nabla_\theta f_c(x_i)$, one forward-mode pass $J u$: the
    cost of a few evaluations of the module on `x`, whatever n and C are.

    Args:
        module: any module that treats samples on their own; only parameters with `requires_grad` count.
        x: inputs; shape (n, *in_shape). Of a module that takes several a tuple, or a dict by name.
        v: one number for each output; shape of `module(x)`.

    Returns:
        Shape of `v`.

    Raises:
        BadData: `x` is empty or not finite, the module cannot take it, or `v` has another shape than `module(x)`.
        BadArgument: nothing is trainable, or the module is random or mixes samples.

    Example:
        >>> x = torch.tensor([[1.0, 2.0], [3.0, 0.0]])
        >>> ntk_product(torch.nn.Linear(2, 1, bias=False), x, torch.tensor([[1.0], [0.0]]))
        tensor([[5.],
                [3.]])
    """
    module, rows, _ = packed(module, x, None)
    share = Share(None, next(iter(checks.trainable(module).values())).device)
    j = Derivative(module, rows, share, max_bytes=2**30)
    shape = (len(j.x), *j.out_shape)
    if v.shape != shape:
        raise BadData(
            f"`v` has shape {tuple(v.shape)}; the module's output on `x` has {shape}.",
            where="ntk_product(module, x, v)",
            why="the kernel has a row for each sample and each output",
            fix=f"v = v.reshape({shape})",
        )
    return j.push(j.pull(v.detach().reshape(len(v), -1))).reshape(shape)
