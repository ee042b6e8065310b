"""An architecture as a flat program of kernel instructions: what the compiled engines run."""

from __future__ import annotations

from dataclasses import dataclass

from gramian.arch.ops import Activation, Conv, Linear, Op, Scale, Single, Sum
from gramian.arch.structure import Step, Structure


@dataclass(frozen=True)
class Data:
    """A value made from the input alone, by plain numbers: the network's input, or what a step makes of it."""

    step: int


@dataclass(frozen=True)
class Window:
    """Both positions move through a zero-padded window together; the mean over it."""

    window: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]


@dataclass(frozen=True)
class Weights:
    r"""A layer without window: K becomes $\sigma_w^2 K + \sigma_b^2$, the NTK $\sigma_w^2 \Theta + g_w K + g_b$."""

    sigma_w2: float
    sigma_b2: float
    gain_w: float
    gain_b: float


@dataclass(frozen=True)
class Dual:
    """An activation."""

    activation: Activation


@dataclass(frozen=True)
class Plus:
    """h + alpha g, of values with independent weights."""

    alpha: float


@dataclass(frozen=True)
class Times:
    """A constant times the values."""

    factor: float


@dataclass(frozen=True)
class Other:
    """An op that only the torch engine has."""

    op: Op


Instruction = Data | Window | Weights | Dual | Plus | Times | Other


@dataclass(frozen=True)
class ProgramLine:
    """One instruction in its place.

    Args:
        does: the instruction.
        inputs: numbers of the lines whose results it takes.
        shape: shape of the result without the batch axis; (channels, *positions).
        where: the user's module path, class and line.
    """

    does: Instruction
    inputs: tuple[int, ...]
    shape: tuple[int, ...]
    where: str


@dataclass(frozen=True)
class Program:
    """Lines in the order of computation; the result of the last one is the output.

    Args:
        lines: the instructions.
        joint: whether values that share random weights are added, so that covariances between values matter.
    """

    lines: tuple[ProgramLine, ...]
    joint: bool


def program(arch: Structure) -> Program:
    """The architecture as a program; steps that do not lead to the output are left out."""
    lines: list[ProgramLine] = []
    line_of: dict[int, int] = {}  # by step

    def add(does: Instruction, inputs: tuple[int, ...], shape: tuple[int, ...], where: str) -> int:
        lines.append(ProgramLine(does, inputs, shape, where))
        return len(lines) - 1

    for number in _used(arch):
        if number >= 0:
            step = arch.steps[number]
        else:
            step = None
        if step is None or step.data:
            if step is None:
                shape, where = (arch.source_shape(number), "")
            else:
                shape, where = (step.shape, step.where)
            line_of[number] = add(Data(number), (), shape, where)
            continue
        inputs = tuple(line_of[i] for i in step.inputs)
        for does in _instructions(step):
            inputs = (add(does, inputs, step.shape, step.where),)
        line_of[number] = inputs[0]
    return Program(tuple(lines), bool(arch.joint))


def instruction_name(does: Instruction) -> str:
    """The name of an instruction in messages."""
    if isinstance(does, Dual):
        return does.activation.name
    if isinstance(does, Other):
        return does.op.name
    return type(does).__name__


def _used(arch: Structure) -> list[int]:
    """The steps that the output needs, and where it begins: what is made from the input alone."""
    needed, stack = set(), [arch.output]
    while stack:
        number = stack.pop()
        if number in needed:
            continue
        needed.add(number)
        if number >= 0 and not arch.steps[number].data:
            stack += arch.steps[number].inputs
    return sorted(needed)


def _instructions(step: Step) -> tuple[Instruction, ...]:
    op = step.op
    if type(op) in (Linear, Conv) and getattr(op, "groups", 1) == 1:
        assert isinstance(op, Linear | Conv)
        weights = Weights(op.sigma_w**2, op.sigma_b**2, *op.gains)
        if isinstance(op, Conv):
            return Window(op.window, op.stride, op.padding, op.dilation), weights
        return (weights,)
    if isinstance(op, Activation):
        return (Dual(op),)
    if type(op) is Sum:
        return (Plus(op.alpha),)
    if type(op) is Scale:
        return (Times(op.factor),)
    if isinstance(op, Single):
        return ()
    return (Other(op),)
