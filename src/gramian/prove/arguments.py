"""What `gramian.prove` may be asked, and what it says where that makes no sense."""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Integral, Real

import torch
from torch import nn

from gramian.checker.run_statement import SMALLEST_ACCURACY
from gramian.errors import BadArgument

STATEMENTS = ("minimum", "descent", "run", "before")
FINDS = ("width", "scale", "lr")
DRAWS = "a function such as lambda width: nn.Sequential(nn.Linear(64, width), nn.Tanh(), nn.Linear(width, 1))"


def check_statement(statement: str, loss: str, lr: float | None) -> None:
    """That there is such a statement, of this loss, at this rate."""
    if statement not in STATEMENTS:
        raise BadArgument(
            f"`statement` is {statement!r}.",
            why="it names what is to be proved",
            fix=" or ".join(map(repr, STATEMENTS)),
        )
    if loss not in ("squared", "cross-entropy") or (loss == "cross-entropy" and statement != "minimum"):
        raise BadArgument(
            f"`loss` is {loss!r} with the statement {statement!r}.",
            why="the squared loss has both statements; the cross-entropy, whose infimum is not reached, has 'minimum'",
            fix="loss='squared'",
        )
    if lr is not None and not (isinstance(lr, Real) and 0 < lr < math.inf):
        raise BadArgument(f"`lr` is {lr!r}.", why="a step is a positive number", fix="lr=None for 1 / lambda_max")


def check_limits(accuracy: float, most_steps: int | None, max_seconds: float) -> None:
    """That a search can keep these limits."""
    if not (isinstance(accuracy, Real) and SMALLEST_ACCURACY <= accuracy < math.inf):
        raise BadArgument(
            f"`accuracy` is {accuracy!r}.",
            why=f"it is a loss, a finite number of at least {SMALLEST_ACCURACY}, for which the steps are counted",
            fix="accuracy=1e-3",
        )
    if most_steps is not None and not (isinstance(most_steps, Integral) and most_steps >= 1):
        raise BadArgument(
            f"`most_steps` is {most_steps!r}.", why="it is a whole number above 0", fix="most_steps=None, or 1000"
        )
    if not (isinstance(max_seconds, Real) and max_seconds >= 0):
        raise BadArgument(
            f"`max_seconds` is {max_seconds!r}.", why="it is a time, a number of at least 0", fix="max_seconds=60"
        )


def check_polishing(
    module: nn.Module | Callable[[int], nn.Module], statement: str, polished: bool | None, in_place: bool
) -> None:
    """That the steps that were asked for have weights to move."""
    if in_place and statement == "before":
        raise BadArgument("`in_place` with the statement 'before'.", why="it polishes no weights", fix="in_place=False")
    if polished and statement in ("run", "before"):
        raise BadArgument(
            f"`polished` with the statement {statement!r}.",
            why="it is about the weights as they are",
            fix="polished=None, or statement='descent'",
        )
    if in_place and isinstance(module, nn.Module) and any(p.dtype != torch.float64 for p in module.parameters()):
        raise BadArgument(
            "The module's weights are not float64, and are to be polished in place.",
            why="rounding the polished weights to float32 would undo the proof",
            fix="module.double() first, or in_place=False",
        )


def check_find(
    module: nn.Module | Callable[[int], nn.Module], find: str | None, statement: str, lr: float | None
) -> None:
    """That what is looked for can be varied, and is not given."""
    if find is not None and (find not in FINDS or statement != "before"):
        raise BadArgument(
            f"`find` is {find!r} with the statement {statement!r}.",
            why="the statement 'before' alone looks for a smallest value, of one of three kinds",
            fix="statement='before' with find=" + " or ".join(map(repr, FINDS)),
        )
    if find == "lr" and lr is not None:
        raise BadArgument("`lr` is given, and to be found.", why="it cannot be both", fix="lr=None")
    if isinstance(module, nn.Module) == (find == "width"):
        raise BadArgument(
            f"`module` is a {type(module).__name__} with find={find!r}.",
            why="a width is looked for among networks that are drawn: that takes a function of the width, and all else "
            "takes a module",
            fix=f"find='width' with {DRAWS}",
        )
