"""What does the spectrum of a 124-million-parameter transformer's tangent kernel cost, in time and in memory?"""

import sys
import time

import torch
from timing import _peak_above, _reset_peak, keep, measure
from torch import Tensor, nn
from torch.nn import functional as F

from gramian import EmpiricalNTK
from gramian.empirical import jacobian
from gramian.gram import spectral_density

N, LENGTH, STEPS, PROBES = 4, 32, 20, 3


class Block(nn.Module):
    """A block of GPT-2: Radford et al. 2019, 'Language models are unsupervised multitask learners'."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.ln_1, self.ln_2, self.heads = nn.LayerNorm(width), nn.LayerNorm(width), heads
        self.c_attn, self.c_proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(approximate="tanh"), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        b, t, c = x.shape
        qkv = self.c_attn(self.ln_1(x)).view(b, t, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(qkv[0], qkv[1], qkv[2], is_causal=True)
        x = x + self.c_proj(y.transpose(1, 2).reshape(b, t, c))
        return x + self.mlp(self.ln_2(x))


class GPT2(nn.Module):
    """Tokens (n, T) to the logits of the token after the last; the head is the embedding's transpose."""

    def __init__(self, vocabulary: int, length: int, width: int, heads: int, depth: int) -> None:
        super().__init__()
        self.wte, self.wpe = nn.Embedding(vocabulary, width), nn.Embedding(length, width)
        self.h = nn.ModuleList([Block(width, heads) for _ in range(depth)])
        self.ln_f, self.head = nn.LayerNorm(width), nn.Linear(width, vocabulary, bias=False)
        self.head.weight = self.wte.weight
        for name, p in self.named_parameters():
            if p.ndim == 2:
                nn.init.normal_(p, std=0.02 / (2 * depth) ** 0.5 if name.endswith("c_proj.weight") else 0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.wte(tokens) + self.wpe(torch.arange(tokens.shape[1], device=tokens.device))
        for block in self.h:
            x = block(x)
        return self.head(self.ln_f(x)[:, -1])


torch.manual_seed(0)
torch.set_num_threads(1)
small, tokens = GPT2(11, 6, 8, 2, 2).double(), torch.randint(11, (3, 6))
j = jacobian(small, tokens).flatten(0, 1)  # right first
v = torch.randn(33, dtype=torch.float64)
torch.testing.assert_close(EmpiricalNTK(small, tokens) @ v, j @ (j.T @ v), rtol=1e-8, atol=1e-8)

net, x = GPT2(50257, 1024, 768, 12, 12), torch.randint(50257, (N, LENGTH))
p = sum(t.numel() for t in net.parameters())
operator = EmpiricalNTK(net, x)
print(operator, file=sys.stderr, flush=True)
v = torch.randn(operator.shape[0])
fixed = {"rows": operator.shape[0], "parameters": p, "sequences": N, "tokens": LENGTH, "dtype": "float32"}
fixed["torch"] = torch.__version__
keep("spectrum_gpt2", work="one product", **measure(lambda: operator @ v, repeats=3), **fixed)

start, before = _reset_peak(), time.process_time()
found = spectral_density(operator, steps=STEPS, probes=PROBES)
seconds, peak = time.process_time() - before, _peak_above(start)
total = found.trace_of(lambda lam: lam)
levels = [float(q) for q in (1e-3, 1e-2, 1e-1)]
top = float(found.nodes.max())
shares = {f"share_above_{q:g}_of_the_largest": 1 - float(found.cumulative(torch.tensor(q * top))[0]) for q in levels}
answer = {"largest": top, "trace": total.value, "trace_standard_error": total.standard_error, **shares}
answer = {key: float(f"{value:.4g}") for key, value in answer.items()}
row = {"seconds": round(seconds, 1), "peak_mib": peak, "products": found.products, **answer, **fixed}
keep("spectrum_gpt2", work="spectrum", **row)
held = operator.shape[0] * p * 4
print(f"an explicit Jacobian would hold {held / 2**40:.0f} TiB; the peak was {peak:.0f} MiB", file=sys.stderr)
