"""The structure that a watched pass proved, kept for modules whose forward cannot depend on values.

A user's forward may branch on numbers, so `observed_pass` keeps nothing of what it saw. A forward that we wrote, plain
torch layers one after the other, shows the same at all weights and samples: its class is entered here with a function
that says what its structure is, or that it cannot say. Then the pass is watched once for each structure, and later
calls make a plain pass in its place. What `vmap` pulls back is compared with that pass at every call as before.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules import module as global_hooks

from gramian.empirical.modules import trial_passes
from gramian.empirical.modules.observed_pass import ObservedPass, observe
from gramian.empirical.modules.output_functions import Batch, Model
from gramian.empirical.modules.structured_parameters import Uses

MOST_STRUCTURES_KEPT = 32  # in one place; a width sweep has four


class FixedStructure(NamedTuple):
    """What a module's pass depends on beside values, and where passes of such modules are kept."""

    kept: dict[Any, Any]
    key: Hashable


@dataclass(frozen=True)
class ProvedStructure:
    """What stays of a watched pass; no tensor is kept."""

    n_outputs: int
    dtype: torch.dtype
    uses: Uses
    saved: int


_structure_of: dict[type[nn.Module], Callable[[Any], FixedStructure | None]] = {}


def forward_is_fixed(kind: type[nn.Module], structure_of: Callable[[Any], FixedStructure | None]) -> None:
    """Enters a class whose forward we wrote; `structure_of` is None for a module that was changed since."""
    _structure_of[kind] = structure_of


def observe_once(model: Model, name: str, x: Batch, parameters: dict[str, Tensor]) -> ObservedPass:
    """`observe`, or a plain pass where the module's structure was proved before."""
    structure = _structure(model, x)
    if structure is None:
        return observe(model, name, x, parameters)
    proved = structure.kept.get(structure.key)
    if proved is not None:
        seen = _plain_pass(proved, model, name, x)
        if seen is not None:
            return seen
    seen = observe(model, name, x, parameters)
    # without a graph of its own the pass was opened to watch calls inside: no plain module of ours does that
    if seen.graph and not seen.unseen_by_vmap and not seen.uses.general:
        if len(structure.kept) >= MOST_STRUCTURES_KEPT:
            structure.kept.clear()
        structure.kept[structure.key] = ProvedStructure(seen.n_outputs, seen.dtype, seen.uses, seen.saved)
    return seen


def _structure(model: Model, x: Batch) -> FixedStructure | None:
    """The structure with that of the inputs; None where anything but the module could change the pass."""
    structure_of, rows = _structure_of.get(type(model.module)), x.x
    if structure_of is None or model.of is not None or x.targets is not None:
        return None
    if not isinstance(rows, Tensor) or not _nothing_interferes(rows):
        return None
    structure = structure_of(model.module)
    if structure is None:
        return None
    sample = (rows.dtype, rows.device, rows.shape[1:], rows.stride()[1:])
    return FixedStructure(structure.kept, (structure.key, sample))


def _nothing_interferes(x: Tensor) -> bool:
    """Whether the inputs are a plain tensor, and no mode, transform or hook of all modules is on."""
    return (
        type(x) is Tensor
        and x.is_floating_point()
        and x.layout is torch.strided
        and torch._C._len_torch_dispatch_stack() == 0
        and torch._C._len_torch_function_stack() == 0
        and torch._C._functorch.peek_interpreter_stack() is None
        and not torch.is_autocast_enabled(x.device.type)
        and not global_hooks._has_any_global_hook()
    )


def _plain_pass(proved: ProvedStructure, model: Model, name: str, x: Batch) -> ObservedPass | None:
    """One pass of the last sample with its graph; None if its scores are not those of the structure."""
    last = len(x) - 1
    row = x.take([last])
    run = trial_passes.Forward(model.module, name)
    scores = trial_passes.scores_of(model, run(row.x), row)
    trial_passes.check_finite(model, scores, "last")
    if (len(scores), scores.dtype, scores.requires_grad) != (proved.n_outputs, proved.dtype, True):
        return None
    return ObservedPass(proved.n_outputs, proved.dtype, proved.uses, proved.saved, False, x[last:], [scores])
