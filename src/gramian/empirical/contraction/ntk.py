"""The empirical neural tangent kernel of any module, by structured contraction, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import groupby

import torch
from torch import Tensor, nn

from gramian.arch.inputs import Inputs
from gramian.empirical.contraction.contracted_parameters import make_units
from gramian.empirical.contraction.deferred_gradients import add_late
from gramian.empirical.contraction.gradient_checks import check_pulled
from gramian.empirical.contraction.gram_blocks import add_gram
from gramian.empirical.contraction.layer_factors import Factor, factors, pull_back
from gramian.empirical.contraction.memory_plan import ContractionPlan, Workload, planned
from gramian.empirical.contraction.source import WAYS, Source
from gramian.empirical.modules import checks
from gramian.empirical.modules.arguments import Several, samples
from gramian.empirical.modules.calling import lent
from gramian.empirical.modules.kept_structure import observe_once
from gramian.empirical.modules.observed_calls import differentiable_math
from gramian.empirical.modules.output_functions import Batch, Model
from gramian.empirical.modules.structured_parameters import Uses
from gramian.empirical.modules.trial_passes import try_model
from gramian.empirical.workarounds.reused_memory import keep_freed_blocks
from gramian.errors import BadData, GramianError
from gramian.module_state.untouched import MOST_COPIED_BYTES

# the graph of the observed pass is kept for the check if it takes no more than this part of the memory
GRAPH_SHARE = 16


def empirical_ntk(
    module: nn.Module,
    x: Inputs | Several,
    x2: Inputs | Several | None = None,
    outputs: str | Callable[..., Tensor] = "mean",
    *,
    targets: Tensor | tuple[Tensor, Tensor] | None = None,
    max_bytes: int = 2**30,
) -> Tensor:
    r"""Neural tangent kernel of a module as it stands, exactly.

    $\hat\Theta_{cd}(x, x') = \langle \nabla_\theta f_c(x), \nabla_\theta f_d(x') \rangle$ over the parameters with
    `requires_grad`; $f(x)$ is the output on the batch of one, flattened to C numbers. A linear map adds
    $(A A^\top) \circ (B B^\top)$ from its inputs A and the vectors B propagated back to it, without ever forming a
    gradient; convolutions, transposed ones, embeddings and linear maps of sequences contract their positions or form
    gradients, whichever takes less time. What counts is torch's function, not the layer that calls it: `F.linear`,
    `x @ W`, `torch.addmm`, `F.conv2d`, `F.embedding`, the scales of norms; a weight that several of them share has its
    cross terms. Every other parameter, and every one that is used in another way besides, goes the general way:
    per-sample gradients.

    Args:
        module: any module; its mode, gradients and buffers are left as found.
        x: inputs; shape (n, *in_shape). Of a module that takes several a tuple, or a dict by name.
        x2: other inputs; shape (m, *in_shape). None: the same as `x`, at half the cost and exactly symmetric.
        outputs: "mean": $\frac1C \sum_c \hat\Theta_{cc}$, which the limit `arch.ntk` equals; "sum": C times that;
            "full": all pairs of outputs. Or a function: it gets what the module returns on the batch of one (a
            tensor has shape (1, ...)) and returns a tensor of E numbers, which are differentiated instead: a margin,
            a loss, one entry of a dictionary.
        targets: one a sample, shape (n, ...); the function of the outputs gets that of its sample, shape (1, ...), as
            second argument, as in `outputs=F.cross_entropy`. With `x2` a pair, of `x` and of `x2`.
        max_bytes: bound on the working memory beside the module and the result, in bytes.

    Returns:
        Shape (n, m), or (n, m, C, C) with "full" (a view: `.permute(0, 2, 1, 3).reshape(n * C, m * C)` is the
        Gram matrix without a copy), or with a function (n, m) if E is 1 and else (n, m, E, E); dtype and device of
        the module's output.

    Raises:
        BadData: an input is empty or not finite, the module cannot take it, or the kernel overflows.
        BadArgument: an unknown option; a function of the outputs that fails; nothing trainable; random or batch-mixing
            modules (dropout or batch normalization in training mode); `max_bytes` below what one pair of samples needs.

    References:
        Jacot et al. 2018, arXiv:1806.07572; Novak et al. 2022, arXiv:2206.08720 (structured derivatives).

    Example:
        Of a linear map without bias it is the inputs' Gram matrix:

        >>> x = torch.tensor([[1.0, 2.0], [3.0, 0.0]])
        >>> empirical_ntk(torch.nn.Linear(2, 5, bias=False), x)
        tensor([[5., 3.],
                [3., 9.]])
    """
    return _theta(module, x, x2, outputs, targets, max_bytes, by_layer=False)[""]


def empirical_ntk_by_layer(
    module: nn.Module,
    x: Inputs | Several,
    x2: Inputs | Several | None = None,
    outputs: str | Callable[..., Tensor] = "mean",
    *,
    targets: Tensor | tuple[Tensor, Tensor] | None = None,
    max_bytes: int = 2**30,
) -> dict[str, Tensor]:
    r"""Each trainable parameter's share of the empirical tangent kernel.

    $\hat\Theta = \sum_p \hat\Theta^{(p)}$ with $\hat\Theta^{(p)}$ the Gram matrix of the gradients with respect to
    parameter p alone. Arguments and errors are those of `empirical_ntk`; `max_bytes` does not count the results.

    Returns:
        A kernel for each name of `module.named_parameters()` that requires a gradient, in that order; zero for a
        parameter that the output does not depend on.

    References:
        Du et al. 2019, arXiv:1811.03804, work with the Gram matrix of one layer.

    Example:
        >>> layer = torch.nn.Linear(2, 1)
        >>> {name: k.item() for name, k in empirical_ntk_by_layer(layer, torch.tensor([[3.0, 4.0]])).items()}
        {'weight': 25.0, 'bias': 1.0}
    """
    return _theta(module, x, x2, outputs, targets, max_bytes, by_layer=True)


def _theta(
    module: nn.Module,
    x: Inputs | Several,
    x2: Inputs | Several | None,
    outputs: str | Callable[..., Tensor],
    targets: Tensor | tuple[Tensor, Tensor] | None,
    max_bytes: int,
    by_layer: bool,
) -> dict[str, Tensor]:
    checks.check_options(outputs, max_bytes)
    parameters = checks.trainable(module)
    keep_freed_blocks()
    rows, rows2 = samples(module, x, x2)
    if rows2 is not None:
        rows2 = checks.check_samples("x2", rows2)
    rows = checks.check_samples("x", rows)
    of_x, of_y = checks.check_targets(rows, rows2, outputs, targets)
    model = Model.with_outputs(module, outputs)
    right = None
    if rows2 is not None:
        right = Batch(rows2, of_y)
    with (
        lent(module, most=min(MOST_COPIED_BYTES, max_bytes // 8)) as loan,
        torch.inference_mode(False),
        torch.no_grad(),
    ):
        left = max_bytes
        if loan is not None:
            left -= loan.copied
        return _by_a_right_way(model, Batch(rows, of_x), right, outputs, left, by_layer, parameters)


def _by_a_right_way(
    model: Model,
    x: Batch,
    x2: Batch | None,
    outputs: str | Callable[..., Tensor],
    max_bytes: int,
    by_layer: bool,
    parameters: dict[str, Tensor],
) -> dict[str, Tensor]:
    """The first of `WAYS` that gives what plain backward passes give."""
    source, saved = read(model, x, x2, outputs not in ("mean", "sum"), parameters)
    if source.observed is not None and GRAPH_SHARE * saved > max_bytes:
        source.observed.graph.clear()
    n, m = len(x), None
    if x2 is not None:
        m = len(x2)
    ways: tuple[str, ...] = ()
    if source.batched:
        ways = WAYS[:-1]
    for way in ways:
        try:
            source = replace(source, way=way)
            check_small(source, x)
            load = Workload.of(source, n, m, max_bytes, saved, by_layer)
            return contracted(source, load, x, x2, outputs)
        except (GramianError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # vmap knows not every operation, and some of its rules are wrong
            if "randomness" in str(error):
                raise checks.random_module(type(model.module).__name__) from error
    try_model(model, "x", x)  # no pass under vmap was the second one, which tells a random module
    # another sample may take another branch, so no structure either
    used = Uses((), (), general=tuple(source.parameters), unused=())
    source = replace(source, uses=used, way=WAYS[-1])
    return contracted(source, Workload.of(source, n, m, max_bytes, saved, by_layer), x, x2, outputs)


def contracted(
    source: Source, load: Workload, x: Batch, x2: Batch | None, outputs: str | Callable[..., Tensor]
) -> dict[str, Tensor]:
    """The kernel of a model that was read, by the plans for the workload; by the parameter's name, or under ""."""
    n, m = load.n, load.m
    source = replace(source, room=load.scratch)
    width, names = 1, [""]
    if source.full:
        width = source.n_outputs
    if load.by_layer:
        names = list(source.parameters)
    device = next(iter(source.parameters.values())).device
    theta = {name: torch.zeros(n, width, m, width, dtype=source.dtype, device=device) for name in names}
    for plan in planned(load):
        _run(plan, source, load, x, x2, theta)
    return {name: _finish(t, outputs, source.n_outputs) for name, t in theta.items()}


def read(
    model: Model, x: Batch, x2: Batch | None, full: bool, parameters: dict[str, Tensor] | None = None
) -> tuple[Source, int]:
    """Checks the module and its inputs; what factors are made from; bytes that a backward pass keeps for a sample."""
    if parameters is None:
        parameters = checks.trainable(model.module)
    checks.check_mode(model.module)
    checks.check_same_shapes(x.x, None if x2 is None else x2.x, "empirical_ntk(module, x, x2)")
    with differentiable_math():
        seen = observe_once(model, "x", x, parameters)
    if seen.unseen_by_vmap:
        way = WAYS[-1]
    else:
        way = WAYS[0]
    return Source(model, seen.uses, parameters, seen.n_outputs, seen.dtype, full, way, observed=seen), seen.saved


def check_small(source: Source, x: Batch) -> None:
    """Tries parameters that go the general way on a few samples and outputs.

    A rule that takes one axis for another may ask for the square of the memory, so not on all of them at once.

    Raises:
        Untrusted: the gradients are not those of a plain backward pass. Other errors: torch's own.
    """
    if not source.uses.general:
        return
    units = [u for u in make_units(source.uses, source.sizes(), apart=False) if u.kind == "general"]
    k = min(source.n_outputs, 2)
    n = min(len(x), 2 if k == 1 else 3)  # as few as that, and not as many as outputs
    few, outputs = x[:n], range(k)
    check_pulled(source, units, few, outputs, pull_back(source, units, few, outputs))


def _run(
    plan: ContractionPlan, source: Source, load: Workload, x: Batch, x2: Batch | None, theta: dict[str, Tensor]
) -> None:
    """Adds the plan's units for all pairs of blocks; for equal inputs each pair once, and its transpose."""
    right = x2 if x2 is not None else x
    for p, (rows, c) in enumerate(_blocks(plan, load.n, source.n_outputs)):
        f = factors(source, plan.units, x[rows], c, plan.chunk)
        for q, (columns, d) in enumerate(_blocks(plan, len(right), source.n_outputs)):
            if (x2 is None and q < p) or (c != d and not source.full):
                continue
            if x2 is None and q == p:
                g = f
            else:
                g = factors(source, plan.units, right[columns], d, plan.chunk)
            if source.full:
                cs, ds = slice(c.start, c.stop), slice(d.start, d.stop)
            else:
                cs, ds = slice(1), slice(1)
            for name, group in groupby(range(len(plan.units)), lambda i: plan.units[i].name if load.by_layer else ""):
                block = theta[name][rows, cs, columns, ds]
                mirror = None
                if x2 is None:
                    if q == p:
                        mirror = block
                    else:
                        mirror = theta[name][columns, ds, rows, cs]
                _add_units(block, plan, list(group), source, load, f, g, mirror)
            del g  # not beside the next block's
        del f


def _add_units(
    block: Tensor,
    plan: ContractionPlan,
    numbers: list[int],
    source: Source,
    load: Workload,
    f: list[Factor],
    g: list[Factor],
    mirror: Tensor | None,
) -> None:
    """Adds some of the plan's units, by their numbers, to one block of the kernel."""
    now = [i for i in numbers if not plan.units[i].late]
    add_gram(block, [plan.units[i] for i in now], [f[i] for i in now], [g[i] for i in now], load.scratch, mirror)
    for i in numbers:
        if plan.units[i].late:
            add_late(block, plan.units[i], source, f[i], g[i], load, mirror)


def _blocks(plan: ContractionPlan, n: int, c: int) -> Iterator[tuple[slice, range]]:
    for start in range(0, c, plan.outputs):
        for first in range(0, n, plan.samples):
            yield slice(first, min(first + plan.samples, n)), range(start, min(start + plan.outputs, c))


def _finish(theta: Tensor, outputs: str | Callable[..., Tensor], c: int) -> Tensor:
    """The shape that was asked for, and never a silent NaN."""
    if not all(bool(bound.isfinite()) for bound in theta.aminmax()):
        raise BadData(
            f"The kernel has NaN or infinite entries, in {theta.dtype}.",
            where="empirical_ntk",
            why="an output that is not finite at some sample, or a gradient too large for this precision",
            fix="module.double() and x.double(); module(x).isfinite().all() shows whether an output is the cause",
        )
    if outputs == "full" or (callable(outputs) and c > 1):
        return theta.permute(0, 2, 1, 3)
    theta = theta[:, 0, :, 0]
    if outputs == "mean":
        return theta.div_(c)
    return theta
