"""Gradients by plain backward passes of single numbers: the reference that every faster way is compared with."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache

import torch
from torch import Tensor

from gramian.errors import BadArgument, GramianError

OPERATION = re.compile(r"(?:derivative|formula|rule) for '?([\w:.]+)'?|(aten::[\w.]+)|output \d+ of (\w+)|'(\w+)'")


def gradients(number: Tensor, parameters: Sequence[Tensor], *, keep_graph: bool = False) -> list[Tensor]:
    """Gradient of one number, dense; zeros where it does not depend on a parameter.

    Raises:
        BadArgument: torch has no backward pass of it; the operation is named.
    """
    grads: Sequence[Tensor | None] = [None] * len(parameters)
    if number.requires_grad and parameters:
        try:
            grads = torch.autograd.grad(number, list(parameters), retain_graph=keep_graph, allow_unused=True)
        except (GramianError, torch.OutOfMemoryError):
            raise
        except Exception as error:
            raise no_derivative(error) from error
    return [torch.zeros_like(p) if g is None else dense(g) for p, g in zip(parameters, grads, strict=True)]


def gradients_along(out: Tensor, w: Tensor, parameters: Sequence[Tensor], *, keep_graph: bool = False) -> list[Tensor]:
    """Gradient of <w, out>; `w` of the output's shape."""
    right_batch_norm(out)
    return gradients((out * w).sum(), parameters, keep_graph=keep_graph)


def dense(gradient: Tensor) -> Tensor:
    """The same gradient with all its zeros: that of `nn.Embedding(sparse=True)` is a sparse tensor."""
    if gradient.layout is torch.strided:
        return gradient
    return gradient.to_dense()


def right_batch_norm(out: Tensor) -> None:
    """Has what is propagated back to a batch normalization laid out in order, from `out` on.

    torch's own backward pass (2.13, CPU) reads the wrong numbers where it normalizes a batch of one and the gradient
    comes with strides (C, 1, ...), as behind `flatten(2).transpose(1, 2)`. Instance normalization is such a batch too.
    """
    todo, done = [out.grad_fn], set()
    while todo:
        node = todo.pop()
        if node is None or node in done:
            continue
        done.add(node)
        if "BatchNorm" in node.name():
            node.register_prehook(_in_order)
        todo.extend(below for below, _ in node.next_functions)


def _in_order(grads: tuple[Tensor | None, ...]) -> tuple[Tensor | None, ...]:
    return tuple(g.contiguous() if g is not None and len(g) == 1 else g for g in grads)


@contextmanager
def named_errors() -> Iterator[None]:
    """What torch raises inside becomes a refusal that names the operation."""
    try:
        yield
    except (GramianError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        raise no_derivative(error) from error


def no_derivative(error: Exception) -> BadArgument:
    """The refusal of a module that torch cannot differentiate."""
    told = str(error).strip().splitlines() or ["(no text)"]
    why = f"{type(error).__name__}: {told[0]}"
    if "use_reentrant" in str(error):
        return BadArgument(
            "torch cannot take gradients through torch.utils.checkpoint with use_reentrant=True.",
            where="a checkpoint in the module's forward pass",
            why="that kind of checkpoint only fills `.grad` of the module's own parameters",
            fix="torch.utils.checkpoint.checkpoint(..., use_reentrant=False)",
        )
    match = OPERATION.search(str(error))
    if match:
        name = next((group for group in match.groups() if group), "")
    else:
        name = ""
    return BadArgument(
        f"torch cannot differentiate the module: {name or 'an operation'} has no backward pass here.",
        where=f"the operation {name}" if name else "the backward pass of one output of one sample",
        why=why,
        fix="write it in differentiable operations of torch, or freeze what lies before it: requires_grad_(False)",
    )


def marks(gradient: Sequence[Tensor]) -> list[Tensor]:
    """Each parameter's gradient, as a matrix with a row for each index of its first axis, times a random vector.

    As different from other marks as the gradients are, without a second vector of the parameters' size to be kept.
    """
    projected = []
    for g in gradient:
        if g.ndim < 2:
            projected.append(g)
        else:
            projected.append(g.reshape(len(g), -1) @ _random(g[0].numel()).to(g))
    return projected


@lru_cache(256)
def _random(n: int) -> Tensor:
    return torch.randn(n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def tolerance(dtype: torch.dtype) -> float:
    """Up to which relative error two ways to one gradient agree.

    Far above rounding, since a unit of a ReLU network whose input rounds to the other side of 0 counts in one way and
    not in the other; far below what a wrong rule gives. About 2e-6 in float64, 2e-2 in float32, 0.25 in bfloat16.
    """
    eps = torch.finfo(dtype).eps
    if dtype == torch.float64:
        return eps**0.36
    return eps**0.25


def differs(ours: Sequence[Tensor], theirs: Sequence[Tensor], allowed: float) -> str:
    """Empty if two gradients agree parameter by parameter, else the largest deviation in words.

    A gradient that is zero by a symmetry (of a bias before a normalization) is noise of the others' size times eps.
    """
    sizes = [float(t.norm()) for t in theirs]
    eps = min((torch.finfo(t.dtype).eps for t in theirs), default=0.0)
    noise = 1e3 * eps * sum(s * s for s in sizes) ** 0.5
    worst, said = 1.0, ""
    for i, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        if a.shape != b.shape:
            return f"a gradient of shape {tuple(a.shape)} for a parameter of shape {tuple(b.shape)}"
        off = float(torch.dist(a, b.to(a.dtype)))
        bound = allowed * sizes[i] + noise
        if off == 0:
            continue
        if bound > 0:
            ratio = off / bound
        else:
            ratio = float("inf")
        if not ratio <= worst:  # also NaN
            worst, said = ratio, f"off by {off:.2g} where a plain backward pass has a gradient of norm {sizes[i]:.2g}"
    return said
