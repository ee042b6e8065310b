"""Which outputs a kernel is of: their average, or a value at each position."""

from __future__ import annotations

from dataclasses import replace

from gramian.arch.ops import Reshape
from gramian.arch.structure import Structure
from gramian.errors import BadArgument, NoLimit


def chosen_output(arch: Structure, outputs: str) -> Structure:
    """The architecture up to the value that the kernel is of: with "full" that before a last Flatten.

    Raises:
        NoLimit: "mean" of a network that ends in values at positions.
        BadArgument: an unknown word.
    """
    if outputs not in ("mean", "full"):
        raise BadArgument(
            f"`outputs` is {outputs!r}; a limit kernel knows 'mean' and 'full'.",
            where="argument `outputs` of a limit kernel",
            why='the outputs are alike: "mean" is one kernel for all, "full" one for each pair of positions',
            fix='outputs="mean"',
        )
    step = arch.steps[arch.output]
    if outputs == "mean":
        if len(step.shape) > 1:
            raise NoLimit(
                f"The output has shape (n, {', '.join(map(str, step.shape))}): a value at each position.",
                where=step.where,
                why="a kernel is one number for a pair of inputs",
                fix="end the module with a mean over the positions, or with nn.Flatten and nn.Linear; or ask for all "
                'pairs of positions: arch.ntk(x, outputs="full")',
            )
        return arch
    output = arch.output
    while isinstance(op := arch.steps[output].op, Reshape) and len(op.after) == 1 and not arch.steps[output].data:
        (output,) = arch.steps[output].inputs
    return replace(arch, steps=arch.steps[: output + 1], output=output)
