"""`gramian.prove`: a theorem about these weights and these data, or the inequality that stands in its way."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn

from gramian.checker.program import NetworkProgram
from gramian.errors import BadArgument, named_in_errors
from gramian.prove.arguments import DRAWS, check_find, check_limits, check_polishing, check_statement
from gramian.prove.before import MOST_POINTS, prove_before
from gramian.prove.cost import check_memory, cost_of
from gramian.prove.local import prove_descent, prove_minimum
from gramian.prove.polish import Polished, polish
from gramian.prove.problem import Problem, problem_of
from gramian.prove.proof import Proof, too_few_weights
from gramian.prove.read_program import checked_layers, checked_program
from gramian.prove.run import MOST_STEPS
from gramian.prove.separation import prove_separation
from gramian.prove.whole_run import RunLimits, prove_run
from gramian.timing import TimeLimit

News = Callable[[str], None]


def _silent(text: str) -> None:
    """No news."""


@named_in_errors
def prove(
    module: nn.Module | Callable[[int], nn.Module],
    x: Any,
    y: Any,
    statement: str = "minimum",
    *,
    find: str | None = None,
    loss: str = "squared",
    lr: float | None = None,
    accuracy: float = 1e-3,
    most_steps: int | None = None,
    polished: bool | None = None,
    in_place: bool = False,
    max_bytes: int = 12 * 2**30,
    max_seconds: float = math.inf,
    news: News = _silent,
) -> Proof:
    r"""A theorem about this network on these data, in exact arithmetic, or the inequality that fails.

    - "minimum": weights with training loss exactly 0 lie within a stated distance of these. Found by a few
      Gauss-Newton steps and proved by the size of the residual against the smallest singular value of the Jacobian and
      the Jacobian's Lipschitz constant. With `loss="cross-entropy"`, whose infimum 0 is not reached: each sample's
      class is ahead by a margin, so that scaling the readout takes the loss to 0.
    - "descent": gradient descent with step `lr` from these weights converges to such a minimum, at a stated rate.
    - "run": the same where the weights are initial ones, far from a minimum: the whole run is replayed in floating
      point, the exact run proved to stay within a stated distance of it, and its end proved to converge. Fully
      connected networks with smooth activations; `lr` None looks for the largest rate that can be proved.
    - "before": the same from few points. The exact run is enclosed around a path that is known in closed form over
      many steps at once, so that a small `lr` costs hardly more than a large one. `find` looks for the smallest width
      or output scale, or the largest rate, that is certified.

    All of it holds for the network's formula in real numbers, at the weights as float64; every rounding error is
    bounded, and the words come from an independent checker (`gramian.checker`), which `save` and `gramian check` let
    anyone run.

    Args:
        module: any smooth network of layers that have a rule (linear, convolution, average pooling, sums, products,
            normalization in evaluation mode, attention), or with ReLU, leaky ReLU or abs, by the fixed signs of their
            arguments. It is read in evaluation mode, copied and taken to float64. With `find="width"`, a function
            that draws the network of an even width.
        x: inputs (n, ...).
        y: real targets (n, C), or class numbers (n,), which become the rows that `gramian.train` fits.
        statement: "minimum", "descent", "run" or "before".
        find: of "before": "width", "scale" (a multiplier of the outputs) or "lr"; found by bisection on the draws that
            `trials` of the result lists, so the neighbours of what is found were tried, and not every other value.
        loss: "squared", $\frac12 \sum_i \|f(x_i) - y_i\|^2$; or "cross-entropy" (of "minimum" alone).
        lr: of "descent", "run" and "before": the step on $\frac12 \sum_i \|f(x_i) - y_i\|^2$ (a mean over n samples and
            C outputs has $\frac{2}{nC}$ of its gradient); None: 1 / lambda_max, of "run" the largest that is found.
        accuracy: of "run" and "before": the loss for which the number of steps is proved.
        most_steps: of "run": at most so many are replayed at each rate, 20,000 if None; of "before": at most so many
            points of the path are computed, 1,000 if None.
        polished: whether Gauss-Newton steps go first; None: for "minimum".
        in_place: whether the steps change `module` itself; its parameters must be float64.
        max_bytes: memory that the proof may take.
        max_seconds: of "run" and "before", whose searches may be long: the time after which no more is tried.
        news: told what is done, with its predicted cost before it starts.

    Returns:
        `status` "proved" or "not proved"; `premises`, the inequalities with their two numbers; `summary`, the
        statement in words; `fix`, what would prove it; `save(path)`.

    Raises:
        Unsupported: a layer without a rule, by name.
        BadData: x and y do not fit the network, or are not finite.
        BadArgument: unknown statement, or more memory than `max_bytes` is needed.

    Example:
        >>> torch.manual_seed(0)                                                          # doctest: +ELLIPSIS
        <torch._C.Generator object at ...>
        >>> net = torch.nn.Sequential(torch.nn.Linear(3, 64), torch.nn.Tanh(), torch.nn.Linear(64, 1))
        >>> gramian.prove(net, torch.randn(5, 3), torch.randn(5, 1)).status
        'proved'
    """
    began = time.perf_counter()
    check_statement(statement, loss, lr)
    check_find(module, find, statement, lr)
    check_limits(accuracy, most_steps, max_seconds)
    check_polishing(module, statement, polished, in_place)
    if statement == "before":
        drawn = partial(_drawn, module, x, y)
        return prove_before(drawn, find, lr, accuracy, most_steps or MOST_POINTS, news, TimeLimit(max_seconds))
    assert isinstance(module, nn.Module)
    problem = problem_of(module, x, y, loss)
    own = problem.module
    if in_place:
        own = module.eval()
    if loss == "cross-entropy":
        return prove_separation(problem, began)
    if statement == "run":
        limits = RunLimits(most_steps or MOST_STEPS, TimeLimit(max_seconds))
        return prove_run(checked_layers(own, problem.x), problem, lr, (accuracy,), limits, news)
    program = checked_program(own, problem.x)
    outputs = problem.y.numel()
    weights = sum(program.arrays[name].size for name in program.trained)
    if weights < outputs:
        return too_few_weights(statement, weights, outputs)
    cost = cost_of(program, len(problem.x), outputs // len(problem.x))
    check_memory(cost, max_bytes)
    news(f"predicted: {cost.says()}")
    done = Polished((), 0.0)
    if polished or (polished is None and statement == "minimum"):
        done = polish(own, problem.x, problem.y, max_bytes=max_bytes, news=news)
        program = checked_program(own, problem.x)
    numbers: dict[str, float] = {"moved": done.moved, "outputs": outputs, "parameters": weights}
    if done.residuals:
        numbers["residual_left"] = done.residuals[-1]
    numbers |= {"polishing_steps": max(len(done.residuals) - 1, 0)}
    news("bounding every error and factorizing the Gram matrix")
    if statement == "minimum":
        return prove_minimum(problem, program, numbers, began)
    return prove_descent(problem, program, numbers, began, lr)


def _drawn(
    module: nn.Module | Callable[[int], nn.Module], x: Any, y: Any, width: int
) -> tuple[NetworkProgram, Problem]:
    """The network as a program, drawn at this width where one is asked for."""
    network = module
    if not isinstance(network, nn.Module):
        network = network(width)
        if not isinstance(network, nn.Module):
            raise BadArgument(
                f"`module({width})` is a {type(network).__name__}.",
                why="with find='width' it is a function that draws a torch module of this width",
                fix=DRAWS,
            )
    problem = problem_of(network, x, y, "squared")
    return checked_program(problem.module, problem.x), problem
