"""The graph of a torch module, by `torch.export`, and what its nodes say."""

from __future__ import annotations

import logging
import os
import re
import sysconfig
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Graph, Node

from gramian.arch.inputs import Form, Inputs, cast_floating, leaves
from gramian.errors import BadData, GramianError, NoLimit
from gramian.module_state.attributes import Attributes
from gramian.module_state.untouched import loan_of
from gramian.network.reader import unpacked_attention
from gramian.network.reader.exported_blocks import inference_as_no_grad
from gramian.network.reader.unpacked_attention import Unpacked

SPARSE_PRODUCT_FIX = (
    "torch.sparse.mm(A, h.transpose(0, 1).flatten(1)).unflatten(1, (len(h), -1)).transpose(0, 1), or A.to_dense() @ h"
)
# folders, not their names: a user's file may lie in one called torch
UNPACKED = os.path.abspath(unpacked_attention.__file__)
TORCH = os.path.dirname(os.path.abspath(torch.__file__))
GRAMIAN = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
INSTALLED = (GRAMIAN, TORCH,
             *(os.path.abspath(sysconfig.get_path(name)) for name in ("purelib", "platlib", "stdlib")))  # fmt: skip


def _two_samples(t: Tensor) -> Tensor:
    if len(t) > 1:
        return t[:2]
    return torch.cat([t, t])


def export(module: nn.Module, form: Form, like: Inputs) -> torch.export.ExportedProgram:
    """The module's graph, traced on two samples in the module's own precision."""
    given = [_two_samples(t) for t in leaves(like)]
    first = next((p for p in module.parameters()), None)
    if first is not None:
        given = [cast_floating(t, first.dtype).to(first.device) for t in given]
    args, kwargs = form.call(given)
    with quiet(), Unpacked(), inference_as_no_grad():
        try:
            return torch.export.export(module, args, kwargs, strict=False)
        except Exception as error:
            lines = str(error).strip().splitlines() or [""]
            try:
                _run(module, args, kwargs)
            except Exception as plain:
                raise _does_not_run(module, form, like, given, plain) from plain
            raise NoLimit(
                f"torch.export can't read the module: {lines[0]}",
                where=_deepest(error, module),
                why="its forward branches on the values of tensors, or calls code that torch can't trace",
                fix="write the forward without data-dependent branches; gramian.monte_carlo takes any module",
            ) from error


def _does_not_run(
    module: nn.Module, form: Form, like: Inputs, given: list[torch.Tensor], plain: Exception
) -> GramianError:
    """What to say of a module that fails on two rows: that it does not run at all, or only on all of them."""
    first_line = (str(plain).strip().splitlines() or [""])[0]
    complex_weights = [name for name, p in module.named_parameters() if p.is_complex()]
    if complex_weights:
        return NoLimit(
            f"The parameter `{complex_weights[0]}` is complex.",
            where=_deepest(plain, module),
            why="there is no rule for complex weights, nor for products of Fourier modes with weights of their own",
            fix="a convolution with padding_mode='circular', which is such a product with all modes",
        )
    if len(leaves(like)[0]) > 2 and _runs(module, form, like, given):
        shape = tuple(leaves(like)[0].shape)
        return BadData(
            f"The module runs on `like` of shape {shape}, and not on two rows of it: {first_line}",
            where=_deepest(plain, module),
            why="its first axis is mixed: are the rows the nodes of one graph, or a batch of one fixed size?",
            fix="one graph is one sample: like=x[None] of shape (1, nodes, features), and kernels with "
            "outputs='full' for pairs of nodes",
        )
    shapes = ", ".join(str(tuple(t.shape)) for t in given)
    sparse = "Sparse" in first_line
    if sparse:
        why = "torch multiplies a sparse matrix with (nodes, columns) alone"
    else:
        why = "the input's shape or type is not the one that the module expects"
    if sparse:
        fix = SPARSE_PRODUCT_FIX
    else:
        fix = "run module(like) by itself; images are (n, channels, height, width)"
    return BadData(
        f"The module does not run on an input of shape {shapes}: {first_line}",
        where=_deepest(plain, module),
        why=why,
        fix=fix,
    )


def _runs(module: nn.Module, form: Form, like: Inputs, given: list[torch.Tensor]) -> bool:
    """Whether the module runs on all rows of the example, in the precision in which it was tried."""
    args, kwargs = form.call([t.to(g.device, g.dtype) for t, g in zip(leaves(like), given, strict=True)])
    try:
        _run(module, args, kwargs)
    except Exception:
        return False
    return True


def _run(module: nn.Module, args: tuple, kwargs: dict) -> None:
    """One forward pass; a parameter that it writes into is copied first, and so can be brought back."""
    loan = loan_of(Attributes(module))
    lent: AbstractContextManager[None] = nullcontext()
    if loan is not None:
        lent = loan.one_call()
    with torch.no_grad(), lent:
        module(*args, **kwargs)


@contextmanager
def quiet() -> Iterator[None]:
    """Without torch's own words about its export format, and its log of an op that fails: our error says it."""
    log = logging.getLogger("torch._subclasses.fake_tensor")
    was, log.disabled = log.disabled, True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.disabled = was


def _below(file: str, folders: tuple[str, ...]) -> bool:
    """Whether a file lies in one of the folders, or is no file."""
    path = os.path.abspath(file)
    return file.startswith("<") or any(path.startswith(folder + os.sep) for folder in folders)


def _deepest(error: BaseException, module: nn.Module) -> str:
    """The last line of the user's own code in a traceback."""
    place, tb = type(module).__name__, error.__traceback__
    while tb is not None:
        name = tb.tb_frame.f_code.co_filename
        if not _below(name, INSTALLED):
            place = f"{name}:{tb.tb_lineno}"
        tb = tb.tb_next
    return place


def flat(args: Sequence[Any]) -> Iterator[Any]:
    for arg in args:
        if isinstance(arg, list):
            yield from flat(arg)
        else:
            yield arg


def in_order(node: Node) -> list[Any]:
    """Arguments in the order of the aten schema, defaults filled in."""
    schema = getattr(node.target, "_schema", None)
    if schema is None:
        return list(node.args)
    args = list(node.args)
    for argument in schema.arguments[len(args) :]:
        default = None
        if argument.has_default_value():
            default = argument.default_value
        args.append(node.kwargs.get(argument.name, default))
    return args


def where_of(node: Node) -> str:
    """The module's path, its class, and the last line of code outside of torch."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    if stack:
        path, kind = stack[-1]
    else:
        path, kind = ("", "")
    if isinstance(kind, str):
        kind = kind.rsplit(".", 1)[-1]
    else:
        kind = getattr(kind, "__name__", "")
    path = re.sub(r"@\d+$", "", path)
    if path:
        place = f"{path} ({kind})"
    else:
        place = kind or str(node.target)
    frames = re.findall(r'File "([^"]+)", line (\d+), in (\w+)\n\s*(.+)', node.meta.get("stack_trace") or "")
    own = [f for f in frames if not _below(f[0], (TORCH,)) and os.path.abspath(f[0]) != UNPACKED]
    if own:
        file, line, _, code = own[-1]
        place += f", {file}:{line}: {code.strip()}"
    return place


def needed(graph: Graph) -> set[Node]:
    """The nodes that the output needs, and those that write in place."""
    kept: set[Node] = set()
    for node in reversed(graph.nodes):
        if node.op != "call_function" or in_place(node) or any(user in kept for user in node.users):
            kept.add(node)
    return kept


def in_place(node: Node) -> bool:
    """Whether a call writes into its first argument."""
    return str(node.target).startswith("aten.") and str(node.target).split(".")[1].endswith("_")
