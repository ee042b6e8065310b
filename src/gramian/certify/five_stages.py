"""`certify` in its stages: prepared data, limit side, width, run, proofs, conclusions."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any, Unpack

import torch
from torch import nn

from gramian.arch.law import Law
from gramian.certify.certification import Certification
from gramian.certify.conclude import conclude
from gramian.certify.description import Description
from gramian.certify.impossible import impossible
from gramian.certify.limit_side import limit_side
from gramian.certify.prepared_data import prepare
from gramian.certify.proofs import proofs_of
from gramian.certify.request import Request
from gramian.certify.study_clock import Clock
from gramian.certify.training_run import training_run
from gramian.certify.width import width_of_run
from gramian.train.settings import Settings, SettingsKeywords, merged_settings

DESCRIBED = {field.name: f"description=gramian.Description({field.name}=...)" for field in fields(Description)}


def certify(
    module: nn.Module,
    x: Any,
    y: Any,
    *,
    x_test: Any = None,
    y_test: Any = None,
    law: Law | None = None,
    parametrization: str | None = None,
    width: int | str = "auto",
    tolerance: float = 0.1,
    targets: str = "auto",
    dtype: torch.dtype | None = None,
    device: str | None = None,
    settings: Settings | None = None,
    description: Description | None = None,
    progress: bool = False,
    checkpoint: str | Path | None = None,
    resume: bool = False,
    prove: bool | str = "auto",
    **keywords: Unpack[SettingsKeywords],
) -> Certification:
    r"""Will gradient descent reach the global minimum with this network on these data, how fast, and why do we know?

    Looks at the data (norms, separation, equal inputs with different labels), computes the limit kernel of the
    architecture and its spectrum, measures from which width on the network is in the regime of that limit, trains it
    while measuring, compares the run with the kernel's prediction, checks every theorem that applies, and tries to
    prove that an exact minimum lies near the trained weights.

    Reached means: the last training loss is at most `accuracy` times that of the best constant predictor (the targets'
    mean; for the cross-entropy the classes' frequencies), and with classes every training row is right.

    Args:
        module: any network with one row of outputs per input row.
        x: inputs; shape (n, *in_shape): a tensor, an array, a data frame. The network gets them as they are.
        y: class numbers, integers of shape (n,), output k for class k, or names of classes; or real targets, (n, C).
        x_test, y_test: the same for test rows, if any.
        law: of the random weights, as for `architecture`; default "torch" for the module's own weights and "standard",
            else "he", with biases of deviation 0.1 where the module has some.
        parametrization: None: a copy of the module as it stands, with its own weights and widths, is trained (or, with
            a `width`, "ntk"). "own": the same in place, so that `module(x)` is what was reported. "ntk", "standard":
            the module's architecture, weights drawn anew; "allen-zhu": the network of Allen-Zhu, Li and Song of the
            same family, on rows scaled and padded as in the paper.
        width: of every hidden layer, for "ntk" and "allen-zhu"; "auto" takes the useful width that was measured. The
            others keep the module's widths.
        tolerance: relative error of the kernel that counts as being in the regime of the limit.
        targets: "as given"; or "standardized": real targets are brought to mean 0 and deviation 1 before training, and
            errors are reported in their own unit. "auto": as given for "own"; for a copy of the module standardized
            where they are far from a network's first outputs (ten deviations, or a deviation above 10 or below 1/10);
            standardized where "ntk", "standard" or "allen-zhu" is asked for by name. A note says so.
        dtype: of the training; kernels are float64. Default: the module's own where it is trained, else float32.
        device: of the training. Default: the module's own where it is trained, else "cpu".
        settings: how to train: optimizer (default "sgd"), lr, batch_size, momentum, loss (one of the two words), steps,
            accuracy (default 0.01) and seed, see `gramian.Settings`. Each of them can be given as a plain keyword,
            `certify(net, x, y, optimizer="gd")`; one that stands beside `settings` wins.

            lr: of the loss *summed over the rows* (squared: half the squared errors); default 3/4 of the largest
            stable one (half with momentum; Adam: 1e-3). The answer gives it for the mean over a batch, as people write
            it, with the line of torch to paste: times n for `nn.CrossEntropyLoss()`, times n C / 2 for
            `nn.MSELoss()`, with n rows and C outputs. steps: default ten times what the kernel predicts (the module as
            it stands: 2,000 or more), at most 20,000. accuracy: there the run stops, with classes as soon as all
            training rows are right as well. seed: of the weights, the minibatches and the sweep's draws.
        description: for the report: what to call the network and the data, names of classes, numbers of rows; see
            `gramian.Description`.
        progress: say on stderr what is being done, with a progress bar for what takes long.
        checkpoint, resume: as for `train`.
        prove: whether `gramian.prove` is tried on a copy of the trained network: is there an exact minimum, training
            loss 0, near these weights? Then, of two layers with a smooth activation and plain descent on all rows,
            whether the exact run from the initial weights ends in one; other papers' theorems with their constants;
            and, of 1,000 rows or more with a proved minimum, bounds of the error on new samples. "auto": what is
            predicted to take, all together, no more than 3.5 times the study's time so far (20 s are always allowed)
            and 12 GiB at most; True: whatever time it takes, half an hour for the exact run; False: no.

    Returns:
        The answer with its certificates, the trace and plain facts; `.write(folder)` makes the report. `.did` is
        "reached", "not reached" or "impossible", `.why` how we know ("proved": an exact minimum near the trained
        weights is, or the exact run from the initial ones; the recorded run, which rounds, is observed). For rows that
        are equal to the network (all numbers equal in the precision of the training) and have different labels the
        answer is "impossible", and nothing is trained. A module in training mode (BatchNorm, Dropout) is trained so,
        and measured in evaluation mode.

    Raises:
        BadData: inputs or labels that can't be used. NoLimit: an architecture without a limit here, drawn anew.
        BadArgument: settings that make no sense.

    References:
        Allen-Zhu, Li, Song 2019, arXiv:1811.03962; Du et al. 2019, arXiv:1811.03804; Jacot et al. 2018,
        arXiv:1806.07572; Arora et al. 2019, arXiv:1904.11955.
    """
    settings = merged_settings(certify, settings, keywords, elsewhere=DESCRIBED, optimizer="sgd", accuracy=0.01)
    request = Request(
        module, settings, description or Description(), law, parametrization, width, tolerance, targets, dtype, device,
        checkpoint, resume, progress, prove,
    )  # fmt: skip
    clock = Clock(aloud=progress)
    data = prepare(request, x, y, x_test, y_test, clock)
    if data.impossible:
        return impossible(data)
    limit = limit_side(data, clock)
    chosen = width_of_run(data, clock)
    run = training_run(data, limit.times(data.setup.limit_scale(chosen.width)), chosen, clock)
    return conclude(run, proofs_of(run, clock), clock)
