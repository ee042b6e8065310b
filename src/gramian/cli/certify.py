"""`gramian certify`: will gradient descent reach the global minimum, how fast, and why do we know?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gramian.cli import options as opt
from gramian.cli.data_options import DataSource, Draw
from gramian.cli.study import PARAMETRIZATIONS, NetworkChoices, Study, run_study

RUN = "Training"
OPTIMIZERS = ("sgd", "gd", "momentum", "nesterov", "adam")
LOSSES = ("squared", "cross-entropy")
TARGETS = ("auto", "as-given", "standardized")

Width = Annotated[
    str,
    typer.Option(
        metavar="auto|INT",
        help="Of every hidden layer; auto: the useful width that is measured first.",
        rich_help_panel=opt.NETWORK,
    ),
]
Parametrization = Annotated[
    str | None,
    typer.Option(
        metavar="|".join(PARAMETRIZATIONS),
        help="ntk, standard, allen-zhu: weights drawn anew; own: your module as it stands (default: own for "
        "FILE.py:NAME, else ntk).",
        rich_help_panel=opt.NETWORK,
        show_default=False,
    ),
]
Optimizer = Annotated[
    str, typer.Option(metavar="|".join(OPTIMIZERS), help="What trains the network.", rich_help_panel=RUN)
]
Lr = Annotated[
    float | None,
    typer.Option(
        metavar="FLOAT",
        help="Learning rate of the loss summed over the training rows; the answer gives it for the mean over a batch "
        "(default: 3/4 of the largest stable one, half with momentum).",
        rich_help_panel=RUN,
        show_default=False,
    ),
]
BatchSize = Annotated[
    int | None,
    typer.Option(metavar="INT", help="Of sgd (default: 32).", rich_help_panel=RUN, show_default=False),
]
Momentum = Annotated[float, typer.Option(metavar="FLOAT", help="Of momentum and nesterov.", rich_help_panel=RUN)]
Steps = Annotated[
    int | None,
    typer.Option(
        metavar="INT",
        help="At most so many (default: 10 times what the kernel predicts, at most 20,000).",
        rich_help_panel=RUN,
        show_default=False,
    ),
]
Accuracy = Annotated[
    float,
    typer.Option(
        metavar="SHARE",
        help="Of the best constant predictor's loss; there, and with every training row right, the minimum counts as "
        "reached.",
        rich_help_panel=RUN,
    ),
]
Targets = Annotated[
    str,
    typer.Option(
        metavar="auto|as-given|standardized",
        help="Real targets: trained on as they are, or brought to mean 0 and deviation 1 first (auto: standardized, "
        "for your own module only if they are far from 0 or of another size). Errors are in their own unit.",
        rich_help_panel=RUN,
    ),
]
Loss = Annotated[str, typer.Option(metavar="|".join(LOSSES), help="What is minimized.", rich_help_panel=RUN)]
Dtype = Annotated[
    str | None,
    typer.Option(
        metavar="float32|float64",
        help="Precision of the training (default: float32; your own module's own).",
        rich_help_panel=opt.OUTPUT,
        show_default=False,
    ),
]
Prove = Annotated[
    bool | None,
    typer.Option(
        "--prove/--no-prove",
        help="Whether to prove that an exact minimum lies near the trained weights (default: where that is predicted "
        "to take no more than 3.5 times the time of the study; 20 s are always allowed).",
        rich_help_panel=RUN,
        show_default=False,
    ),
]
Out = Annotated[
    Path, typer.Option(metavar="FOLDER", help="For report.html and report.json.", rich_help_panel=opt.OUTPUT)
]
Checkpoint = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Keep the run in this .safetensors file; if it is there, go on from it. One network only.",
        rich_help_panel=opt.OUTPUT,
        show_default=False,
    ),
]


def certify(
    context: typer.Context,
    data: opt.Data,
    target: opt.Target = None,
    data_dir: opt.DataDir = None,
    task: opt.Task = None,
    missing: opt.Missing = "refuse",
    without: opt.Without = None,
    layout: opt.Layout = "auto",
    n: opt.N = None,
    n_test: opt.NTest = None,
    normalize: opt.Normalize = "auto",
    flatten: opt.Flatten = False,
    seed: opt.Seed = 0,
    net: opt.Nets = None,
    depth: opt.Depth = None,
    width: Width = "auto",
    activation: opt.Activation = None,
    bias: opt.Bias = False,
    law: opt.Law = None,
    parametrization: Parametrization = None,
    optimizer: Optimizer = "sgd",
    lr: Lr = None,
    batch_size: BatchSize = None,
    momentum: Momentum = 0.9,
    steps: Steps = None,
    accuracy: Accuracy = 0.01,
    loss: Loss = "squared",
    targets: Targets = "auto",
    prove: Prove = None,
    out: Out = Path("gramian-report"),
    dtype: Dtype = None,
    device: opt.Device = "cpu",
    checkpoint: Checkpoint = None,
    quiet: opt.Quiet = False,
) -> None:
    """Will gradient descent reach the global minimum, how fast, and why do we know?

    Computes the infinite-width kernel, trains the network, checks the theorems, prints the answer, writes a report.

    Exit code 0: every network reached the minimum; 1: one did not, or a theorem was contradicted; 2: an error; 130:
    interrupted.

    In Python: data = gramian.data.load("digits", n=500); gramian.certify(net, data.x, data.y).write("gramian-report")
    """
    _check(optimizer, loss, targets, batch_size, steps)
    settings = {
        "optimizer": optimizer, "lr": lr, "batch_size": batch_size, "momentum": momentum, "steps": steps,
        "accuracy": accuracy, "loss": loss, "targets": targets.replace("-", " "), "seed": seed,
        "prove": "auto" if prove is None else prove,
    }  # fmt: skip
    study = Study(
        DataSource(data, target, data_dir, task, missing, without, layout),
        Draw(n, n_test, seed, normalize, flatten),
        NetworkChoices(tuple(net or ["mlp"]), depth, width, activation, bias, law, parametrization, dtype, device),
        settings, out, checkpoint, quiet, context.obj,
    )  # fmt: skip
    raise typer.Exit(run_study(study))


def _check(optimizer: str, loss: str, targets: str, batch_size: int | None, steps: int | None) -> None:
    opt.one_of("--optimizer", optimizer, OPTIMIZERS)
    opt.one_of("--loss", loss, LOSSES)
    opt.one_of("--targets", targets, TARGETS)
    opt.whole("--batch-size", batch_size)
    opt.whole("--steps", steps)
