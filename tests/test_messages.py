"""Messages advise only what exists: every option, function and keyword that a `fix` or a `why` names is looked up."""

import ast
import builtins
import importlib
import inspect
import re
from functools import cache
from pathlib import Path

import pytest
import torch
import torch.utils.checkpoint
import typer

from gramian.cli import app

SOURCE = Path(__file__).resolve().parents[1] / "src" / "gramian"
EXAMPLES = ("conv", "f_0", "forward", "kernel", "make", "model", "module", "pos", "solution")  # the user's own
COMMANDS = (*(command.callback.__name__ for command in app.registered_commands), "claims")
PIP = {"--upgrade", "--no-build-isolation"}  # of pip, in lines to install something

# keywords and functions of torch, numpy, pandas and Python that texts name, and where they are
OTHERS = {
    "affine": torch.nn.BatchNorm1d,
    "batch_first": torch.nn.MultiheadAttention,
    "divisor_override": torch.nn.AvgPool2d,
    "dropout_p": None,  # of F.scaled_dot_product_attention, which has no signature
    "scale": None,
    "elementwise_affine": torch.nn.LayerNorm,
    "enable_gqa": None,
    "full_state_dict": None,  # of torch.distributed.checkpoint.state_dict.StateDictOptions
    "groups": torch.nn.Conv2d,
    "inplace": torch.nn.ReLU,
    "keepdim": None,
    "min": None,  # of Tensor.clamp
    "num_classes": None,
    "reduction": torch.nn.CrossEntropyLoss,
    "track_running_stats": torch.nn.BatchNorm1d,
    "padding_mode": torch.nn.Conv2d,
    "use_reentrant": torch.utils.checkpoint.checkpoint,
    **dict.fromkeys(("train_x", "train_y", "test_x", "test_y")),  # arrays in an .npz
}


@cache
def advice() -> tuple[tuple[str, str, str], ...]:
    """(file, line, text) of each `fix` and `why`; what is filled in at run time is {}."""
    found = []
    for path in sorted(SOURCE.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        constants = {
            target.id: node.value
            for node in tree.body
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for node in ast.walk(tree):
            for keyword in getattr(node, "keywords", []):
                if isinstance(node, ast.Call) and keyword.arg in ("fix", "hint"):
                    name = path.relative_to(SOURCE).as_posix()
                    found += [(name, str(node.lineno), text) for text in texts(keyword.value, constants)]
    return tuple(found)


def texts(node: ast.expr, constants: dict[str, ast.expr]) -> list[str]:
    if isinstance(node, ast.Constant):
        return [node.value] if isinstance(node.value, str) else []
    if isinstance(node, ast.JoinedStr):
        return ["".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)]
    if isinstance(node, ast.BinOp):
        return ["".join(texts(node.left, constants) + texts(node.right, constants))]
    if isinstance(node, ast.IfExp):
        return texts(node.body, constants) + texts(node.orelse, constants)
    if isinstance(node, ast.Name) and node.id in constants:
        return texts(constants[node.id], {})
    return []


@cache
def options() -> dict[str, dict[str, str]]:
    """Of each command: its options with their metavars."""
    group = typer.main.get_command(app)
    own = {}
    for name, command in group.commands.items():
        parts = getattr(command, "commands", {}).values() or [command]
        own[name] = {o: str(p.metavar or "") for part in parts for p in part.params for o in p.opts}
    return own


@cache
def defined() -> tuple[frozenset[str], frozenset[str]]:
    """Names of functions, methods and classes of this package; names of their arguments and fields."""
    functions, arguments = set(), set()
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                functions.add(node.name)
            if isinstance(node, ast.FunctionDef):
                arguments |= {a.arg for a in [*node.args.args, *node.args.kwonlyargs, *node.args.posonlyargs]}
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                arguments.add(node.target.id)
    return frozenset(functions), frozenset(arguments)


def wrong(file: str, text: str) -> list[str]:
    """What a text names that does not exist."""
    faults = []
    commands = [file.removeprefix("cli/").removesuffix(".py")] if file.startswith("cli/") else []
    commands = [name for name in commands if name in COMMANDS] or list(COMMANDS)
    commands += re.findall(r"gramian ([a-z]+)", text)
    for name in re.findall(r"`gramian ([a-z]+)|^gramian ([a-z]+) ", text):
        if "".join(name) not in COMMANDS:
            faults.append(f"no command {name}")
    for option, value in re.findall(r"(?<![\w-])(--[a-z][a-z-]*)(?: ([a-z0-9-]+)(?![\w:.=(]))?", text):
        metavars = [options()[name][option] for name in commands if option in options().get(name, {})]
        if not metavars and option not in PIP:
            faults.append(f"no option {option} of {' or '.join(commands)}")
        choices = {choice for metavar in metavars for choice in metavar.split("|")}
        is_choice = any(choice in choices for choice in ("auto", "refuse", "ntk", "float32", "he", "cpu", "squared"))
        if (
            value
            and not value.isdigit()
            and is_choice
            and value not in choices
            and value not in ("and", "or", "by", "takes", "leaves", "says")
        ):
            faults.append(f"{option} takes {'|'.join(sorted(choices))}, not {value}")
    functions, arguments = defined()
    for keyword in re.findall(r"(?<![\w.\"'\[])([a-z_]{3,})=(?![=])", text):
        if keyword not in arguments and keyword not in OTHERS and not _assigned(keyword, text):
            faults.append(f"no argument {keyword}")
    for dotted in re.findall(r"\b(gramian(?:\.\w+)+)", text):
        if not _exists(dotted):
            faults.append(f"no {dotted}")
    for name in re.findall(r"(?<![\w.])([A-Za-z_]\w{2,})\(", text):
        known = name in functions or hasattr(builtins, name) or name in EXAMPLES
        if not known and not hasattr(torch, name) and not hasattr(torch.Tensor, name):
            faults.append(f"no function {name}")
    for name in re.findall(r"\b((?:nn|F|torch)(?:\.\w+)+)", text):
        if not _exists(name.replace("nn.", "torch.nn.", 1) if name.startswith("nn.") else name.replace("F.", "torch.nn.functional.", 1) if name.startswith("F.") else name):  # fmt: skip  # noqa: E501
            faults.append(f"no {name}")
    return faults


def _assigned(name: str, text: str) -> bool:
    """Whether it is a variable of an example: `w = ...`, or a placeholder."""
    return re.search(rf"\b{name} = ", text) is not None


def _exists(dotted: str) -> bool:
    parts = dotted.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:cut]))
        except ImportError:
            continue
        for part in parts[cut:]:
            if not hasattr(found, part):
                return False
            found = getattr(found, part)
        return True
    return False


def test_the_walk_finds_them():
    assert len(advice()) > 350
    assert any("--missing drop" in text for _, _, text in advice())


def test_what_is_taken_from_torch_is_there():
    for name, owner in OTHERS.items():
        assert owner is None or name in inspect.signature(owner).parameters


def test_every_advice_exists():
    faults = [f"{file}:{line}: {fault} ({text})" for file, line, text in advice() for fault in wrong(file, text)]
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize(
    ("file", "text", "fault"),
    [
        ("cli/fit.py", "--dtype float32", "no option --dtype"),
        ("data/load.py", "--parametrization mup", "--parametrization takes"),
        ("arch/law.py", "no_such_argument=3", "no argument no_such_argument"),
        ("arch/law.py", "gramian.no_such_thing(x)", "no gramian.no_such_thing"),
        ("arch/law.py", "norm_sqrt_d(x)", "no function norm_sqrt_d"),
        ("arch/law.py", "nn.Lineal(3)", "no nn.Lineal"),
    ],
)
def test_what_does_not_exist_is_found(file, text, fault):
    assert any(found.startswith(fault) for found in wrong(file, text)), wrong(file, text)
