"""A GPT-2-shaped network: Radford et al. 2019, 'Language models are unsupervised multitask learners'."""

from torch import nn
from torch.nn import functional as F


class CausalSelfAttention(nn.Module):
    def __init__(self, n_embd, n_head):
        super().__init__()
        self.c_attn = nn.Linear(n_embd, 3 * n_embd)
        self.c_proj = nn.Linear(n_embd, n_embd)
        self.n_head, self.n_embd = n_head, n_embd

    def forward(self, x):
        B, T, C = x.size()
        q, k, v = self.c_attn(x).split(self.n_embd, dim=2)
        q = q.view(B, T, self.n_head, C // self.n_head).transpose(1, 2)
        k = k.view(B, T, self.n_head, C // self.n_head).transpose(1, 2)
        v = v.view(B, T, self.n_head, C // self.n_head).transpose(1, 2)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        y = y.transpose(1, 2).contiguous().view(B, T, C)
        return self.c_proj(y)


class WidthScaledAttention(CausalSelfAttention):
    """The same with its scores divided by the width of a head, not its root: what has a limit."""

    def forward(self, x):
        q, k, v = (h.unflatten(-1, (self.n_head, -1)).transpose(1, 2) for h in self.c_attn(x).split(self.n_embd, dim=2))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=1 / q.shape[-1])
        return self.c_proj(y.transpose(1, 2).flatten(2))


class OneHeadAttention(nn.Module):
    """The same with one head and three layers: no reshape of channels to heads comes before the attention."""

    def __init__(self, n_embd, n_head):
        super().__init__()
        self.q, self.k, self.v = nn.Linear(n_embd, n_embd), nn.Linear(n_embd, n_embd), nn.Linear(n_embd, n_embd)
        self.c_proj = nn.Linear(n_embd, n_embd)

    def forward(self, x):
        y = F.scaled_dot_product_attention(self.q(x), self.k(x), self.v(x), is_causal=True)
        return self.c_proj(y)


class Block(nn.Module):
    def __init__(self, n_embd, n_head, attention):
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(n_embd), nn.LayerNorm(n_embd)
        self.attn = attention(n_embd, n_head)
        self.mlp = nn.Sequential(nn.Linear(n_embd, 4 * n_embd), nn.GELU(approximate="tanh"),
                                 nn.Linear(4 * n_embd, n_embd), nn.Dropout(0.1))  # fmt: skip

    def forward(self, x):
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class GPT2(nn.Module):
    """Takes embedded tokens, (n, T, in_features)."""

    def __init__(self, in_features=5, n_embd=8, n_head=2, attention=CausalSelfAttention):
        super().__init__()
        self.wte = nn.Linear(in_features, n_embd, bias=False)
        self.h = nn.ModuleList([Block(n_embd, n_head, attention) for _ in range(2)])
        self.ln_f = nn.LayerNorm(n_embd)
        self.lm_head = nn.Linear(n_embd, 2, bias=False)

    def forward(self, x):
        x = self.wte(x)
        for block in self.h:
            x = block(x)
        return self.lm_head(self.ln_f(x)[:, -1])
