"""`certify`: data, kernel, width, run, theorems, answer, in this order."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any, Unpack

import torch
from torch import Tensor, nn
from torch.nn import functional

from gramian.arch.law import Law
from gramian.certify.certification import Certification
from gramian.certify.conclude import conclude
from gramian.certify.cost import (
    MOST_TEST_SECONDS,
    check_memory,
    matrix,
    seconds_per_pair,
    spectrum_seconds,
    with_fewer_test_rows,
    words,
)
from gramian.certify.description import Description
from gramian.certify.facts import data_facts
from gramian.certify.finished_run import Run
from gramian.certify.goal import conflicts, equal_to_the_network, goal
from gramian.certify.impossible import impossible
from gramian.certify.inputs import check_module, check_words, copied, given, with_scale
from gramian.certify.kernel_prediction import settled
from gramian.certify.measure import GRAM_OPERATIONS, coupled_gram, differs_by_mode, largest_lr, outputs, probes_for
from gramian.certify.setup import Setup, check_parametrization, says_biases, setup
from gramian.certify.study_clock import PATIENCE, Clock
from gramian.certify.torch_line import per_batch, rounded
from gramian.certify.width import affordable_rows, choose_width, kernel_error, sweep
from gramian.data import geometry, one_hot
from gramian.errors import BadArgument
from gramian.gram.spectrum import eigensystem
from gramian.solve import time_to
from gramian.train import train
from gramian.train.settings import SGD_BATCH, Settings, SettingsKeywords, merged_settings

MOST_STEPS = 20_000
ADAM_LR = 1e-3
PLAIN_SHARE, MOMENTUM_SHARE = 0.75, 0.5  # of the largest stable learning rate: room for it to fall during training
DESCRIBED = {field.name: f"description=gramian.Description({field.name}=...)" for field in fields(Description)}
WATCH_OPERATIONS = 1.5e10  # for each of about a dozen during the run


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
    **keywords: Unpack[SettingsKeywords],
) -> Certification:
    r"""Will gradient descent reach the global minimum with this network on these data, how fast, and why do we know?

    Looks at the data (norms, separation, equal inputs with different labels), computes the limit kernel of the
    architecture and its spectrum, measures from which width on the network is in the regime of that limit, trains it
    while measuring, compares the run with the kernel's prediction, and checks every theorem that applies.

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

    Returns:
        The answer with its certificates, the trace and plain facts; `.write(folder)` makes the report. `.did` is
        "reached", "not reached" or "impossible", `.why` how we know. For rows that are equal to the network (all
        numbers equal in the precision of the training) and have different labels the answer is "impossible", and
        nothing is trained. A module in training mode (BatchNorm, Dropout) is trained so, and measured in evaluation
        mode.

    Raises:
        BadData: inputs or labels that can't be used. NoLimit: an architecture without a limit here, drawn anew.
        BadArgument: settings that make no sense.

    References:
        Allen-Zhu, Li, Song 2019, arXiv:1811.03962; Du et al. 2019, arXiv:1811.03804; Jacot et al. 2018,
        arXiv:1806.07572; Arora et al. 2019, arXiv:1904.11955.
    """
    settings = merged_settings(
        certify, settings, keywords, elsewhere=DESCRIBED, optimizer="sgd", accuracy=0.01
    )  # refuses before any work
    check_words(settings.loss, targets, tolerance)
    about = description or Description()
    rows, classes, name = about.row_numbers, about.classes, about.name
    optimizer, lr, batch_size, steps, loss, seed = (
        str(settings.optimizer), settings.lr, settings.batch_size, settings.steps, str(settings.loss), settings.seed
    )  # fmt: skip
    accuracy = settings.accuracy
    assert accuracy is not None
    check_module(module)
    in_place, way = parametrization == "own", parametrization
    if way is None:
        way = "own" if width == "auto" else "ntk"
    check_parametrization(way)
    own = next(p for p in module.parameters() if p.is_floating_point())
    dtype = dtype or (own.dtype if way == "own" else torch.float32)
    device = device or (str(own.device) if way == "own" else "cpu")
    clock = Clock(aloud=progress)
    data = given(x, y, x_test, y_test, rows=rows, classes=classes, loss=loss)
    data = with_scale(data, targets, parametrization, loss)
    warnings = [*about.notes, *data.notes]
    if way == "own" and not in_place:
        module = copied(module)
    with clock("limit kernel"):
        network_setup = setup(module, data.x, data.x_test, law, way, dtype, device)
    shape = geometry(data.x, data.y, rows=rows)
    same = equal_to_the_network(network_setup.x, dtype)
    known = data_facts(about.data_name, about.source, data, shape)
    aim = goal(_targets(data.trained(data.y)), data.y, loss, accuracy, dtype, same)
    pairs = conflicts(same, data.y)
    if pairs and (aim.classes or aim.floor > aim.target):
        return impossible(pairs, aim, network_setup.x, dtype, rows, known, name, seed, loss, warnings)
    if same:
        warnings.append(f"{len(same)} group(s) of equal rows: the Gram matrix is singular.")
    if network_setup.no_limit:
        warnings.append("No limit kernel. " + network_setup.no_limit.splitlines()[0])
    if (
        network_setup.arch is not None
        and not network_setup.paper
        and (said := says_biases(module, network_setup.arch, law, way))
    ):
        warnings.append(said)
    mode = differs_by_mode(module, data.x[:8]) if way == "own" else ""
    c = n_outputs(network_setup, device, dtype)
    wanted = _targets(data.trained(data.y), c)
    if wanted.shape[1] != c:
        raise BadArgument(
            f"The network has {c} outputs for targets of shape {tuple(wanted.shape)}.",
            where="certify(module, x, y)",
            why="its last layer was made for another number of classes or targets",
            fix=f"a last layer with {wanted.shape[1]} outputs"
            + ("" if data.y.is_floating_point() else ", one a class; or y as floats, for a quantity or signs 1 and -1"),
        )
    if network_setup.kernel is not None and (said := check_memory(len(network_setup.x))):
        clock.say(said)
    with clock("limit kernel"):
        per_pair = (
            0.0 if network_setup.kernel is None else seconds_per_pair(partial(network_setup.kernel, 1), network_setup.x)
        )
    data, network_setup, warning = with_fewer_test_rows(data, network_setup, per_pair, seed)
    warnings += [warning] if warning else []
    known["n_test"] = len(data.x_test)
    with clock("width sweep") as tell:
        width_sweep = sweep(network_setup, tolerance, seed, dtype, width != "auto", per_pair, tell)
    chosen, warning = choose_width(network_setup, width_sweep, width)
    warnings += [warning] if warning else []
    network = network_setup.build(chosen, seed)
    inputs, test_inputs = network_setup.x.to(device, dtype), network_setup.x_test.to(device, dtype)
    f0 = outputs(network, inputs)
    has_test = len(test_inputs) > 0
    f0_test = outputs(network, test_inputs) if has_test else None
    trained, trained_test = data.trained(data.y), data.trained(data.y_test)
    wanted_test = _targets(trained_test, c)
    theta = cross = system = None
    if network_setup.kernel is not None:
        kernel = partial(network_setup.kernel, chosen)
        n = len(network_setup.x)
        # the kernel of the training rows is symmetric: half of its pairs are computed
        if (expected_time := per_pair * n * (n / 2 + len(network_setup.x_test))) > PATIENCE:
            clock.say(
                f"limit kernel of {n:,} training and {len(network_setup.x_test):,} test rows: {words(expected_time)}"
            )
        with clock("limit kernel") as tell:
            theta = matrix(kernel, network_setup.x, None, per_pair, tell)
            cross = matrix(kernel, network_setup.x_test, network_setup.x, per_pair, tell) if has_test else None
        with clock("spectrum"):
            if (expected_time := spectrum_seconds(theta)) > PATIENCE:
                clock.say(f"spectrum of {n:,} rows: {words(expected_time)}")
            system = settled(eigensystem(theta))
    with clock("Gram matrix of the network"):
        some = affordable_rows(network, network_setup.x, dtype, GRAM_OPERATIONS)
        watched = affordable_rows(network, network_setup.x, dtype, WATCH_OPERATIONS)
        error = kernel_error(network, network_setup.x[:some], None if theta is None else theta[:some, :some], dtype)
        coupled = coupled_gram(network, network_setup.x, c, dtype) if loss == "squared" else None

    size = min(batch_size or SGD_BATCH, len(inputs)) if optimizer == "sgd" else len(inputs)
    beta = settings.effective_momentum
    with clock("learning rate"):
        lr_max = largest_lr(network, inputs, error.own, optimizer, beta, size, loss, seed)
    times = 1.0 if optimizer == "adam" else per_batch(loss, len(inputs), c)
    # with three digits in the unit of the loss as people write it, so that a line holds it whole
    if lr is None:
        share = MOMENTUM_SHARE if beta else PLAIN_SHARE
        lr = ADAM_LR if lr_max is None else rounded(lr_max * share * times) / times
    r0 = f0 - wanted
    start = _initial_loss(f0, wanted, data.y, loss)
    expected = None
    if system is not None and loss == "squared" and optimizer != "adam" and start > 0:
        method = "gd" if optimizer == "sgd" else optimizer
        expected = float(time_to(system, r0, aim.target / start, lr, method, beta)) if aim.target > 0 else math.inf
    if steps is None:
        enough = 0.0 if expected is None else 10 * expected + 100
        # no kernel says how long a network of any width and scale takes
        if way == "own" or expected is None:
            enough = max(enough, 2000.0)
        steps = int(min(enough, MOST_STEPS))
    with clock("training", bar=False):  # it has its own
        trace = train(
            network,
            inputs,
            _on(trained, device, dtype),
            x_test=test_inputs if has_test else None,
            y_test=_on(trained_test, device, dtype) if has_test else None,
            settings=replace(
                settings, lr=lr, steps=steps, batch_size=size if optimizer == "sgd" else None, accuracy=None
            ),
            stop_loss=aim.target,
            stop_accuracy=1.0 if aim.classes else None,
            checkpoint=checkpoint,
            resume=resume,
            progress=progress,
            gram_rows=watched,
            probes=probes_for(network, network_setup.x, c, steps, dtype),
        )
    run = Run(
        made=network_setup, sweep=width_sweep, width=chosen, network=network, trace=trace, data=data, aim=aim, way=way,
        separation=geometry(network_setup.x).separation if network_setup.paper else shape.separation,
        in_place=in_place, mode=mode, targets=wanted, targets_test=wanted_test, theta=theta, cross=cross,
        system=system, r0=r0, f0_test=f0_test, lr=lr, lr_max=None if mode else lr_max, batch_size=size, beta=beta,
        optimizer=optimizer, loss=loss, seed=seed, gram=error, expected_steps=expected, coupled=coupled,
        costly=per_pair * len(network_setup.x) ** 2 / 2 > MOST_TEST_SECONDS,
        train_outputs=outputs(network, inputs), test_outputs=outputs(network, test_inputs) if has_test else None,
    )  # fmt: skip
    with clock("Gram matrix of the network"):
        broken = trace.diverged or not bool(run.train_outputs.isfinite().all())
        final = None if broken else kernel_error(network, network_setup.x[:some], None, dtype).own
    made_as = {"seed": seed, "dtype": str(dtype).removeprefix("torch."), "device": str(device)}
    return conclude(run, final, known, name, clock, warnings, made_as)


def n_outputs(network_setup: Setup, device: str, dtype: torch.dtype) -> int:
    """Of the network; one without a limit is asked."""
    if network_setup.arch is not None:
        return network_setup.arch.n_outputs
    return outputs(network_setup.build(network_setup.own_width, 0), network_setup.x[:2].to(device, dtype)).shape[1]


def _on(y: Tensor, device: str, dtype: torch.dtype) -> Tensor:
    return y if y.dtype == torch.int64 else y.to(device, dtype)


def _targets(y: Tensor, n_outputs: int = 0) -> Tensor:
    if y.dtype != torch.int64:
        return y
    return one_hot(y, max(n_outputs, int(y.max()) + 1 if len(y) else 0))


def _initial_loss(f0: Tensor, targets: Tensor, y: Tensor, loss: str) -> float:
    if loss == "cross-entropy" and y.dtype == torch.int64:
        return float(functional.cross_entropy(f0, y, reduction="sum"))
    return float((f0 - targets).square().sum() / 2)
