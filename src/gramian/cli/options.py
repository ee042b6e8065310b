"""The options that several commands share: their names, their help and, where it is not the library's, their check."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gramian.errors import BadArgument

if TYPE_CHECKING:
    import torch

    from gramian.arch.law import Law as AnyLaw

DATA, NETWORK, OUTPUT = "Data", "Network", "Output"
ROWS = 500  # training rows where nothing else is said: a kernel of 500 x 500 takes seconds
NAMES = "digits, iris, wine, breast-cancer, diabetes; mnist, fashion-mnist, cifar10, uci:NAME; openml:NUMBER"

Data = Annotated[
    str,
    typer.Option(
        metavar="NAME|PATH",
        help=f"{NAMES}; or a .csv, .tsv, .parquet, .npz or .npy file, or a folder of images (a subfolder a class), of "
        "idx or CIFAR-10 files.",
        rich_help_panel=DATA,
    ),
]
Target = Annotated[
    str | None,
    typer.Option(
        metavar="COLUMN",
        help="Column with the labels (default: the one called target, label, class or y).",
        rich_help_panel=DATA,
        show_default=False,
    ),
]
Task = Annotated[
    str | None,
    typer.Option(
        metavar="classification|regression",
        help="What labels that are whole numbers are (default: by how many there are, and it is said).",
        rich_help_panel=DATA,
        show_default=False,
    ),
]
Missing = Annotated[
    str,
    typer.Option(
        metavar="refuse|drop|mean",
        help="Empty cells of a table: an error, their rows left out, or the mean of the training rows.",
        rich_help_panel=DATA,
    ),
]
Without = Annotated[
    list[str] | None,
    typer.Option(
        metavar="COLUMN",
        help="A column of a table to leave out; repeat it for several.",
        rich_help_panel=DATA,
        show_default=False,
    ),
]
Layout = Annotated[
    str,
    typer.Option(
        metavar="auto|channels-first|channels-last",
        help="Of images and series in .npz files (auto: by their shape, and it is said).",
        rich_help_panel=DATA,
    ),
]
DataDir = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER",
        help="Holds mnist, fashion_mnist, cifar10, uci.",
        envvar="GRAMIAN_DATA",
        rich_help_panel=DATA,
        show_default=False,
    ),
]
N = Annotated[
    str | None,
    typer.Option(
        metavar="INT|all",
        help=f"Training rows, drawn in proportion to the classes (default: {ROWS}, or 80 % of fewer).",
        rich_help_panel=DATA,
        show_default=False,
    ),
]
ManyN = Annotated[
    str | None,
    typer.Option(
        "--n",
        metavar="INT|all",
        help="Training rows, drawn in proportion to the classes (default: all that this machine can take within 10 "
        "minutes, and it is said if that is not all).",
        rich_help_panel=DATA,
        show_default=False,
    ),
]
NTest = Annotated[
    int | None,
    typer.Option(
        metavar="INT",
        help="Test rows (default: 20 % or the official test set, at most 1000).",
        rich_help_panel=DATA,
        show_default=False,
    ),
]
Normalize = Annotated[
    str,
    typer.Option(
        metavar="auto|unit|standardize|none",
        help="Rows to norm 1; columns (channels of images) to mean 0 and deviation 1; or neither. "
        "auto: standardize for tables, none for images, whose pixels are between 0 and 1.",
        rich_help_panel=DATA,
    ),
]
Flatten = Annotated[
    bool,
    typer.Option("--flatten", metavar="", help="Give images to your own network as vectors.", rich_help_panel=DATA),
]
Seed = Annotated[int, typer.Option(metavar="INT", help="Of the rows drawn and the weights.", rich_help_panel=DATA)]

NET_HELP = "mlp, cnn, resnet, conv-resnet, du-resnet, or your own nn.Module as FILE.py:NAME"
Net = Annotated[str, typer.Option(metavar="NAME|FILE.py:NAME", help=NET_HELP + ".", rich_help_panel=NETWORK)]
Nets = Annotated[
    list[str] | None,
    typer.Option(
        "--net",
        metavar="NAME|FILE.py:NAME",
        help=NET_HELP + "; repeat it for several in one report (default: mlp).",
        rich_help_panel=NETWORK,
        show_default=False,
    ),
]
Depth = Annotated[
    int | None,
    typer.Option(
        metavar="INT",
        help="Layers with weights (default: mlp 3, cnn 4, the others 5).",
        rich_help_panel=NETWORK,
        show_default=False,
    ),
]
Activation = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="relu, leaky-relu, gelu, tanh, silu, softplus (default: relu; du-resnet softplus).",
        rich_help_panel=NETWORK,
        show_default=False,
    ),
]
Bias = Annotated[
    bool,
    typer.Option(
        "--bias",
        metavar="",
        help="Layers with biases, of standard deviation 0.1 where --law does not say another.",
        rich_help_panel=NETWORK,
    ),
]
Law = Annotated[
    str | None,
    typer.Option(
        metavar="he|lecun|torch|W,B",
        help="Law of the random weights: a name, or standard deviations of weights and biases after the fan-in "
        "scaling, such as 1.4,0.1; or by layer, 'readout=1,0;*=he' (default: he, in which biases do not count; "
        "du-resnet 1,0; with --bias he with 0.1 for biases).",
        rich_help_panel=NETWORK,
        show_default=False,
    ),
]
Dtype = Annotated[str, typer.Option(metavar="float32|float64", help="Precision.", rich_help_panel=OUTPUT)]
Device = Annotated[str, typer.Option(metavar="cpu|cuda|cuda:N|mps", help="Where to compute.", rich_help_panel=OUTPUT)]
Quiet = Annotated[
    bool, typer.Option("--quiet", metavar="", help="Nothing on stderr but errors.", rich_help_panel=OUTPUT)
]


def nearest(word: str, known: Iterable[str]) -> str:
    """ " Did you mean ...?" or nothing."""
    close = difflib.get_close_matches(word.lower(), list(known), n=1, cutoff=0.5)
    if close:
        return f" Did you mean {close[0]!r}?"
    return ""


def one_of(option: str, value: str, known: tuple[str, ...]) -> str:
    """The value, if it is known.

    Raises:
        BadArgument: it is not; names the nearest.
    """
    if value not in known:
        raise BadArgument(
            f"{option} {value} is unknown.",
            where=option,
            why="another spelling." + nearest(value, known),
            fix=f"one of {', '.join(known)}.",
        )
    return value


def whole(option: str, value: int | None, least: int = 1) -> int | None:
    """The number, if it is at least `least`; None stays None."""
    if value is not None and value < least:
        raise BadArgument(f"{option} {value} makes no sense.", where=option, fix=f"a whole number, {least} or more.")
    return value


def law_of(text: str | None, default: AnyLaw | None) -> AnyLaw | None:
    """A law's name, its pair of standard deviations such as "1.4,0.1", or these by layer; the default for None.

    Example:
        >>> law_of("1.4,0.1", None), law_of("positions=0.02,0;*=he", None)
        ((1.4, 0.1), {'positions': (0.02, 0.0), '*': 'he'})
    """
    if text is None:
        return default
    if "=" not in text:
        return _law(text)
    entries = (entry.partition("=") for entry in text.split(";") if entry.strip())
    return {pattern.strip(): _law(law.strip()) for pattern, _, law in entries}


def _law(text: str) -> str | tuple[float, float]:
    if text in ("he", "lecun", "torch"):
        return text
    try:
        sigma_w, sigma_b = (float(part) for part in text.split(","))
    except ValueError:
        raise BadArgument(
            f"--law {text} is neither a name nor a pair of numbers.",
            where="--law",
            why="a law gives each layer the standard deviation of its weights and of its biases.",
            fix="he, lecun, torch, a pair such as 1.4,0.1, or these by layer: 'readout=1,0;*=1.4,0.1'.",
        ) from None
    return sigma_w, sigma_b


def dtype_of(text: str) -> torch.dtype:
    """float32 or float64 as torch has it."""
    import torch

    return getattr(torch, one_of("--dtype", text, ("float32", "float64")))


def device_of(text: str) -> str:
    """The device, if this machine has it.

    Raises:
        BadArgument: it has not; `gramian doctor` says what there is.
    """
    import torch

    try:
        torch.empty(0, device=text)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise BadArgument(
            f"no device {text!r} here: {str(error).strip().splitlines()[0].rstrip('.')}.",
            where="--device",
            why="another name, no such hardware, or a torch that was built without it.",
            fix="--device cpu; `gramian doctor` lists the devices that torch finds.",
        ) from None
    return text


def normalization(normalize: str) -> str:
    """The word of `--normalize`, if it is one; what "auto" stands for is decided where the data are read.

    Example:
        >>> normalization("auto")
        'auto'
    """
    return one_of("--normalize", normalize, ("auto", "unit", "standardize", "none"))


def number_of_rows(n: str | None) -> int | None:
    """--n as a number; None for "all", or where nothing was said.

    Raises:
        BadArgument: it is neither.
    """
    try:
        if n in (None, "all"):
            return None
        return int(str(n))
    except ValueError:
        raise BadArgument(f"--n {n} is no number of rows.", where="--n", fix=f"--n {ROWS}, or --n all.") from None


def say(notes: Iterable[str], quiet: bool) -> None:
    """A data set's notes, a line each, on stderr."""
    from gramian.cli import show

    if not quiet:
        for note in notes:
            show.warn(note)
