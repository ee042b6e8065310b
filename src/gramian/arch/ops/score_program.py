"""Calls on the scores of attention, one line after the other: masks, what is added, the softmax."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gramian.arch.ops.base import replaced
from gramian.arch.ops.pointwise import LineResult, as_tensors


@dataclass(frozen=True)
class InputOperand:
    """An argument of a line that is made from the input: the k-th input after q, k and v."""

    index: int


ScoreProgram = tuple[tuple[str, tuple[Any, ...]], ...]  # aten names and arguments; `LineResult(-1)` is the scores
CAUSAL = "mask"  # a line that hides keys: where its mask is false
SOFTMAX = "aten._safe_softmax.default"  # torch's attention: a query that may see no key gets zeros


def run_on_scores(lines: ScoreProgram, scores: Tensor, given: Sequence[Tensor]) -> Tensor:
    """The result of the last line; `given` are the numbers that lines take from the input."""
    results: list[Tensor] = []

    def filled(arg: Any) -> Any:
        if isinstance(arg, LineResult):
            if arg.index < 0:
                return scores
            return results[arg.index]
        if isinstance(arg, InputOperand):
            return given[arg.index]
        return arg

    for name, args in lines:
        results.append(_line(name, [filled(a) for a in args], scores))
    if results:
        return results[-1]
    return scores


def _line(name: str, args: list[Any], scores: Tensor) -> Tensor:
    """One call on the scores; what is true or false may come as 1 and 0."""
    given = replaced(args, Tensor, lambda tensor: _beside(scores, tensor))
    if name == CAUSAL:
        return torch.where(given[1] != 0, given[0], -math.inf)
    base, overload = name.split(".")[1:]
    if base == "masked_fill":
        given[1] = given[1] != 0
    if base == "where":
        given[0] = given[0] != 0
    call = getattr(getattr(torch.ops.aten, base), overload)
    schema = call._schema.arguments
    given = as_tensors(given, schema, scores)
    named = {s.name: a for a, s in zip(given, schema, strict=False) if s.kwarg_only}
    return call(*given[: len(given) - len(named)], **named)


def _beside(scores: Tensor, arg: Tensor) -> Tensor:
    """An argument on the scores' device, and in their precision unless it is a mask."""
    if arg.dtype == torch.bool:
        return arg.to(scores.device)
    return arg.to(scores)
