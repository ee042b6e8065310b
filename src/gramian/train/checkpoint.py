"""Checkpoints: one safetensors file of weights, optimizer and random numbers, with the trace so far in its header."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from gramian.errors import BadData
from gramian.files import replace_file
from gramian.train.trace import Trace

CHECKPOINT_KIND = "gramian training checkpoint"
CHECKPOINT_FORMAT = f"{CHECKPOINT_KIND} 2"


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A run before one of its steps.

    Attributes:
        step: number of steps taken.
        tensors: by group, then by name: "now" and "initial" (parameters and buffers), "optimizer", "batches", "random".
        identity: what the run must have in common with one that goes on from here.
        trace: losses before this step, measurements up to it.
    """

    step: int
    tensors: dict[str, dict[str, Tensor]]
    identity: dict[str, Any]
    trace: Trace

    def write(self, path: str | Path) -> None:
        """Write to a temporary name, then rename.

        Raises:
            BadArgument: the folder cannot be written.
        """
        flat = {
            f"{group}/{name}": t.detach().cpu().contiguous().clone()
            for group, of in self.tensors.items()
            for name, t in of.items()
        }
        texts = {
            "format": CHECKPOINT_FORMAT,
            "step": str(self.step),
            "identity": json.dumps(self.identity),
            "trace": json.dumps(self.trace.to_dict()),
        }
        replace_file(path, lambda temporary: save_file(flat, str(temporary), metadata=texts))

    @classmethod
    def read(cls, path: str | Path) -> Checkpoint:
        """Read what `write` wrote.

        Raises:
            BadData: truncated, or no checkpoint of ours.
        """
        try:
            with safe_open(str(path), "pt") as file:
                texts = file.metadata() or {}
                flat = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        except (OSError, SafetensorError) as error:
            raise BadData(
                f"{path} cannot be read as a checkpoint: {error}.",
                where="train(..., resume=True)",
                why="the file was cut off or changed; train itself writes whole files or none",
                fix="another copy of it, or resume=False to start over",
            ) from None
        written = texts.get("format", "")
        if written.startswith(CHECKPOINT_KIND) and written != CHECKPOINT_FORMAT:
            raise BadData(
                f"{path} is a {written}; this version reads {CHECKPOINT_FORMAT.removeprefix(CHECKPOINT_KIND).strip()}.",
                where="train(..., resume=True)",
                why="another version of gramian wrote it, with its entries under other names",
                fix="resume=False to start over, or the version that wrote it",
            )
        if written != CHECKPOINT_FORMAT:
            raise BadData(
                f"{path} is a safetensors file, but not a checkpoint of a training run.",
                where="train(..., resume=True)",
                fix="the path that an earlier train(..., checkpoint=path) wrote",
            )
        tensors: dict[str, dict[str, Tensor]] = {}
        for key, tensor in flat.items():
            group, name = key.split("/", 1)
            tensors.setdefault(group, {})[name] = tensor
        return cls(
            int(texts["step"]), tensors, json.loads(texts["identity"]), Trace.from_dict(json.loads(texts["trace"]))
        )

    def check(self, identity: dict[str, Any], path: str | Path, steps: int) -> None:
        """Whether a run of this identity may go on from here.

        Raises:
            BadData: something differs, with both values.
        """
        for name, here in json.loads(json.dumps(identity)).items():
            there = self.identity.get(name)
            if here != there:
                what, here, there = _difference(name, here, there)
                raise BadData(
                    f"{path} is from another run: {what} {there} there, {here} here.",
                    where="train(..., resume=True)",
                    why="a run continues exactly only with the same network, data and settings",
                    fix=f"{name} as in the checkpoint, or another path for this run",
                )
        if self.step > steps:
            raise BadData(
                f"{path} is at step {self.step}, this run ends at {steps}.",
                where="train(..., resume=True)",
                fix=f"steps={self.step} or more",
            )


def _difference(name: str, here: Any, there: Any) -> tuple[str, Any, Any]:
    """The first entry that differs, if both are dicts."""
    if isinstance(here, dict) and isinstance(there, dict):
        for key in [*here, *there]:
            if here.get(key) != there.get(key):
                return f"{name} {key!r} is", here.get(key, "missing"), there.get(key, "missing")
    return f"{name} is", here, there


def tensors_of(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name; tied ones once."""
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


@torch.no_grad()
def load_tensors(module: nn.Module, values: dict[str, Tensor]) -> None:
    """Copy values into the module's parameters and buffers of these names."""
    own = tensors_of(module)
    for name, value in values.items():
        own[name].copy_(value)


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's state, flat: "0.momentum_buffer", "0.exp_avg", "0.step", ..."""
    state = optimizer.state_dict()["state"]
    return {f"{i}.{key}": value for i, of in state.items() for key, value in of.items() if isinstance(value, Tensor)}


def load_optimizer(optimizer: torch.optim.Optimizer, values: dict[str, Tensor]) -> None:
    """Put a flat state back; learning rate and momentum stay as the optimizer was made."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in values.items():
        i, name = key.split(".", 1)
        state.setdefault(int(i), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def fingerprint(tensors: Iterable[Tensor]) -> str:
    """SHA-256 of shapes, dtypes and values."""
    digest = hashlib.sha256()
    for t in tensors:
        digest.update(f"{tuple(t.shape)} {t.dtype}".encode())
        digest.update(t.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
