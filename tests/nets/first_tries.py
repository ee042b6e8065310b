"""What users try first: torchvision's ConvNeXt block, an LSTM tagger, timm's vision transformer, Llama's attention."""

import torch
from torch import nn
from torch.nn import functional as F


class LayerNorm2d(nn.LayerNorm):
    def forward(self, x):
        x = F.layer_norm(x.permute(0, 2, 3, 1), self.normalized_shape, self.weight, self.bias, self.eps)
        return x.permute(0, 3, 1, 2)


class CNBlock(nn.Module):
    """torchvision's, without its stochastic depth."""

    def __init__(self, dim, groups):
        super().__init__()
        self.block = nn.Sequential(
            nn.Conv2d(dim, dim, 7, padding=3, groups=groups),
            LayerNorm2d(dim, eps=1e-6),
            nn.Conv2d(dim, 4 * dim, 1),
            nn.GELU(),
            nn.Conv2d(4 * dim, dim, 1),
        )
        self.layer_scale = nn.Parameter(torch.ones(dim, 1, 1) * 1e-6)

    def forward(self, x):
        result = self.layer_scale * self.block(x)
        return x + result


class ConvNeXt(nn.Module):
    def __init__(self, groups=8):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 4, 4), LayerNorm2d(8, eps=1e-6))
        self.block = CNBlock(8, groups)
        self.head = nn.Sequential(LayerNorm2d(8), nn.AdaptiveAvgPool2d(1), nn.Flatten(1), nn.Linear(8, 10))

    def forward(self, x):
        return self.head(self.block(self.stem(x)))


class Tagger(nn.Module):
    """A tag for each word, after a recurrent layer."""

    def __init__(self, layer=nn.LSTM):
        super().__init__()
        self.word, self.rnn, self.tag = nn.Linear(5, 8), layer(8, 8, batch_first=True), nn.Linear(8, 3)

    def forward(self, x):
        h, _ = self.rnn(self.word(x))
        return self.tag(h)


class Attention(nn.Module):
    """timm's, with its `fused_attn` off."""

    def __init__(self, dim=8, num_heads=2):
        super().__init__()
        self.num_heads, self.head_dim = num_heads, dim // num_heads
        self.scale = self.head_dim**-0.5
        self.qkv, self.proj = nn.Linear(dim, dim * 3), nn.Linear(dim, dim)

    def forward(self, x):
        b, n, c = x.shape
        qkv = self.qkv(x).reshape(b, n, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        q = q * self.scale
        attn = q @ k.transpose(-2, -1)
        attn = attn.softmax(dim=-1)
        x = attn @ v
        return self.proj(x.transpose(1, 2).reshape(b, n, c))


class LayerScale(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.gamma = nn.Parameter(1e-1 * torch.ones(dim))

    def forward(self, x):
        return x * self.gamma


class Block(nn.Module):
    def __init__(self, dim=8):
        super().__init__()
        self.norm1, self.attn, self.ls1 = nn.LayerNorm(dim), Attention(dim), LayerScale(dim)
        self.norm2, self.ls2 = nn.LayerNorm(dim), LayerScale(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))

    def forward(self, x):
        x = x + self.ls1(self.attn(self.norm1(x)))
        return x + self.ls2(self.mlp(self.norm2(x)))


def repeat_kv(x, n_rep):
    bs, n_kv_heads, slen, head_dim = x.shape
    return (
        x[:, :, None, :, :]
        .expand(bs, n_kv_heads, n_rep, slen, head_dim)
        .reshape(bs, n_kv_heads * n_rep, slen, head_dim)
    )


def rotate_half(x):
    x1, x2 = x[..., : x.shape[-1] // 2], x[..., x.shape[-1] // 2 :]
    return torch.cat((-x2, x1), dim=-1)


class Llama(nn.Module):
    """One block of grouped queries with rotary positions; scores over the width of a head."""

    def __init__(self, rotary=True, groups=2, dim=16, heads=4):
        super().__init__()
        self.embed, self.norm, self.head = nn.Linear(5, dim), nn.RMSNorm(dim, eps=1e-6), nn.Linear(dim, 1)
        self.groups, self.rotary, self.width = groups, rotary, dim // heads
        self.q_proj, self.o_proj = (nn.Linear(dim, dim, bias=False) for _ in range(2))
        self.k_proj, self.v_proj = (nn.Linear(dim, self.width * groups, bias=False) for _ in range(2))
        angles = torch.outer(torch.arange(8.0), 1e4 ** -(torch.arange(0, self.width, 2) / self.width)).repeat(1, 2)
        self.register_buffer("cos", angles.cos())
        self.register_buffer("sin", angles.sin())

    def forward(self, x):
        h = self.embed(x)
        g, s = self.norm(h), x.shape[1]
        q, k, v = (
            p(g).view(len(x), s, -1, self.width).transpose(1, 2) for p in (self.q_proj, self.k_proj, self.v_proj)
        )
        if self.rotary:
            q = (q * self.cos[:s]) + (rotate_half(q) * self.sin[:s])
            k = (k * self.cos[:s]) + (rotate_half(k) * self.sin[:s])
        times = q.shape[1] // self.groups
        k, v = (k, v) if times == 1 else (repeat_kv(k, times), repeat_kv(v, times))
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=1 / self.width)
        return self.head((h + self.o_proj(out.transpose(1, 2).reshape(len(x), s, -1))).mean(1))
