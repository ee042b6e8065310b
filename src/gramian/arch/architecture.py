"""What a network is: a frozen, picklable tuple of ops, read once from a torch module."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gramian.arch.cross_covariances import Cross
from gramian.arch.inputs import Form, Inputs
from gramian.arch.joint_covariances import Joint, is_joint
from gramian.arch.moments import Moments
from gramian.arch.ops import Activation, Affine, Attention, Beside, Normalization, Op, Sum
from gramian.arch.ops.linear_attention import LinearAttention
from gramian.arch.phase import Phase, phases
from gramian.errors import NoLimit

if TYPE_CHECKING:
    from gramian.arch.network import Network


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
class Architecture:
    """A network's ops with the laws of their random weights; made by `gramian.architecture`.

    Args:
        inputs: how the inputs are given: one tensor, several in order, or several by name; shapes of one sample.
        steps: the ops in the order of computation; the last one's result is the output.
        output: number of the step that makes the output.
        parametrization: "ntk", "standard", "mup" or "mean_field".
    """

    inputs: Form
    steps: tuple[Step, ...]
    output: int
    parametrization: str = "ntk"

    def ntk(self, x: Inputs, x2: Inputs | None = None, *, engine: str = "auto", outputs: str = "mean") -> Tensor:
        r"""Neural tangent kernel at infinite width, $\Theta^\infty$; shape (n, m).

        Where `learns_features`, that of the first step: it changes with the features while the network trains.

        Args:
            x: inputs; shape (n, *in_shape). Of several inputs a tuple, or a dict by name, with the structure of `like`.
            x2: inputs; shape (m, *in_shape); None for x itself: half the work, an exact diagonal. With dropout in
                training mode, x and x2 have masks of their own, and only None means the same draw of them.
            engine: "torch" computes every network on every device, and is differentiable. "native" is compiled code for
                networks on vectors and convolutional ones, on the CPU in float32 and float64; "cuda" the same on a GPU.
                "auto" takes the one of the inputs' device where that can be.
            outputs: "mean": the average over the outputs' kernels, which all have the same law if the network ends in
                a Linear. "full", for a network that ends in values at positions (n, c, *S), or in their Flatten:
                shape (n, m, *S, *S), of the outputs (channel, i) at x and (channel, j) at x2; the channels are
                uncorrelated and alike, and an activation's NTK is the average over them.

        Raises:
            BadData: inputs of another shape, empty, or not finite.
            NoLimit: an op of this network has no rule here, or no accurate one at these inputs.

        References:
            Jacot et al. 2018, arXiv:1806.07572; Arora et al. 2019, arXiv:1904.11955.

        Example:
            One hidden ReLU layer at equal inputs of norm sqrt(d): sigma_w^2 / 2 from each layer's weights.

            >>> net = torch.nn.Sequential(torch.nn.Linear(2, 5, bias=False), torch.nn.ReLU(), torch.nn.Linear(5, 1))
            >>> architecture(net, torch.ones(1, 2)).ntk(torch.ones(1, 2))
            tensor([[2.0000]])
        """
        return self._kernels(x, x2, engine, outputs, ntk=True)[1]

    def nngp(self, x: Inputs, x2: Inputs | None = None, *, engine: str = "auto", outputs: str = "mean") -> Tensor:
        """Covariance of the random network's outputs at infinite width; shape (n, m). See `ntk`.

        Zeros where `learns_features`: there a network's outputs vanish at initialization like 1 / sqrt(width).
        """
        return self._kernels(x, x2, engine, outputs, ntk=False)[0]

    def kernels(
        self, x: Inputs, x2: Inputs | None = None, *, engine: str = "auto", outputs: str = "mean"
    ) -> tuple[Tensor, Tensor]:
        """`(nngp, ntk)`, for the price of the NTK."""
        return self._kernels(x, x2, engine, outputs, ntk=True)

    def explain(self) -> str:
        """Which engine computes this network's kernels under "auto", on a CPU and on a GPU; if torch, which op is why.

        Example:
            >>> net = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.LayerNorm(3), torch.nn.Linear(3, 1))
            >>> print(architecture(net, torch.zeros(1, 2)).explain())  # doctest: +ELLIPSIS
            torch engine: the native one lacks ...
            on a GPU: torch engine: CUDA lacks ...
        """
        from gramian.limit import explain

        return explain(self)

    def diag(self, x: Inputs, *, engine: str = "auto") -> tuple[Tensor, Tensor]:
        """The diagonals of both kernels, `(nngp, ntk)`, at a cost of O(n); shapes (n,).

        Example:
            >>> net = torch.nn.Sequential(torch.nn.Linear(2, 5), torch.nn.ReLU(), torch.nn.Linear(5, 1))
            >>> architecture(net, torch.ones(1, 2)).diag(torch.tensor([[1.0, 1.0], [2.0, 0.0]]))
            (tensor([1.0000, 2.0000]), tensor([2.0000, 4.0000]))
        """
        from gramian.limit import diagonals

        nngp, theta = diagonals(self, x, engine=engine)
        return torch.zeros_like(nngp) if self.learns_features else nngp, theta

    def _kernels(self, x: Inputs, x2: Inputs | None, engine: str, outputs: str, *, ntk: bool) -> tuple[Tensor, Tensor]:
        from gramian.limit import kernels  # these methods are the one import upwards

        nngp, theta = kernels(self, x, x2, engine=engine, outputs=outputs, ntk=ntk)
        return torch.zeros_like(nngp) if self.learns_features else nngp, theta

    def network(
        self,
        width: int | None = None,
        seed: int | None = None,
        *,
        widen: int = 1,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        generator: torch.Generator | None = None,
    ) -> Network:
        """The same network at finite width, its weights drawn from the law.

        Args:
            width: every hidden layer's channels; None keeps those of the module that was read.
            seed: seed of the draw; None draws from torch's global generator.
            widen: a factor on every hidden width instead.
            dtype: of the parameters; torch's default if None.
            device: of the parameters.
            generator: draws the weights, instead of `seed`.

        Returns:
            A plain `nn.Module`, called as the module that was read; it maps (n, *in_shape) to (n, n_outputs).
        """
        from gramian.arch.network import Network

        if generator is None and seed is not None:
            generator = torch.Generator(device=device or "cpu").manual_seed(seed)
        return Network(self, width=width, widen=widen, dtype=dtype, device=device, generator=generator)

    @property
    def in_shape(self) -> tuple[int, ...]:
        """Shape of one input, (channels, *positions); of the first where there are several: see `inputs`."""
        return self.inputs.leaves[0].shape

    def source_shape(self, number: int) -> tuple[int, ...]:
        """Shape, without the batch axis, of a step's result or (below zero) of an input."""
        if number >= 0:
            return self.steps[number].shape
        return self.inputs.leaves[-1 - number].shape

    def limit(
        self,
        data: dict[int, Moments],
        pairs: tuple[bool, ...],
        between: Callable[[int, int, bool], Cross],
        numbers: Callable[[int], tuple[Tensor, Tensor]],
    ) -> Moments:
        """Moments of the output, from those of the inputs and of every value made from the inputs alone.

        `between` gives the covariances of two such values, where values of the network share weights; `numbers` gives
        such a value itself, at x and at x2.
        """
        values: list[Moments | None] = []
        if self.joint:
            joint = Joint(self.steps, values, between, numbers)
        else:
            joint = None
        sharp = max((n for n, s in enumerate(self.steps) if isinstance(s.op, Activation) and s.op.sharp), default=-1)
        for number, step in enumerate(self.steps):
            if step.data:
                values.append(data.get(number))
                continue
            m = [data.get(i) if i < 0 else values[i] for i in step.inputs]
            # pairs of different positions are dropped as soon as nothing above needs them
            inputs = [v if pairs[number] or v is None else v.equal_positions() for v in m]
            if number > sharp:  # nothing above asks for the gap
                inputs = [None if v is None else v.with_gap(None) for v in inputs]
            try:
                values.append(_result(number, step, inputs, joint))  # type: ignore[arg-type]
            except NoLimit as error:
                raise at(error, step.where) from None
            for i in step.inputs if joint is None else ():  # free what no later step reads
                if i >= 0 and not any(i in later.inputs for later in self.steps[number + 1 :]):
                    values[i] = None
        result = values[self.output]
        assert result is not None
        return result.averaged()

    @property
    def joint(self) -> bool:
        """Whether covariances between values matter: of summands, of parts side by side, of keys and queries."""
        return is_joint(self.steps)

    def training(self, weights: Collection[str]) -> Architecture:
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

    def phase(self) -> tuple[Phase, ...]:
        r"""Order or chaos: what great depth does, for each activation and affine law that repeat in this network.

        The variance follows $q \mapsto \sigma_w^2 E\,\phi(\sqrt q z)^2 + \sigma_b^2$ to a fixed point q*, where
        $\chi_1 = \sigma_w^2 E\,\phi'(\sqrt{q^*} z)^2$ decides; $\phi$ is an activation, $\sigma_w, \sigma_b$ those of
        the hidden layer above it. Convolutions count as they act far from zero padding, on images constant in space;
        masks, as they act where they keep.

        Raises:
            NoLimit: nothing repeats, there are sums or normalizations, or the variance has no fixed point.

        References:
            Poole et al. 2016, arXiv:1606.05340; Schoenholz et al. 2017, arXiv:1611.01232.

        Example:
            He's law is critical for ReLU, and inputs of every variance keep it:

            >>> relu, linear = torch.nn.ReLU(), torch.nn.Linear(4, 4)
            >>> net = torch.nn.Sequential(linear, relu, torch.nn.Linear(4, 4), relu, torch.nn.Linear(4, 1))
            >>> print(*architecture(net, torch.zeros(1, 4), law="he").phase())
            ReLU, sigma_w 1.414, sigma_b 0: critical
              chi_1             1
              variance          any
              correlation       1, closer by a power of the depth
              critical sigma_w  1.414
        """
        return phases(self)

    @property
    def learns_features(self) -> bool:
        """Whether the parametrization lets hidden layers move at infinite width: "mup" and "mean_field"."""
        return self.parametrization in ("mup", "mean_field")

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

    def __str__(self) -> str:
        from gramian.arch.biases import uncounted_biases

        leaves, named = self.inputs.leaves, self.inputs.kind != "tensor"
        rows = [(f"input {leaf.name}".strip(), "", "x".join(map(str, leaf.shape)), "") for leaf in leaves]
        for number, step in enumerate(self.steps):
            of = [f"input {leaves[-1 - i].name}" if named and i < 0 else str(i + 1) for i in step.inputs]
            if step.inputs == (number - 1,) and not (named and number == 0):
                before = ""
            else:
                before = " of " + ", ".join(of)
            text = f"{step.op.name} {step.op.describe()}".strip()
            rows.append((f"{number + 1}{before}", text, "x".join(map(str, step.shape)), step.where.split(",")[0]))
        widths = [max(len(row[c]) for row in rows) for c in range(4)]
        lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
        if self.learns_features:
            means = ": outputs start at 0, the NTK is the first step's"
        else:
            means = ""
        title = f"Architecture, {self.parametrization} parametrization{means}\n"
        uncounted = uncounted_biases(self)
        if uncounted:
            lines.append(f"{uncounted} of the biases not in the kernels: law='torch' or (1.4, 0.1) puts them in")
        return title + "\n".join("  " + line for line in lines)


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


def at(error: NoLimit, where: str) -> NoLimit:
    """The same refusal, with the user's own place in it."""
    return type(error)(error.what, where=error.where or where, why=error.why, fix=error.fix)
