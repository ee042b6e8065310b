"""Training loops as people write them: modules, losses, outputs, precisions and optimizers that a monitor meets."""

from __future__ import annotations

import copy
import random
import types
from dataclasses import dataclass

import numpy as np
import torch
from monitor_models import (
    Bag,
    C,
    Checkpointed,
    Counts,
    D,
    Draws,
    Labelled,
    N,
    Out,
    Pair,
    Recurrent,
    Says,
    Shared,
    autocasted,
    classes,
    compiled,
    discriminated,
    frozen,
    masked,
    mlp,
    numbers,
    rows,
    tokens,
)  # fmt: skip
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, prune

ce, mse, bce = nn.CrossEntropyLoss(), nn.MSELoss(), nn.BCEWithLogitsLoss()
OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, 0.05),
    "momentum": lambda p: torch.optim.SGD(p, 0.05, momentum=0.9, nesterov=True, weight_decay=1e-3),
    "adam": lambda p: torch.optim.Adam(p, 1e-2),
    "adamw": lambda p: torch.optim.AdamW(p, 1e-2),
    "rmsprop": lambda p: torch.optim.RMSprop(p, 1e-3, centered=True),
    "adagrad": lambda p: torch.optim.Adagrad(p, 1e-2),
    "adadelta": lambda p: torch.optim.Adadelta(p),
    "adamax": lambda p: torch.optim.Adamax(p),
    "nadam": lambda p: torch.optim.NAdam(p),
    "radam": lambda p: torch.optim.RAdam(p),
    "rprop": lambda p: torch.optim.Rprop(p),
    "asgd": lambda p: torch.optim.ASGD(p),
    "lbfgs": lambda p: torch.optim.LBFGS(p, 0.1, max_iter=2),
    "foreach": lambda p: torch.optim.AdamW(p, 1e-2, foreach=True, amsgrad=True),
    "tensor rate": lambda p: torch.optim.Adam(p, torch.tensor(1e-2)),
}


@dataclass
class Loop:
    """One loop: `make()` is the module; the loss, inputs and targets are the loop's and the monitor's.

    Attributes:
        step: of the loop's loss, from module, x and y; None for `loss(module(x), y)`.
        given: what the monitor gets instead of (loss, x, y).
        watched: whether it is watched; if not, one warning says why.
        without: what may be left out, with a warning.
    """

    make: object
    loss: object = ce
    x: object = None
    y: object = None
    step: object = None
    given: tuple | None = None
    watched: bool = True
    optimizer: str = "sgd"

    def data(self):
        x = rows() if self.x is None else self.x()
        return x, (classes() if self.y is None else self.y())


def by_name(net, x, y):
    return net(**x, labels=y).loss


def _moe(f, x):
    return Out(f, f.square().mean())


LOOPS: dict[str, Loop] = {
    # outputs
    "(n,)": Loop(lambda: nn.Sequential(mlp(1), nn.Flatten(0)), mse, y=lambda: numbers()[:, 0]),
    "(n,) and (n, 1)": Loop(
        lambda: nn.Sequential(mlp(1), nn.Flatten(0)), mse, y=numbers, step=lambda net, x, y: mse(net(x), y[:, 0])
    ),
    "(n, 1) and (n,)": Loop(
        lambda: mlp(1), mse, y=lambda: numbers()[:, 0], step=lambda net, x, y: mse(net(x)[:, 0], y)
    ),
    "a tuple": Loop(lambda: Says(lambda f, x: (f, x)), step=lambda net, x, y: ce(net(x)[0], y)),
    "a list": Loop(lambda: Says(lambda f, x: [f, None]), step=lambda net, x, y: ce(net(x)[0], y)),
    "a dict": Loop(
        lambda: Says(lambda f, x: {"loss": None, "logits": f}), step=lambda net, x, y: ce(net(x)["logits"], y)
    ),
    "a dict of segmentation": Loop(
        lambda: Says(lambda f, x: {"aux": x[0][0], "out": f}), step=lambda n, x, y: ce(n(x)["out"], y)
    ),
    "a dataclass": Loop(lambda: Says(lambda f, x: Out(f)), step=lambda net, x, y: ce(net(x).logits, y)),
    "an object": Loop(
        lambda: Says(lambda f, x: types.SimpleNamespace(logits=f)), step=lambda n, x, y: ce(n(x).logits, y)
    ),
    "a named tuple": Loop(lambda: Says(lambda f, x: Pair(f, x)), step=lambda net, x, y: ce(net(x).logits, y)),
    "all of a tuple": Loop(lambda: Says(lambda f, x: (f, f.square())), lambda out, y: ce(out[0], y) + out[1].mean()),
    "all of an object": Loop(lambda: Says(lambda f, x: Out(f)), lambda out, y: ce(out.logits, y)),
    "all with a mask": Loop(
        lambda: Says(lambda f, x: {"f": f, "mask": torch.arange(len(f)) % 2}),
        lambda out, y: (F.cross_entropy(out["f"], y, reduction="none") * out["mask"]).mean(),
    ),
    "a term for the batch": Loop(lambda: Says(_moe), lambda out, y: ce(out.logits, y) + out.loss, watched=False),
    "one number": Loop(lambda: Says(lambda f, x: f.mean()), lambda f, y: f, watched=False),
    "no tensor": Loop(
        lambda: Says(lambda f, x: None), ce, step=lambda net, x, y: net.net(x).square().mean(), watched=False
    ),
    # inputs
    "two inputs": Loop(lambda: Says(lambda f, x: f * x[1]), x=lambda: (rows(), rows(d=1))),
    "a None among them": Loop(lambda: Labelled(), None, x=lambda: {"x": rows(), "mask": None}, step=by_name),
    "a None in order": Loop(lambda: Says(lambda f, x: f), x=lambda: (rows(), None)),
    "an array": Loop(
        mlp,
        x=lambda: rows().numpy(),
        y=lambda: classes().numpy(),
        step=lambda net, x, y: ce(net(torch.as_tensor(x)), torch.as_tensor(y)),
    ),
    "one dict": Loop(
        lambda: Says(lambda f, x: f),
        x=lambda: {"a b": rows()},
        step=lambda net, x, y: ce(net.net(x["a b"]), y),
        watched=False,
    ),
    "other rows": Loop(mlp, given=(ce, rows(), classes()[:5]), watched=False),
    "no rows": Loop(mlp, given=(ce, rows()[:0], classes()[:0]), watched=False),
    "the wrong shape": Loop(mlp, given=(ce, rows(d=5), classes()), watched=False),
    "not finite": Loop(mlp, given=(ce, rows() * torch.nan, classes()), watched=True),
    # precisions
    "bfloat16 with float32 rows": Loop(lambda: mlp().bfloat16(), step=lambda n, x, y: ce(n(x.bfloat16()), y)),
    "float16 with float32 rows": Loop(lambda: mlp().half(), step=lambda n, x, y: ce(n(x.half()), y)),
    "float64 with float32 rows": Loop(lambda: mlp().double(), step=lambda n, x, y: ce(n(x.double()), y)),
    "bfloat16 and MSE": Loop(
        lambda: mlp(1).bfloat16(), mse, y=numbers, step=lambda n, x, y: mse(n(x.bfloat16()).float(), y)
    ),
    "forward of its own": Loop(lambda: autocasted(mlp())),
    "autocast": Loop(mlp, step="autocast"),
    # modules
    "EmbeddingBag": Loop(lambda: Bag("bag"), x=tokens),
    "sparse Embedding": Loop(lambda: Bag("sparse"), x=tokens),
    "Embedding of a largest norm": Loop(lambda: Bag("normed"), x=tokens),
    "padded Embedding": Loop(lambda: Bag("padded"), x=tokens),
    "PReLU": Loop(lambda: mlp(act=nn.PReLU)),
    "reentrant": Loop(lambda: Checkpointed(True)),
    "checkpointed": Loop(lambda: Checkpointed(False)),
    "scripted": Loop(lambda: torch.jit.script(mlp())),
    "traced": Loop(lambda: torch.jit.trace(mlp(), rows())),
    "a scripted part": Loop(lambda: nn.Sequential(torch.jit.script(nn.Linear(D, 5)), nn.Linear(5, C))),
    "weight_norm": Loop(lambda: nn.Sequential(nn.utils.weight_norm(nn.Linear(D, 5)), nn.Linear(5, C))),
    "parametrized": Loop(lambda: nn.Sequential(parametrizations.weight_norm(nn.Linear(D, 5)), nn.Linear(5, C))),
    "spectral_norm": Loop(lambda: nn.Sequential(nn.utils.spectral_norm(nn.Linear(D, 5)), nn.Linear(5, C))),
    "spectral, parametrized": Loop(
        lambda: nn.Sequential(parametrizations.spectral_norm(nn.Linear(D, 5)), nn.Linear(5, C))
    ),
    "pruned": Loop(lambda: nn.Sequential(prune.l1_unstructured(nn.Linear(D, 5), "weight", 0.3), nn.Linear(5, C))),
    "lazy": Loop(lambda: nn.Sequential(nn.LazyLinear(5), nn.Linear(5, C)), watched=False),
    "batch norm": Loop(lambda: nn.Sequential(nn.Linear(D, 5), nn.BatchNorm1d(5), nn.Dropout(0.2), nn.Linear(5, C))),
    "batch norm without statistics": Loop(
        lambda: nn.Sequential(nn.Linear(D, 5), nn.BatchNorm1d(5, track_running_stats=False), nn.Linear(5, C))
    ),
    "counts": Loop(Counts),
    "writes into weights": Loop(lambda: Counts(weight=True)),
    "draws": Loop(Draws),
    "shared": Loop(Shared),
    "LSTM": Loop(lambda: Recurrent(nn.LSTM), x=lambda: rows(N * 4).reshape(N, 4, D)),
    "GRU": Loop(lambda: Recurrent(nn.GRU), x=lambda: rows(N * 4).reshape(N, 4, D)),
    "Transformer": Loop(
        lambda: nn.Sequential(
            nn.TransformerEncoderLayer(D, 2, 8, dropout=0.1, batch_first=True), nn.Flatten(), nn.Linear(4 * D, C)
        ),
        x=lambda: rows(N * 4).reshape(N, 4, D),
    ),
    "CNN": Loop(
        lambda: nn.Sequential(nn.Conv2d(1, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, C)),
        x=lambda: rows(d=16).reshape(N, 1, 4, 4),
    ),
    "no parameters but one": Loop(lambda: nn.Sequential(nn.Linear(D, C, bias=False))),
    "partly frozen": Loop(lambda: frozen(mlp())),
    "a gradient mask": Loop(lambda: masked(mlp())),
    "DataParallel": Loop(lambda: nn.DataParallel(mlp())),
    "compiled": Loop(lambda: torch.compile(mlp(), backend="eager")),
    "compiled in place": Loop(lambda: compiled(mlp())),
}


def run(loop, optimizer, steps, watch=None, scaler=False):
    """The loop with `watch(net, optimizer, loss, x, y)` before it; module, optimizer, what watches, and the losses."""
    torch.manual_seed(1)
    net = loop.make()
    x, y = loop.data()
    loss = discriminated() if isinstance(loop.loss, str) else loop.loss
    made = OPTIMIZERS[optimizer](list(net.parameters()))
    torch.manual_seed(2)
    watching = None if watch is None else watch(net, made, *(loop.given or (loss, x, y)))
    net.train()
    losses = []

    def value():
        if callable(loop.step):
            return loop.step(net, x, y)
        if loop.step == "autocast":
            with torch.autocast("cpu", dtype=torch.bfloat16):
                return loss(net(x), y)
        return loss(net(*x) if isinstance(x, tuple) else net(x), y)

    for step in range(steps):

        def closure(step=step):
            made.zero_grad(set_to_none=step % 2 == 0)
            now = value()
            now = now.mean() if now.ndim else now
            now.backward()
            losses.append(float(now.detach()))
            return now

        if optimizer == "lbfgs":
            made.step(closure)
        else:
            closure()
            made.step()
        if watching is not None and step == steps // 2:
            str(watching)
    if watching is not None:
        str(watching)
    return net, made, watching, losses


def state(net, optimizer):
    """All that a run leaves: weights, buffers, gradients, modes, hooks, attributes, the optimizer's, random numbers."""
    numbers = {n: t.detach().clone() for n, t in [*net.named_parameters(), *net.named_buffers()]}
    grads = {n: None if p.grad is None else p.grad.to_dense().clone() for n, p in net.named_parameters()}
    modes = [m.training for m in net.modules()]
    hooks = [
        len(m._forward_hooks) + len(m._forward_pre_hooks)
        for m in net.modules()
        if not isinstance(m, torch.jit.ScriptModule)
    ]
    plain = [
        {
            k: copy.deepcopy(v)
            for k, v in vars(m).items()
            if isinstance(v, int | float | list) and k != "training" and k[0] != "_"
        }
        for m in net.modules()
        if not isinstance(m, torch.jit.ScriptModule)
    ]
    moments = [v.clone() for s in optimizer.state.values() for v in s.values() if isinstance(v, torch.Tensor)]
    drawn = torch.rand(3), np.random.rand(), random.random()  # noqa: NPY002
    return numbers, grads, modes, hooks, plain, moments, drawn
