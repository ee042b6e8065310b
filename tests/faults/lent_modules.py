"""Modules that a careless call changes, each with one batch of inputs: what people really have."""

import warnings

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune
from torch.utils.checkpoint import checkpoint


class Repeated(nn.Module):
    """One block object, three times in the list (ALBERT)."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 2)
        self.blocks = nn.ModuleList([nn.Sequential(nn.Linear(4, 4), nn.Tanh())] * 3)

    def forward(self, x):
        x = self.first(x)
        for block in self.blocks:
            x = block(x)
        return self.last(x)


class TwoNames(nn.Module):
    """A weight in two layers, a buffer under two names, one parameter list in two places and in a plain list."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)
        self.b.weight = self.a.weight
        self.register_buffer("shift", torch.randn(4))
        self.b.register_buffer("shift", self.shift)
        self.scales = nn.ParameterList([nn.Parameter(torch.ones(4))] * 2)
        self.again = self.scales
        self.plain = [self.a.bias]

    def forward(self, x):
        h = torch.tanh(self.b(self.a(x) * self.scales[0] + self.plain[0])) * self.again[1] + self.b.shift
        return F.linear(h, self.a.weight[:2])


class Caching(nn.Module):
    """Counts its calls, and keeps what it has seen."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.calls, self.history, self.cache = nn.Linear(4, 5), nn.Linear(5, 2), 0, [], {}
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))
        self.seen = torch.zeros(())

    def forward(self, x):
        self.calls += 1
        self.count += 1
        self.seen += 1
        self.h = torch.tanh(self.a(x))
        self.history.append(self.h)
        self.cache["last"] = self.h
        return self.b(self.cache["last"])


class InPlace(nn.Module):
    """Writes into its input."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 5), nn.Linear(5, 2)

    def forward(self, x):
        x.mul_(2).clamp_(-1, 1)
        return self.b(torch.tanh(self.a(x)))


class Clamped(nn.Module):
    """Writes into its parameters, and comes to rest there."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 5), nn.Linear(5, 2)

    def forward(self, x):
        self.a.weight.data.clamp_(-0.2, 0.2)
        with torch.no_grad():
            self.b.weight.clamp_(-0.1, 0.1)
        return self.b(torch.tanh(self.a(x)))


class Drifting(Clamped):
    """Writes into its parameters at each call anew: no kernel."""

    def forward(self, x):
        self.a.weight.data.mul_(0.99)
        return self.b(torch.tanh(self.a(x)))


class Averaging(nn.Module):
    """A running mean of its features that no output depends on."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 5), nn.Linear(5, 2)
        self.register_buffer("mean", torch.zeros(5))

    def forward(self, x):
        h = torch.tanh(self.a(x))
        self.mean.mul_(0.9).add_(0.1 * h.detach().mean(0))
        return self.b(h)


class Slotted(nn.Module):
    __slots__ = ("kept",)

    def __init__(self):
        super().__init__()
        self.a, self.kept = nn.Linear(4, 2), None

    def forward(self, x):
        object.__setattr__(self, "kept", x)
        return torch.tanh(self.a(x))


class Delegating(nn.Module):
    """Attributes that are not its own it has from the module inside."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2))

    def __getattr__(self, name):
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("inner"), name)

    def forward(self, x):
        return self.inner(x)


class Hidden(nn.Module):
    """A batch normalization that is no submodule, in a plain list."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.norms = nn.Linear(4, 5), nn.Linear(5, 2), [nn.BatchNorm1d(5).eval()]

    def forward(self, x):
        return self.b(torch.tanh(self.norms[0](self.a(x))))


class Checkpointed(nn.Module):
    def __init__(self, reentrant):
        super().__init__()
        self.a, self.b, self.c, self.reentrant = nn.Linear(4, 5), nn.Linear(5, 5), nn.Linear(5, 2), reentrant

    def forward(self, x):
        h = torch.tanh(self.a(x))
        return self.c(checkpoint(lambda h: torch.tanh(self.b(h)), h, use_reentrant=self.reentrant))


class Stopped(nn.Module):
    """Stop-gradients of both kinds."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 5), nn.Linear(4, 5), nn.Linear(5, 2)

    def forward(self, x):
        h = torch.tanh(self.a(x))
        with torch.no_grad():
            gate = torch.sigmoid(self.b(x))
        return self.c(h * gate + h.detach().square())


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 2)

    def forward(self, x, w):
        return torch.tanh(self.a(x)) * w


class Named(Two):
    """A dict in, a dict out."""

    def forward(self, x=None, w=None):
        return {"logits": super().forward(x, w)}


class Renormed(nn.Module):
    """An embedding that scales its rows down when it looks them up."""

    def __init__(self):
        super().__init__()
        self.e, self.b = nn.Embedding(7, 4, max_norm=0.5), nn.Linear(4, 2)

    def forward(self, x):
        return self.b(torch.tanh(self.e(x)).mean(1))


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
        self.t, self.b = nn.TransformerEncoder(layer, 1), nn.Linear(4, 2)

    def forward(self, x):
        return self.b(self.t(x).mean(1))


class Attending(nn.Module):
    def __init__(self):
        super().__init__()
        self.t, self.b = nn.MultiheadAttention(4, 2, batch_first=True), nn.Linear(4, 2)

    def forward(self, x):
        return self.b(self.t(x, x, x, need_weights=False)[0].mean(1))


class Symmetric(nn.Module):
    def forward(self, w):
        return w.triu() + w.triu(1).mT


def mlp():
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2))


def old(wrap, **options):
    """A layer of torch's older reparametrizations: a hook makes the weight before each call."""

    def made():
        net = mlp()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            wrap(net[0], **options)
            net(torch.randn(2, 4))
        return net.eval()

    return made


def parametrized():
    net = mlp()
    net[0] = nn.Linear(4, 4)
    net[2] = nn.Linear(4, 2)
    parametrize.register_parametrization(net[0], "weight", Symmetric())
    parametrizations.weight_norm(net[2])
    return net


def normed(mode):
    net = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Dropout(0.0), nn.Linear(5, 2)).train(mode)
    net[1].running_mean.normal_()
    return net


def spectral(mode):
    net = mlp()
    parametrizations.spectral_norm(net[0])
    return net.train(mode)


def hooked():
    """A mask on the gradient of a weight, as for partly frozen layers; and hooks that look on."""
    net = mlp()
    mask = (torch.arange(5) > 1)[:, None]
    net[0].weight.register_hook(lambda g: g * mask)
    net[1].register_forward_hook(lambda m, args, out: out * 1.5)
    net[2].register_forward_pre_hook(lambda m, args: (args[0] + 0.1,))
    return net


def rebound():
    """`forward` set on the instance, as accelerate does for mixed precision."""
    net = mlp()
    own = net.forward

    def forward(*args, **kwargs):
        return own(*args, **kwargs) * 1.0

    net.forward = forward
    return net


def partly_trained():
    """Gradients from a step before, one layer frozen, modes mixed."""
    net = mlp()
    net(torch.randn(3, 4)).sum().backward()
    net[0].bias.grad = None
    net[2].requires_grad_(False)
    net[1].eval()
    return net


def rows(*shape):
    return lambda: torch.randn(4, *shape)


PAIR = lambda: (torch.randn(4, 4), torch.rand(4, 1))  # noqa: E731
LENT = {
    "repeated": (Repeated, rows(4)),
    "two names": (TwoNames, rows(4)),
    "caching": (Caching, rows(4)),
    "in place": (InPlace, rows(4)),
    "clamped": (Clamped, rows(4)),
    "drifting": (Drifting, rows(4)),
    "averaging": (Averaging, rows(4)),
    "slots": (Slotted, rows(4)),
    "getattr": (Delegating, rows(4)),
    "hidden": (Hidden, rows(4)),
    "checkpoint": (lambda: Checkpointed(False), rows(4)),
    "reentrant checkpoint": (lambda: Checkpointed(True), rows(4)),
    "stopped": (Stopped, rows(4)),
    "two inputs": (Two, PAIR),
    "named inputs": (Named, lambda: dict(zip("xw", PAIR(), strict=True))),
    "renormed": (Renormed, lambda: torch.randint(7, (4, 3))),
    "encoder": (lambda: Encoder().eval(), rows(3, 4)),
    "attention": (lambda: Attending().eval(), rows(3, 4)),
    "old weight_norm": (old(nn.utils.weight_norm), rows(4)),
    "old spectral_norm": (old(nn.utils.spectral_norm), rows(4)),
    "pruned": (old(prune.l1_unstructured, name="weight", amount=0.3), rows(4)),
    "parametrized": (parametrized, rows(4)),
    "batch norm": (lambda: normed(False), rows(4)),
    "batch norm in training": (lambda: normed(True), rows(4)),
    "spectral norm": (lambda: spectral(False), rows(4)),
    "spectral norm in training": (lambda: spectral(True), rows(4)),
    "hooked": (hooked, rows(4)),
    "rebound": (rebound, rows(4)),
    "partly trained": (partly_trained, rows(4)),
    "scripted": (lambda: torch.jit.script(mlp()), rows(4)),
    "traced": (lambda: torch.jit.trace(mlp(), torch.randn(2, 4)), rows(4)),
    "data parallel": (lambda: nn.DataParallel(mlp()), rows(4)),
    "lazy": (lambda: nn.Sequential(nn.LazyLinear(3), nn.Linear(3, 2)), rows(4)),
    "recurrent": (lambda: nn.Sequential(nn.Flatten(), Recurrent()), rows(4)),
}


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.r, self.b = nn.LSTM(4, 3, batch_first=True), nn.Linear(3, 2)

    def forward(self, x):
        return self.b(self.r(x[:, None])[0][:, -1])
