"""`certify`: data, kernel, width, run, theorems, answer, in this order."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from gramian.arch.inputs import one_tensor
from gramian.arch.law import Law
from gramian.certify.certification import Certification
from gramian.certify.clock import Clock
from gramian.certify.conclude import Run, conclude, contradicted, data_facts
from gramian.certify.setup import setup
from gramian.certify.width import affordable_rows, choose_width, kernel_error, sweep
from gramian.data import check, geometry, one_hot, unit_norm
from gramian.empirical import empirical_ntk
from gramian.empirical.call import call
from gramian.errors import BadArgument, BadData
from gramian.gram.spectrum import eigensystem
from gramian.solve import max_lr, time_to
from gramian.train import train
from gramian.train.batches import Batches
from gramian.train.forward import rows_per_pass
from gramian.train.settings import SGD_BATCH, Settings
from gramian.train.stepsize import largest_eigenvalue, largest_eigenvalue_of_batches

MOST_STEPS = 20_000
PLAIN_SHARE, MOMENTUM_SHARE = 0.75, 0.5  # of the largest stable learning rate: room for it to fall during training
GRAM_OPERATIONS = 8e11  # for the network's own Gram matrix before and after the run: some ten seconds each
MOST_COUPLED = 5000  # rows times outputs of the Gram matrix over all outputs: 200 MB in float64
STEP_OPERATIONS = 2e11  # for those after every step, all steps together
MOST_COUPLED_AT_EACH_STEP, MOST_STEPS_WATCHED = 128, 300  # rows times outputs; at a few ms a step
WATCH_OPERATIONS = 1.5e10  # for each of about a dozen during the run


def certify(
    module: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    x_test: Tensor | None = None,
    y_test: Tensor | None = None,
    law: Law | None = None,
    parametrization: str = "ntk",
    width: int | str = "auto",
    optimizer: str = "sgd",
    lr: float | None = None,
    batch_size: int | None = None,
    momentum: float = 0.9,
    steps: int | None = None,
    accuracy: float = 0.01,
    tolerance: float = 0.1,
    loss: str = "squared",
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    name: str = "network",
    data_name: str = "data",
    source: str = "",
    classes: Sequence[str] = (),
    rows: Tensor | None = None,
    notes: Sequence[str] = (),
    progress: bool = False,
    checkpoint: str | Path | None = None,
    resume: bool = False,
) -> Certification:
    r"""Will gradient descent reach the global minimum with this network on these data, how fast, and why do we know?

    Looks at the data (norms, separation, equal inputs with different labels), computes the limit kernel of the
    architecture and its spectrum, measures from which width on the network is in the regime of that limit, trains it at
    that width while measuring, compares the run with the kernel's prediction, and checks every theorem that applies.

    Args:
        module: any network with one row of outputs per input row.
        x: inputs; shape (n, *in_shape), floating point. Rows are scaled to norm sqrt(d), d numbers in a row.
        y: class numbers, int64 (n,); or real targets, (n, C).
        x_test, y_test: the same for test rows, if any.
        law: of the random weights, as for `architecture`; default "he" ("torch" for "own" and "standard").
        parametrization: "ntk", "standard": the module's architecture, drawn anew; "own": the module itself, with its
            own weights, trained in place; "allen-zhu": the network of Allen-Zhu, Li and Song of the same family.
        width: of every hidden layer; "auto" takes the useful width that was measured ("own", "standard": their own).
        optimizer: "gd", "sgd", "momentum", "nesterov" or "adam".
        lr: learning rate of the sum over the samples; default 3/4 of the largest stable one (half with
            momentum; Adam: 1e-3).
        batch_size: of "sgd", default 32.
        momentum: of "momentum" and "nesterov".
        steps: at most; default ten times what the kernel predicts, at most 20,000.
        accuracy: share of the initial loss that counts as having reached the minimum; there the run stops, with classes
            as soon as all training rows are right as well.
        tolerance: relative error of the kernel that counts as being in the regime of the limit.
        loss: "squared" or "cross-entropy".
        seed: of the weights, the minibatches and the sweep's draws.
        dtype: of the training; kernels are float64.
        device: of the training.
        name, data_name, source, classes, rows, notes: for the report: what to call the network and the data, where
            they came from, the classes' names, original row numbers, and sentences to repeat as warnings.
        progress: say on stderr what is being done, with a progress bar for the training.
        checkpoint, resume: as for `train`.

    Returns:
        The answer with its certificates, the trace and plain facts; `.write(folder)` makes the report. For data with
        equal inputs of different labels the answer is "no network can", and nothing is trained.

    Raises:
        BadData: inputs or labels that can't be used. NoLimit: an architecture without a limit here (except "own").
        BadArgument: settings that make no sense.

    References:
        Allen-Zhu, Li, Song 2019, arXiv:1811.03962; Du et al. 2019, arXiv:1811.03804; Jacot et al. 2018,
        arXiv:1806.07572; Arora et al. 2019, arXiv:1904.11955.
    """
    if not 0 < accuracy < 1 or not 0 < tolerance < 1:
        raise BadArgument(
            f"accuracy={accuracy}, tolerance={tolerance}: both are shares between 0 and 1.",
            where="certify",
            why="accuracy is the share of the initial loss to reach, tolerance the kernel's relative error",
            fix="accuracy=0.01, tolerance=0.1",
        )
    Settings(optimizer, lr, steps or 0, batch_size, momentum, seed, None, None, None, 1)  # refuses before any work
    one_tensor(x, "certify")
    clock, warnings = Clock(aloud=progress), list(notes)
    x, y = torch.as_tensor(x).double(), _labels(y)
    check(x, y, rows=rows)
    shape = geometry(x, y, rows=rows)
    unit = unit_norm(x, rows=rows)
    if shape.separation == 0 and not shape.duplicates and parametrization != "allen-zhu":
        scaled = geometry(unit, y, rows=rows)
        shape = replace(shape, duplicates=scaled.duplicates, conflicts=scaled.conflicts)
        warnings.append("Rows are scaled to norm one, and some that differ by a factor become equal.")
    x_test, y_test = _test_rows(x, y, x_test, y_test)
    has_test = len(x_test) > 0
    data = data_facts(data_name, source, x, y, x_test, classes, shape)
    if shape.conflicts:
        return contradicted(shape, data, name, seed, warnings)
    if shape.duplicates:
        warnings.append(f"{len(shape.duplicates)} group(s) of equal rows: the Gram matrix is singular.")

    with clock("limit kernel"):
        made = setup(module, x, x_test, law, parametrization, dtype, device)
    if made.no_limit:
        warnings.append("No limit kernel. " + made.no_limit.splitlines()[0])
    with clock("width sweep"):
        found = sweep(made, tolerance, seed, dtype)
    chosen, warning = choose_width(made, found, width)
    warnings += [warning] if warning else []
    network = made.build(chosen, seed)
    inputs, test_inputs = made.x.to(device, dtype), made.x_test.to(device, dtype)
    f0 = outputs(network, inputs)
    f0_test = outputs(network, test_inputs) if has_test else None
    targets, targets_test = (_targets(part, f0.shape[1]) for part in (y, y_test))
    if targets.shape != f0.shape:
        raise BadArgument(
            f"The network has {f0.shape[1]} outputs for targets of shape {tuple(targets.shape)}.",
            where="certify(module, x, y)",
            why="its last layer was made for another number of classes or targets",
            fix=f"a last layer with {targets.shape[1]} outputs",
        )
    with clock("limit kernel"):
        theta = None if made.kernel is None else made.kernel(chosen, made.x, None)
        cross = None if made.kernel is None or not has_test else made.kernel(chosen, made.x_test, made.x)
        system = None if theta is None else eigensystem(theta)
    with clock("Gram matrix of the network"):
        some = affordable_rows(network, made.x, dtype, GRAM_OPERATIONS)
        watched = affordable_rows(network, made.x, dtype, WATCH_OPERATIONS)
        error = kernel_error(network, made.x[:some], None if theta is None else theta[:some, :some], dtype)
        coupled = _coupled(network, made.x, f0.shape[1], dtype) if loss == "squared" else None

    size = min(batch_size or SGD_BATCH, len(x)) if optimizer == "sgd" else len(x)
    beta = momentum if optimizer in ("momentum", "nesterov") else 0.0
    with clock("learning rate"):
        lr_max = _largest_lr(network, inputs, error.own, optimizer, beta, size, loss, seed)
    if lr is None:
        lr = 1e-3 if lr_max is None else lr_max * (MOMENTUM_SHARE if beta else PLAIN_SHARE)
    r0 = f0 - targets
    expected = None
    if system is not None and loss == "squared" and optimizer != "adam":
        expected = float(time_to(system, r0, accuracy, lr, "gd" if optimizer == "sgd" else optimizer, beta))
    if steps is None:
        wanted = 2000.0 if expected is None else 10 * expected + 20
        steps = int(min(wanted, MOST_STEPS))
    start = _initial_loss(f0, targets, y, loss)
    with clock("training"):
        trace = train(
            network,
            inputs,
            y if y.dtype == torch.int64 else y.to(device, dtype),
            x_test=test_inputs if has_test else None,
            y_test=None if not has_test else y_test if y_test.dtype == torch.int64 else y_test.to(device, dtype),
            loss=loss,
            optimizer=optimizer,
            lr=lr,
            steps=steps,
            batch_size=size if optimizer == "sgd" else None,
            momentum=momentum,
            seed=seed,
            stop_loss=accuracy * start,
            stop_accuracy=1.0 if y.dtype == torch.int64 else None,
            checkpoint=checkpoint,
            resume=resume,
            progress=progress,
            gram_rows=watched,
            probes=_probes(network, made.x, f0.shape[1], steps, dtype),
        )
    run = Run(
        made=made, sweep=found, width=chosen, network=network, trace=trace, shape=shape, y=y, y_test=y_test,
        targets=targets, targets_test=targets_test, theta=theta, cross=cross, system=system, r0=r0, f0_test=f0_test,
        lr=lr, lr_max=lr_max, batch_size=size, beta=beta, accuracy=accuracy, optimizer=optimizer, loss=loss, seed=seed,
        gram=error, expected_steps=expected, coupled=coupled,
        test_outputs=outputs(network, test_inputs) if has_test else None,
    )  # fmt: skip
    with clock("Gram matrix of the network"):
        final = None if trace.diverged else kernel_error(network, made.x[:some], None, dtype).own
    made_as = {"seed": seed, "dtype": str(dtype).removeprefix("torch."), "device": str(device)}
    return conclude(run, final, data, name, clock, warnings, made_as)


def _probes(network: nn.Module, x: Tensor, n_outputs: int, steps: int, dtype: torch.dtype) -> list[str]:
    """All probes, and what premises of theorems ask for: after every step only where that takes a few seconds."""
    chosen = ["standard", "update_error", "kernel_entry_drift"]
    cheap = affordable_rows(network, x, dtype, STEP_OPERATIONS / (n_outputs * max(steps, 1))) == len(x)
    if len(x) * n_outputs <= MOST_COUPLED_AT_EACH_STEP and steps <= MOST_STEPS_WATCHED and cheap:
        chosen.append("step_remainder")
    return chosen


def _coupled(network: nn.Module, x: Tensor, n_outputs: int, dtype: torch.dtype) -> Tensor | None:
    """The network's own NTK over all outputs and rows, (n, n, C, C); None where it takes too much time or memory."""
    if len(x) * n_outputs > MOST_COUPLED or affordable_rows(network, x, dtype, GRAM_OPERATIONS / n_outputs) < len(x):
        return None
    device = next(network.parameters()).device
    return empirical_ntk(network, x.to(device, dtype), outputs="full").cpu()


def outputs(network: nn.Module, x: Tensor) -> Tensor:
    """Outputs in eval mode, in pieces; shape (n, C), float64 on the CPU."""
    was = network.training
    network.eval()
    try:
        with torch.no_grad():
            parts = [call(network, part).double().cpu() for part in x.split(rows_per_pass(x))]
    finally:
        network.train(was)
    return torch.cat([part.reshape(len(part), -1) for part in parts])


def _labels(y: Tensor) -> Tensor:
    """Class numbers as int64, real targets as (n, C) in float64."""
    y = torch.as_tensor(y)
    if not y.is_floating_point():
        return y.long()
    return (y if y.ndim > 1 else y[:, None]).double()


def _test_rows(x: Tensor, y: Tensor, x_test: Tensor | None, y_test: Tensor | None) -> tuple[Tensor, Tensor]:
    """Checked test rows and their labels; none of them where none were given."""
    if (x_test is None) != (y_test is None):
        raise BadArgument(
            "x_test and y_test go together; one of them is None.",
            where="certify(module, x, y, x_test=, y_test=)",
            fix="give both or none",
        )
    if x_test is None or y_test is None or len(x_test) == 0:
        return x[:0], y[:0]
    x_test, y_test = torch.as_tensor(x_test).double(), _labels(y_test)
    real = y_test if y_test.is_floating_point() else None  # test rows may well be of one class
    check(x_test, real, in_shape=tuple(x.shape[1:]), name="x_test")
    if y_test.shape[1:] != y.shape[1:] or y_test.dtype != y.dtype or len(y_test) != len(x_test):
        raise BadData(
            f"{len(x_test)} test rows with labels of shape {tuple(y_test.shape)} and type {y_test.dtype}; "
            f"the training rows' are {tuple(y.shape)} and {y.dtype}.",
            where="certify(module, x, y, x_test=, y_test=)",
            why="labels of another file, or classes in one and real targets in the other",
            fix="one label a row, of the same kind",
        )
    return x_test, y_test


def _targets(y: Tensor, n_outputs: int) -> Tensor:
    if y.dtype != torch.int64:
        return y
    return one_hot(y, max(n_outputs, int(y.max()) + 1 if len(y) else 0))


def _initial_loss(f0: Tensor, targets: Tensor, y: Tensor, loss: str) -> float:
    if loss == "cross-entropy" and y.dtype == torch.int64:
        return float(functional.cross_entropy(f0, y, reduction="sum"))
    return float((f0 - targets).square().sum() / 2)


def _largest_lr(
    network: nn.Module, x: Tensor, gram: Tensor, optimizer: str, beta: float, size: int, loss: str, seed: int
) -> float | None:
    """Largest stable learning rate at initialization; None for Adam.

    Full batches: by Lanczos on all outputs. Minibatches: the largest eigenvalue that a batch of the first epoch meets,
    n / |S| times that of its block of the Gram matrix, where that was computed on all rows; as this is a mean over
    outputs, times what their coupling adds on all rows (within 2 % of what it adds in a batch, where both were seen).
    """
    if optimizer == "adam":
        return None
    if size == len(x):
        lam = largest_eigenvalue(network, x)
    else:
        batches = Batches(len(x), size, torch.Generator().manual_seed(seed)).first_epoch()
        if len(gram) == len(x):
            lam = max(len(x) / len(b) * float(torch.linalg.eigvalsh(gram[b][:, b])[-1]) for b in batches)
            lam *= largest_eigenvalue(network, x) / float(torch.linalg.eigvalsh(gram)[-1])
        else:
            lam = largest_eigenvalue_of_batches(network, x, batches)
    lam *= 0.5 if loss == "cross-entropy" else 1.0
    if not (math.isfinite(lam) and lam > 0):
        return None
    return max_lr(lam, "gd" if optimizer == "sgd" else optimizer, beta)
