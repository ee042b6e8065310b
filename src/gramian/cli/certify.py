"""`gramian certify`: will gradient descent reach the global minimum, how fast, and why do we know?"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gramian.cli import options as opt
from gramian.cli import show
from gramian.cli.files import check_folder
from gramian.cli.modules import is_file
from gramian.cli.networks import Made, network
from gramian.errors import BadArgument, GramianError

if TYPE_CHECKING:
    from gramian.certify import Certification
    from gramian.data import Dataset

RUN = "Training"
PARAMETRIZATIONS = ("ntk", "standard", "own", "allen-zhu")
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
    specs = net or ["mlp"]
    size = _width(width)
    opt.one_of("--optimizer", optimizer, OPTIMIZERS)
    opt.one_of("--loss", loss, LOSSES)
    opt.one_of("--targets", targets, TARGETS)
    normalize = opt.normalization(data, normalize)
    if parametrization is not None:
        opt.one_of("--parametrization", parametrization, PARAMETRIZATIONS)
    for option, number in (("--batch-size", batch_size), ("--steps", steps)):
        opt.whole(option, number)
    _sensible(specs, size, depth, activation, bias, parametrization, checkpoint)
    check_folder(out)
    where, precision = opt.device_of(device), None if dtype is None else opt.dtype_of(dtype)
    dataset = opt.dataset(
        data,
        target=target,
        data_dir=data_dir,
        n=n,
        n_test=n_test,
        seed=seed,
        normalize=normalize,
        flatten=flatten,
        task=task,
        missing=missing,
        without=without,
        layout=layout,
    )
    built = [
        network(spec, dataset, depth=depth, width=size, activation=activation, bias=bias, seed=seed) for spec in specs
    ]
    drawn = {
        "target": target,
        "data_dir": None if data_dir is None else str(data_dir),
        "n": len(dataset.x),
        "n_test": len(dataset.x_test),
        "seed": seed,
        "normalize": normalize,
        "task": task,
        "missing": None if missing == "refuse" else missing,
        "without": without,
        "layout": None if layout == "auto" else layout,
    }
    settings: dict[str, Any] = {
        "width": size or "auto",
        "optimizer": optimizer,
        "lr": lr,
        "batch_size": batch_size,
        "momentum": momentum,
        "steps": steps,
        "accuracy": accuracy,
        "loss": loss,
        "targets": targets.replace("-", " "),
        "seed": seed,
    }
    if not quiet:
        show.talk(f"{dataset.name}: {_described(dataset)}")
        if checkpoint is not None and checkpoint.exists():
            show.talk(f"{checkpoint} was there: the run goes on from it.")
    done: list[Certification] = []
    failed = stopped = False
    for number, one_network in enumerate(built):
        if not quiet:
            if len(built) > 1:
                which = f" ({number + 1} of {len(built)})"
            else:
                which = ""
            show.talk(f"{one_network.title}{which}: limit kernel and width, then training", "bold")
        choices = settings | {
            "law": opt.law_of(law, one_network.law),
            "parametrization": parametrization or (None if one_network.own else "ntk"),
        }
        try:
            one = _certified(
                one_network, dataset, checkpoint, **choices, dtype=precision, device=where, progress=not quiet
            )
        except GramianError as error:
            show.show_error(error)
            failed = True
            continue
        except KeyboardInterrupt:
            if not done:
                raise
            show.talk(f"Interrupted: the report holds the {len(done)} finished of {len(built)} networks.")
            stopped = True
            break
        one.run["made"] |= {
            "command": shlex.join(context.obj),
            "python": _python(data, drawn, dataset, flatten, one_network, choices),
        }
        done.append(one)
        if one.run["made"]["interrupted"]:
            break
    if done:
        _print(done, out)
    raise typer.Exit(_exit_code(done, len(built), failed, stopped))


def _exit_code(done: list[Certification], wanted: int, failed: bool, stopped: bool) -> int:
    if failed:
        return 2
    if stopped or any(one.run["made"]["interrupted"] for one in done):
        return show.INTERRUPTED
    if len(done) == wanted and all(one.holds for one in done):
        return 0
    return 1


def _certified(net: Made, data: Dataset, checkpoint: Path | None, **settings: Any) -> Certification:
    """The one call."""
    from gramian.certify import Description, certify

    return certify(
        net.module,
        data.x,
        data.y,
        x_test=data.x_test,
        y_test=data.y_test,
        description=Description(
            name=net.title,
            data_name=data.name,
            source=data.source,
            classes=data.classes,
            rows=data.rows,
            notes=(*data.notes, *([net.says] if net.says else [])),
        ),
        checkpoint=checkpoint,
        resume=checkpoint is not None and checkpoint.exists(),
        **settings,
    )


def _print(done: list[Certification], out: Path) -> None:
    from gramian.certify import report_facts
    from gramian.cli.answer import print_answer
    from gramian.report import write

    facts = report_facts(done)
    replaced = (out / "report.json").exists()
    html, _ = write(facts, out)
    console = show.out()
    print_answer(facts, console)
    if replaced:
        more = ", in place of the one that was there; --out FOLDER writes beside it"
    else:
        more = ""
    show.written([("report", f"{html}{more}")], console)


def _width(text: str) -> int | None:
    """A number, or None for auto."""
    if text == "auto":
        return None
    try:
        return opt.whole("--width", int(text))
    except ValueError:
        raise BadArgument(f"--width {text} is no width.", where="--width", fix="--width auto, or --width 512") from None


def _sensible(
    specs: list[str],
    width: int | None,
    depth: int | None,
    activation: str | None,
    bias: bool,
    parametrization: str | None,
    checkpoint: Path | None,
) -> None:
    """Options that would have no effect are mistakes."""
    own = [spec for spec in specs if is_file(spec)]
    given = [("--depth", depth), ("--activation", activation), ("--bias", bias or None)]
    if parametrization in (None, "own"):
        given.append(("--width", width))
    useless = [option for option, value in given if value is not None]
    if len(own) == len(specs) and useless:
        fresh = useless == ["--width"]
        raise BadArgument(
            f"{' and '.join(useless)} would have no effect on {own[0]}.",
            where=f"--net {own[0]} {' '.join(useless)}",
            why="your network is trained as it stands.",
            fix="--parametrization ntk draws its architecture anew, at any --width."
            if fresh
            else "leave them out; the file says what the network is.",
        )
    if checkpoint is not None and len(specs) > 1:
        raise BadArgument(
            f"one --checkpoint for {len(specs)} networks.",
            where=f"--checkpoint {checkpoint}",
            why="a checkpoint holds one run.",
            fix="one command a network.",
        )


def _described(data: Dataset) -> str:
    from gramian.data.wording import counted

    shape = "x".join(map(str, data.in_shape))
    if data.classes:
        kind = f"{data.n_outputs} classes"
    else:
        kind = "regression"
    return f"{len(data.x):,} training and {counted(len(data.x_test), 'test row')} of shape {shape}, {kind}"


def _python(name: str, drawn: dict[str, Any], data: Dataset, flat: bool, net: Made, settings: dict[str, Any]) -> str:
    """The lines of Python that do the same, as one."""
    loaded, said = (", ".join(f"{k}={v!r}" for k, v in d.items() if v is not None) for d in (drawn, settings))
    if flat:
        vector = ".flatten(1)"
    else:
        vector = ""
    lines = [
        "import torch, gramian, gramian.data",
        net.imports,
        f"data = gramian.data.load({name!r}, {loaded})",
        *([f"torch.manual_seed({settings['seed']})"] if net.own else []),
        f"gramian.certify({net.code}, data.x{vector}, data.y, x_test=data.x_test{vector}, y_test=data.y_test, {said})",
    ]
    return "; ".join(lines)
