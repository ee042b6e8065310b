"""The limit of a network, step by step: moments of the output from those of the inputs."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

from torch import Tensor

from gramian.arch.cross_covariances import Cross
from gramian.arch.moments import Moments
from gramian.arch.ops import Activation, Attention, Beside, Sum
from gramian.arch.ops.linear_attention import LinearAttention
from gramian.arch.structure import Step, Structure, with_place
from gramian.errors import NoLimit
from gramian.limit.joint_covariances import Joint


def moments_of_output(
    structure: Structure,
    data: dict[int, Moments],
    pairs: tuple[bool, ...],
    between: Callable[[int, int, bool], Cross],
    numbers: Callable[[int], tuple[Tensor, Tensor]],
    watch: Callable[[Moments], None] | None = None,
) -> Moments:
    """Moments of the output, from those of the inputs and of every value made from the inputs alone.

    `between` gives the covariances of two such values, where values of the network share weights; `numbers` gives
    such a value itself, at x and at x2. `watch` sees the result of each step.
    """
    values: list[Moments | None] = []
    if structure.joint:
        joint = Joint(structure.steps, values, between, numbers)
    else:
        joint = None
    last_nonsmooth = max(
        (n for n, s in enumerate(structure.steps) if isinstance(s.op, Activation) and s.op.nonsmooth), default=-1
    )
    for number, step in enumerate(structure.steps):
        if step.data:
            values.append(data.get(number))
            continue
        m = [data.get(i) if i < 0 else values[i] for i in step.inputs]
        # pairs of different positions are dropped as soon as nothing above needs them
        inputs = [v if pairs[number] or v is None else v.equal_positions() for v in m]
        if number > last_nonsmooth:  # nothing above asks for the gap
            inputs = [None if v is None else v.with_gap(None) for v in inputs]
        try:
            result = _result(number, step, inputs, joint)  # type: ignore[arg-type]
        except NoLimit as error:
            raise with_place(error, step.where) from None
        values.append(result)
        if watch is not None:
            watch(result)
        for i in step.inputs if joint is None else ():  # free what no later step reads
            if i >= 0 and not any(i in later.inputs for later in structure.steps[number + 1 :]):
                values[i] = None
    output = values[structure.output]
    assert output is not None
    return output.averaged()


def _result(number: int, step: Step, m: list[Moments], joint: Joint | None) -> Moments:
    """An op on the moments of its inputs, and on their covariances where these matter."""
    if joint is not None and isinstance(step.op, Sum) and m[0].sources & m[1].sources:
        first, second = step.inputs
        return step.op.limit(*m, cross=joint.cross(first, second), joint=True)
    if joint is not None and isinstance(step.op, Beside):
        pairs = combinations(range(len(m)), 2)
        return step.op.limit(*m, crosses={(p, q): joint.cross(step.inputs[p], step.inputs[q]) for p, q in pairs})
    if joint is not None and isinstance(step.op, Attention):
        return step.op.limit(*m, weights=joint.attention(number))
    if joint is not None and isinstance(step.op, LinearAttention):
        joint.check_independent(step.inputs)
    return step.op.limit(*m)
