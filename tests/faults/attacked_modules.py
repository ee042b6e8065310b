"""Modules as people write them, of kinds that `lent_modules.py` and the zoo do not have; each with a batch of n."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations, parametrize


class Of(nn.Module):
    """An operation with a vector of its own between two linear maps."""

    def __init__(self, run):
        super().__init__()
        self.a, self.w, self.b = nn.Linear(4, 6), nn.Parameter(torch.randn(6)), nn.LazyLinear(2)
        self.run = run

    def forward(self, x):
        return self.b(torch.tanh(self.run(self.a(x), self.w).reshape(len(x), -1)))


class LanguageModel(nn.Module):
    """Tied embedding and readout, a causal mask."""

    def __init__(self):
        super().__init__()
        self.e, self.t = nn.Embedding(7, 4), nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True)
        self.o = nn.Linear(4, 7, bias=False)
        self.o.weight = self.e.weight

    def forward(self, tokens):
        mask = nn.Transformer.generate_square_subsequent_mask(tokens.shape[1])
        return self.o(self.t(self.e(tokens), src_mask=mask, is_causal=True))


class Padded(nn.Module):
    def __init__(self):
        super().__init__()
        self.m, self.o = nn.MultiheadAttention(4, 2, batch_first=True), nn.Linear(4, 2)

    def forward(self, x, mask):
        h = self.m(x, x, x, key_padding_mask=mask)[0]
        return self.o((h * ~mask[:, :, None]).sum(1) / (~mask).sum(1, keepdim=True))


class Crossed(nn.Module):
    """Encoder and decoder, and attention with keys and values of other widths."""

    def __init__(self):
        super().__init__()
        self.t = nn.Transformer(4, 2, 1, 1, 8, dropout=0.0, batch_first=True)
        self.m = nn.MultiheadAttention(4, 2, batch_first=True, kdim=3, vdim=5, add_bias_kv=True, add_zero_attn=True)
        self.k, self.v = nn.Linear(4, 3), nn.Linear(4, 5)

    def forward(self, x):
        return (self.t(x, x.flip(1)) + self.m(x, self.k(x), self.v(x))[0]).mean(1)


class Recurrent(nn.Module):
    def __init__(self, kind, first, which):
        super().__init__()
        self.r = kind(3, 4, batch_first=first, bidirectional=which == "states", num_layers=1 + (which == "states"))
        self.o, self.first, self.which = nn.LazyLinear(2), first, which

    def forward(self, x):
        if self.which == "packed":
            lengths = [x.shape[1]] * len(x)
            packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True)
            return self.o(nn.utils.rnn.pad_packed_sequence(self.r(packed)[0], batch_first=True)[0][:, -1])
        out, h = self.r(x if self.first else x.transpose(0, 1))
        if self.which == "states":
            return self.o((h[0] if isinstance(h, tuple) else h).transpose(0, 1).flatten(1))
        return self.o(out[:, -1] if self.first else out[-1])


class LowRank(nn.Module):
    """LoRA, as a wrapper or as a parametrization of the weight."""

    def __init__(self, into, out):
        super().__init__()
        self.a, self.b = nn.Parameter(torch.randn(2, into)), nn.Parameter(torch.randn(out, 2))

    def forward(self, w):
        return w + self.b @ self.a


def low_rank():
    net = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2))
    parametrize.register_parametrization(net[0], "weight", LowRank(4, 5))
    net[0].parametrizations.weight.original.requires_grad_(False)
    return net


def normed_weights():
    net = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2))
    parametrizations.weight_norm(net[0])
    parametrizations.orthogonal(net[2])
    parametrizations.spectral_norm(net[4])
    return net.eval()


class Quantized(nn.Linear):
    """Weights of three values, straight through."""

    def forward(self, x):
        size = self.weight.abs().mean()
        rounded = (self.weight / size).round().clamp(-1, 1) * size
        return F.linear(x, self.weight + (rounded - self.weight).detach(), self.bias)


class Experts(nn.Module):
    """Only the two best experts see a sample."""

    def __init__(self):
        super().__init__()
        self.g, self.experts = nn.Linear(4, 3), nn.ModuleList([nn.Linear(4, 2) for _ in range(3)])

    def forward(self, x):
        p = self.g(x).softmax(1)
        best, out = p.topk(2, 1)[1], x.new_zeros(len(x), 2)
        for k, expert in enumerate(self.experts):
            here = (best == k).any(1)
            if here.any():
                out[here] = out[here] + expert(x[here]) * p[here][:, k : k + 1]
        return out


class Equilibrium(nn.Module):
    """A fixed point whose gradient is solved for in a hook."""

    def __init__(self):
        super().__init__()
        self.w, self.u, self.o = nn.Linear(5, 5), nn.Linear(4, 5), nn.Linear(5, 2)

    def step(self, z, x):
        return torch.tanh(0.3 * self.w(z) + self.u(x))

    def forward(self, x):
        with torch.no_grad():
            z = x.new_zeros(len(x), 5)
            for _ in range(60):
                z = self.step(z, x)
        z = self.step(z, x)
        if torch.is_grad_enabled() and z.requires_grad:
            at = z.detach().requires_grad_()
            f = self.step(at, x)

            def back(g):
                v = g
                for _ in range(60):
                    v = torch.autograd.grad(f, at, v, retain_graph=True)[0] + g
                return v

            z.register_hook(back)
        return self.o(z)


class Residual(nn.Module):
    """Of a differential equation: derivatives by the input inside the forward."""

    def __init__(self):
        super().__init__()
        self.f = nn.Sequential(nn.Linear(2, 5), nn.Tanh(), nn.Linear(5, 1))

    def forward(self, x):
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            u = self.f(x)
            (g,) = torch.autograd.grad(u.sum(), x, create_graph=True)
            (gg,) = torch.autograd.grad(g[:, 0].sum(), x, create_graph=True)
        return torch.cat([u, g[:, 1:] - gg[:, :1]], 1)


class Scan(nn.Module):
    """A selective state space model, and a convolution by FFT."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Parameter(torch.rand(4)), nn.Linear(3, 4), nn.Linear(4, 2)
        self.k = nn.Parameter(torch.randn(3, 5))

    def forward(self, x):
        x = torch.fft.irfft(torch.fft.rfft(x.mT, 10) * torch.fft.rfft(self.k, 10), 10)[..., : x.shape[1]].mT
        h, out = x.new_zeros(len(x), 4), 0
        for t in range(x.shape[1]):
            h = torch.exp(-self.a.exp() * F.softplus(self.b(x[:, t]))) * h + self.b(x[:, t])
            out = out + self.c(h)
        return out


class Message(nn.Module):
    """Messages along edges: gathered, summed and maximized at the nodes."""

    def __init__(self):
        super().__init__()
        self.a, self.o = nn.Linear(3, 5), nn.Linear(5, 2)
        self.register_buffer("src", torch.tensor([0, 1, 2, 2]))
        self.register_buffer("dst", torch.tensor([1, 2, 0, 1]))

    def forward(self, x):
        h = self.a(x)
        m, place = h[:, self.src], self.dst[None, :, None].expand(len(x), -1, 5)
        most = torch.zeros_like(h).scatter_reduce(1, place, m, "amax", include_self=False)
        return self.o((torch.zeros_like(h).index_add(1, self.dst, m) + most).tanh().mean(1))


class Warped(nn.Module):
    """A spatial transformer."""

    def __init__(self):
        super().__init__()
        self.f, self.c, self.o = nn.Linear(48, 6), nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4, 2)

    def forward(self, x):
        theta = self.f(x.flatten(1)).reshape(-1, 2, 3) * 0.1 + torch.eye(2, 3).to(x)
        grid = F.affine_grid(theta, x.shape, align_corners=False)
        return self.o(self.c(F.grid_sample(x, grid, align_corners=False)).tanh().mean((2, 3)))


class Alignment(nn.Module):
    """Outputs that are losses: CTC of a sequence."""

    def __init__(self):
        super().__init__()
        self.a = nn.Linear(3, 5)

    def forward(self, x):
        given, n = self.a(x).log_softmax(-1).transpose(0, 1), len(x)
        lengths = torch.full((n,), len(given)), torch.full((n,), 2)
        return F.ctc_loss(given, torch.tensor([[1, 2]] * n), *lengths, reduction="none")


class Nested(nn.Module):
    """One layer in a list, in a dict of lists and as the readout."""

    def __init__(self):
        super().__init__()
        one = nn.Linear(4, 4)
        self.inner, self.o = nn.Sequential(one, nn.Tanh()), nn.Linear(4, 4)
        self.outer = nn.ModuleDict({"a": nn.Sequential(self.inner, self.inner), "b": self.inner})
        self.o.weight = one.weight

    def forward(self, x):
        return self.o(self.outer["b"](self.outer["a"](x))) + self.inner[0].weight.sum() * x


def _mask(n):
    return torch.arange(5)[None] >= 5 - torch.arange(n)[:, None] % 3


def vectors(n):
    return torch.randn(n, 4)


def sequences(n):
    return torch.randn(n, 5, 3)


def images(n):
    return torch.randn(n, 3, 4, 4)


ATTACKED = {
    "language model": (LanguageModel, lambda n: torch.randint(0, 7, (n, 3))),
    "padded attention": (Padded, lambda n: (torch.randn(n, 5, 4), _mask(n))),
    "encoder and decoder": (Crossed, lambda n: torch.randn(n, 5, 4)),
    "GRU": (lambda: Recurrent(nn.GRU, True, "out"), sequences),
    "LSTM turned": (lambda: Recurrent(nn.LSTM, False, "out"), sequences),
    "LSTM states": (lambda: Recurrent(nn.LSTM, True, "states"), sequences),
    "RNN packed": (lambda: Recurrent(nn.RNN, True, "packed"), sequences),
    "low rank": (low_rank, vectors),
    "weights by norms": (normed_weights, vectors),
    "quantized": (lambda: nn.Sequential(Quantized(4, 5), nn.ReLU(), Quantized(5, 2)), vectors),
    "experts": (Experts, vectors),
    "equilibrium": (Equilibrium, vectors),
    "residual of an equation": (Residual, lambda n: torch.randn(n, 2)),
    "scan": (Scan, sequences),
    "messages": (Message, lambda n: torch.randn(n, 3, 3)),
    "warped": (Warped, images),
    "alignment": (Alignment, sequences),
    "nested": (Nested, vectors),
    "renormed rows": (
        lambda: nn.Sequential(nn.Embedding(7, 4, max_norm=1.0), nn.Flatten(), nn.Linear(12, 2)),
        lambda n: torch.randint(0, 7, (n, 3)),
    ),
    "scalar": (lambda: nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 1), nn.Flatten(0)), vectors),
    "two axes": (lambda: nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)), lambda n: torch.randn(n, 3, 4)),
    "instance norm": (
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.InstanceNorm2d(4, affine=True), nn.Flatten(),
                              nn.Tanh(), nn.Linear(64, 2)),
        images,
    ),
}  # fmt: skip

OPERATIONS = {
    "glu": lambda h, w: F.glu(h * w),
    "norm at 0": lambda h, w: (h * 0 * w).norm(dim=1, keepdim=True) + h,
    "masked softmax": lambda h, w: (h * w).masked_fill(h > 0.5, -torch.inf).softmax(1).nan_to_num(),
    "guarded log": lambda h, w: torch.where(h > 0, h.clamp(min=1e-3).log() * w, h),
    "ties": lambda h, w: torch.maximum(F.relu(h * w), F.relu(-h)) + F.relu(h * w - 3).amax(1, keepdim=True),
    "assigned": lambda h, w: _assigned(h, w),
    "accumulated": lambda h, w: torch.zeros_like(h).index_put(
        (torch.arange(len(h))[:, None], torch.tensor([0, 0, 1, 1, 2, 2])[None]), h * w, accumulate=True
    ),
    "folded": lambda h, w: F.fold(F.unfold((h * w).reshape(-1, 1, 2, 3), 2), (2, 3), 2).flatten(1),
    "unpooled": lambda h, w: F.max_unpool2d(
        *F.max_pool2d((h * w).reshape(-1, 1, 2, 3), (1, 3), return_indices=True), (1, 3)
    ).flatten(1),
    "bicubic": lambda h, w: F.interpolate((h * w).reshape(-1, 1, 2, 3), size=(3, 5), mode="bicubic").flatten(1),
    "complex": lambda h, w: torch.view_as_real(torch.exp(1j * h * w)).flatten(1),
    "correlation": lambda h, w: torch.fft.ifft(torch.fft.fft(h) * torch.fft.fft(w)).real,
    "eigenvalues": lambda h, w: torch.linalg.eigvalsh(torch.diag_embed(h * w) + h[:, :, None] * h[:, None]),
    "triangular": lambda h, w: torch.linalg.cholesky(
        torch.eye(2) + (h * w).reshape(-1, 2, 3) @ (h * w).reshape(-1, 2, 3).mT
    ).flatten(1),
    "grouped queries": lambda h, w: F.scaled_dot_product_attention(
        (h * w).reshape(-1, 2, 3, 1), h[:, None, :3, None], h[:, None, 3:, None], enable_gqa=True
    ).flatten(1),
    "gradient inside": lambda h, w: torch.func.vmap(torch.func.grad(lambda r: (r * w).sin().sum()))(h),
    "forward mode inside": lambda h, w: torch.func.jvp(lambda z: (z * w).sin(), (h,), (torch.ones_like(h),))[1],
    "straight through": lambda h, w: ((h * w).sigmoid() > 0.5).to(h) + (h * w).sigmoid() - (h * w).sigmoid().detach(),
    "density": lambda h, w: torch.distributions.Beta(h.exp(), w.exp()).log_prob(torch.full_like(h, 0.3)),
    "bag": lambda h, w: F.embedding_bag(
        torch.tensor([[0, 1, 2]]).expand(len(h), 3), w.reshape(3, 2), per_sample_weights=h[:, :3], mode="sum"
    ),
}


def _assigned(h, w):
    z = torch.zeros_like(h)
    z[:, :3] = h[:, 3:] * w[:3]
    z[:, 1] += w[0]
    z[h > 0] = z[h > 0] * 2
    return z


ATTACKED |= {f"op {name}": (lambda run=run: Of(run), vectors) for name, run in OPERATIONS.items()}
