"""What a monitor looks at: the user's module and rows as a run, as many rows as are measured in a few seconds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from gramian.data import one_hot
from gramian.empirical.modules.arguments import Samples as Rows
from gramian.monitor.label_positions import Positions, positions_of
from gramian.monitor.losses import UserLoss, is_classification
from gramian.monitor.module_call import ModuleCall, call_of
from gramian.monitor.watched_module import Seen
from gramian.monitor.watched_outputs import Look
from gramian.monitor.watched_run import WatchedRun
from gramian.train.curvature import LossOf
from gramian.train.forward import normalizers
from gramian.train.objective import Objective, Samples
from gramian.train.token_losses import loss_of_tokens

WORK = {"cpu": 1.5e10}  # operations that one of the dear measurements may take: half a second of one core
ANSWER_FACTOR = 4  # times as many for the slowest samples, which are looked for when an answer is asked for
WORK_ELSEWHERE = 5e12
LEAST_ROWS, EDGE_ROWS = 8, 256
ROWS_TRIED = 64  # rows on which the loss is tried
EDGE_PASSES, SMOOTH_PASSES, STEP_PASSES = 30, 40, 3  # forward passes that a sample costs in each
KERNEL_ROWS = 32  # rows of a kernel for whose sake fewer of very many outputs are looked at
FEWEST_OUTPUTS = 4


@dataclass(frozen=True, eq=False)
class WatchedNetwork:
    """A run, and what the edge of stability is computed on.

    Attributes:
        run: what probes see; its `rows` are those of Gram matrices.
        slow_rows: rows among which the slowest are looked for.
        numbers: of the watched rows among the user's: rows without a target that counts are not watched.
        module, x, loss: `loss(module(x), x's row numbers)` as training computes it, on the rows for the sharpness.
        kind: of the loss over rows: "mean", "sum", "rows" (a number for each) or "neither".
        positions: of a sample whose tokens are looked at; 0 without tokens.
        outputs: over how many a kernel is averaged.
        units: by the name of a probe that sums the loss over rows, what the user's own loss divides that by.
        left_out: standard probes that are left out here, with the reason.
        pictures: the user's own input where it is one tensor, and targets, for the report.
    """

    run: WatchedRun
    slow_rows: Tensor
    numbers: Tensor
    module: nn.Module
    x: Rows
    loss: LossOf
    kind: str
    positions: int
    outputs: int
    units: dict[str, int]
    left_out: dict[str, str]
    pictures: tuple[Tensor | None, Tensor | None]


def watched(
    module: nn.Module, loss: Any, x: Any, y: Any, test: tuple[Any, Any], rows: int, tokens: int
) -> WatchedNetwork:
    """The first rows of the user's, as many as `WORK` allows; `test` is (x_test, y_test), None for none."""
    call = call_of(module, loss, x, y)
    if test[0] is None:
        other = None
    else:
        other = call.same(*test)
    f = call.outputs(torch.arange(min(ROWS_TRIED, call.n), device=call.device))
    user = UserLoss(call.loss, call.look, call.targets, template=call.output)
    if other is not None:
        user.with_test(other.targets)
    places = positions_of(call, user, tokens)
    if places is None or places.torch_layout:
        user.fit(f, torch.arange(len(f), device=call.device))
    else:
        user = UserLoss(loss_of_tokens(call.loss), call.look, call.targets, template=call.output)
    net, goal = _network(call, user, places)
    plan = _Plan(call, net, places, rows)
    return _assembled(call, other, user, places, net, goal, plan, tokens)


def _assembled(
    call: ModuleCall,
    other: ModuleCall | None,
    user: UserLoss,
    places: Positions | None,
    net: nn.Module,
    goal: Objective,
    plan: _Plan,
    tokens: int,
) -> WatchedNetwork:
    n = plan.n
    data = _samples(call, user, places, n)
    tested, test_net = None, None
    if other is not None:
        if places is None:
            at = None
        else:
            at = positions_of(other, user, tokens, most=places.n)
        tested = _samples(other, user, at, min(other.n, plan.fits["all"]), offset=call.n)
        if call.plain and places is None:
            test_net = None
        else:
            test_net = _network(other, user, at)[0]
    if places is None:
        numbers = 0
    else:
        numbers = places.numbers
    run = WatchedRun(net, data, tested, goal, plan.few, test_module=test_net, columns=plan.columns, numbers_out=numbers)
    edge_net = _network(call, user, None)[0]
    edge_rows = min(n, EDGE_ROWS, plan.fits["edge"])
    mean = places is not None or user.kind != "sum"
    units = {}
    if mean:
        units = {"loss": n, "test_loss": 1 if tested is None else len(tested)}
    return WatchedNetwork(
        run=run,
        slow_rows=plan.more,
        numbers=call.numbers[:n],
        module=edge_net,
        x=call.x(edge_rows),
        loss=user.value,
        kind=user.kind,
        positions=0 if places is None else places.n,
        outputs=data.matrix.shape[1] if plan.columns is None else len(plan.columns),
        units=units,
        left_out=_left_out(net, plan, data),
        pictures=(call.picture, call.targets.given if isinstance(call.targets.given, Tensor) else None),
    )


class _Plan:
    """How many rows and outputs are measured: what a measurement may take over what a row costs."""

    def __init__(self, call: ModuleCall, net: nn.Module, places: Positions | None, rows: int) -> None:
        work = WORK.get(call.device.type, WORK_ELSEWHERE)
        each = _operations(call, counted=places is not None)
        if places is None:
            c = call.look.columns
        else:
            c = places.n
        self.columns: Tensor | None = None
        most = max(FEWEST_OUTPUTS, int(work / (2 * KERNEL_ROWS * each)))
        if most < c and places is None:
            draw = torch.Generator().manual_seed(0)
            self.columns = torch.randperm(c, generator=draw)[:most].sort().values.to(call.device)
            c = most
        # a Gram matrix takes a forward pass and a backward pass for each output, which costs about two forward ones
        passes = {"all": STEP_PASSES, "gram": 1 + 2 * c, "edge": EDGE_PASSES, "smooth": SMOOTH_PASSES}
        self.fits = {name: max(LEAST_ROWS, int(work / (each * times))) for name, times in passes.items()}
        self.n = min(call.n, self.fits["all"])
        self.few, self.more = (
            torch.arange(min(rows, self.n, times * self.fits["gram"]), device=call.device)
            for times in (1, ANSWER_FACTOR)
        )


def _network(call: ModuleCall, user: UserLoss, places: Positions | None) -> tuple[nn.Module, Objective]:
    """The network that probes look at, and the loss of its outputs, summed over rows."""
    if places is not None:
        # p (1 - p) <= 1/4 is the curvature of one token in its log-odds; a sample has the mean of its tokens
        goal = Objective("cross-entropy of tokens", places.loss, 0.25 / places.n)
        return Seen(call.module, call.rows, call.how, places.log_odds), goal
    if user.kind in ("mean", "sum"):
        curvature = _curvature(call.loss, call.look)
    else:
        curvature = None
    goal = Objective(user.name, user.summed, curvature)
    if call.plain:
        return call.module, goal
    return Seen(call.module, call.rows, call.how, call.look.flat), goal


def _samples(call: ModuleCall, user: UserLoss, places: Positions | None, n: int, offset: int = 0) -> Samples:
    """The first rows, their targets by number, and what accuracy and alignment need of the targets."""
    first = torch.arange(n, device=call.device)
    if places is None:
        c = call.look.columns
    else:
        c = places.n
    if places is None:
        x = call.x(n)
    else:
        x = call.x(n, (places.at, places.right))
    y, labels = call.targets.given, None
    matrix = torch.zeros(n, c, dtype=torch.float64, device=call.device)
    if places is None and isinstance(y, Tensor):
        y = y[:n]
        whole = not y.is_floating_point() and y.dtype != torch.bool
        if whole and y.numel() == n and c > 1 and int(y.min()) >= 0 and int(y.max()) < c:
            y = y.reshape(n).long()
            if user.by_class or user.loss == "squared" or is_classification(user, y, c, offset):
                labels, matrix = y, one_hot(y, c, dtype=torch.float64)
        elif y.numel() == n * c:
            matrix = y.reshape(n, c).double()
            signs = bool((matrix.abs() == 1).all()) or (user.by_logit and bool(((matrix == 0) | (matrix == 1)).all()))
            if c == 1 and signs and (y.is_floating_point() or user.by_logit):
                labels = matrix[:, 0]
            else:
                labels = None
    return Samples(x, first + offset, labels, matrix)


def _left_out(net: nn.Module, plan: _Plan, data: Samples) -> dict[str, str]:
    reasons = {}
    if normalizers(net):
        reasons["semi_smoothness"] = "batch normalization: the loss that is trained is another for each batch"
    elif plan.fits["smooth"] < plan.n:
        why = f"it takes long on {plan.n} rows of this network; probes=('semi_smoothness', ...) asks for it"
        reasons["semi_smoothness"] = why
    if not bool(data.matrix.any()):
        reasons["kernel_alignment"] = "the targets are no class or row of numbers for each sample"
    return reasons


def _operations(call: ModuleCall, *, counted: bool) -> float:
    """Operations of one sample's forward pass, as torch counts them; twice the parameters where it cannot."""
    least = max(2.0 * sum(p.numel() for p in call.module.parameters()), 1.0)
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            call.output(torch.zeros(1, dtype=torch.int64, device=call.device))
    except Exception:  # a convenience: a module that the counter cannot follow is estimated
        return least
    return max(float(counter.get_total_flops()), 1.0 if counted else least)


def _curvature(loss: object, look: Look) -> float | None:
    """Bound on the curvature of one sample's loss, for the losses that are known."""
    if loss == "squared":
        return 1.0
    if loss == "cross-entropy" or (isinstance(loss, nn.CrossEntropyLoss) and loss.weight is None):
        return 0.5
    if isinstance(loss, nn.MSELoss):
        # a square has curvature 2; a mean over n rows, times n, still divides by the numbers of a row
        return 2.0 / (look.columns if loss.reduction == "mean" else 1)
    return None
