"""`nn.RNN` and `nn.RNNCell`: one call in torch's graph, here the steps in time that it stands for.

The states share their weights over time, and `limit/joint_covariances.py` follows their covariances; the limit is that
of Yang 2020 (arXiv:2006.14548) and Alemohammad et al. 2021 (arXiv:2006.10246). A step is

    h_t = phi(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh),  h_{-1} = 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from gramian.arch.ops import READERS, Beside, Call, Concat, Dropout, Linear, Op, Resize, Scale, Sum, Take, Value
from gramian.errors import NoLimit

RECURRENT_CALLS = {f"aten.rnn_{phi}.input": f"aten.{phi}.default" for phi in ("tanh", "relu")}
CELL_CALLS = {f"aten.rnn_{phi}_cell.default": f"aten.{phi}.default" for phi in ("tanh", "relu")}
Add = Callable[[Op, tuple[Value, ...], tuple[int, ...], tuple[int, ...]], Value]


@dataclass(frozen=True)
class States:
    """`h_n`: the last state of each layer and direction, whose axis comes before the samples."""

    of: tuple[Value, ...]


@dataclass
class Unroller:
    """Adds the steps of recurrent calls to the graph that is being read.

    Args:
        add: (op, inputs, shape, layout) -> the value of a new step.
        last: brings the channels of the input itself to where a Linear layer reads them.
        times: by the step that makes an output sequence, its values in time.
    """

    add: Add
    last: Callable[[Value], Value]
    times: dict[int, list[Value]] = field(default_factory=dict)

    def read(self, target: str, args: list[Any]) -> Any:
        """What a call gives that belongs to recurrent layers; None for any other."""
        if target in RECURRENT_CALLS:
            return self._layers(RECURRENT_CALLS[target], *args)
        if target in CELL_CALLS:
            x, h, w_ih, w_hh, b_ih, b_hh = args
            if isinstance(h, Tensor):
                h = None
            else:
                h = h
            _check_start(args[1])
            return self._step(CELL_CALLS[target], self._linear(x, w_ih, b_ih, w_hh), h, w_hh, b_hh)
        if args and isinstance(args[0], tuple) and "getitem" in target:
            return args[0][args[1]]
        if any(isinstance(a, States) for a in args):
            return _state(target, args)
        if target == "aten.select.int" and isinstance(args[0], Value) and args[0].index in self.times:
            x, dim, t = args
            if x.axis(dim) == 1:
                return self.times[x.index][t]
        return None

    def _layers(
        self, phi: str, x: Any, start: Any, weights: list[Any], biases: bool, layers: int, p: float, train: bool,
        bidirectional: bool, batch_first: bool,
    ) -> tuple[Value, States]:  # fmt: skip
        if not batch_first:
            raise NoLimit(
                "A recurrent layer that counts time on axis 0 and samples on axis 1.",
                why="axis 0 counts the samples throughout",
                fix="nn.RNN(..., batch_first=True), on inputs of shape (n, time, features)",
            )
        _check_start(start)
        each, directions = 2, 1  # weights of a layer and direction: into, and between, the states
        if biases:
            each = 4
        if bidirectional:
            directions = 2
        own = [weights[i : i + each] + [None] * (4 - each) for i in range(0, len(weights), each)]
        inputs: list[Value] | Value = self.last(x)
        states: list[Value] = []
        lines: list[list[Value]] = []
        for layer in range(layers):
            lines = []
            for direction in range(directions):
                w_ih, w_hh, b_ih, b_hh = own[layer * directions + direction]
                read_in = self._read_in(inputs, w_ih, b_ih, w_hh)
                line, h = [], None
                if direction:
                    read_in = read_in[::-1]
                for value in read_in:
                    h = self._step(phi, value, h, w_hh, b_hh)
                    line.append(h)
                states.append(line[-1])
                if direction:
                    line = line[::-1]
                lines.append(line)
            inputs = [self._side_by_side(values) for values in zip(*lines, strict=True)]
            if p and train and layer < layers - 1:
                inputs = [self.add(Dropout(p), (h,), h.shape, ()) for h in inputs]
        out = self._side_by_side([self._sequence(line) for line in lines])
        assert isinstance(inputs, list)
        self.times[out.index] = inputs
        return out, States(tuple(states))

    def _read_in(self, inputs: list[Value] | Value, w: Any, b: Any, w_hh: Any) -> list[Value]:
        """The layer below's contribution to the state, at each time."""
        if isinstance(inputs, list):
            return [self._linear(x, w, b, w_hh) for x in inputs]
        whole = self._linear(inputs, w, b, w_hh)
        return [self.add(Take((None, (t,)), (1,)), (whole,), whole.shape[:1], ()) for t in range(whole.shape[1])]

    def _step(self, phi: str, read_in: Value, h: Value | None, w: Any, b: Any) -> Value:
        """The next state; from a state of zero only the bias comes."""
        if h is None and b is not None:
            h = self.add(Scale(0.0), (read_in,), read_in.shape, ())
        u = read_in
        if h is not None:
            u = self.add(Sum(), (u, self._linear(h, w, b, w)), u.shape, ())
        activation: Any = READERS[phi].read(Call(phi, (u,), u.shape))
        return self.add(activation[0], (u,), u.shape, ())

    def _linear(self, x: Any, w: Any, b: Any, w_hh: Any) -> Value:
        size = w.shape[0]
        layer: Any = Linear.read(Call("aten.linear.default", (x, w, b), (*x.user_shape[:-1], size)))
        op = replace(layer[0], torch_fan=w_hh.shape[1])  # torch draws all of them by the hidden size
        return self.add(op, (x,), (size, *x.shape[1:]), x.layout)

    def _side_by_side(self, values: Sequence[Value]) -> Value:
        """Both directions as one value, channels side by side."""
        if len(values) == 1:
            return values[0]
        total, first = sum(v.shape[0] for v in values), values[0]
        op = Concat(tuple(v.shape[0] / total for v in values))
        return self.add(op, tuple(values), (total, *first.shape[1:]), first.layout)

    def _sequence(self, line: list[Value]) -> Value:
        """The states as positions, (n, time, features) to the user."""
        c = line[0].shape[0]
        parts = tuple(self.add(Resize((c, 1)), (h,), (c, 1), (1, 0)) for h in line)
        return self.add(Beside(1), parts, (c, len(line)), (1, 0))


def _check_start(start: Any) -> None:
    if not isinstance(start, Tensor | Value) or (isinstance(start, Tensor) and not bool(torch.all(start == 0))):
        raise NoLimit(
            "A recurrent layer starts from a state that is not zero.",
            why="a state given as numbers has a fixed number of channels, which does not grow with the width",
            fix="leave out the initial state, which is then zero",
        )


def _state(target: str, args: list[Any]) -> Value:
    """One layer's last state: `h_n[-1]`."""
    states = args[0]
    if isinstance(states, States):
        if target == "aten.select.int" and args[1] in (0, -3):
            return states.of[args[2]]
        if target == "aten.squeeze.dim" and args[1] in (0, -3) and len(states.of) == 1:
            return states.of[0]
    name = target.removeprefix("aten.").split(".")[0]
    raise NoLimit(
        f"`{name}` acts on the last states of all layers, whose samples are on axis 1.",
        why="axis 0 counts the samples throughout",
        fix="take one layer's: h_n[-1]; both directions: torch.cat([h_n[-2], h_n[-1]], 1)",
    )
