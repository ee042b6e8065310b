"""--net: one of the built-in networks or the user's own, made for the data at hand."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gramian.cli import modules
from gramian.cli.options import nearest
from gramian.errors import BadArgument

if TYPE_CHECKING:
    from torch import nn

    from gramian.arch.law import Law
    from gramian.data import Dataset

DEPTH = {"mlp": 3, "cnn": 4}  # the others 5
TITLE = {
    "mlp": "MLP",
    "cnn": "CNN",
    "resnet": "ResNet",
    "conv-resnet": "convolutional ResNet",
    "du-resnet": "ResNet of Du et al.",
}
LAW: dict[str, tuple[float, float]] = {"du-resnet": (1.0, 0.0)}  # as in the paper
BIAS = 0.1  # standard deviation of the biases that --bias asks for where no law is said: small beside the weights
HOMOGENEOUS = ("relu", "leaky-relu")  # without biases f(2 x) = 2 f(x)
WITH_BIAS: dict[str, dict[str, tuple[float, float]]] = {  # "he", and the paper's, with biases
    name: {"readout": (1.0, BIAS), "*": (sigma_w, BIAS)} for name, sigma_w in (("", math.sqrt(2)), ("du-resnet", 1.0))
}


@dataclass(frozen=True, eq=False)
class BuiltNetwork:
    """A network for this data.

    Args:
        module: the network.
        title: what the report calls it.
        own: whether it is the user's.
        law: the law of its weights where none is said; None is the library's default.
        imports: the Python line that gives the names in `code`.
        code: the Python expression that makes `module`.
        says: what the user should know about it, a sentence; "" for nothing.
    """

    module: nn.Module
    title: str
    own: bool
    law: Law | None
    imports: str
    code: str
    says: str = ""


def network(
    spec: str,
    data: Dataset,
    *,
    depth: int | None = None,
    width: int | None = None,
    activation: str | None = None,
    bias: bool = False,
    seed: int = 0,
) -> BuiltNetwork:
    """The network that `--net` names.

    Raises:
        BadArgument: an unknown name, depth or activation; images wanted where the data are a table; everything that
            can go wrong in the user's own file.
    """
    import torch

    from gramian.network.zoo import ACTIVATIONS, ZOO

    if modules.is_file(spec):
        module = modules.own_module(spec, data.x, data.n_outputs, seed)
        path, _, name = spec.rpartition(":")
        return BuiltNetwork(
            module, spec, True, None, f"from {Path(path).stem} import {name}", _call(name, module, path, data)
        )
    if spec not in ZOO:
        raise BadArgument(
            f"no network {spec!r}.",
            where=f"--net {spec}",
            why="another spelling." + nearest(spec, ZOO),
            fix=f"one of {', '.join(ZOO)}, or a file of your own as FILE.py:NAME.",
        )
    _check(spec, data, depth, width, activation, tuple(ACTIVATIONS))
    given = {"depth": depth or DEPTH.get(spec, 5), "width": width, "activation": activation, "bias": bias or None}
    options = {name: value for name, value in given.items() if value is not None}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = ZOO[spec](data.in_shape, data.n_outputs, **options)
    said = "".join(f", {name}={value!r}" for name, value in options.items())
    title = f"{TITLE[spec]}, depth {options['depth']}" + (f", {activation}" if activation else "")
    if bias:
        title += ", with biases"
    return BuiltNetwork(
        module,
        title,
        False,
        WITH_BIAS.get(spec, WITH_BIAS[""]) if bias else LAW.get(spec),
        "from gramian.network.zoo import ZOO",
        f"ZOO[{spec!r}]({data.in_shape}, {data.n_outputs}{said})",
        _about_biases(spec, data.in_shape, activation, bias),
    )


def _about_biases(spec: str, in_shape: tuple[int, ...], activation: str | None, bias: bool) -> str:
    """What the user should know of the biases; "" where nothing is surprising."""
    from gramian.network.biases import FEW_COLUMNS

    if bias:
        law = WITH_BIAS.get(spec, WITH_BIAS[""])
        same = f"in Python bias=True and law={{'readout': {law['readout']}, '*': {law['*']}}}"
        return f"The biases of --bias have the standard deviation {BIAS} unless --law says another ({same})."
    phi = activation or ("softplus" if spec == "du-resnet" else "relu")
    if phi in HOMOGENEOUS and len(in_shape) == 1 and in_shape[0] <= FEW_COLUMNS:
        return (
            "This network has no biases, so its outputs at a multiple of a row are that multiple of the outputs at the "
            "row: it can't learn what only the length of a row tells (rings around 0); --bias adds biases."
        )
    return ""


def says_law_without_biases(law: Law | None, net: BuiltNetwork, bias: bool) -> str:
    """A law that was said and gives biases a size, for a built-in network without any; "" for all others."""
    entries: Iterable[Any]
    if isinstance(law, Mapping):
        entries = law.values()
    else:
        entries = (law,)
    if net.own or bias or not any(isinstance(entry, tuple) and entry[1] for entry in entries):
        return ""
    return "The second number of --law is of the biases, and this network has none: --bias adds them."


def _check(
    spec: str, data: Dataset, depth: int | None, width: int | None, activation: str | None, known: tuple[str, ...]
) -> None:
    if spec in ("mlp", "cnn"):
        least = 2
    else:
        least = 3
    for option, value, at_least in (("--depth", depth, least), ("--width", width, 1)):
        if value is not None and value < at_least:
            raise BadArgument(
                f"{option} {value} makes no {spec}.",
                where=option,
                why="layers with weights are counted, the last one too." if option == "--depth" else "",
                fix=f"{at_least} or more.",
            )
    if activation is not None and activation not in known:
        raise BadArgument(
            f"--activation {activation} is unknown.",
            where="--activation",
            why="another spelling." + nearest(activation, known),
            fix=f"one of {', '.join(known)}.",
        )
    rank = len(data.in_shape)
    wanted = {"cnn": (2, 3), "conv-resnet": (3,)}.get(spec)
    if wanted is not None and rank not in wanted:
        shape = "x".join(map(str, data.in_shape))
        raise BadArgument(
            f"{spec} convolves images; the rows of {data.name} are of shape {shape}.",
            where=f"--net {spec} --data {data.name}",
            why="a table has no neighboring pixels." if rank == 1 else "it takes (channels, height, width).",
            fix="--net mlp or --net resnet for such rows.",
        )


def _call(name: str, module: nn.Module, path: str, data: Dataset) -> str:
    maker = getattr(modules.imported(Path(path).expanduser()), name)
    if maker is module:
        return name
    declared = inspect.signature(maker).parameters
    return f"{name}({', '.join(f'{each}={getattr(data, each)}' for each in modules.ASKED if each in declared)})"
