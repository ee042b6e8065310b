"""What a user holds: a network's architecture, with its kernels at infinite width and its networks at any width."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gramian.arch.inputs import Inputs
from gramian.arch.structure import Structure
from gramian.limit import diagonals, explain, kernels
from gramian.limit.phase import Phase, phases
from gramian.network.biases import uncounted_biases
from gramian.network.finite_network import Network


@dataclass(frozen=True)
class Architecture(Structure):
    """A network's ops with the laws of their random weights; made by `gramian.architecture`.

    Args:
        inputs: how the inputs are given: one tensor, several in order, or several by name; shapes of one sample.
        steps: the ops in the order of computation; the last one's result is the output.
        output: number of the step that makes the output.
        parametrization: "ntk", "standard", "mup" or "mean_field".
    """

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
        return explain(self)

    def diag(self, x: Inputs, *, engine: str = "auto") -> tuple[Tensor, Tensor]:
        """The diagonals of both kernels, `(nngp, ntk)`, at a cost of O(n); shapes (n,).

        Example:
            >>> net = torch.nn.Sequential(torch.nn.Linear(2, 5), torch.nn.ReLU(), torch.nn.Linear(5, 1))
            >>> architecture(net, torch.ones(1, 2)).diag(torch.tensor([[1.0, 1.0], [2.0, 0.0]]))
            (tensor([1.0000, 2.0000]), tensor([2.0000, 4.0000]))
        """
        nngp, theta = diagonals(self, x, engine=engine)
        if self.learns_features:
            nngp = torch.zeros_like(nngp)
        return nngp, theta

    def _kernels(self, x: Inputs, x2: Inputs | None, engine: str, outputs: str, *, ntk: bool) -> tuple[Tensor, Tensor]:
        nngp, theta = kernels(self, x, x2, engine=engine, outputs=outputs, ntk=ntk)
        if self.learns_features:
            nngp = torch.zeros_like(nngp)
        return nngp, theta

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
        if generator is None and seed is not None:
            generator = torch.Generator(device=device or "cpu").manual_seed(seed)
        return Network(self, width=width, widen=widen, dtype=dtype, device=device, generator=generator)

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

    def __str__(self) -> str:
        leaves, named = self.inputs.leaves, self.inputs.kind != "tensor"
        rows = [(f"input {leaf.name}".strip(), "", "x".join(map(str, leaf.shape)), "") for leaf in leaves]
        names = {number: str(number + 1) for number in range(-len(leaves), len(self.steps))}
        if named:
            names |= {-1 - k: f"input {leaf.name}" for k, leaf in enumerate(leaves)}
        for number, step in enumerate(self.steps):
            of = [names[i] for i in step.inputs]
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
