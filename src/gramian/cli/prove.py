"""`gramian prove`: a theorem about one network and one data set, with a file that anyone can check."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gramian.cli import options as opt
from gramian.cli import show
from gramian.cli.data_options import DataSource, Draw
from gramian.cli.output_files import check_file

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from gramian.prove import Proof

PROOF = "Proof"
SUFFIX = ".certificate"
STATEMENTS = ("minimum", "descent", "run", "before")
FINDS = ("width", "scale", "lr")
LOSSES = ("squared", "cross-entropy")
PROVABLE = {
    "minimum": "--net mlp --activation tanh",
    "descent": "--net mlp --activation tanh",
    "run": "--net mlp --activation tanh",
    "before": "--net mlp --depth 2 --activation tanh",
}

Width = Annotated[
    int | None,
    typer.Option(metavar="INT", help="Of every hidden layer.", rich_help_panel=opt.NETWORK, show_default=False),
]
Statement = Annotated[
    str, typer.Option(metavar="|".join(STATEMENTS), help="What is to be proved.", rich_help_panel=PROOF)
]
Loss = Annotated[str, typer.Option(metavar="|".join(LOSSES), help="What is minimized.", rich_help_panel=PROOF)]
Find = Annotated[
    str | None,
    typer.Option(
        metavar="|".join(FINDS),
        help="Of before: the smallest width or output scale, or the largest rate, that is certified.",
        rich_help_panel=PROOF,
        show_default=False,
    ),
]
Lr = Annotated[
    float | None,
    typer.Option(
        metavar="FLOAT",
        help="Of descent, run and before, on half the sum of squares (default: 1 / lambda_max; run: the largest "
        "provable).",
        rich_help_panel=PROOF,
        show_default=False,
    ),
]
Polish = Annotated[
    bool,
    typer.Option("--polish/--no-polish", help="Gauss-Newton steps first, on a copy.", rich_help_panel=PROOF),
]
MaxSeconds = Annotated[
    float,
    typer.Option(metavar="FLOAT", help="Of run and before: no more is tried after so long.", rich_help_panel=PROOF),
]
Out = Annotated[
    Path | None,
    typer.Option(
        metavar=f"FILE{SUFFIX}",
        help="Where the certificate is written, with weights and data, for `gramian check`.",
        rich_help_panel=opt.OUTPUT,
        show_default=False,
    ),
]
Picture = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE.svg",
        help="Where the picture of --find is written: certified against learned.",
        rich_help_panel=opt.OUTPUT,
        show_default=False,
    ),
]


def prove(
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
    net: opt.Net = "mlp",
    depth: opt.Depth = None,
    width: Width = None,
    activation: opt.Activation = None,
    bias: opt.Bias = False,
    statement: Statement = "minimum",
    find: Find = None,
    loss: Loss = "squared",
    lr: Lr = None,
    polish: Polish = True,
    max_seconds: MaxSeconds = 900.0,
    out: Out = None,
    picture: Picture = None,
    quiet: opt.Quiet = False,
) -> None:
    """A theorem about this network and these data, in exact arithmetic; or the inequality that stands in its way.

    minimum: weights with training loss exactly 0 lie within a stated distance of the network's, after a few
    Gauss-Newton steps on a copy. descent: gradient descent from there converges to such weights, at a stated rate.
    run: gradient descent from the weights as drawn reaches such weights, every step replayed (fully connected, smooth
    activations). before: the same from a few points of the path of a two-layer network; with --find, the smallest one.

    Exit code 0: proved; 1: not proved; 2: an error.

    In Python: gramian.prove(net, x, y).save("net.certificate"), then gramian.prove.check("net.certificate")
    """
    opt.one_of("--statement", statement, STATEMENTS)
    opt.one_of("--loss", loss, LOSSES)
    if find is not None:
        opt.one_of("--find", find, FINDS)
    opt.whole("--width", width)
    _check_picture(find, picture)
    if out is not None:
        check_file(out, SUFFIX)
    if picture is not None:
        check_file(picture, ".svg")
    source = DataSource(data, target, data_dir, task, missing, without, layout)
    draw = Draw(n, n_test, seed, normalize, flatten)
    choices = {"depth": depth, "width": width, "activation": activation, "bias": bias}
    words = {"statement": statement, "find": find, "loss": loss, "lr": lr, "max_seconds": max_seconds}
    proof = _proof(source, draw, net, choices, words, polish, quiet)
    _print(proof)
    written = []
    if out is not None and proof.status == "proved":
        proof.save(out)
        written.append(("certificate", out))
    if picture is not None:
        proof.save_picture(picture)
        written.append(("picture", picture))
    if written:
        show.written(written, show.out())
    raise typer.Exit(0 if proof.status == "proved" else 1)


def _check_picture(find: str | None, picture: Path | None) -> None:
    from gramian.errors import BadArgument

    if picture is not None and find is None:
        raise BadArgument(
            "--picture without --find.",
            where=f"--picture {picture}",
            why="the picture shows a search, and without --find one network is looked at",
            fix="--statement before --find scale --picture FILE.svg",
        )


def _proof(
    source: DataSource, draw: Draw, net: str, choices: dict, words: dict, polish: bool, quiet: bool
) -> Proof:  # fmt: skip
    from gramian.cli.data_options import dataset
    from gramian.cli.networks import network
    from gramian.errors import BadArgument, Unsupported
    from gramian.prove import prove as proved

    rows = dataset(source, draw)
    built = network(net, rows, seed=draw.seed, **choices)

    def news(text: str) -> None:
        if not quiet:
            show.talk(text)

    news(f"{built.title} on {len(rows.x):,} rows of {rows.name}")
    module: nn.Module | Callable[[int], nn.Module] = built.module
    if words["find"] == "width":

        def module(width: int) -> nn.Module:
            return network(net, rows, seed=draw.seed, **choices | {"width": width}).module

    # the rows are as float64 as the proof is
    polished: bool | None = polish
    if words["statement"] in ("run", "before"):
        polished = None  # the option's default is for the others
    try:
        return proved(module, rows.x.double(), rows.y, polished=polished, news=news, **words)
    except Unsupported as error:
        raise BadArgument(
            f"The statement {words['statement']!r} cannot be proved of this network.",
            where=f"gramian prove --statement {words['statement']} --net {net}",
            why=str(error),
            fix=PROVABLE[words["statement"]],
        ) from None


def _print(proof: Proof) -> None:
    console = show.out()
    console.print(show.status(proof.status))
    show.prose([proof.summary], console)
    if proof.fix and proof.status != "proved":
        show.prose([f"What would prove it: {proof.fix}."], console)
    for trial in proof.trials:
        word = {True: "proved", False: "not proved"}[trial.proved]
        console.print(
            f"{proof.find} {trial.value:.4g}: {word}, {trial.points:,} points for {trial.steps:,} steps, the kernel "
            f"changes by {trial.kernel_change:.2%}"
        )
    console.print()
    if proof.checked is not None:
        show.inequalities(proof.checked.lines, console)
