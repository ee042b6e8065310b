"""Modules and losses as people have them: what a monitor meets in training loops."""

from __future__ import annotations

from collections import namedtuple
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

N, D, C = 12, 6, 3


def rows(n=N, d=D):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(0))


def classes(n=N, c=C):
    return torch.arange(n) % c


def numbers(n=N, c=1):
    return torch.randn(n, c, generator=torch.Generator().manual_seed(1))


def tokens(n=N, s=5, words=7):
    return torch.randint(words, (n, s), generator=torch.Generator().manual_seed(2))


def mlp(out=C, d=D, act=nn.Tanh):
    return nn.Sequential(nn.Linear(d, 8), act(), nn.Linear(8, out))


class Says(nn.Module):
    """A module whose output `say` makes of its layers' output."""

    def __init__(self, say, out=C, **inner):
        super().__init__()
        self.net, self.say = mlp(out, **inner), say

    def forward(self, *x, **more):
        return self.say(self.net(x[0]), x)


@dataclass
class Out:
    logits: torch.Tensor
    loss: torch.Tensor | None = None


class OutDict(dict):
    """As a library of models has it: entries are attributes too."""

    def __getattr__(self, name):
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


class Bag(nn.Module):
    def __init__(self, kind):
        super().__init__()
        if kind == "bag":
            self.e = nn.EmbeddingBag(7, 4)
        else:
            more = {"sparse": {"sparse": True}, "normed": {"max_norm": 0.5}, "padded": {"padding_idx": 0}}[kind]
            self.e = nn.Embedding(7, 4, **more)
        self.f = nn.Linear(4, C)

    def forward(self, t):
        h = self.e(t)
        return self.f(h if h.ndim == 2 else h.mean(1))


class Checkpointed(nn.Module):
    def __init__(self, reentrant):
        super().__init__()
        self.a, self.b, self.reentrant = nn.Linear(D, 8), nn.Linear(8, C), reentrant

    def forward(self, x):
        return self.b(checkpoint(torch.tanh, self.a(x), use_reentrant=self.reentrant))


class Counts(nn.Module):
    """A forward pass that writes: a buffer, an attribute, a list, a running tensor, a weight."""

    def __init__(self, weight=False):
        super().__init__()
        self.net, self.calls, self.seen, self.weight = mlp(), 0, [], weight
        self.register_buffer("total", torch.zeros(()))
        self.mean = torch.zeros(D)

    def forward(self, x):
        self.calls += 1
        self.seen.append(len(x))
        self.total += 1
        self.mean.mul_(0.9).add_(0.1 * x.detach().mean(0))
        self.last = x.detach()
        if self.weight:
            with torch.no_grad():
                self.net[0].weight.clamp_(-0.3, 0.3)
        return self.net(x)


class Draws(nn.Module):
    """Noise in each pass, in eval mode too, from torch, numpy and Python."""

    def __init__(self):
        super().__init__()
        self.net = mlp()

    def forward(self, x):
        import random

        import numpy as np

        return self.net(x + 1e-3 * (torch.randn_like(x) + np.random.rand() + random.random()))  # noqa: NPY002


class Seq2Seq(nn.Module):
    """Encoder and decoder, whose inputs come of the labels, as in T5."""

    def __init__(self):
        super().__init__()
        self.e, self.d, self.head = nn.Embedding(7, 4), nn.Embedding(7, 4), nn.Linear(4, 7)

    def forward(self, input_ids, attention_mask=None, labels=None):
        if labels is None:
            raise ValueError("You have to specify decoder_input_ids")
        before = F.pad(labels[:, :-1].clamp_min(0), (1, 0))
        h = torch.tanh(self.d(before) + self.e(input_ids).mean(1, keepdim=True))
        logits = self.head(h)
        return Out(logits, F.cross_entropy(logits.flatten(0, 1), labels.flatten()))


class Spans(nn.Module):
    """Question answering: first and last token of the answer."""

    def __init__(self):
        super().__init__()
        self.e, self.head = nn.Embedding(7, 4), nn.Linear(4, 2)

    def forward(self, input_ids, start_positions=None, end_positions=None):
        start, end = self.head(torch.tanh(self.e(input_ids))).unbind(-1)
        out = OutDict(start_logits=start, end_logits=end)
        if start_positions is not None:
            own = (F.cross_entropy(start, start_positions) + F.cross_entropy(end, end_positions)) / 2
            out = OutDict(loss=own, **out)
        return out


class Labelled(nn.Module):
    """A model with its own loss, by kind of labels."""

    def __init__(self, out=C):
        super().__init__()
        self.net = mlp(out)

    def forward(self, x, mask=None, labels=None):
        logits, own = self.net(x), None
        if labels is not None and labels.is_floating_point():
            own = F.binary_cross_entropy_with_logits(logits, labels)
        elif labels is not None:
            own = F.cross_entropy(logits, labels)
        return Out(logits, own)


class Shared(nn.Module):
    def __init__(self):
        super().__init__()
        block = nn.Linear(D, D)
        self.layers = nn.ModuleList([block] * 3)
        self.head = nn.Linear(D, C)

    def forward(self, x):
        for layer in self.layers:
            x = torch.tanh(layer(x))
        return self.head(x)


class Recurrent(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.rnn, self.head = kind(D, 5, batch_first=True), nn.Linear(5, C)

    def forward(self, x):
        return self.head(self.rnn(x)[0][:, -1])


class Frames(nn.Module):
    """Log-probabilities (time, n, symbols), as CTC takes them."""

    def __init__(self):
        super().__init__()
        self.net = mlp(5)

    def forward(self, x):
        return self.net(x).log_softmax(2).transpose(0, 1)


def autocasted(net):
    """What accelerate does to a model: a forward of the instance's own."""
    own = net.forward

    def forward(*args, **kwargs):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return own(*args, **kwargs).float()

    net.forward = forward
    return net


def triplet(f, y):
    """Of a batch: each row with the next of its class and the next of another."""
    return F.triplet_margin_loss(f[:-3], f[3:], f[1:-2])


def contrastive(f, y):
    d, same = torch.cdist(f, f), y[:, None] == y[None]
    return torch.where(same, d.square(), (1 - d).clamp_min(0).square()).mean()


def ctc(f, y):
    return F.ctc_loss(f, y["targets"], y["of"], y["long"])


def ctc_targets():
    targets = torch.randint(1, 5, (N, 2), generator=torch.Generator().manual_seed(3))
    return {"targets": targets, "of": torch.full((N,), 9), "long": torch.full((N,), 2)}


def discriminated():
    torch.manual_seed(5)
    other = nn.Sequential(nn.Linear(C, 4), nn.BatchNorm1d(4), nn.Dropout(0.1), nn.Linear(4, 1))
    return lambda f, _: F.binary_cross_entropy_with_logits(other(f), torch.ones(len(f), 1))


Pair = namedtuple("Pair", "logits features")


def frozen(net):
    net[0].requires_grad_(False)
    return net


def masked(net):
    net[0].weight.register_hook(lambda g: g * (torch.arange(len(g)) > 2)[:, None])
    return net


def compiled(net):
    net.compile(backend="eager")
    return net
