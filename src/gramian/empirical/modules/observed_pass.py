"""One forward pass of one sample, watched: all that is looked at before `vmap` runs the samples together.

Nothing of it is kept for the next call, except of networks of ours (`kept_structure.py`). What the pass shows may
depend on the values of parameters, buffers and inputs (a branch that is taken, a gate that opens, a number that is
drawn), so that another pass of the same module need not show it. It is one pass where there were five: of outputs, of
outputs with their graph, of hooks, of uses, and the one that pulled-back vectors are compared with.

What it cannot settle is handed on: numbers that were drawn, samples that seem to be mixed and outputs that `vmap` has
otherwise go to `trial_passes.try_model`, hooks and custom functions to `gradient_hooks.checked_backward`.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import BackwardCFunction

from gramian.empirical.modules import trial_passes
from gramian.empirical.modules.arguments import tensors_of
from gramian.empirical.modules.batch_dependent import INDEPENDENT, depends
from gramian.empirical.modules.calling import hooked_ones
from gramian.empirical.modules.gradient_hooks import checked_backward, module_hooks
from gramian.empirical.modules.observed_calls import CallWatcher
from gramian.empirical.modules.output_functions import Batch, Model
from gramian.empirical.modules.structured_parameters import CallRecorder, Node, Uses, nodes_below
from gramian.errors import BadData
from gramian.module_state.random_numbers import kept_random_states, random_states


@dataclass(frozen=True, eq=False)
class ObservedPass:
    """What one pass of the last sample showed.

    Attributes:
        n_outputs, dtype: of the numbers to differentiate.
        uses: which parameters have a structure, proved on this pass's graph.
        saved: bytes that a backward pass keeps for the sample.
        unseen_by_vmap: hooks of tensors or modules, or parameters that are used past their places.
        graph: the scores with their graph, until they are taken; none where functions of torch were opened to watch
            the calls inside, so that the pass is no independent reference.
    """

    n_outputs: int
    dtype: torch.dtype
    uses: Uses
    saved: int
    unseen_by_vmap: bool
    sample: Batch
    graph: list[Tensor] = field(default_factory=list)

    def take_scores(self, batch: Batch) -> Tensor | None:
        """The scores of a batch of one with their graph, once, if it is the sample that was observed."""
        ours, theirs = ([*tensors_of(one.x), one.targets] for one in (self.sample, batch))
        if self.graph and all(map(_same_memory, ours, theirs)):
            return self.graph.pop()
        return None


def _same_memory(a: Tensor | None, b: Tensor | None) -> bool:
    if a is None or b is None:
        return a is b
    return a.data_ptr() == b.data_ptr() and a.shape == b.shape and a.stride() == b.stride()


def observe(model: Model, name: str, x: Batch, parameters: dict[str, Tensor]) -> ObservedPass:
    """One watched pass of the last sample: a rule of vmap that is wrong may have the first one right.

    Args:
        model: a module and the function of its outputs.
        name: of the inputs, for errors.
        x: all samples; two others stand beside the last one when mixed samples are looked for.
        parameters: the trainable ones.

    Raises:
        BadData, BadArgument: as `trial_passes.try_model` and `checked_backward`.
    """
    module, last = model.module, len(x) - 1
    rows = x.take(list(dict.fromkeys((last, 0, last // 2))))
    run = trial_passes.Forward(module, name)
    with kept_random_states(x.x.device):
        before = random_states(x.x.device)
        seen = _watched_pass(model, run, rows, parameters)
        after = random_states(x.x.device)
        run.check_buffers()
        trial_passes.check_finite(model, seen.scores, "last")
        trial = trial_passes.trial_of(model, run, rows, isinstance(seen.out, Tensor))
        alone = depends(trial, seen.scores.detach(), seen.scores, (False, False, False)) == INDEPENDENT
        if before != after or not alone:
            trial_passes.try_model(model, name, rows)
    nodes = nodes_below(seen.scores.grad_fn)
    uses = seen.recorder.uses(nodes)
    unseen = False
    # a vmap has other values of the general parameters in their places, and past their places the module's own
    if uses.general or seen.watched.registers_hooks or _changes_gradients(module, parameters, nodes):
        backward = checked_backward(module, rows.x[:1], lambda out: model.apply(out, rows[:1]))
        unseen = bool(backward.inside or backward.past)
    if seen.watched.opened:
        graph = []
    else:
        graph = [seen.scores]
    return ObservedPass(len(seen.scores), seen.scores.dtype, uses, seen.saved, unseen, x[last:], graph)


@dataclass(frozen=True, eq=False)
class _WatchedPass:
    """What the module returned, the scores with their graph, the calls and the bytes that were kept."""

    out: Any
    scores: Tensor
    recorder: CallRecorder
    watched: CallWatcher
    saved: int


def _watched_pass(model: Model, run: trial_passes.Forward, rows: Batch, parameters: dict[str, Tensor]) -> _WatchedPass:
    row = rows[:1].clone()  # autograd keeps the whole of a view
    kept: dict[int, int] = {}

    def once() -> _WatchedPass:
        recorder = CallRecorder(parameters)
        watched = CallWatcher(recorder.names, recorder.note)
        out = run(row.x, watched=watched)
        with nullcontext() if model.of is None else watched:
            scores = trial_passes.scores_of(model, out, row)
        return _WatchedPass(out, scores, recorder, watched, sum(kept.values()))

    try:
        with trial_passes.counted(model.module, kept):
            return once()
    except BadData:
        # a module with torch.func inside cannot be counted; what was counted until there is a bound below
        return once()


def _changes_gradients(module: nn.Module, parameters: dict[str, Tensor], nodes: Iterable[Node]) -> bool:
    """Whether something may change gradients on their way back, or a parameter is used that is not the module's."""
    own = {id(p) for p in parameters.values()}
    for node in nodes:
        if isinstance(node, BackwardCFunction):
            return True
        leaf = getattr(node, "variable", None)
        if isinstance(leaf, nn.Parameter) and id(leaf) not in own:
            return True
    return bool(hooked_ones(parameters.values())) or bool(module_hooks(module))
