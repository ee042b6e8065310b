"""Writes docs/what-has-a-limit.md from the registry of ops; `make docs`. A test holds the page against the code."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import gramian.duals
import gramian.network.reader
from gramian.arch import ops as ops_folder
from gramian.arch.ops import READERS, Activation, Heaviside, MatMul, Op, Sign, Take
from gramian.arch.ops.attention_scores import products
from gramian.arch.ops.groups import SPLITTING_CALLS, pieces
from gramian.limit import outputs
from gramian.network import read_module
from gramian.network.reader import unrolled_rnn
from gramian.network.reader.refusals import KNOWN_REFUSALS

RECURRENT = "`nn.RNN` and `nn.RNNCell`: the steps in time, with the covariances of states that share their weights."
YANG = "[Yang 2020](https://arxiv.org/abs/2006.14548), [Alemohammad et al. 2021](https://arxiv.org/abs/2006.10246)"
PAGE = Path(__file__).with_name("what-has-a-limit.md")
HEAD = """# What has a limit

<!-- Written by docs/generate.py from the code: change the ops, then `make docs`. -->

`gramian.architecture(module, like=x[:2])` reads a module with `torch.export`. Layers, functions and operators that
compute the same become the same call there: `nn.ReLU()`, `F.relu(h)` and `h.relu()` are all `relu`. What can be read
is therefore a list of calls, not of layers. A module made of the calls below has an exact infinite-width limit, as long
as each activation sits on a Linear or a convolution; anything else is refused with the line of your code.

## Calls that are read

NNGP and NTK are both exact, to rounding or to the error that stands beside them; "no slope" means that torch's
derivative is zero, so that the layers below add nothing to the NTK.

| call | op | its rule | NNGP | NTK | reference | since |
|---|---|---|---|---|---|---|
"""
ELSE = """
## What has none here, and still a kernel

| network | its kernel |
|---|---|
| any module: max pooling, softmax attention with scores over the root of the width (`nn.MultiheadAttention`), \
post-activation residual blocks, gated recurrence, BatchNorm in training mode | `gramian.monte_carlo(module, x)`: the \
mean over random networks of the module's own width, with its standard error. A width of choice for modules that \
`architecture` can read, and with a function `make(width)` in place of the module for all; then `extrapolate=True` \
takes off what is of order 1 / width |
| vectors with `h = relu(h + tau * linear(h))`, the residual network of Allen-Zhu, Li and Song | \
`gramian.limit.allen_zhu_resnet_kernels(x, depth=..., tau=...)`: the limit itself, integrated to an asked accuracy |
| the network as it stands, with its own weights | `gramian.empirical_ntk(module, x)` |
"""
ATTENTION = """
## Attention

Scores that are divided by the width d of a head come to numbers, and have a limit; divided by its root, as torch does
by default, they stay random however wide the network is, and softmax attention has none. What to write, here with a
causal mask, and in place of `nn.MultiheadAttention`:

    q, k, v = (h.unflatten(-1, (heads, -1)).transpose(1, 2) for h in self.qkv(x).chunk(3, -1))
    y = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=1 / q.shape[-1])
    y = self.out(y.transpose(1, 2).flatten(2))

A scale s that is written as a number is read as c / d, where c = s d is kept when the width grows; the printed
architecture says c. But s = 1 / sqrt(d) is the default, and s = 1 is no scale at all: both are refused. Where keys and
queries have layers of their own, as here, the scores come to zero, and the weights are the same for all keys that the
mask allows; with one layer for both, `q = k`, they depend on the input. Any function of each score can stand for the
softmax, written out as `f(q @ k.mT / q.shape[-1]) @ v`; masks are fixed, or made from the input.

Without a softmax, `q @ k.mT / d ** 0.5 @ v` has a limit in the number of heads (two or more, of independent keys,
queries and values): wider networks have more heads, each of d channels.

A parameter that is added to the values, or stands beside them (learned positions, a class token), has independent
entries, whose standard deviation only you can say: `law={"positions": (0.02, 0), "*": "he"}`. Fixed positions are added
to the input.
"""
REFUSED = """
## What is refused, and the way out

A dot stands for a number, a shape or a name of your network.

| refused | why | what to do |
|---|---|---|
"""


def page() -> str:
    """The whole page."""
    ops: dict[type[Op], list[str]] = {}
    for target, op in READERS.items():
        ops.setdefault(op, []).append(_call(target))
    rows = [
        (", ".join(f"`{c}`" for c in dict.fromkeys(calls)), op.__name__, _first(op), *_how(op))
        for op, calls in ops.items()
    ]
    for calls, how in ((sorted(SPLITTING_CALLS), pieces), (["aten.einsum.default"], products)):
        names = ", ".join(f"`{name}`" for name in dict.fromkeys(_call(c) for c in calls))
        op = Take if how is pieces else MatMul
        rows.append((names, op.__name__, " ".join((inspect.getdoc(how) or "").split()), *_how(op)))
    steps = ", ".join(
        f"`{name}`"
        for name in dict.fromkeys(_call(c) for c in (*unrolled_rnn.RECURRENT_CALLS, *unrolled_rnn.CELL_CALLS))
    )
    rows.append((steps, "", RECURRENT, "exact", "exact", YANG, "0.1"))
    folders = [Path(package.__file__).parent for package in (ops_folder, gramian.network.reader, gramian.duals)]
    files = [Path(outputs.__file__), Path(read_module.__file__)]
    files += [file for folder in folders for file in sorted(folder.glob("*.py"))]
    refused = {row for file in files for row in _refusals(file.read_text(encoding="utf-8"))}
    refused |= {
        (f"`{start.rstrip('_')}` has no infinite-width rule here.", *why) for start, why in KNOWN_REFUSALS.items()
    }
    said = sorted(row for row in refused if row[1:] != ("·", "·"))
    return HEAD + _table(sorted(rows)) + ELSE + ATTENTION + REFUSED + _table(said)


def _call(target: str) -> str:
    """`aten.relu_.default` as `relu`."""
    return target.removeprefix("aten.").split(".")[0].rstrip("_") or target


def _first(op: type[Op]) -> str:
    """First paragraph of the docstring."""
    return " ".join((inspect.getdoc(op) or "").split("\n\n")[0].split())


def _how(op: type[Op]) -> tuple[str, str, str, str]:
    """How the NNGP kernel is computed, and the NTK; the sources that the docstring names; the version."""
    found = re.findall(
        r"((?:[A-Z][\w-]+(?:, | and | et al\. | )?)+\d{4})[^.;:]*?arXiv:(\d{4}\.\d{5})", inspect.getdoc(op) or ""
    )
    links = ", ".join(f"[{' '.join(name.split())}](https://arxiv.org/abs/{number})" for name, number in found)
    form = op.form if issubclass(op, Activation) else "exact"
    return form, "no slope" if issubclass(op, Sign | Heaviside) else form, links, op.since


def _refusals(source: str) -> list[tuple[str, str, str]]:
    """(what, why, fix) of each NoLimit in a file."""
    calls = [
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "NoLimit"
    ]
    found = []
    for call in calls:
        parts = {keyword.arg: _text(keyword.value) for keyword in call.keywords}
        what = _text(call.args[0]) if call.args else ""
        if what.strip("· "):
            found.append((what, parts.get("why", ""), parts.get("fix", "")))
    return found


def _text(node: ast.expr) -> str:
    """A string of the source, with a dot for what is filled in."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(v) if isinstance(v, ast.Constant) else "·" for v in node.values)
    if isinstance(node, ast.BinOp):
        return _text(node.left) + _text(node.right)
    return "·"


def _table(rows: list[tuple[str, ...]]) -> str:
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |\n" for row in rows)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"wrote {PAGE.name}")
