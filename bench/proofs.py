"""Which trained networks are proved to have an exact zero-loss minimum beside them, how near, and in which time?

Each network is trained for 300 steps by torch's own optimizer in a plain loop (no gramian), on digits (rows over 16) or
Fashion-MNIST (rows over 255) with ten classes, then `gramian.prove` polishes a copy and the certificate is written and
checked again from its file. `h` below 1 is what the proof needs; `near` is the proved distance from the polished
weights, `moved` theirs from the trained ones. Fashion-MNIST needs --data-dir or GRAMIAN_DATA.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from timing import keep
from torch import Tensor, nn

import gramian
import gramian.data

STEPS = 300


class Residual(nn.Module):
    """Four layers of one width, each added to its input."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(inputs, width), nn.Linear(width, 10)
        self.inner = nn.ModuleList(nn.Linear(width, width) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        for layer in self.inner:
            h = h + torch.tanh(layer(h))
        return self.last(h)


class Transformer(nn.Module):
    """Rows of the image as tokens, one encoder block with layer normalization, their mean read out."""

    def __init__(self, width: int, *, norm_first: bool) -> None:
        super().__init__()
        self.embed, self.read = nn.Linear(8, width), nn.Linear(width, 10)
        self.place = nn.Parameter(torch.randn(8, width) * 0.1)
        self.block = nn.TransformerEncoderLayer(
            width, 4, 2 * width, dropout=0.0, batch_first=True, activation="gelu", norm_first=norm_first
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.read(self.block(self.embed(x.reshape(-1, 8, 8)) + self.place).mean(1))


def mlp(activation: type[nn.Module], width: int, depth: int, inputs: int = 64) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        layers: list[nn.Module] = []
        for k in range(depth - 1):
            layers += [nn.Linear(inputs if k == 0 else width, width), activation()]
        return nn.Sequential(*layers, nn.Linear(width, 10))

    return build


def cnn(activation: type[nn.Module]) -> nn.Module:
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 16, 3, stride=2, padding=1), activation(),
        nn.Conv2d(16, 32, 3, padding=1), activation(), nn.Flatten(), nn.Linear(512, 10),
    )  # fmt: skip


SMALL: dict[str, Callable[[], nn.Module]] = {
    "MLP 64-512-10, tanh": mlp(nn.Tanh, 512, 2),
    "MLP 64-256-256-10, tanh": mlp(nn.Tanh, 256, 3),
    "MLP 64-256-256-10, GELU": mlp(nn.GELU, 256, 3),
    "MLP 64-256-256-10, softplus": mlp(nn.Softplus, 256, 3),
    "MLP 64-256-256-10, ReLU": mlp(nn.ReLU, 256, 3),
    "residual, 4 layers of 256, tanh": lambda: Residual(64, 256),
    "CNN 3x3, 16-32 channels, tanh": lambda: cnn(nn.Tanh),
    "CNN 3x3, 16-32 channels, GELU": lambda: cnn(nn.GELU),
    "CNN 3x3, 16-32 channels, ReLU": lambda: cnn(nn.ReLU),
    "transformer block, width 32, normalized after": lambda: Transformer(32, norm_first=False),
    "transformer block, width 64, normalized before": lambda: Transformer(64, norm_first=True),
}
OPTIMIZERS = {
    "adam": lambda p: torch.optim.Adam(p, 1e-3),
    "sgd": lambda p: torch.optim.SGD(p, 0.1),
    "momentum": lambda p: torch.optim.SGD(p, 0.02, momentum=0.9),
}


def data(name: str, n: int) -> tuple[Tensor, Tensor]:
    rows = gramian.data.load(name, n=n, normalize="none")
    x = rows.x.flatten(1).float()
    return x / x.max(), rows.y


def trained(net: nn.Module, x: Tensor, y: Tensor, optimizer: str) -> float:
    """The user's own loop; the last loss."""
    chosen = OPTIMIZERS[optimizer](net.parameters())
    targets = nn.functional.one_hot(y, 10).float() - 0.1
    loss = torch.zeros(())
    for _ in range(STEPS):
        chosen.zero_grad()
        loss = nn.functional.mse_loss(net(x), targets)
        loss.backward()
        chosen.step()
    return float(loss.detach())


def row(name: str, build: Callable[[], nn.Module], source: str, n: int, optimizer: str = "adam") -> None:
    torch.manual_seed(0)
    x, y = data(source, n)
    net = build()
    loss = trained(net, x, y, optimizer)
    began, cpu = time.perf_counter(), time.process_time()
    proof = gramian.prove(net, x, y)
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    checked: float | None = None
    if proof.status == "proved":
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "c.certificate"
            proof.save(path)
            began = time.perf_counter()
            assert gramian.prove.check(path).valid
            checked = round(time.perf_counter() - began, 1)
    had = {k: float(f"{v:.3g}") for k, v in proof.numbers.items()}
    keep("proofs", net=name, data=source, n=n, optimizer=optimizer, training_loss=float(f"{loss:.3g}"),
         status=proof.status, h=had.get("h"), near=had.get("radius"), moved=had.get("moved"), sigma=had.get("sigma"),
         lipschitz=had.get("lipschitz"), polishing_steps=had.get("polishing_steps"), seconds=round(seconds, 1),
         cpu_seconds=round(cpu, 1), check_seconds=checked, fix=proof.fix,
         dtype="float64")  # fmt: skip


def main() -> None:
    for name, build in SMALL.items():
        for n in (50, 200):
            row(name, build, "digits", n)
    for optimizer in ("sgd", "momentum"):
        row("MLP 64-256-256-10, tanh", SMALL["MLP 64-256-256-10, tanh"], "digits", 200, optimizer)
        row("CNN 3x3, 16-32 channels, GELU", SMALL["CNN 3x3, 16-32 channels, GELU"], "digits", 200, optimizer)
    large = {"tanh": nn.Tanh, "GELU": nn.GELU, "ReLU": nn.ReLU}
    for name, activation in large.items():
        row(f"MLP 64-1024-10, {name}", mlp(activation, 1024, 2), "digits", 1000)
    if os.environ.get("GRAMIAN_DATA"):
        for name, activation in large.items():
            row(f"MLP 784-512-10, {name}", mlp(activation, 512, 2, 784), "fashion-mnist", 1000)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
