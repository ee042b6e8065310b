"""From which width, output scale or rate on does statement `before` certify training, from how many points of the path?

Two-layer networks, NTK parametrization, antisymmetric start (outputs 0 at step 0), first layer trained, rows of norm
one, even against odd classes; hidden weights of standard deviation 1 (tanh), 2 (erf, sin), 4 (softplus). `step_0` is
the width from which the tail condition alone certifies, at the start, without a path: L falls and sigma^2 stays, so it
is the width times the square of 2 L R / (c sigma^2). Fashion-MNIST is read from GRAMIAN_DATA. Arguments: names of
settings, none for all.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable

import numpy as np
import torch
from sklearn.datasets import load_digits
from timing import keep
from torch import Tensor, nn

import gramian
from gramian.checker.replay import tail
from gramian.checker.two_layer_program import two_layer
from gramian.checker.two_layer_run import Replay
from gramian.data.load import load

WIDE = 2048  # neurons, whose sigma is near the limit's
# name: data, rows, centred, activation, deviation of the hidden weights, what is looked for, most points, width
SETTINGS = {
    "digits 50, erf, width": ("digits", 50, True, torch.erf, 2.0, "width", 1000, 0),
    "digits 200, erf, width": ("digits", 200, True, torch.erf, 2.0, "width", 1000, 0),
    "digits 200, erf, width, 150 points": ("digits", 200, True, torch.erf, 2.0, "width", 150, 0),
    "digits 200, sin, width": ("digits", 200, True, torch.sin, 2.0, "width", 1000, 0),
    "digits 200, tanh, width": ("digits", 200, True, torch.tanh, 1.0, "width", 1000, 0),
    "digits 200, softplus, width": ("digits", 200, True, nn.functional.softplus, 4.0, "width", 1000, 0),
    "digits 50 not centred, tanh, width": ("digits", 50, False, torch.tanh, 1.0, "width", 1000, 0),
    "fashion 200, erf, width": ("fashion", 200, True, torch.erf, 2.0, "width", 1000, 0),
    "digits 200, erf 1024, lr": ("digits", 200, True, torch.erf, 2.0, "lr", 1000, 1024),
    "digits 200, erf 256, scale": ("digits", 200, True, torch.erf, 2.0, "scale", 1000, 256),
    "digits 200, erf 1024, a tenth of the rate": ("digits", 200, True, torch.erf, 2.0, "slow", 2000, 1024),
}


def rows(name: str, n: int, centred: bool) -> tuple[Tensor, Tensor]:
    if name == "digits":
        x, classes = load_digits(return_X_y=True)
    else:
        data = load("fashion-mnist", data_dir=os.environ.get("GRAMIAN_DATA"))
        x, classes = data.x.reshape(len(data.x), -1).double().numpy(), np.asarray(data.y).ravel()
    x, classes = x[:n], classes[:n]
    if centred:
        x = x - x.mean(0)
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    return torch.from_numpy(x), torch.from_numpy(np.where(classes % 2 == 0, 1.0, -1.0)[:, None])


class Paired(nn.Module):
    """Neurons in pairs of opposite readout; the first layer trains."""

    def __init__(self, inputs: int, width: int, activation: Callable[[Tensor], Tensor], deviation: float):
        super().__init__()
        draw = torch.Generator().manual_seed(0)
        weights = deviation * torch.randn(width // 2, inputs, generator=draw, dtype=torch.float64)
        signs = torch.randint(0, 2, (1, width // 2), generator=draw) * 2.0 - 1
        self.hidden, self.readout = (nn.Linear(*size, bias=False).double() for size in ((inputs, width), (width, 1)))
        self.hidden.weight.data = torch.cat([weights, weights])
        self.readout.weight.data = torch.cat([signs, -signs], 1).double() / math.sqrt(width)
        self.readout.weight.requires_grad_(False)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        return self.readout(self.activation(self.hidden(x)))


def width_at_step_0(network: Callable[[int], nn.Module], x: Tensor, y: Tensor) -> float:
    proof = gramian.prove(network(WIDE), x, y, "before", most_steps=1)
    assert proof.content is not None
    task, start = two_layer(proof.content.program, proof.content.x, proof.content.y, proof.numbers["lr"])
    replay = Replay(task, start)
    point, bounds = next(iter(replay))
    end = tail(replay, point, bounds)
    # on a ball so small that c is what it is at the start
    share = 1 - task.lr * end.jacobian_here**2 / 2
    return WIDE * (2 * end.lipschitz_here * bounds.residual / (share * end.sigma**2)) ** 2


def main(names: list[str]) -> None:
    for name in names or SETTINGS:
        data, n, centred, activation, deviation, find, most, width = SETTINGS[name]
        x, y = rows(data, n, centred)

        def network(width: int, x=x, activation=activation, deviation=deviation) -> Paired:
            return Paired(x.shape[1], width, activation, deviation)

        module: nn.Module | Callable[[int], nn.Module] = network
        if find != "width":
            module = network(width)
        if find == "slow":
            first = gramian.prove(module, x, y, "before", most_steps=most)
            proof = gramian.prove(module, x, y, "before", lr=first.numbers["lr"] / 10, most_steps=most)
        else:
            proof = gramian.prove(module, x, y, "before", find=find, most_steps=most)
        row: dict[str, object] = {"setting": name, "proved": proof.status == "proved", "most_points": most}
        row |= {k: proof.numbers[k] for k in ("lr", "points", "steps", "growth") if k in proof.numbers}
        row |= {"found": proof.numbers.get(find), "distance": float(proof.numbers["distance"])}
        row["step_0"] = float(f"{width_at_step_0(network, x, y):.3g}")
        row["trials"] = [[t.value, t.proved, t.points, t.steps, float(f"{t.kernel_change:.3g}")] for t in proof.trials]
        row["seconds"] = round(proof.numbers["seconds"], 1)
        keep("prove_before", dtype="float64", **row)
        if proof.find:
            stem = name.replace(" ", "_").replace(",", "")
            proof.save_picture(os.path.join(os.environ.get("TMPDIR", "/tmp"), f"before_{stem}.svg"))


if __name__ == "__main__":
    main(sys.argv[1:])
