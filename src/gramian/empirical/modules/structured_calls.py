"""The calls whose parameter gradients have a structure: torch's own functions, whoever calls them.

One call on one sample gives the weight's gradient as a sum over positions p (places of an image, tokens of a sequence)

- of outer products, b_p a_p^T (linear maps, convolutions) or a_p b_p^T (`x @ W`, transposed convolutions), where a is
  made of the call's input and b of the vector propagated back to its output;
- of rows: e_t b_p^T for the token t at p (embeddings);
- of products a_p b_p, number by number, with a the normalized input (norms' scales);

and the bias's as sum_p b_p. Downstream sees only these numbers, in one shape: `a` is (n, G, P, a) and `b` is
(n, k, G, P, b), for n samples, k outputs, G groups, P positions; the tokens are (n, 1, P, 1).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Sizes(NamedTuple):
    """Counts of one call on one sample: groups, positions, and the two lengths of its outer products.

    `flip`: the gradient is sum a b^T, not b a^T. `lookup`: a is the number of the row that is 1, of `a` rows.
    """

    groups: int
    positions: int
    a: int
    b: int
    flip: bool = False
    lookup: bool = False

    @property
    def held(self) -> int:
        """Numbers of the side that is a function of the input."""
        return self.groups * self.positions * self.multiplied

    @property
    def multiplied(self) -> int:
        """Numbers of that side that a product of one position multiplies: of a row that is looked up one."""
        if self.lookup:
            return 1
        return self.a


@dataclass(frozen=True)
class LinearCall:
    """`F.linear(x, W, bias)`; with `flip` it is `x @ W` or `torch.addmm(bias, x, W)`."""

    flip: bool

    def accepts(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
        width = weight.shape[-1 if self.flip else 0]
        return weight.ndim == 2 and x.ndim > 0 and (bias is None or bias.shape == (width,))

    def sizes(self, weight: Sequence[int], out: Sequence[int]) -> Sizes:
        if self.flip:
            a, b = weight
        else:
            a, b = reversed(weight)
        return Sizes(1, prod(out[:-1]), a, b, self.flip)

    def inputs(self, x: Tensor, weight: Sequence[int]) -> Tensor:
        return x.reshape(x.shape[0], 1, -1, x.shape[-1])

    def cotangents(self, b: Tensor, weight: Sequence[int], places: Sequence[int]) -> Tensor:
        return b.reshape(*b.shape[:2], 1, -1, b.shape[-1])

    def summed(self, b: Tensor, numel: int) -> Tensor:
        return b.reshape(*b.shape[:2], -1, numel).sum(2)


@dataclass(frozen=True)
class ConvCall:
    """`F.conv1d`, `2d`, `3d`: padding is in the order of the axes, a pair for each."""

    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    groups: int

    def accepts(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
        return True

    def sizes(self, weight: Sequence[int], out: Sequence[int]) -> Sizes:
        return Sizes(self.groups, prod(out) // weight[0], prod(weight[1:]), weight[0] // self.groups)

    def inputs(self, x: Tensor, weight: Sequence[int]) -> Tensor:
        """What the window sees at each place: (n, *(c, *space)) -> (n, G, P, a)."""
        n, rank = x.shape[0], len(self.stride)
        x = x.reshape(-1, *x.shape[x.ndim - rank - 1 :])  # a sample may hold several images
        x = _windows(x, self.groups, self.padding, weight[2:], self.stride, self.dilation)
        x = x.view(n, x.shape[0] // n, *x.shape[1:])  # (n, images, G, *places, *window, c / G)
        return x.movedim(2, 1).reshape(n, self.groups, -1, prod(weight[1:]))

    def cotangents(self, b: Tensor, weight: Sequence[int], places: Sequence[int]) -> Tensor:
        return _by_group(b, self.groups, len(self.stride))

    def summed(self, b: Tensor, numel: int) -> Tensor:
        return _over_all_but(b, b.ndim - len(self.stride) - 1)


@dataclass(frozen=True)
class ConvTransposeCall:
    """`F.conv_transpose1d`, `2d`, `3d`: each place of the input sees a window of what is propagated back."""

    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    groups: int
    positions: int  # places of the input, images of a sample counted

    def accepts(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
        return True

    def sizes(self, weight: Sequence[int], out: Sequence[int]) -> Sizes:
        return Sizes(self.groups, self.positions, weight[0] // self.groups, prod(weight[1:]), flip=True)

    def inputs(self, x: Tensor, weight: Sequence[int]) -> Tensor:
        return _by_group(x[:, None], self.groups, len(self.stride))[:, 0]

    def cotangents(self, b: Tensor, weight: Sequence[int], places: Sequence[int]) -> Tensor:
        (n, k), rank = b.shape[:2], len(self.stride)
        b = b.reshape(-1, *b.shape[b.ndim - rank - 1 :])
        b = _windows(b, self.groups, self.padding, weight[2:], self.stride, self.dilation)
        for axis, size in enumerate(places[len(places) - rank :]):  # output_padding adds windows that nothing fills
            b = b.narrow(2 + axis, 0, size)
        b = b.view(n, k, b.shape[0] // n // k, *b.shape[1:])  # (n, k, images, G, *places, *window, c / G)
        return b.movedim(3, 2).reshape(n, k, self.groups, -1, prod(weight[1:]))

    def summed(self, b: Tensor, numel: int) -> Tensor:
        return _over_all_but(b, b.ndim - len(self.stride) - 1)


@dataclass(frozen=True)
class EmbeddingCall:
    """`F.embedding`: rows of the weight."""

    padding: int

    def accepts(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
        return weight.ndim == 2 and not x.is_floating_point()

    def sizes(self, weight: Sequence[int], out: Sequence[int]) -> Sizes:
        return Sizes(1, prod(out[:-1]), weight[0], weight[1], flip=True, lookup=True)

    def inputs(self, x: Tensor, weight: Sequence[int]) -> Tensor:
        x = x.reshape(x.shape[0], 1, -1, 1).long()
        # -1: no gradient
        if self.padding >= 0:
            return torch.where(x == self.padding, -1, x)
        return x

    def cotangents(self, b: Tensor, weight: Sequence[int], places: Sequence[int]) -> Tensor:
        return b.reshape(*b.shape[:2], 1, -1, b.shape[-1])

    def summed(self, b: Tensor, numel: int) -> Tensor:
        raise NotImplementedError("an embedding has no bias")


@dataclass(frozen=True)
class NormScaleCall:
    """A norm's scale and shift, after `plain`, the norm without them; `axis` None: they are of the last axes' shape."""

    plain: Callable[[Tensor], Tensor] = field(compare=False)
    axis: int | None

    def accepts(self, x: Tensor, weight: Tensor | None, bias: Tensor | None) -> bool:
        return True

    def affine(self, x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
        if weight is not None:
            x = x * self._shaped(weight, x)
        if bias is None:
            return x
        return x + self._shaped(bias, x)

    def product(self, x: Tensor, b: Tensor, weight: Sequence[int]) -> Tensor:
        """Gradients of the scale: (n, *out), (n, k, *out) -> (n, k, p)."""
        return self._reduced(x[:, None] * b, prod(weight))

    def summed(self, b: Tensor, numel: int) -> Tensor:
        return self._reduced(b, numel)

    def _reduced(self, b: Tensor, numel: int) -> Tensor:
        if self.axis is None:
            return b.reshape(*b.shape[:2], -1, numel).sum(2)
        return _over_all_but(b, 2 + self.axis)

    def _shaped(self, p: Tensor, x: Tensor) -> Tensor:
        if self.axis is None:
            return p
        return p.view(-1, *[1] * (x.ndim - 1 - self.axis))


How = LinearCall | ConvCall | ConvTransposeCall | EmbeddingCall | NormScaleCall


class Use(NamedTuple):
    """A call that was read: its kind, the input, and what may be parameters."""

    how: How
    x: Tensor
    weight: Tensor | None
    bias: Tensor | None


def read(func: Callable, args: Sequence[Any], kwargs: dict[str, Any]) -> Use | None:
    """The call of torch's function `func`; None if it is none of these, or used in a way that has no rule here."""
    try:
        use = READERS[func](*args, **kwargs)
    except (TypeError, KeyError):  # another overload; none of them
        return None
    if use is None or not all(t is None or isinstance(t, Tensor) for t in use[1:]):
        return None
    if not use.how.accepts(use.x, use.weight, use.bias):  # type: ignore[arg-type]
        return None
    return use


def _linear(input, weight, bias=None):
    return Use(LinearCall(flip=False), input, weight, bias)


def _matmul(input, other):
    return Use(LinearCall(flip=True), input, other, None)


def _addmm(input, mat1, mat2, *, beta=1, alpha=1):
    if beta == alpha == 1:
        return Use(LinearCall(flip=True), mat1, mat2, input)
    return None


def _conv(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    rank, size = weight.ndim - 2, weight.shape[2:]
    hole = _each(dilation, rank)
    if padding == "same":
        total = [h * (s - 1) for h, s in zip(hole, size, strict=True)]
        # of an odd number torch puts one more at the end
        sides = tuple((t // 2, t - t // 2) for t in total)
    else:
        sides = tuple((p, p) for p in _each(0 if padding == "valid" else padding, rank))
    return Use(ConvCall(_each(stride, rank), sides, hole, groups), input, weight, bias)


def _conv_transpose(input, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
    rank = weight.ndim - 2
    # what was cut off the output is filled with zeros, and so is what the last window reaches beyond it
    sides = tuple((p, p) for p in _each(padding, rank))
    positions = input.numel() // weight.shape[0]
    how = ConvTransposeCall(_each(stride, rank), sides, _each(dilation, rank), groups, positions)
    return Use(how, input, weight, bias)


def _embedding(weight, input, padding_idx=-1, scale_grad_by_freq=False, sparse=False):
    if scale_grad_by_freq:
        return None
    return Use(EmbeddingCall(padding_idx), input, weight, None)


def _layer_norm(input, normalized_shape, weight=None, bias=None, eps=1e-5, cudnn_enable=True):
    return Use(NormScaleCall(lambda x: F.layer_norm(x, normalized_shape, eps=eps), None), input, weight, bias)


def _rms_norm(input, normalized_shape, weight=None, eps=None):
    return Use(NormScaleCall(lambda x: F.rms_norm(x, normalized_shape, eps=eps), None), input, weight, None)


def _group_norm(input, num_groups, weight=None, bias=None, eps=1e-5, cudnn_enabled=True):
    return Use(NormScaleCall(lambda x: F.group_norm(x, num_groups, eps=eps), 1), input, weight, bias)


def _batch_norm(input, weight, bias, running_mean, running_var, training, momentum, eps, cudnn_enabled):
    if training:
        return None
    return Use(NormScaleCall(lambda x: F.batch_norm(x, running_mean, running_var, eps=eps), 1), input, weight, bias)


def _instance_norm(input, weight, bias, running_mean, running_var, use_input_stats, momentum, eps, cudnn_enabled):
    def plain(x: Tensor) -> Tensor:
        return F.instance_norm(x, running_mean, running_var, None, None, use_input_stats, momentum, eps)

    return Use(NormScaleCall(plain, 1), input, weight, bias)


READERS: dict[Callable, Callable[..., Use | None]] = {
    F.linear: _linear,
    torch.matmul: _matmul,
    torch.mm: _matmul,
    Tensor.matmul: _matmul,
    Tensor.__matmul__: _matmul,
    Tensor.mm: _matmul,
    torch.addmm: _addmm,
    Tensor.addmm: _addmm,
    **dict.fromkeys((F.conv1d, F.conv2d, F.conv3d), _conv),
    **dict.fromkeys((F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d), _conv_transpose),
    torch.embedding: _embedding,
    torch.layer_norm: _layer_norm,
    torch.rms_norm: _rms_norm,
    torch.group_norm: _group_norm,
    torch.batch_norm: _batch_norm,
    torch.instance_norm: _instance_norm,
}


def _each(value: int | Sequence[int], rank: int) -> tuple[int, ...]:
    if isinstance(value, int):
        value = (value,)
    else:
        value = tuple(value)
    if len(value) == 1:
        return value * rank
    return value


def _windows(
    x: Tensor,
    groups: int,
    padding: Sequence[tuple[int, int]],
    size: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
) -> Tensor:
    """(images, c, *space) -> (images, G, *places, *window, c / G), a view of what is padded.

    The channels come last, in whose order a weight's gradient is then too: they lie side by side in memory.
    """
    rank = len(size)
    if any(map(any, padding)):
        x = F.pad(x, [side for pair in reversed(padding) for side in pair])
    for axis, (wide, step, hole) in enumerate(zip(size, stride, dilation, strict=True)):
        # a window with holes is every hole-th place of a longer one
        x = x.unfold(2 + axis, hole * (wide - 1) + 1, step)[..., ::hole]
    x = x.unflatten(1, (groups, -1))
    return x.permute(0, 1, *range(3, 3 + 2 * rank), 2)


def _by_group(b: Tensor, groups: int, rank: int) -> Tensor:
    """(n, k, [images,] c, *space) -> (n, k, G, P, c / G)."""
    n, k = b.shape[:2]
    channels, places = b.shape[b.ndim - rank - 1], prod(b.shape[b.ndim - rank :])
    b = b.reshape(n, k, -1, groups, channels // groups, places)  # (n, k, images, G, b, places)
    return b.permute(0, 1, 3, 2, 5, 4).reshape(n, k, groups, -1, channels // groups)


def _over_all_but(b: Tensor, axis: int) -> Tensor:
    """Sums (n, k, *out) over all axes of the output but one."""
    rest = [i for i in range(2, b.ndim) if i != axis]
    if rest:
        return b.sum(rest)
    return b
