"""Do gramian and neural-tangents give the same kernels, and where not, who is right?

Every network of paired_networks.py, in float64: NNGP and NTK of three inputs against two others, and alone. Errors
are the largest difference divided by the largest entry; `diagonal` is that of the NTK of an input with itself. With
`--judge`, the networks that are to differ instead, and Monte Carlo over finite networks of two widths as the judge.

    python bench/agreement.py [--judge] [names ...]
"""

from __future__ import annotations

import re
import sys
import tempfile
import zlib
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import paired_architectures  # noqa: F401
import paired_layers  # noqa: F401  (adds its networks to those of paired_networks)
import torch
from judge import judge
from paired_networks import DIFFERENT, TOKENS, TWINS, Twin
from timing import ask_rival, keep
from torch import Tensor, nn
from torch.nn import functional

from gramian import architecture
from gramian.errors import NoLimit

MATRIX = torch.randn(9, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
ADJACENCY = torch.rand(5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


class Fn(nn.Module):
    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class Branches(nn.Module):
    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        total, *rest = (branch(x) for branch in self.branches)
        for value in rest:
            total = self.join(total, value)
        return total

    def join(self, a: Tensor, b: Tensor) -> Tensor:
        return a + b


class Gate(Branches):
    def join(self, a: Tensor, b: Tensor) -> Tensor:
        return a * b


class Concat(Branches):
    def join(self, a: Tensor, b: Tensor) -> Tensor:
        return torch.cat([a, b], 1)


class Graphs(nn.Module):
    """Parts in turn, where edges are those of the second input."""

    def __init__(self, *parts: nn.Module | None) -> None:
        super().__init__()
        self.parts = nn.ModuleList(nn.Identity() if part is None else part for part in parts)
        self.edges = [part is None for part in parts]

    def forward(self, x: Tensor, graph: Tensor) -> Tensor:
        for part, edges in zip(self.parts, self.edges, strict=True):
            x = graph @ x if edges else part(x)
        return x


class Local(nn.Module):
    """A window of three with weights of each position's own, on a line."""

    def __init__(self, c_in: int, c_out: int, length: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(c_out, 3 * c_in, length - 2))

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("bkl,okl->bol", functional.unfold(x[:, :, None], (1, 3)), self.weight)


class Attention(nn.Module):
    """One layer for keys and queries and scores over the width, or two and another power; learned positions before,
    for keys, queries and maybe values, added or as channels; `decay` of their distance is their covariance."""

    def __init__(
        self,
        w: int,
        weights: Any,
        bias: bool,
        heads: int = 1,
        positions: int = 0,
        power: float = 1,
        decay: Any = None,
        values: bool = True,
        channels: bool = False,
    ) -> None:
        super().__init__()
        into = 2 * w if channels else w
        self.q, self.v = nn.Linear(into, w, bias=False), nn.Linear(into if values else w, w, bias=False)
        self.k, self.power = self.q if power == 1 else nn.Linear(into, w, bias=False), power
        self.out, self.weights, self.heads = nn.Linear(w, w, bias=bias), weights, heads
        self.positions = nn.Parameter(torch.zeros(positions, w)) if positions else None
        at = torch.arange(positions, dtype=torch.float64)
        root = None if decay is None else torch.linalg.cholesky(decay((at[:, None] - at).abs()))
        self.register_buffer("root", root)
        self.values, self.channels = values, channels

    def forward(self, h: Tensor) -> Tensor:
        g = h
        if self.positions is not None:
            places = self.positions if self.root is None else self.root @ self.positions
            g = torch.cat([h, places.expand(len(h), -1, -1)], -1) if self.channels else h + places
        parts = (self.q(g), self.k(g), self.v(g if self.values else h))
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)
        return self.out((self.weights(q @ k.mT / q.shape[-1] ** self.power) @ v).transpose(1, 2).flatten(2))


def pieces(twin: Twin, width: int = 8, outputs: int = 1) -> SimpleNamespace:
    """torch's layers, biased where the twin's law is; finite networks of any width."""
    bias = twin.law[1] > 0

    def conv(c_in: int, c_out: int, window: tuple, strides: tuple, padding: str) -> nn.Module:
        make: Any = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[len(window)]
        if padding == "CIRCULAR":
            return make(c_in, c_out, window, strides, "same", padding_mode="circular", bias=bias)
        same = "same" if set(strides) == {1} else tuple(w // 2 for w in window)
        return make(c_in, c_out, window, strides, same if padding == "SAME" else "valid", bias=bias)

    def transposed(c_in: int, c_out: int, window: tuple, strides: tuple, padding: tuple) -> nn.Module:
        make: Any = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d}[len(window)]
        return make(c_in, c_out, window, strides, padding, bias=bias)

    def size(body: nn.Module, shape: tuple) -> int:
        with torch.no_grad():
            return body.to(torch.float64)(torch.zeros(1, *shape, dtype=torch.float64)).numel()

    return SimpleNamespace(
        torch=torch, nn=nn, F=functional, w=width, out=outputs, adjacency=ADJACENCY, seq=nn.Sequential, fn=Fn,
        lin=lambda a, b: nn.Linear(a, b, bias=bias), conv=conv, transposed=transposed, size=size,
        attention=lambda a, weights, **more: Attention(a, weights, bias, **more),
        same=nn.Identity, add=Branches, mul=Gate, cat=Concat, graphs=Graphs, edges=lambda: None, local=Local,
        matrix=lambda rows, columns: MATRIX[:rows, :columns], train=lambda net: net.train(),
    )  # fmt: skip


def inputs_of(twin: Twin) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(zlib.crc32(twin.name.encode()))
    x, y = (torch.randn(n, *twin.shape, dtype=torch.float64, generator=generator) for n in (3, 2))
    return x, y


def given(twin: Twin) -> tuple[Any, Any]:
    """The inputs as the network takes them; with each sample's own graph, made of its nodes, as a second one."""
    pair = inputs_of(twin)
    return tuple((v, graph_of(v)) for v in pair) if twin.graph == "each" else pair  # type: ignore[return-value]


def graph_of(x: Tensor) -> Tensor:
    return torch.sigmoid(2 * x @ x.roll(1, 2).mT)


def ours(twin: Twin) -> dict[str, Tensor]:
    """{key: kernel} of x against y, and of x alone."""
    x, y = given(twin)
    module = twin.torch(pieces(twin)).double()
    module.train("training" in twin.name)
    arch = architecture(module, x, twin.law, parametrization=twin.parametrization)
    made = {}
    for pair, b in (("xy", y), ("xx", None)):
        made[f"nngp/{pair}"], made[f"ntk/{pair}"] = arch.kernels(x, b)
    return made


def error(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max() / b.abs().max())


def relu_diagonal(twin: Twin) -> Tensor:
    """The NTK of a ReLU network at equal inputs: half of the variance and half of the slopes pass each activation."""
    x, _ = inputs_of(twin)
    sw, sb = (sigma**2 for sigma in twin.law)
    q = theta = sw * x.square().mean(1) + sb
    for _ in range(int(re.findall(r"\d+", twin.name)[0])):
        q = sw * q / 2 + sb
        theta = sw * theta / 2 + q
    return theta


def ask(chosen: list[Twin]) -> tuple[dict, dict[str, Tensor]]:
    """What the rival says of each, and its kernels by name and key."""
    with tempfile.TemporaryDirectory() as folder:
        inputs, answer = Path(folder) / "inputs.npz", Path(folder) / "answers.npz"
        data = {f"{t.name}/{side}": v.numpy() for t in chosen for side, v in zip("xy", inputs_of(t), strict=True)}
        data |= {
            f"{key}/graph": graph_of(torch.from_numpy(v)).numpy() for key, v in data.items() if v.shape[1:] == TOKENS
        }
        np.savez(inputs, adjacency=ADJACENCY.numpy(), matrix=MATRIX.numpy(), **data)
        said = ask_rival([t.name for t in chosen], inputs, answer, script="rival_agreement.py")
        if said is None:
            sys.exit(1)
        with np.load(answer) as file:
            return said, {key: torch.from_numpy(file[key]) for key in file.files}


def compare(chosen: list[Twin]) -> None:
    said, theirs = ask(chosen)
    versions = {"torch": torch.__version__, "neural_tangents": said["neural_tangents"], "jax": said["jax"]}
    worst: dict[str, tuple[float, str]] = {}
    for twin in chosen:
        row: dict[str, Any] = {"refused": said["refused"].get(twin.name)}
        if row["refused"] is None:
            mine = ours(twin)
            for key in ("nngp", "ntk"):
                apart = ~torch.eye(len(mine[f"{key}/xx"]), dtype=torch.bool)
                a, b = (k[f"{p}{key}/xx"] for k, p in ((mine, ""), (theirs, f"{twin.name}/")))
                cross = error(mine[f"{key}/xy"], theirs[f"{twin.name}/{key}/xy"])
                row[key] = max(cross, float((a - b).abs()[apart].max() / b.abs().max()))
                row[f"{key}_diagonal"] = error(a.diagonal(), b.diagonal())
            if re.fullmatch(r"mlp-relu-\d+(-no-bias)?", twin.name):
                exact = relu_diagonal(twin)
                row["ntk_diagonal_ours_exact"] = error(mine["ntk/xx"].diagonal(), exact)
                row["ntk_diagonal_theirs_exact"] = error(theirs[f"{twin.name}/ntk/xx"].diagonal(), exact)
            row |= {key: None for key, value in row.items() if value != value}  # not a number at theirs
            for key in [k for k, value in row.items() if k != "refused" and value is not None]:
                worst[key] = max(worst.get(key, (0.0, "")), (row[key], twin.name))
        keep("agreement", net=twin.name, dtype="float64", **row, **versions)
    told = ", ".join(f"{key} {value:.1e} ({name})" for key, (value, name) in worst.items())
    print(f"{len(chosen)} networks; largest relative errors: {told}", file=sys.stderr)


def judged(chosen: list[Twin]) -> None:
    said, theirs = ask(chosen)
    versions = {"torch": torch.__version__, "neural_tangents": said["neural_tangents"], "jax": said["jax"]}
    for twin in chosen:
        x, _ = inputs_of(twin)
        row: dict[str, Any] = {"why": twin.why, "refused": said["refused"].get(twin.name)}
        claims = {"theirs": {k: theirs[f"{twin.name}/{k}/xx"] for k in ("nngp", "ntk")}} if not row["refused"] else {}
        try:
            mine = ours(twin)
            claims["ours"] = {k: mine[f"{k}/xx"] for k in ("nngp", "ntk")}
        except NoLimit as refusal:
            row["we_refuse"] = refusal.what
        if len(claims) == 2:
            row |= {f"{k}_difference": error(claims["theirs"][k], claims["ours"][k]) for k in ("nngp", "ntk")}

        for width in (64, 512):
            network = twin.torch(pieces(twin, width, outputs=64)).double().eval()
            control = None
            if twin.control is not None:
                near = replace(twin, torch=twin.control)
                limit = {k: v for k, v in ours(near).items() if k.endswith("/xx")}
                control = (
                    near.torch(pieces(twin, width, outputs=64)).double().eval(),
                    {k.removesuffix("/xx"): v for k, v in limit.items()},
                )
            draws = 1024 if len(twin.shape) == 1 else 96
            found = judge(network, twin.law, x, draws, control)
            for key, (mean, standard_error) in found.items():
                for who, claim in claims.items():
                    row[f"{key}_{who}_{width}"] = round(error(claim[key], mean), 5)
                    row[f"{key}_{who}_{width}_sigmas"] = round(
                        float(((claim[key] - mean) / standard_error).abs().max()), 1
                    )
                row[f"{key}_noise_{width}"] = round(float(standard_error.max() / mean.abs().max()), 5)
        keep("agreement", net=twin.name, judged=True, dtype="float64", **row, **versions)


if __name__ == "__main__":
    torch.set_num_threads(1)
    names = [word for word in sys.argv[1:] if not word.startswith("--")]
    judging = "--judge" in sys.argv
    of = [t for t in (*TWINS, *DIFFERENT) if t.name in names] if names else DIFFERENT if judging else TWINS
    (judged if judging else compare)(of)
