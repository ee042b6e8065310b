"""What each call of an exported graph means in the checker's steps."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor
from torch.fx import Node
from torch.nn import functional as F

from gramian.checker.program import Step
from gramian.errors import Unsupported
from gramian.prove.reading import Reading, Value, Weight

Handler = Callable[..., Any]

# the call copies, moves or leaves out numbers of its first argument
LAYOUT = {
    "view", "reshape", "flatten", "permute", "transpose", "t", "expand", "select", "slice", "squeeze", "unsqueeze",
    "unflatten", "_unsafe_view", "constant_pad_nd", "pad", "flip", "index_select", "narrow", "expand_as",
    "view_as", "movedim", "roll", "mT", "numpy_T", "swapaxes",
}  # fmt: skip
# the call gives its first argument's numbers as they are
SAME = {"clone", "contiguous", "alias", "lift_fresh_copy", "dropout", "feature_dropout", "_to_copy", "to",
        "dropout_", "native_dropout"}  # fmt: skip
# the call is linear in its one argument that is not constant
LINEAR = {
    "add", "sub", "rsub", "mul", "div", "neg", "mean", "sum", "avg_pool1d", "avg_pool2d", "avg_pool3d",
    "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "linear", "matmul", "mm", "bmm", "conv1d",
    "conv2d", "conv3d", "cumsum", "add_", "mul_", "sub_", "div_", "upsample_nearest2d", "upsample_bilinear2d",
}  # fmt: skip
# the call looks at its first argument's shape and type alone
OF_SHAPE = {"new_full", "new_zeros", "new_ones", "zeros_like", "ones_like", "full_like", "new_empty", "size", "dim"}
FUNCTION = {name: name for name in ("tanh", "erf", "sigmoid", "silu", "sin", "cos", "exp", "relu", "square", "rsqrt",
                                    "reciprocal")}  # fmt: skip
SOFTPLUS_THRESHOLD = 20.0  # torch takes the identity above
HANDLERS: dict[str, Handler] = {}


def handles(*names: str) -> Callable[[Handler], Handler]:
    def register(handler: Handler) -> Handler:
        for name in names:
            HANDLERS[name] = handler
        return handler

    return register


def read_call(reading: Reading, node: Node, args: list[Any], kwargs: dict[str, Any]) -> Any:
    """What a call gives: a value, a weight, or a constant."""
    target: Any = node.target
    name = getattr(target, "__name__", str(target)).split(".")[0]
    changing = [a for a in _flat(args) + list(kwargs.values()) if isinstance(a, Value | Weight)]
    if not changing:
        return target(*args, **kwargs)
    try:
        _refuse_shared_change(node, name)
        if name in ("detach", "detach_"):
            raise Unsupported("`detach` has no rule: training then follows another gradient than the loss's")
        if name in SAME:
            return args[0]
        if name in OF_SHAPE:
            return target(torch.zeros(_shape(args[0]), dtype=torch.float64), *args[1:], **kwargs)
        if name == "getitem":
            return args[0][args[1]]
        if (base := name.removesuffix("_")) in FUNCTION:
            return reading.function(FUNCTION[base], reading.value(args[0]))
        if name in HANDLERS and (result := HANDLERS[name](reading, *args, **kwargs)) is not None:
            return result
        if len(changing) == 1:
            return _of_one(reading, target, name, args, kwargs)
        raise Unsupported(f"the call `{name}` of {len(changing)} values has no rule")
    except Unsupported as error:
        raise Unsupported(f"{error} (in {_where(node)})") from None


def _refuse_shared_change(node: Node, name: str) -> None:
    """A call that changes its argument in place changes all views of it; the graph shows this only to its own users."""
    if not name.endswith("_") or name.startswith("_"):
        return
    changed = node.args[0]
    while isinstance(changed, Node):
        if len(changed.users) > 1:
            raise Unsupported(f"the call `{name}` changes in place a tensor that others see: it has no rule")
        if getattr(changed.target, "__name__", "").split(".")[0] not in LAYOUT | SAME:
            return
        changed = changed.args[0]


def _of_one(reading: Reading, target: Any, name: str, args: list[Any], kwargs: dict[str, Any]) -> Value:
    at = next((i for i, a in enumerate(args) if isinstance(a, Value | Weight)), None)
    if at is None or name not in LAYOUT | LINEAR:
        raise Unsupported(f"the call `{name}` has no rule: it is not linear, and no activation known here")
    if name in ("div", "div_", "rsub") and at == 1:
        raise Unsupported(f"the call `{name}` by a value has no rule")

    def run(t: Tensor) -> Tensor:
        # the trace is in the module's float64; the constants are too
        return target(*args[:at], t, *args[at + 1 :], **kwargs)

    value = reading.value(args[at])
    if name in LAYOUT:
        return reading.gathered(value, run)
    return reading.mapped(value, run)


def _flat(args: list[Any]) -> list[Any]:
    return [b for a in args for b in (a if isinstance(a, list | tuple) else [a])]


def _shape(of: Value | Weight) -> tuple[int, ...]:
    if isinstance(of, Value):
        return of.shape
    return tuple(of.tensor.shape)


def _where(node: Node) -> str:
    modules = list((node.meta.get("nn_module_stack") or {}).values())
    if modules and modules[-1][0]:
        return f"module `{modules[-1][0]}`"
    return f"the call {node.name}"


@handles("linear")
def linear(reading: Reading, x: Any, weight: Any, bias: Any = None) -> Value | None:
    if not (isinstance(x, Value) and isinstance(weight, Weight)):
        return None
    return _affine(reading, x, weight, weight.tensor, bias, (*x.shape[:-1], weight.tensor.shape[0]))


@handles("matmul", "mm", "bmm")
def matmul(reading: Reading, x: Any, other: Any) -> Value | None:
    if isinstance(x, Value) and isinstance(other, Weight) and other.tensor.dim() == 2:
        return _affine(reading, x, other, other.tensor.T, None, (*x.shape[:-1], other.tensor.shape[1]))
    if isinstance(x, Tensor) or isinstance(other, Tensor):
        return None
    return _bilinear(reading, reading.value(x), reading.value(other))


def _bilinear(reading: Reading, a: Value, b: Value) -> Value:
    """Matrix product of two values (..., t, k) and (..., k, s): all products, then their sums over k."""
    batch = torch.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    t, k, s = a.shape[-2], a.shape[-1], b.shape[-1]
    left = reading.gathered(a, lambda v: v.unsqueeze(-2).expand(*batch, t, s, k))
    right = reading.gathered(b, lambda v: v.mT.unsqueeze(-3).expand(*batch, t, s, k))
    products = reading.product(left, right)
    rows = np.repeat(np.arange(products.size // k), k)
    ones = sparse.csr_matrix((np.ones(products.size), (rows, np.arange(products.size))))
    return reading.linear(products, ones, (*batch, t, s))


def _affine(reading: Reading, x: Value, weight: Weight, matrix: Tensor, bias: Any, shape: tuple[int, ...]) -> Value:
    positions = x.size // matrix.shape[1]
    name = reading.weight(weight, matrix)
    step = Step("affine", (x.step,), weight=name, positions=positions, weight_scale=weight.scale)
    own_bias = isinstance(bias, Weight)
    if own_bias:
        at = reading.weight(bias, bias.tensor[None])
        reading.arrays[at] = reading.arrays[at].reshape(-1)
        step = Step(**{**vars(step), "bias": at, "bias_scale": bias.scale})
    z = reading.add(step, shape)
    if bias is None or own_bias:
        return z
    return _added(reading, z, bias)


@handles("conv1d", "conv2d")
def convolution(reading: Reading, x: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0,
                dilation: Any = 1, groups: int = 1) -> Value | None:  # fmt: skip
    """Patches are gathered, and each goes through the same affine map."""
    if not (isinstance(x, Value) and isinstance(weight, Weight)):
        return None
    if groups != 1:
        raise Unsupported("a convolution of several groups has no rule")
    axes = weight.tensor.dim() - 2
    kernel = weight.tensor.shape[2:]

    def pairs(given: Any) -> list[int]:
        many = list(given) if isinstance(given, list | tuple) else [given]
        return (many * axes)[:axes]

    if isinstance(padding, str):
        total = [d * (k - 1) * (padding == "same") for d, k in zip(pairs(dilation), kernel, strict=True)]
        around = [(p // 2, p - p // 2) for p in total]
    else:
        around = [(p, p) for p in pairs(padding)]

    def flat(sizes: Any) -> tuple[int, ...]:
        return (*(1,) * (2 - axes), *sizes)

    def patches(image: Tensor) -> Tensor:
        image = F.pad(image, [p for pair in reversed(around) for p in pair])
        if axes == 1:
            image = image[:, :, None]
        columns = F.unfold(image, flat(kernel), flat(pairs(dilation)), 0, flat(pairs(stride)))
        return columns[0].T  # (positions, channels x window)

    gathered = reading.gathered(x, patches)
    out, matrix = weight.tensor.shape[0], weight.tensor.reshape(weight.tensor.shape[0], -1)
    z = _affine(reading, gathered, weight, matrix, bias, (gathered.shape[0], out))
    spatial = [
        (size + sum(p) - d * (k - 1) - 1) // s + 1
        for size, p, k, s, d in zip(x.shape[2:], around, kernel, pairs(stride), pairs(dilation), strict=True)
    ]
    return reading.gathered(z, lambda t: t.T.reshape(1, out, *spatial))


@handles("add", "add_", "sub", "sub_")
def added(reading: Reading, x: Any, y: Any, alpha: float = 1) -> Value | None:
    if isinstance(x, int | float | Tensor) or isinstance(y, int | float | Tensor):
        return None
    return _added(reading, reading.value(x), y, alpha)


@handles("sub", "sub_")
def subtracted(reading: Reading, x: Any, y: Any, alpha: float = 1) -> Value | None:
    return added(reading, x, y, -alpha)


def _added(reading: Reading, x: Value, y: Any, alpha: float = 1) -> Value:
    if isinstance(y, Tensor | int | float):
        return reading.mapped(x, lambda t: t + alpha * y)
    other = reading.value(y)
    if alpha != 1:
        other = reading.scaled(other, float(alpha))
    shape = torch.broadcast_shapes(x.shape, other.shape)
    return reading.sum(reading.expanded(x, shape), reading.expanded(other, shape))


@handles("mul", "mul_")
def multiplied(reading: Reading, x: Any, y: Any) -> Any:
    for a, b in ((x, y), (y, x)):
        if isinstance(a, Weight) and isinstance(b, int | float):
            return Weight(a.name, a.tensor, a.scale * b)
    if isinstance(x, int | float | Tensor) or isinstance(y, int | float | Tensor):
        return None
    a, b = reading.value(x), reading.value(y)
    if a == b:
        return reading.function("square", a)
    shape = torch.broadcast_shapes(a.shape, b.shape)
    return reading.product(reading.expanded(a, shape), reading.expanded(b, shape))


@handles("div", "div_")
def divided(reading: Reading, x: Any, y: Any) -> Any:
    if isinstance(x, Weight) and isinstance(y, int | float):
        return Weight(x.name, x.tensor, x.scale / y)
    if not isinstance(y, Value | Weight):
        return None
    inverse = reading.function("reciprocal", reading.value(y))
    if isinstance(x, int | float):
        return reading.scaled(inverse, float(x))
    return multiplied(reading, x, inverse)


@handles("pow")
def power(reading: Reading, x: Any, exponent: Any) -> Value:
    value = reading.value(x)
    if exponent == 2:
        return reading.function("square", value)
    if exponent == -0.5:
        return reading.function("rsqrt", value)
    if exponent == -1:
        return reading.function("reciprocal", value)
    if exponent == 3:
        return reading.product(reading.function("square", value), value)
    raise Unsupported(f"the power {exponent} has no rule (2, 3, -1, -0.5 have)")


@handles("gelu", "gelu_")
def gelu(reading: Reading, x: Any, approximate: str = "none") -> Value:
    z = reading.value(x)
    if approximate == "none":
        return reading.function("gelu", z)
    # z/2 (1 + tanh(sqrt(2/pi) (z + 0.044715 z^3)))
    cube = reading.product(reading.function("square", z), z)
    root = math.sqrt(2 / math.pi)
    inner = reading.sum(reading.scaled(z, root), reading.scaled(cube, root * 0.044715))
    bent = reading.mapped(reading.function("tanh", inner), lambda t: 0.5 * t + 0.5)
    return reading.product(z, bent)


@handles("softplus")
def softplus(reading: Reading, x: Any, beta: float = 1, threshold: float = 20) -> Value:
    if threshold != SOFTPLUS_THRESHOLD:
        raise Unsupported("softplus with another threshold than 20 has no rule")
    z = reading.value(x)
    if beta == 1:
        return reading.function("softplus", z)
    return reading.scaled(reading.function("softplus", reading.scaled(z, float(beta))), 1 / beta)


@handles("elu", "elu_")
def elu(reading: Reading, x: Any, alpha: float = 1, scale: float = 1, input_scale: float = 1) -> Value:
    if (alpha, scale, input_scale) != (1, 1, 1):
        raise Unsupported("ELU with another alpha than 1 has a kink, and no rule")
    return reading.function("elu", reading.value(x))


@handles("leaky_relu", "leaky_relu_")
def leaky_relu(reading: Reading, x: Any, slope: float = 0.01) -> Value:
    z = reading.value(x)  # relu(z) - slope relu(-z)
    negative = reading.function("relu", reading.scaled(z, -1.0))
    return reading.sum(reading.function("relu", z), reading.scaled(negative, -float(slope)))


@handles("abs")
def absolute(reading: Reading, x: Any) -> Value:
    z = reading.value(x)
    return reading.sum(reading.function("relu", z), reading.function("relu", reading.scaled(z, -1.0)))


@handles("softmax", "_softmax")
def softmax(reading: Reading, x: Any, dim: int, *_: Any) -> Value:
    return _softmax(reading, reading.value(x), dim)


def _softmax(reading: Reading, z: Value, dim: int, allowed: Tensor | None = None) -> Value:
    """Over one axis, which is brought to the end, among the positions that are allowed."""
    last = reading.gathered(z, lambda t: t.movedim(dim, -1)) if dim % len(z.shape) != len(z.shape) - 1 else z
    mask = ""
    if allowed is not None:
        if not bool(allowed.any(-1).all()):
            raise Unsupported("attention to no position at all has no rule")
        mask = reading.array(f"mask{len(reading.steps)}", allowed.expand(z.shape).reshape(-1).double().numpy())
    step = Step("softmax", (last.step,), positions=last.size // last.shape[-1], offset=mask)
    value = reading.add(step, last.shape)
    return value if last is z else reading.gathered(value, lambda t: t.movedim(-1, dim))


@handles("scaled_dot_product_attention")
def attention(reading: Reading, q: Any, k: Any, v: Any, attn_mask: Any = None, dropout_p: float = 0.0,
              is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False) -> Value:  # fmt: skip
    if enable_gqa:
        raise Unsupported("attention with grouped queries has no rule")
    queries, keys = reading.value(q), reading.value(k)
    factor = 1 / math.sqrt(queries.shape[-1]) if scale is None else scale
    scores = _bilinear(reading, reading.scaled(queries, factor), reading.gathered(keys, lambda t: t.mT))
    allowed = None
    if is_causal:
        allowed = torch.ones(scores.shape[-2:]).tril()
    elif isinstance(attn_mask, Tensor) and attn_mask.dtype == torch.bool:
        allowed = attn_mask
    elif isinstance(attn_mask, Tensor):
        allowed = attn_mask > -math.inf
        if attn_mask[allowed].any():
            raise Unsupported("an attention mask of other numbers than 0 and minus infinity has no rule")
    elif attn_mask is not None:
        raise Unsupported("an attention mask that is computed has no rule")
    return _bilinear(reading, _softmax(reading, scores, -1, allowed), reading.value(v))


@handles("batch_norm", "_native_batch_norm_legit_no_training")
def batch_norm(reading: Reading, x: Any, weight: Any, bias: Any, mean: Any, var: Any, *rest: Any) -> Value:
    if rest[0] is True or mean is None:
        raise Unsupported("batch normalization by the batch's own statistics has no rule: samples depend on each other")
    eps = rest[2] if isinstance(rest[0], bool) else rest[1]
    z = reading.value(x)
    across = (1, -1, *(1,) * (len(z.shape) - 2))
    factor = (var + eps).rsqrt()
    normed = reading.mapped(z, lambda t: (t - mean.reshape(across)) * factor.reshape(across))
    return _scale_and_shift(reading, normed, weight, bias, lambda t: t.reshape(across))


@handles("layer_norm")
def layer_norm(reading: Reading, x: Any, shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5,
               *_: Any) -> Value:  # fmt: skip
    z = reading.value(x)
    normed = _normalized(reading, z, z.size // math.prod(shape), eps)
    return _scale_and_shift(reading, normed, weight, bias, lambda t: t)


@handles("group_norm")
def group_norm(reading: Reading, x: Any, groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5,
               *_: Any) -> Value:  # fmt: skip
    z = reading.value(x)
    normed = _normalized(reading, z, groups, eps)
    across = (1, -1, *(1,) * (len(z.shape) - 2))
    return _scale_and_shift(reading, normed, weight, bias, lambda t: t.reshape(across))


def _normalized(reading: Reading, z: Value, groups: int, eps: float) -> Value:
    return reading.add(Step("normalize", (z.step,), positions=groups, eps=eps), z.shape)


def _scale_and_shift(reading: Reading, z: Value, weight: Any, bias: Any, move: Callable[[Tensor], Tensor]) -> Value:
    for given, combine in ((weight, reading.product), (bias, reading.sum)):
        if given is None:
            continue
        if isinstance(given, Tensor):
            raise Unsupported("a normalization with constant scale has no rule")
        placed = reading.gathered(reading.value(given), move)
        z = combine(z, reading.expanded(placed, z.shape))
    return z
