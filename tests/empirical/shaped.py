"""Networks in the shapes of public ones, at any size: a vision transformer, and GPT-2 with its tied embedding."""

import torch
import torch.nn.functional as F
from torch import nn


class ViT(nn.Module):
    """Dosovitskiy et al. 2020 (arXiv:2010.11929): patches by a convolution, a class token, pre-norm encoder layers."""

    def __init__(self, image=8, patch=4, width=8, heads=2, depth=2, classes=3):
        super().__init__()
        self.patches = nn.Conv2d(3, width, patch, stride=patch)
        self.token = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.places = nn.Parameter(0.02 * torch.randn(1, 1 + (image // patch) ** 2, width))
        options = {"activation": "gelu", "batch_first": True, "norm_first": True, "dropout": 0.0}
        layers = [nn.TransformerEncoderLayer(width, heads, 4 * width, **options) for _ in range(depth)]
        self.layers = nn.Sequential(*layers)
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, classes)

    def forward(self, x):
        h = self.patches(x).flatten(2).mT
        h = torch.cat([self.token.expand(len(x), -1, -1), h], 1) + self.places
        return self.head(self.norm(self.layers(h))[:, 0])


class Conv1D(nn.Module):
    """GPT-2's own linear layer, with the weight the other way round."""

    def __init__(self, out, into):
        super().__init__()
        self.weight, self.bias = nn.Parameter(0.02 * torch.randn(into, out)), nn.Parameter(torch.zeros(out))

    def forward(self, x):
        return torch.addmm(self.bias, x.view(-1, x.shape[-1]), self.weight).view(*x.shape[:-1], -1)


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.ln_1, self.ln_2, self.heads = nn.LayerNorm(width), nn.LayerNorm(width), heads
        self.c_attn, self.c_proj = Conv1D(3 * width, width), Conv1D(width, width)
        self.c_fc, self.mlp_proj = Conv1D(4 * width, width), Conv1D(width, 4 * width)

    def forward(self, x):
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.c_attn(self.ln_1(x)).chunk(3, -1)
        )
        h = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)
        x = x + self.c_proj(h)
        return x + self.mlp_proj(F.gelu(self.c_fc(self.ln_2(x)), approximate="tanh"))


class GPT2(nn.Module):
    """Radford et al. 2019: the logits of the token after the last, from token numbers (n, T)."""

    def __init__(self, vocabulary=11, context=6, width=8, heads=2, depth=2):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(vocabulary, width), nn.Embedding(context, width)
        self.h = nn.Sequential(*[Block(width, heads) for _ in range(depth)])
        self.ln_f, self.lm_head = nn.LayerNorm(width), nn.Linear(width, vocabulary, bias=False)
        nn.init.normal_(self.wte.weight, std=0.02)
        self.lm_head.weight = self.wte.weight

    def forward(self, x):
        h = self.wte(x) + self.wpe(torch.arange(x.shape[1], device=x.device))
        return self.lm_head(self.ln_f(self.h(h))[:, -1])
