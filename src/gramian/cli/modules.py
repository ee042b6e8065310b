"""The user's own networks: FILE.py:NAME to an nn.Module, with errors that show the user's own line."""

from __future__ import annotations

import contextlib
import copy
import importlib.util
import inspect
import linecache
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from gramian.cli.options import nearest
from gramian.errors import BadArgument, BadData

if TYPE_CHECKING:
    from torch import Tensor, nn

ASKED = ("in_shape", "n_outputs")  # given to a function that declares them
EXAMPLE = "def make(): return nn.Sequential(nn.Flatten(), nn.Linear(64, 512), nn.ReLU(), nn.Linear(512, 10))"


def is_file(spec: str) -> bool:
    """Whether --net means a file of the user's."""
    path, _, _ = spec.rpartition(":")
    return spec.endswith(".py") or path.endswith(".py")


def own_module(spec: str, x: Tensor, n_outputs: int, seed: int) -> nn.Module:
    """The module that FILE.py:NAME stands for, tried on two rows.

    NAME is an `nn.Module`, a class of one, or a function that returns one; classes and functions are called without
    arguments, but for `in_shape` and `n_outputs` where they declare them.

    Args:
        spec: FILE.py:NAME.
        x: inputs; shape (n, *in_shape).
        n_outputs: outputs that the labels ask for.
        seed: of torch's random numbers before the call, so that the weights can be drawn again.

    Raises:
        BadArgument: no such file or name, the file or the function raises, or it gives no `nn.Module`.
        BadData: the module does not run on these inputs, or gives another number of outputs.
    """
    import torch
    from torch import nn

    path, name = _split(spec)
    candidate = _named(imported(path), name, path)
    if not isinstance(candidate, nn.Module):
        torch.manual_seed(seed)
        arguments = _arguments(candidate, {"in_shape": tuple(x.shape[1:]), "n_outputs": n_outputs}, f"{path}:{name}")
        with _users_code(path, f"{name}({', '.join(f'{k}={v!r}' for k, v in arguments.items())}) raised"):
            candidate = candidate(**arguments)
    if not isinstance(candidate, nn.Module):
        raise BadArgument(
            f"{name} gives a {type(candidate).__name__}, no torch.nn.Module.",
            where=f"{path}:{name}",
            why="a return is missing." if candidate is None else "another name was meant.",
            fix=f"a function that returns the network, e.g. {EXAMPLE}",
        )
    _try(candidate, x, n_outputs, path, name)
    return candidate


def _split(spec: str) -> tuple[Path, str]:
    if not spec.endswith(".py"):
        text, _, name = spec.rpartition(":")
    else:
        text, _, name = (spec, ":", "")
    path = Path(text).expanduser()
    if not path.is_file():
        if path.parent.is_dir():
            beside = [f.name for f in path.parent.glob("*.py")]
        else:
            beside = []
        raise BadArgument(
            f"no file {text}.",
            where=f"--net {spec}, looked for at {path.absolute()}",
            why="another spelling or folder." + nearest(path.name, beside),
            fix="--net FILE.py:NAME, the path relative to the folder you are in or absolute.",
        )
    return path, name


def imported(path: Path) -> ModuleType:
    """The file as a module, with its own folder importable, as `python FILE.py` has it."""
    name = f"_gramian_{path.stem}_{abs(hash(path.absolute()))}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None  # it ends in .py
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickle look modules up
    sys.path.insert(0, str(path.parent.absolute()))
    try:
        with _users_code(path, "the file cannot be imported"):
            spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _named(module: ModuleType, name: str, path: Path) -> Any:
    known = _networks(module)
    listed = ", ".join(f"{path}:{each}" for each in known)
    holds = "it holds no nn.Module, and no function that could return one."
    first = one_of = f"write one into it, e.g. {EXAMPLE}"
    if known:
        holds, first, one_of = f"it holds {listed}.", f"--net {path}:{known[0]}", f"one of {listed}"
    if not name:
        raise BadArgument(
            f"which network of {path} was not said.",
            where=f"--net {path}",
            why=holds,
            fix=first,
        )
    if not hasattr(module, name):
        raise BadArgument(
            f"no name {name} in {path}.",
            where=f"--net {path}:{name}",
            why="another spelling." + nearest(name, known),
            fix=one_of,
        )
    value = getattr(module, name)
    if not callable(value):
        raise BadArgument(
            f"{name} is {value!r}, no network.",
            where=f"--net {path}:{name}",
            why="NAME is an nn.Module, a class of one, or a function that returns one.",
            fix=one_of,
        )
    return value


def _networks(module: ModuleType) -> list[str]:
    """Names of what may be a network: modules, and functions and classes of this file that need no other argument."""
    from torch import nn

    names = []
    for name, value in vars(module).items():
        if name.startswith("_"):
            continue
        mine = getattr(value, "__module__", None) == module.__name__
        makes_modules = inspect.isfunction(value) or (inspect.isclass(value) and issubclass(value, nn.Module))
        if isinstance(value, nn.Module) or (mine and makes_modules and not _required(value)):
            names.append(name)
    return names


def _required(function: Callable) -> list[str]:
    """Arguments that it must be given and that we have nothing for."""
    parameters = inspect.signature(function).parameters.values()
    plain = (p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD))
    return [p.name for p in plain if p.default is p.empty and p.name not in ASKED]


def _arguments(function: Callable, known: dict[str, Any], where: str) -> dict[str, Any]:
    if missing := _required(function):
        raise BadArgument(
            f"{where.rpartition(':')[2]} needs {', '.join(missing)}, which nobody gives it.",
            where=where,
            why="it is called without arguments, but for in_shape and n_outputs where it declares them.",
            fix=f"give {missing[0]} a default value, or write a function without arguments that calls it.",
        )
    declared = inspect.signature(function).parameters
    return {name: value for name, value in known.items() if name in declared}


def _try(module: nn.Module, x: Tensor, n_outputs: int, path: Path, name: str) -> None:
    import torch

    from gramian.arch.inputs import shape_or_type

    # so that BatchNorm's statistics stay what they are
    tried = copy.deepcopy(module).eval()
    parameter = next((p for p in tried.parameters() if p.is_floating_point()), None)
    if parameter is None:
        raise BadArgument(f"{name} has no parameters.", where=f"{path}:{name}", why="there is nothing to train.")
    inputs = x[:2].to(parameter.device, parameter.dtype)
    shape = tuple(inputs.shape)
    hint = "--flatten, or nn.Flatten() as its first layer, if it takes vectors; else mend that layer."
    if len(shape) > 2:
        hint = hint
    else:
        hint = ""
    with (
        torch.no_grad(),
        _users_code(path, f"{name} does not run on inputs of shape {shape}", BadData, hint),
    ):
        outputs = tried(inputs)
    given = shape_or_type(outputs)
    if given != (len(inputs), n_outputs):
        raise BadData(
            f"{name} gives {given} for inputs of shape {shape}; these labels need ({len(inputs)}, {n_outputs}).",
            where=f"{path}:{name}",
            why=f"the last layer has another number of outputs than the {n_outputs} that the data have.",
            fix=f"{n_outputs} outputs in the last layer; a function def {name}(in_shape, n_outputs) is told both.",
        )


@contextlib.contextmanager
def _users_code(path: Path, what: str, kind: type = BadArgument, hint: str = "") -> Iterator[None]:
    """Runs code of the user's: it prints to stderr, and what it raises is shown with the user's own line."""
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    except SystemExit as error:
        raise kind(f"{what}: it ends the program (exit {error.code}).", where=str(path), fix=_guard(path)) from None
    except SyntaxError as error:
        line = (error.text or "").strip()
        where = f"{error.filename}, line {error.lineno}: {line}"
        raise kind(f"{what}: {error.msg}.", where=where, why="Python cannot read it.", fix="mend that line.") from None
    except Exception as error:
        said = str(error).strip().split("\n")[0]
        why, fix = _cause(error)
        raise kind(
            f"{what}: {type(error).__name__}: {said}",
            where=_users_line(error, path),
            why=why,
            fix=hint if hint and fix == MEND else fix,
        ) from None


MEND = "mend that line."


def _users_line(error: Exception, path: Path) -> str:
    """The deepest line of the user's file or of a file beside it, and the layer that failed."""
    frames = [(frame, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    folder = path.parent.absolute()
    mine = [(Path(f.f_code.co_filename).absolute(), line) for f, line in frames]
    mine = [(file, line) for file, line in mine if file.parent == folder]
    where = str(path)
    if mine:
        file, line = mine[-1]
        where = f"{file}, line {line}: {linecache.getline(str(file), line).strip()}"
    layer = _layer([frame.f_locals.get("self") for frame, _ in frames])
    return where + (f"; layer {layer}" if layer else "")


def _layer(owners: list[Any]) -> str:
    """Path and print of the innermost module among the owners of a traceback's frames."""
    from torch import nn

    layers = [owner for owner in owners if isinstance(owner, nn.Module)]
    if not layers or layers[-1] is layers[0]:
        return ""
    names = {id(module): name for name, module in layers[0].named_modules()}
    text = str(layers[-1])
    if "\n" not in text:
        shown = text
    else:
        shown = type(layers[-1]).__name__
    return f"{names.get(id(layers[-1]), '')} {shown}".strip()


def _cause(error: Exception) -> tuple[str, str]:
    """Why, and what to do."""
    if isinstance(error, ModuleNotFoundError):
        name = error.name or "it"
        return f"{name} is not installed beside gramian, and no file here has that name.", f"install {name} there."
    if "shapes cannot be multiplied" in str(error) or "size mismatch" in str(error):
        return "a layer is made for inputs of another size.", MEND
    return "a mistake there, or it needs something that it does not find here.", MEND


def _guard(path: Path) -> str:
    return f'put what {path.name} does when it is run below if __name__ == "__main__":'
