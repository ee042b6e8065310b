"""Training: gradient descent and its kin on any module, measured while it runs."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Unpack

import torch
from torch import Tensor, nn

from gramian.errors import BadArgument
from gramian.files import check_writable
from gramian.module_state.random_numbers import random_numbers_apart
from gramian.train.batches import Batches
from gramian.train.best_constant import best_constant_loss
from gramian.train.checkpoint import Checkpoint
from gramian.train.ctrl_c import CtrlC
from gramian.train.loop import Loop
from gramian.train.objective import objective, samples
from gramian.train.probes import Probe, choose
from gramian.train.run import Run
from gramian.train.settings import RunOptions, Settings, SettingsKeywords, merged_settings
from gramian.train.trace import Trace
from gramian.train.training_progress import Bar


def train(
    module: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    x_test: Tensor | None = None,
    y_test: Tensor | None = None,
    settings: Settings | None = None,
    stop_loss: float | None = None,
    stop_accuracy: float | None = None,
    probes: str | Sequence[str | Probe] = "standard",
    every: int | None = None,
    checkpoint: str | Path | None = None,
    resume: bool = False,
    progress: bool = False,
    generator: torch.Generator | None = None,
    gram_rows: int = 128,
    **keywords: Unpack[SettingsKeywords],
) -> Trace:
    r"""Train `module` in place and say what happened.

    Minimizes the sum $F(W) = \sum_i F_i(W)$ over the samples, by default $F_i = \tfrac12 \|f(x_i) - y_i\|^2$. A step of
    gradient descent is $W \leftarrow W - \eta \nabla F(W)$, one of SGD
    $W \leftarrow W - \eta \frac{n}{|S|} \sum_{i \in S} \nabla F_i(W)$ with S the
    next part of a seeded permutation: the learning rate means the same for both, and time is learning rate times step.

    Parameters with `requires_grad=False` stay. The module is trained in the mode it is in, and measured in eval mode.

    Args:
        module: any network whose output has one row per input row.
        x: inputs; shape (n, *in_shape), the dtype of the module's parameters.
        y: class numbers, int64 (n,), of which the squared loss makes centered one-hot rows; or real targets, (n, C).
        x_test, y_test: the same for test samples; measured, never trained on.
        settings: how to train: optimizer (default "gd"), lr, batch_size, momentum, loss, steps (default 1000), accuracy
            and seed, see `gramian.Settings`. Each of them can be given as a plain keyword, `train(net, x, y, lr=0.1)`;
            one that stands beside `settings` wins.

            lr, None: 1/lambda_max of the Gram matrix $J J^\top$ at initialization, by power iteration, over the loss's
            curvature (1 for squared, 1/2 for cross-entropy); with minibatches the largest $(n/|S|) \lambda_{\max}$ of
            the first epoch's batches counts. Adam: 1e-3. `Trace.config["lr_from"]` says which. accuracy: the run stops
            at this share of the best constant predictor's loss, as with the `stop_loss` of that number. seed: of the
            minibatches, of the module's own random numbers (dropout), and of the rows that probes use.
        stop_loss: stop when the training loss is at most this; checked each step (minibatches: at measured steps).
        stop_accuracy: stop when the training accuracy is at least this share; checked at measured steps. With both, a
            run stops when both are reached.
        probes: "standard" (all that apply), names, `Probe`s, or () for none; "standard" may stand among others.
        every: measure each `every` steps. None: at about 40 steps, often at first.
        checkpoint: a file to write at measured steps (safetensors, whole or not at all).
        resume: go on from `checkpoint` if that file exists; the result equals that of an uninterrupted run bit for bit.
        progress: a bar on stderr with loss, accuracy and the time left.
        generator: random numbers for the minibatches, instead of `seed`.
        gram_rows: training samples at most that expensive probes use.

    Returns:
        The trace. A run whose loss is not finite or exceeds a million times the first one stops with `diverged=True`;
        Ctrl-C ends it after the current step with `interrupted=True`, a second Ctrl-C at once. `reason` says why it
        ended.

    Raises:
        BadData: inputs or targets that cannot be trained on; a checkpoint that is damaged or from another run.
        BadArgument: a setting that makes no sense; a folder that cannot be written (said before training).

    References:
        Allen-Zhu, Li and Song 2018, arXiv:1811.03962 (the minibatch step).

    Example:
        >>> x, y = torch.eye(3), torch.tensor([[1.0], [2.0], [3.0]])
        >>> net = nn.Linear(3, 1, bias=False).to(x.dtype)
        >>> trace = train(net, x, y, lr=0.5, steps=20, probes=("loss",))
        >>> round(trace.losses[2] / trace.losses[0], 6)  # the residual halves in each step
        0.0625
    """
    settings = merged_settings(train, settings, keywords, optimizer="gd", steps=1000)
    options = RunOptions(stop_loss, stop_accuracy, every, gram_rows)
    run = _start(module, x, y, x_test, y_test, settings, options)
    options = _with_goal(run, settings, options)
    if resume and checkpoint is None:
        raise BadArgument(
            "resume=True without a checkpoint.", where="train(..., resume=)", fix="checkpoint=PATH as well"
        )
    if checkpoint is not None:
        check_writable(checkpoint)
    if resume and checkpoint is not None and Path(checkpoint).exists():
        kept = Checkpoint.read(checkpoint)
    else:
        kept = None
    n = len(run.train)
    batches = Batches(n, settings.rows_per_step(n), generator or torch.Generator().manual_seed(settings.seed))
    chosen = choose(probes)
    assert settings.steps is not None  # `merged_settings` put the default there
    with _random(module, settings.seed), CtrlC() as interrupt, Bar(settings.steps, progress) as bar:
        loop = Loop(run, settings, options, batches, checkpoint, interrupt, bar)
        loop.begin(chosen, kept, standard=probes == "standard" or "standard" in probes)
        return loop.steps()


def _start(module, x, y, x_test, y_test, settings: Settings, options: RunOptions) -> Run:
    """The run at its initialization, its data checked."""
    if not any(p.requires_grad for p in module.parameters()):
        raise BadArgument(
            "The module has no parameter to train.",
            where="train(module, ...)",
            why="it has none, or all have requires_grad=False",
            fix="module.requires_grad_(True), or a module with weights",
        )
    if (x_test is None) != (y_test is None):
        raise BadArgument(
            "x_test and y_test go together; one of them is None.", where="train(...)", fix="give both or none"
        )
    goal = objective(settings.loss)
    data = samples(module, x, y, goal)
    if x_test is None or y_test is None:
        test = None
    else:
        test = samples(module, x_test, y_test, goal, name="_test")
    pick = torch.Generator().manual_seed(settings.seed)
    rows = torch.randperm(len(data), generator=pick)[: options.gram_rows].sort().values
    return Run(module, data, test, goal, rows.to(data.x.device))


def _with_goal(run: Run, settings: Settings, options: RunOptions) -> RunOptions:
    """The options, with the loss that `accuracy` stands for as the one to stop at."""
    if options.stop_accuracy is not None and run.train.labels is None:
        raise BadArgument(
            f"stop_accuracy={options.stop_accuracy} with real targets.", where="train(...)", fix="stop_loss"
        )
    if settings.accuracy is None:
        return options
    if options.stop_loss is not None:
        raise BadArgument(
            f"accuracy={settings.accuracy:g} and stop_loss={options.stop_loss:g} both say at which loss to stop.",
            where="train(..., stop_loss=)",
            why="accuracy is a share of the best constant predictor's loss, stop_loss is a loss",
            fix="one of them",
        )
    if settings.loss not in ("squared", "cross-entropy"):
        raise BadArgument(
            f"accuracy={settings.accuracy:g} with the loss {run.objective.name!r}.",
            where="train(..., accuracy=, loss=)",
            why="the best constant predictor is known for the squared loss and the cross-entropy only",
            fix="stop_loss, which is a loss",
        )
    best = best_constant_loss(run.objective.name, run.train.matrix, run.train.labels)
    return replace(options, stop_loss=settings.accuracy * best)


@contextlib.contextmanager
def _random(module: nn.Module, seed: int):
    """The seed for a while; the caller's random state comes back."""
    device = next(module.parameters()).device
    with random_numbers_apart(device):
        torch.manual_seed(seed)
        yield
