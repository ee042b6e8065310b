"""Modules that use their parameters by torch's functions and operators, in layers or not."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrize


class Tokens(tuple):
    """The shape of an input that holds token numbers."""


class Decoder(nn.Module):
    """A language model in small: the embedding is tied with the output projection."""

    def __init__(self, padding=None):
        super().__init__()
        self.tokens, self.places = nn.Embedding(7, 4, padding_idx=padding), nn.Embedding(3, 4)
        self.norm, self.inside, self.readout = nn.LayerNorm(4), nn.Linear(4, 4), nn.Linear(4, 7, bias=False)
        self.readout.weight = self.tokens.weight

    def forward(self, x):
        h = self.tokens(x) + self.places(torch.arange(x.shape[1]))
        return self.readout(self.norm(h + torch.tanh(self.inside(h)))).mean(1)


class Projections(nn.Module):
    """Weights used as `x @ W`, `torch.addmm` and `torch.mm`; one of them in both orientations, one as an embedding."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Parameter(torch.randn(3, 4)), nn.Parameter(torch.randn(4, 4))
        self.third, self.bias = nn.Parameter(torch.randn(4, 2)), nn.Parameter(torch.randn(2))

    def forward(self, x):
        h = torch.tanh(x @ self.first)
        h = F.linear(torch.tanh(h @ self.second), self.second)
        h = h + F.embedding((x[..., 0] > 0).long(), self.second)
        h = torch.addmm(self.bias, h.flatten(0, 1), self.third)
        return h.view(*x.shape[:2], 2).sum(1)


class Autoencoder(nn.Module):
    """A transposed convolution with the weight of the convolution."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3, stride=2, groups=2, padding=1)

    def forward(self, x):
        h = torch.tanh(self.conv(x))
        return F.conv_transpose2d(h, self.conv.weight, None, 2, 1, 1, 2).flatten(1)[:, ::7]


class LoRA(nn.Module):
    """A frozen layer and a trained update of low rank, as adapters add it."""

    def __init__(self, base, rank=2):
        super().__init__()
        self.base = base.requires_grad_(False)
        self.down, self.up = (
            nn.Linear(base.in_features, rank, bias=False),
            nn.Linear(rank, base.out_features, bias=False),
        )

    def forward(self, x):
        return self.base(x) + 0.5 * self.up(self.down(x))


class CrossAttention(nn.Module):
    """Queries come from elsewhere: the packed projection is cut into views."""

    def __init__(self):
        super().__init__()
        self.query, self.attention = nn.Parameter(torch.randn(2, 4)), nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, x):
        return self.attention(self.query.expand(x.shape[0], 2, 4), x, x, need_weights=False)[0].sum(1)


class TiedParametrization(nn.Module):
    """A symmetric weight, by torch's parametrizations, used twice."""

    class Symmetric(nn.Module):
        def forward(self, w):
            return w + w.mT

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 3)
        parametrize.register_parametrization(self.layer, "weight", self.Symmetric())

    def forward(self, x):
        return self.layer(torch.tanh(self.layer(x)))


class InPlace(nn.Module):
    """What a call was given, or gave, is overwritten afterwards."""

    def __init__(self):
        super().__init__()
        self.first, self.norm, self.second = nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2)

    def forward(self, x):
        h = self.first(x)
        h.mul_(2).tanh_()
        g = self.norm(h)
        g[:, 0] = h[:, 1]
        out = self.second(g)
        return out.add_(out[:, :1].clone())


class Views(nn.Module):
    """Slices and a transposed view of one weight beside the weight itself."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x):
        w = self.layer.weight
        return self.layer(x) + F.linear(x, w[:, :4]) + F.linear(F.linear(x[:, :2], w[:, 1:3]), w.t())


class NoGrad(nn.Module):
    """A call of the same layer whose result counts only as a number."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, x):
        with torch.no_grad():
            gate = self.layer(x).sigmoid()
        return self.layer(x * gate) + self.layer(x).detach()


class Shared(nn.Module):
    """One vector as a bias and as a norm's scale, another as the scale and the shift of one call."""

    def __init__(self):
        super().__init__()
        self.vector, self.other = nn.Parameter(torch.randn(4)), nn.Parameter(torch.randn(4))
        self.weight = nn.Parameter(torch.randn(4, 3))

    def forward(self, x):
        h = F.layer_norm(F.linear(x, self.weight, self.vector), (4,), self.vector)
        return F.rms_norm(F.layer_norm(torch.tanh(h), (4,), self.other, self.other).sin(), (4,), self.vector)


def norms():
    return nn.Sequential(
        nn.Conv1d(2, 4, 2),
        nn.InstanceNorm1d(4, affine=True),
        nn.GELU(),
        nn.GroupNorm(2, 4),
        nn.Flatten(2),
        nn.RMSNorm(4),
        nn.LayerNorm((4, 4), bias=False),
        nn.Flatten(),
    )


def folded_batch_norm():
    """Frames of a sample are the batch of the norm."""
    norm = nn.BatchNorm1d(3).eval()
    norm.running_mean.normal_(), norm.running_var.uniform_(0.5, 2)
    return nn.Sequential(nn.Flatten(0, 1), norm, nn.Linear(3, 2), nn.Tanh(), nn.Unflatten(0, (-1, 4)), nn.Flatten())


def transposed(rank, **options):
    conv = getattr(nn, f"ConvTranspose{rank}d")
    return nn.Sequential(conv(4, 2, **options), nn.Tanh(), nn.Flatten(2), nn.AdaptiveAvgPool1d(2), nn.Flatten())


def encoder_layer():
    layer = nn.TransformerEncoderLayer(4, 2, 6, dropout=0.0, batch_first=True, norm_first=True)
    return nn.Sequential(layer, nn.Flatten(), nn.Linear(12, 2))


TOKENS = Tokens((3,))
CALLS = {
    "conv transpose 1d": (lambda: transposed(1, kernel_size=3, stride=2, padding=1, output_padding=1), (4, 3)),
    "conv transpose 2d": (
        lambda: transposed(2, kernel_size=(2, 3), stride=(3, 2), padding=(0, 2), dilation=(2, 1), groups=2),
        (4, 3, 3),
    ),
    "conv transpose 2d long": (
        lambda: transposed(2, kernel_size=2, stride=2, dilation=3, output_padding=2, bias=False),
        (4, 2, 3),
    ),
    "conv transpose 3d": (lambda: transposed(3, kernel_size=2, groups=2), (4, 2, 1, 2)),
    "embedding": (lambda: nn.Sequential(nn.Embedding(5, 3), nn.Tanh(), nn.Flatten(), nn.Linear(9, 2)), TOKENS),
    "embedding padded": (
        lambda: nn.Sequential(nn.Embedding(4, 3, padding_idx=1), nn.Flatten(), nn.Linear(9, 2)),
        TOKENS,
    ),
    "embedding by frequency": (
        lambda: nn.Sequential(nn.Embedding(3, 3, scale_grad_by_freq=True), nn.Flatten(), nn.Linear(9, 2)),
        TOKENS,
    ),
    "decoder": (Decoder, TOKENS),
    "decoder padded": (lambda: Decoder(padding=-6), TOKENS),
    "projections": (Projections, (2, 3)),
    "autoencoder": (Autoencoder, (2, 5, 5)),
    "lora": (lambda: nn.Sequential(LoRA(nn.Linear(3, 5)), nn.Tanh(), LoRA(nn.Linear(5, 2))), (3,)),
    "cross attention": (CrossAttention, (3, 4)),
    "encoder layer": (encoder_layer, (3, 4)),
    "tied parametrization": (TiedParametrization, (3,)),
    "in place": (InPlace, (3,)),
    "views": (Views, (4,)),
    "no grad": (NoGrad, (3,)),
    "shared vector": (Shared, (3,)),
    "all norms": (norms, (2, 5)),
    "folded batch norm": (folded_batch_norm, (4, 3)),
}
