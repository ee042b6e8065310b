"""Modules of every kind that the empirical kernel must be exact for, each with the shape of one input."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations, prune
from torch.utils.checkpoint import checkpoint
from zoo_calls import CALLS, Tokens


class Residual(nn.Module):
    """Pre-activation block; the ReLU works in place."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1)
        self.relu, self.readout = nn.ReLU(inplace=True), nn.Linear(12, 2)

    def forward(self, x):
        h = self.first(x)
        h = h + self.second(self.relu(h + 0.1))
        return self.readout(F.avg_pool2d(h, 2).flatten(1))


class Attention(nn.Module):
    """Multi-head attention on tokens: its projection is one parameter that no layer's forward uses."""

    def __init__(self):
        super().__init__()
        self.inside = nn.Linear(3, 4)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.norm, self.readout = nn.LayerNorm(4), nn.Linear(4, 2)

    def forward(self, x):
        h = self.inside(x)
        h = self.norm(h + self.attention(h, h, h, need_weights=False)[0])
        return self.readout(h.mean(1))


class SequenceFirst(nn.Module):
    """Layers see (tokens, samples, features): the sample axis is not the first."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(3, 5), nn.Linear(5, 2)

    def forward(self, x):
        h = torch.tanh(self.first(x.transpose(0, 1)))
        return self.second(h).cumsum(0)[-1]


class Folded(nn.Module):
    """Frames of a sample are folded into the batch of a convolution."""

    def __init__(self):
        super().__init__()
        self.conv, self.readout = nn.Conv1d(2, 3, 2), nn.Linear(3, 2)

    def forward(self, x):
        n, t = x.shape[:2]
        h = self.conv(x.flatten(0, 1)).tanh().mean(-1)
        return self.readout(h).reshape(n, t, -1).prod(1)


class Tied(nn.Module):
    """Encoder and decoder share a weight, the second time transposed and outside any layer."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x):
        return F.linear(torch.tanh(self.layer(x)), self.layer.weight.t())


class TiedLayers(nn.Module):
    """Two layers that own one weight."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.second(torch.tanh(self.first(x)))


class Twice(nn.Module):
    """One convolution called twice, at two sizes of image."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 3, padding=1)

    def forward(self, x):
        return self.conv(F.avg_pool2d(torch.tanh(self.conv(x)), 2)).sum((2, 3))


class Raw(nn.Module):
    """Parameters that belong to no layer, one of them an input to a layer."""

    def __init__(self):
        super().__init__()
        self.scale, self.token = nn.Parameter(torch.randn(3)), nn.Parameter(torch.randn(1, 4))
        self.unused = nn.Parameter(torch.randn(2))
        self.layer = nn.Linear(4, 3)

    def forward(self, x):
        return self.layer(x) * self.scale + self.layer(self.token).sin()


class Slope(nn.Module):
    """The output is a derivative of a network by its input: weights are used again in the backward pass."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(3, 4), nn.Linear(4, 1)

    def forward(self, x):
        with torch.enable_grad():
            x = x.detach().requires_grad_(True)
            energy = self.second(torch.tanh(self.first(x))).sum()
            return torch.autograd.grad(energy, x, create_graph=True)[0]


class LinearSlope(Slope):
    """The same of a linear map: its forward pass does not matter, only the weight in its backward pass does."""

    def forward(self, x):
        with torch.enable_grad():
            x = x.detach().requires_grad_(True)
            return torch.autograd.grad(self.second(self.first(x)).sum(), x, create_graph=True)[0]


class FunctionalSlope(Slope):
    """The same by torch.func."""

    def forward(self, x):
        return torch.func.vmap(torch.func.grad(lambda row: self.second(torch.tanh(self.first(row))).sum()))(x)


class Hyper(nn.Module):
    """A layer's weight is made by another layer, and the layer's own is used as well."""

    def __init__(self):
        super().__init__()
        self.inner, self.maker = nn.Linear(3, 2, bias=False), nn.Linear(3, 6)

    def forward(self, x):
        weight = self.maker(x.mean(0, keepdim=True) * 0 + 1).reshape(2, 3)
        return torch.func.functional_call(self.inner, {"weight": weight}, (x,)) + self.inner(x)


class Double(torch.autograd.Function):
    """A custom function without rules for vmap."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x.abs()

    @staticmethod
    def backward(ctx, grad):
        return 2 * grad * ctx.saved_tensors[0].abs()


class Custom(nn.Module):
    """vmap cannot run it."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, x):
        return self.second(Double.apply(self.first(x)))


class Branch(nn.Module):
    """Control flow that depends on the data."""

    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Linear(3, 2), nn.Linear(3, 2)

    def forward(self, x):
        return torch.stack([self.left(row) if row.sum() > 0 else self.right(row).sin() for row in x])


class Recurrent(nn.Module):
    """A recurrent layer: its weights are used at every time by one operation."""

    def __init__(self):
        super().__init__()
        self.gru, self.readout = nn.GRU(3, 4, batch_first=True), nn.Linear(4, 2)

    def forward(self, x):
        return self.readout(self.gru(x)[0][:, -1])


class Hooked(nn.Sequential):
    """The user's own hooks change what a layer takes and what it gives."""

    def __init__(self):
        super().__init__(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
        self[0].register_forward_hook(lambda m, args, out: 3 * out)
        self[2].register_forward_pre_hook(lambda m, args: (args[0].square(),))


class Scalar(nn.Sequential):
    """Output of shape (n,)."""

    def __init__(self):
        super().__init__(nn.Linear(3, 4), nn.GELU(), nn.Linear(4, 1), nn.Flatten(0))


class Checkpointed(nn.Module):
    """Activation checkpointing: the forward pass is run again in the backward pass."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, x):
        h = checkpoint(lambda x: torch.tanh(self.first(x)), x, use_reentrant=False)
        return self.second(h)


def mlp(*widths, activation=nn.Tanh):
    layers = [m for a, b in pairwise(widths) for m in (nn.Linear(a, b), activation())]
    return nn.Sequential(*layers[:-1])


def frozen_readout():
    net = mlp(4, 5, 3, activation=nn.ReLU)
    net[2].requires_grad_(False)
    return net


def frozen_bias():
    net = mlp(4, 5, 3)
    net[0].bias.requires_grad_(False)
    net[2].weight.requires_grad_(False)
    return net


def norms():
    net = nn.Sequential(
        nn.Conv2d(2, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.GroupNorm(2, 4),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.LayerNorm(16),
    )
    net[1].running_mean.normal_(), net[1].running_var.uniform_(0.5, 2)
    return net.eval()


def pruned():
    """Old-style reparametrization: the weight is a plain attribute, made by a hook before each call."""
    net = mlp(3, 4, 2)
    prune.l1_unstructured(net[0], "weight", amount=0.3)
    return net


def conv2d(**options):
    return nn.Sequential(nn.Conv2d(4, 6, **options), nn.ReLU(), nn.Flatten(), nn.LazyLinear(2))


ZOO = {
    "mlp": (lambda: mlp(3, 5, 5, 2), (3,)),
    "linear on sequences": (lambda: nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2), nn.Flatten()), (3, 3)),
    "linear on long sequences": (lambda: nn.Sequential(nn.Linear(1, 2), nn.Tanh(), nn.Linear(2, 1)), (9, 1)),
    "conv1d": (
        lambda: nn.Sequential(
            nn.Conv1d(2, 4, 3, stride=2, padding=2, dilation=2), nn.ReLU(), nn.Conv1d(4, 3, 2, groups=1)
        ),
        (2, 7),
    ),
    "conv2d": (lambda: conv2d(kernel_size=(3, 2), stride=(1, 2), padding=(2, 1), dilation=(2, 1)), (4, 5, 4)),
    "conv2d grouped": (lambda: conv2d(kernel_size=3, groups=2, bias=False), (4, 4, 3)),
    "conv2d depthwise": (lambda: nn.Sequential(nn.Conv2d(3, 6, 2, groups=3), nn.GELU(), nn.Flatten()), (3, 2, 3)),
    "conv2d same": (lambda: conv2d(kernel_size=(2, 3), padding="same", dilation=(3, 1)), (4, 4, 3)),
    "conv2d valid": (lambda: conv2d(kernel_size=1, padding="valid"), (4, 2, 2)),
    "conv2d circular": (lambda: conv2d(kernel_size=3, padding=(1, 2), padding_mode="circular"), (4, 4, 3)),
    "conv2d reflect": (lambda: conv2d(kernel_size=3, padding="same", padding_mode="reflect", stride=1), (4, 4, 3)),
    "conv2d replicate": (lambda: conv2d(kernel_size=3, padding=1, padding_mode="replicate", stride=2), (4, 4, 3)),
    "conv3d": (
        lambda: nn.Sequential(nn.Conv3d(2, 2, (1, 2, 3), padding=(0, 1, 1), stride=(1, 2, 1)), nn.Tanh(), nn.Flatten()),
        (2, 2, 2, 3),
    ),
    "pooling": (
        lambda: nn.Sequential(
            nn.Conv2d(2, 3, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(3, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        ),
        (2, 6, 6),
    ),
    "residual": (Residual, (3, 4, 4)),
    "norms": (norms, (2, 4, 4)),
    "attention": (Attention, (3, 3)),
    "sequence first": (SequenceFirst, (4, 3)),
    "folded": (Folded, (3, 2, 4)),
    "tied": (Tied, (4,)),
    "tied layers": (TiedLayers, (4,)),
    "twice": (Twice, (2, 4, 4)),
    "raw": (Raw, (4,)),
    "weight_norm": (
        lambda: nn.Sequential(parametrizations.weight_norm(nn.Linear(3, 4)), nn.ReLU(), nn.Linear(4, 2)),
        (3,),
    ),
    "spectral_norm": (
        lambda: nn.Sequential(parametrizations.spectral_norm(nn.Conv1d(2, 3, 2)), nn.Flatten()).eval(),
        (2, 3),
    ),
    "pruned": (pruned, (3,)),
    "frozen readout": (frozen_readout, (4,)),
    "frozen bias": (frozen_bias, (4,)),
    "slope": (Slope, (3,)),
    "linear slope": (LinearSlope, (3,)),
    "functional slope": (FunctionalSlope, (3,)),
    "hypernetwork": (Hyper, (3,)),
    "custom function": (Custom, (3,)),
    "branch": (Branch, (3,)),
    "recurrent": (Recurrent, (3, 3)),
    "hooked": (Hooked, (3,)),
    "scalar": (Scalar, (3,)),
    "checkpointed": (Checkpointed, (3,)),
    "image to image": (
        lambda: nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.Tanh(), nn.ConvTranspose2d(2, 1, 2)),
        (1, 3, 2),
    ),
    **CALLS,
}


def inputs(n, shape):
    """Samples of this shape; token numbers for a module that takes tokens."""
    return torch.randint(3, (n, *shape)) if isinstance(shape, Tokens) else torch.randn(n, *shape)


def make(name):
    """A module of the zoo and the shape of one input; lazy layers are made."""
    build, shape = ZOO[name]
    net = build()
    net(inputs(1, shape))
    return net, shape


class Wrong(torch.autograd.Function):
    """A cube whose forward-mode rule is that of twice the square."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x):
        return x**3

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx, g):
        return 3 * ctx.saved_tensors[0] ** 2 * g

    @staticmethod
    def jvp(ctx, dx):
        return 4 * ctx.saved_tensors[0] * dx


class Cube(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, x):
        return self.second(Wrong.apply(self.first(x)))
