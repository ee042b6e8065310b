"""Attention written out: `softmax(q @ k.mT / d + mask, -1) @ v`, read call by call until the values come in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from gramian.arch.ops.attention import Attended
from gramian.arch.ops.base import GROUPED, Call, Value
from gramian.arch.ops.norm import Identity
from gramian.arch.ops.pointwise import ELEMENTWISE, LineResult
from gramian.arch.ops.score_program import SOFTMAX, InputOperand, ScoreProgram
from gramian.errors import NoLimit

UNCHANGED_SCORES = {"dropout", "dropout_", "contiguous", "clone", "alias", "to", "_to_copy", "type_as"}
VALUE_PRODUCTS = {"aten.matmul.default", "aten.bmm.default"}


@dataclass(frozen=True)
class Scores:
    """Products of queries with keys, and what the user did to them since: a number for a pair of positions.

    No step makes them: they are part of the attention that they end in.
    """

    q: Value
    k: Value
    scale: float = 1.0
    lines: ScoreProgram = ()
    given: tuple[Value, ...] = ()

    @property
    def user_shape(self) -> tuple[int, ...]:
        """Without the batch axis."""
        return (*self.q.user_shape[:-1], self.k.user_shape[-2])

    @property
    def last(self) -> LineResult:
        """The newest of the lines."""
        return LineResult(len(self.lines) - 1)


def is_channels(x: Value, dim: int) -> bool:
    """Whether the user's axis holds the channels, or those of a head."""
    axis = x.axis(dim)
    return axis == 0 or axis == GROUPED + len(x.groups) - 1


def transposed(x: Value) -> Value:
    """The last two axes exchanged in the user's view."""
    return replace(x, layout=(*x.order[:-2], x.order[-1], x.order[-2]))


def product(a: Value, b: Value) -> Scores | None:
    """`a @ b` of two values of the network, if it is a sum over the channels of a head."""
    if len(a.order) < 2 or len(a.order) != len(b.order) or not is_channels(a, -1) or not is_channels(b, -2):
        return None
    return Scores(a, transposed(b))


def on_scores(call: Call) -> Scores | Attended:
    """A call that acts on scores: they go on, or meet the values."""
    name, args = call.target, list(call.args)
    base = name.removeprefix("aten.").split(".")[0]
    scores = next(a for a in args if isinstance(a, Scores))
    if name in VALUE_PRODUCTS and args[0] is scores and isinstance(args[1], Value):
        return Attended(scores.q, scores.k, args[1], scores.scale, scores.lines, scores.given)
    if base in UNCHANGED_SCORES:
        if "dropout" in base:
            Identity.read(replace(call, args=(scores.q, *args[1:]), shape=scores.q.user_shape))
        return scores
    if base in ("mul", "div") and not scores.lines and args[0] is scores:
        number = args[1]
        if isinstance(number, int | float) or _single(number):
            if base == "mul":
                return replace(scores, scale=scores.scale * float(number))
            return replace(scores, scale=scores.scale / float(number))
    if base == "mul" and not scores.lines and args[1] is scores and (_single(args[0]) or isinstance(args[0], float)):
        return replace(scores, scale=scores.scale * float(args[0]))
    softmax = base in ("softmax", "_softmax", "_safe_softmax") and args[1] in (-1, len(scores.user_shape))
    if softmax:
        softmax_of = "aten.softmax.int"
        if "safe" in base:
            softmax_of = SOFTMAX
        return replace(scores, lines=(*scores.lines, (softmax_of, (scores.last, -1))))
    elementwise = base.rstrip("_") in ELEMENTWISE | {"masked_fill"}
    if not elementwise or call.shape != scores.user_shape or sum(isinstance(a, Scores) for a in args) > 1:
        raise NoLimit(
            f"`{base}` acts on the scores, or weights, of attention.",
            why="there is a rule for a softmax over the keys, for masks, and for what acts on each score by itself",
            fix="softmax(q @ k.mT / q.shape[-1] + mask, -1) @ v, or F.scaled_dot_product_attention with "
            "scale=1 / q.shape[-1]; or gramian.monte_carlo(module, x)",
        )
    return _with_call(scores, name, args)


def _with_call(scores: Scores, name: str, args: list[Any]) -> Scores:
    """The scores after one more call, entry by entry; what it takes from the input becomes an operand."""
    given = list(scores.given)
    taken: list[Any] = []
    for a in args:
        if isinstance(a, Value) and a.data:
            given.append(a)
            taken.append(InputOperand(len(given) - 1))
        elif isinstance(a, Scores):
            taken.append(scores.last)
        else:
            taken.append(a)
    parts = name.split(".")
    parts[1] = parts[1].rstrip("_")
    out_of_place = ".".join(parts)
    return replace(scores, lines=(*scores.lines, (out_of_place, tuple(taken))), given=tuple(given))


def _single(arg: Any) -> bool:
    return isinstance(arg, Tensor) and arg.numel() == 1


def products(call: Call) -> tuple[Call, tuple[int, ...]]:
    """An einsum of two tensors as a matrix product, and the order in which the user has the axes of its result."""
    equation, operands = str(call.args[0]).replace(" ", ""), call.args[1]
    left, _, out = equation.partition("->")
    letters = left.split(",")
    refusal = NoLimit(
        f'einsum "{equation}" has no infinite-width rule here.',
        why="there is a rule for queries with keys, for weights with values, of the same heads, and for a matrix of "
        "numbers on one axis of the positions",
        fix="q @ k.mT and weights @ v, or F.scaled_dot_product_attention with scale=1 / q.shape[-1]; A @ h for a graph",
    )
    if len(letters) != 2 or not out or "." in equation or any(len(set(x)) < len(x) for x in (*letters, out)):
        raise refusal
    (a, b), (x, y) = letters, operands
    if isinstance(y, Scores):
        a, b, x, y = b, a, y, x
    summed = (set(a) & set(b)) - set(out)
    if isinstance(x, Scores):
        letters_in_order = a
    else:
        letters_in_order = out
    batch = [c for c in letters_in_order if c in a and c in b and c in out]
    rows, columns = [c for c in out if c in a and c not in b], [c for c in out if c in b and c not in a]
    if len(summed) != 1 or len(rows) != 1 or len(columns) != 1 or batch[:1] != [a[0]] or a[0] != b[0]:
        raise refusal
    if set(a) != {*batch, *rows, *summed} or set(b) != {*batch, *columns, *summed}:
        raise refusal
    if not isinstance(x, Scores) and out.index(rows[0]) > out.index(columns[0]):
        a, b, x, y, rows, columns = b, a, y, x, columns, rows
    first, second = [*batch, *rows, *summed], [*batch, *summed, *columns]
    if isinstance(x, Scores):
        if list(a) != first:
            raise refusal
    else:
        x = _viewed(x, a, first, refusal)
    y = _viewed(y, b, second, refusal)
    plain = [*batch, *rows, *columns]
    if not isinstance(x, Scores) and plain != list(out):
        raise refusal
    return replace(call, target="aten.matmul.default", args=(x, y)), tuple(plain.index(c) - 1 for c in out[1:])


def _viewed(x: Any, letters: str, wanted: Sequence[str], refusal: NoLimit) -> Value:
    if not isinstance(x, Value):
        raise refusal
    return replace(x, layout=tuple(x.order[letters.index(c) - 1] for c in wanted[1:]))


def is_scored(args: Any) -> bool:
    """Whether scores are among the arguments of a call."""
    return any(isinstance(a, Scores) or (isinstance(a, list | tuple) and is_scored(a)) for a in args)
