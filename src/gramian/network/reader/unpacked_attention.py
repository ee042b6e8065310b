"""nn.MultiheadAttention in plain calls: torch's own merges samples with heads, which no op here reads."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode


class Unpacked(TorchFunctionMode):
    """While it is entered, `F.multi_head_attention_forward` computes the same with an axis for the heads."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is not F.multi_head_attention_forward:
            return func(*args, **(kwargs or {}))
        given = inspect.signature(func).bind(*args, **(kwargs or {}))
        given.apply_defaults()
        a = given.arguments
        mask = a["attn_mask"]
        unusual = a["add_zero_attn"] or any(
            a[name] is not None for name in ("bias_k", "bias_v", "static_k", "static_v")
        )
        if unusual or a["query"].dim() != 3 or (mask is not None and mask.dim() != 2):
            return func(*args, **(kwargs or {}))
        return _attention(a)


def _attention(a: dict[str, Any]) -> tuple[Tensor, Tensor | None]:
    """Outputs (t, n, e), and the weights where they are asked for, from the arguments of torch's function."""
    q, k, v = (_heads(x, a["num_heads"]) for x in _projected(a))
    mask, hidden = a["attn_mask"], a["key_padding_mask"]
    if hidden is not None:
        if mask is None:
            mask = hidden[:, None, None, :]
        else:
            mask = mask + hidden[:, None, None, :]
    if a["training"]:
        dropout = a["dropout_p"]
    else:
        dropout = 0.0
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)
    out = F.linear(out.transpose(1, 2).flatten(2), a["out_proj_weight"], a["out_proj_bias"]).transpose(0, 1)
    if not a["need_weights"]:
        return out, None
    # the fused call gives no weights, so that they are computed once more for whoever asks
    scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5
    if mask is not None:
        scores = scores + mask
    weights = torch.softmax(scores, -1)
    if a["average_attn_weights"]:
        weights = weights.mean(1)
    return out, weights


def _projected(a: dict[str, Any]) -> list[Tensor]:
    """Queries, keys and values; (n, t, e)."""
    inputs = [a[name].transpose(0, 1) for name in ("query", "key", "value")]
    bias, e = a["in_proj_bias"], a["query"].shape[-1]
    if a["use_separate_proj_weight"]:
        if bias is None:
            biases = [None] * 3
        else:
            biases = bias.chunk(3)
        weights = [a[f"{name}_proj_weight"] for name in "qkv"]
        return [F.linear(x, w, b) for x, w, b in zip(inputs, weights, biases, strict=True)]
    return [F.linear(x, a["in_proj_weight"], bias)[..., i * e : (i + 1) * e] for i, x in enumerate(inputs)]


def _heads(x: Tensor, heads: int) -> Tensor:
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)
