"""What a network is: a frozen, picklable tuple of steps, with the laws of their random weights."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any, Self

from torch import Tensor

from gramian.arch.inputs import Form
from gramian.arch.ops import Affine, Attention, Beside, Normalization, Op, Sum
from gramian.arch.ops.linear_attention import LinearAttention
from gramian.errors import NoLimit


@dataclass(frozen=True)
class Step:
    """One op in its place.

    Args:
        op: the op.
        inputs: numbers of the steps whose results it takes; -1 is the network's input, -2 the second of several.
        shape: shape of the result without the batch axis, as traced; (channels, *positions).
        data: whether the result depends on the input alone, by no random weights.
        where: the user's module path, class and line, for errors.
    """

    op: Op
    inputs: tuple[int, ...]
    shape: tuple[int, ...]
    data: bool
    where: str


@dataclass(frozen=True)
class Structure:
    """A network's ops with the laws of their random weights, as data; what the engines compute with.

    Args:
        inputs: how the inputs are given: one tensor, several in order, or several by name; shapes of one sample.
        steps: the ops in the order of computation; the last one's result is the output.
        output: number of the step that makes the output.
        parametrization: "ntk", "standard", "mup" or "mean_field".
        prepared: what engines keep for later calls; no part of the value, and not pickled.
    """

    inputs: Form
    steps: tuple[Step, ...]
    output: int
    parametrization: str = "ntk"
    prepared: dict[Any, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __getstate__(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in fields(self) if f.init}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, prepared={})

    @property
    def in_shape(self) -> tuple[int, ...]:
        """Shape of one input, (channels, *positions); of the first where there are several: see `inputs`."""
        return self.inputs.leaves[0].shape

    def source_shape(self, number: int) -> tuple[int, ...]:
        """Shape, without the batch axis, of a step's result or (below zero) of an input."""
        if number >= 0:
            return self.steps[number].shape
        return self.inputs.leaves[-1 - number].shape

    @cached_property
    def joint(self) -> bool:
        """Whether covariances between values matter: of summands, of parts side by side, of keys and queries."""
        return _is_joint(self.steps)

    def training(self, weights: Collection[str]) -> Self:
        """The same architecture with only these weights trained, by their names in the module, and no biases.

        Example:
            >>> net = torch.nn.Sequential(torch.nn.Linear(2, 5), torch.nn.ReLU(), torch.nn.Linear(5, 1))
            >>> [a.weight_trains for a in architecture(net, torch.ones(1, 2)).training({"0.weight"}).affine]
            [True, False]
        """

        def training_only_these(op: Op) -> Op:
            if isinstance(op, Affine):
                return replace(op, weight_trains=op.weight_name in weights, bias_trains=False)
            if isinstance(op, Normalization):
                return replace(op, scale_trains=False, shift_trains=False)
            return op

        return replace(self, steps=tuple(replace(s, op=training_only_these(s.op)) for s in self.steps))

    @property
    def learns_features(self) -> bool:
        """Whether the parametrization lets hidden layers move at infinite width: "mup" and "mean_field"."""
        return self.parametrization in ("mup", "mean_field")

    @cached_property
    def has_tensor_laws(self) -> bool:
        """Whether a deviation of the weights is a tensor, by which kernels may be differentiated."""
        return any(isinstance(s, Tensor) for a in self.affine for s in (a.sigma_w, a.sigma_b))

    @property
    def affine(self) -> tuple[Affine, ...]:
        """The layers with random weights, in order."""
        return tuple(step.op for step in self.steps if isinstance(step.op, Affine))

    @property
    def depth(self) -> int:
        """Most affine layers on a path from input to output."""
        depth = [0] * len(self.steps)
        for number, step in enumerate(self.steps):
            below = max((depth[i] for i in step.inputs if i >= 0), default=0)
            depth[number] = below + step.op.random
        if self.steps:
            return depth[self.output]
        return 0

    @property
    def n_outputs(self) -> int:
        """Outputs of the network."""
        return self.steps[self.output].shape[0]

    def hidden(self, number: int) -> bool:
        """Whether the affine layer at this step has another one above it, and so a width."""
        reached = {number}
        for later, step in enumerate(self.steps[number + 1 :], number + 1):
            if reached & set(step.inputs):
                if step.op.random:
                    return True
                reached.add(later)
        return False


def _is_joint(steps: tuple[Step, ...]) -> bool:
    """Whether covariances between values matter: of summands that share weights, of parts side by side, of keys and
    queries."""
    sources: list[frozenset[str]] = []
    for step in steps:
        below = [sources[i] for i in step.inputs if i >= 0]
        if not step.data and (
            isinstance(step.op, Beside | Attention | LinearAttention)
            or (isinstance(step.op, Sum) and bool(below[0] & below[1]))
        ):
            return True
        if isinstance(step.op, Affine):
            sources.append(frozenset({step.op.source}))
        else:
            sources.append(frozenset().union(*below))
    return False


def with_place(error: NoLimit, where: str) -> NoLimit:
    """The same refusal, with the user's own place in it."""
    return type(error)(error.what, where=error.where or where, why=error.why, fix=error.fix)
