"""What a monitor looks at: the user's module and rows as a `Run`, as many rows as are measured in a few seconds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from gramian.arch.inputs import Inputs
from gramian.certify.monitor.edge import as_sum
from gramian.train.curvature import LossOf
from gramian.train.forward import evaluating, normalizers
from gramian.train.objective import Loss, Samples, objective, samples
from gramian.train.run import Run
from gramian.train.view import View, token_samples, view

WORK = {"cpu": 1.5e10}  # operations that one of the dear measurements may take: half a second of one core
AN_ANSWER = 4  # times as many for the slowest samples, which are looked for when an answer is asked for
WORK_ELSEWHERE = 5e12
LEAST, EDGE_ROWS = 8, 256
EDGE_PASSES, SMOOTH_PASSES, STEP_PASSES = 30, 40, 3  # forward passes that a sample costs in each


@dataclass(frozen=True, eq=False)
class Watched:
    """A run, and what the edge of stability is computed on.

    Attributes:
        run: what probes see; its `rows` are those of Gram matrices.
        slow_rows: rows among which the slowest are looked for.
        module, x, y, loss: `loss(module(x), y)` as training computes it, on the rows for the sharpness.
        positions: of a sample whose tokens are looked at; 0 without tokens.
        units: by the name of a probe that sums the loss over rows, what the user's own loss divides that by.
        too_long: standard probes that are left out here, with the reason.
    """

    run: Run
    slow_rows: Tensor
    module: nn.Module
    x: Tensor
    y: Tensor
    loss: LossOf
    positions: int
    units: dict[str, int]
    too_long: dict[str, str]


def watched(
    module: nn.Module, loss: Loss | None, x: Inputs, y: Tensor | None, test: tuple[Any, Any], rows: int, tokens: int
) -> Watched:
    """The first rows of the user's, as many as `WORK` allows; `test` is (x_test, y_test), None for none."""
    seen = view(module, loss, x, y, tokens=tokens)
    other = None if test[0] is None or test[1] is None else view(module, loss, *test, tokens=tokens)
    work = WORK.get(seen.x.device.type, WORK_ELSEWHERE)
    each = _operations(seen)
    fits = {name: max(LEAST, int(work / (passes * each))) for name, passes in _passes(seen).items()}
    if seen.positions:
        net, data, goal = token_samples(seen)
        mean = seen.loss not in ("squared", "cross-entropy")
        tested = None if other is None else token_samples(other)[1]
    else:
        net = seen.module
        with evaluating(net):
            goal, mean = as_sum(seen.loss, net, seen.x, seen.y)
        data = samples(net, seen.x, seen.y, goal)
        tested = None if other is None else samples(net, other.x, other.y, goal, name="_test")
    n = min(len(data), fits["all"])
    data, tested = _first(data, n), None if tested is None else _first(tested, min(len(tested), fits["all"]))
    few, more = (torch.arange(min(rows, n, times * fits["gram"]), device=data.x.device) for times in (1, AN_ANSWER))
    run = Run(net, data, tested, goal, few)
    units = {"loss": len(data), "test_loss": 1 if tested is None else len(tested)} if mean else {}
    too_long = {}
    if normalizers(net):
        too_long["semi_smoothness"] = "batch normalization: the loss that is trained is another for each batch"
    elif fits["smooth"] < n:
        why = f"it takes long on {n} rows of this network; probes=('semi_smoothness', ...) asks for it"
        too_long["semi_smoothness"] = why
    edge_rows = min(n, EDGE_ROWS, fits["edge"])
    y_edge = seen.y if seen.positions else data.targets
    user = objective(seen.loss).function
    return Watched(
        run,
        more,
        seen.module,
        seen.x[:edge_rows],
        y_edge[:edge_rows],
        user if seen.positions or isinstance(seen.loss, str) else _flat(user),
        seen.positions,
        units,
        too_long,
    )


def _passes(seen: View) -> dict[str, int]:
    """Forward passes that a row costs, by what is done with it."""
    with torch.no_grad(), evaluating(seen.module):
        outputs = seen.positions or seen.module(seen.x[:2]).flatten(1).shape[1]
    return {"all": STEP_PASSES, "gram": 1 + 2 * outputs, "edge": EDGE_PASSES, "smooth": SMOOTH_PASSES}


def _operations(seen: View) -> float:
    """Operations of one sample's forward pass, as torch counts them; twice the parameters where it cannot."""
    least = 2.0 * sum(p.numel() for p in seen.module.parameters())
    try:
        with torch.no_grad(), evaluating(seen.module), FlopCounterMode(display=False) as counter:
            seen.module(seen.x[:1])
    except Exception:  # a convenience: a module that the counter cannot follow is estimated
        return least
    return max(float(counter.get_total_flops()), least if not seen.positions else 1.0)


def _first(data: Samples, n: int) -> Samples:
    labels = None if data.labels is None else data.labels[:n]
    return Samples(data.x[:n], data.targets[:n], labels, data.matrix[:n])


def _flat(loss: LossOf) -> LossOf:
    """The user's loss on outputs of one row a sample."""
    return lambda outputs, targets: loss(outputs.reshape(len(outputs), -1), targets)
