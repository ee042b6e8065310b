"""One small network for each layer that has a limit: entered here once, held to every contract."""

import functools
import warnings

import torch
from torch import nn
from torch.nn import functional as F

from gramian import architecture

W = 12  # width


class Net(nn.Module):
    """A forward function and its layers."""

    def __init__(self, forward, **layers):
        super().__init__()
        self._forward = forward
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, x):
        return self._forward(self, x)


def linear(into=W, out=W):
    return nn.Linear(into, out)


def conv(into=W, window=3, **settings):
    return nn.Conv2d(into, W, window, **settings)


def weight(*shape):
    return nn.Parameter(torch.empty(shape))


class Recurrent(nn.Module):
    """An Elman network, unrolled; the sum of its readouts at all times or the last one."""

    def __init__(self, activation, *, every):
        super().__init__()
        self.read_in, self.step, self.readout = linear(3), linear(), linear(W, 1)
        self.activation, self.every = activation, every

    def forward(self, x):
        h = self.activation(self.read_in(x[:, 0]))
        total = self.readout(h)
        for t in range(1, x.shape[1]):
            h = self.activation(self.step(h) + self.read_in(x[:, t]))
            total = total + self.readout(h)
        return total if self.every else self.readout(h)


def dense(n, x):
    h = torch.relu(n.a(x))
    return n.r(torch.cat([h, torch.relu(n.b(h))], 1))


def tied_depth(n, x):
    once = torch.relu(n.b(torch.relu(n.a(x))))
    return n.r(torch.relu(n.b(once)) + once)


def tied_images(n, x):
    h = torch.relu(n.a(x))
    return n.r((torch.relu(n.b(h)) + torch.relu(n.b(torch.relu(n.b(h))))).mean((2, 3)))


def skip_over_activation(n, x):
    h = n.a(x)
    return n.r(h + torch.relu(h))


def dropped_skip(n, x):
    h = torch.relu(n.a(x))
    return n.r(n.d(h + torch.relu(n.b(n.d(h)))) - 0.5 * torch.relu(n.b(h)))


def both_directions(n, x):
    out, h = n.a(x)
    return n.r(out.mean(1) + torch.cat([h[-2], h[-1]], 1))


def beside(n, x):
    h = torch.relu(n.a(x))
    return n.r(torch.relu(n.c(torch.cat([n.b(h), n.b(n.a(x)[:, :2]), torch.relu(h)], 1))).mean(1))


def images_beside(n, x):
    h = torch.relu(n.a(x))
    return n.r(torch.relu(n.b(torch.cat([h, h.flip(3), torch.relu(n.c(x))], 2))).flatten(1))


def erf_and_its_argument(n, x):
    h = n.a(x)
    return n.r(torch.erf(n.b(torch.erf(h))) - 0.5 * h + torch.erf(h))


def kept(x):
    """A mask made of the input: positions whose first number is not too small."""
    return x[..., :1] > -0.7


def masked_mean(n, x):
    mask = kept(x)
    h = torch.erf(n.b(torch.erf(n.a(x)).masked_fill(~mask, 0.0)))
    return n.r((h * mask).sum(1) / mask.sum(1).clamp(min=1))


def masked_recurrent(n, x):
    h = torch.erf(n.a(x[:, 0]))
    for t in range(1, x.shape[1]):
        h = torch.where(kept(x[:, t]), torch.erf(n.b(h) + n.a(x[:, t])), h)
    return n.r(h)


def looked_up(n, x):
    tokens = (x[..., 0] > 0).long() + (x[..., 1] > 0.5).long()
    h = n.e(tokens) + n.p(torch.arange(x.shape[1])) + n.a(x)
    return n.r(torch.relu(n.b(torch.relu(h))).mean(1))


def heads(h, number=2):
    return h.unflatten(-1, (number, -1)).transpose(1, 2)


def merged(h):
    return h.transpose(1, 2).flatten(2)


def attention(n, x):
    """Scores over the width of a head; with `n.tied` one layer makes keys and queries."""
    h = torch.relu(n.a(x))
    q, k, v = heads(n.q(h)), heads(n.q(h) if n.tied else n.k(h)), heads(n.v(h))
    h = h + merged(F.scaled_dot_product_attention(q, k, v, is_causal=n.causal, scale=1 / q.shape[-1]))
    return n.r(torch.relu(n.o(h)).mean(1))


def attender(*, tied=False, causal=False):
    layers = {"a": linear(3), "q": linear(), "k": linear(), "v": linear(), "o": linear(), "r": linear(W, 1)}
    return Net(attention, tied=tied, causal=causal, **layers)


def grouped(n, x):
    """Four heads of queries on two of keys and values, as Llama repeats them; keys hidden behind each query."""
    h = torch.relu(n.a(x))
    q, k, v = heads(n.q(h), 4), heads(n.k(h)), heads(n.v(h))
    k = k[:, :, None, :, :].expand(len(x), 2, 2, k.shape[2], k.shape[3]).reshape(len(x), 4, k.shape[2], k.shape[3])
    out = F.scaled_dot_product_attention(q, k, v.repeat_interleave(2, dim=1), is_causal=True, scale=1 / q.shape[-1])
    return n.r(torch.relu(n.o(merged(out))).mean(1))


def packed(n, x):
    """GPT-2's one layer for q, k and v; a head of its own slope in the mask; keys hidden where the input says so."""
    q, k, v = (heads(part, 3) for part in n.c(torch.relu(n.a(x))).split(W, -1))
    scores = q @ k.mT / q.shape[-1] + SLOPES.to(x)
    weights = scores.masked_fill(x[:, None, None, :, 0] < -1, -torch.inf).softmax(-1)
    return n.r(torch.relu(n.o(merged(weights @ v))).flatten(1))


def relu_scores(n, x):
    """Scores of a width and a number of positions without softmax, in einsums."""
    h = torch.relu(n.a(x))
    q, v = n.q(h).unflatten(-1, (2, -1)), n.v(h).unflatten(-1, (2, -1))
    weights = torch.relu(torch.einsum("nshd,nthd->nhst", q, q) / (4 * q.shape[-1]))
    return n.r(torch.erf(n.o(torch.einsum("nhst,nthd->nshd", weights, v).flatten(2)))[:, -1])


def many_heads(n, x):
    q, k, v = (heads(part, 4) for part in n.c(torch.relu(n.a(x))).chunk(3, -1))
    return n.r(torch.relu(n.o(merged(q @ k.mT / q.shape[-1] ** 0.5 @ v))).mean(1))


def sparse(n, x):
    """torch multiplies a sparse matrix with (nodes, columns) alone."""
    h = n.a(x)
    h = torch.sparse.mm(n.csr.to(x.dtype), h.transpose(0, 1).reshape(4, -1)).view(4, len(x), -1).transpose(0, 1)
    h = n.b(torch.relu(h)).permute(1, 2, 0).flatten(1)
    return n.r(torch.relu((n.coo.to(x.dtype) @ h).unflatten(1, (-1, len(x))).permute(2, 0, 1)).mean(1))


def sparse_graph():
    net = Net(sparse, a=linear(3), b=linear(), r=linear(W, 1))
    net.register_buffer("coo", A.to_sparse())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls CSR a beta feature
        net.register_buffer("csr", A.to_sparse_csr())
    return net


def encoded(n, x):
    """Positions of their own covariance, learned and by a layer on fixed numbers, and fixed features of the input."""
    h = n.a(torch.cat([torch.sin(x @ FEATURES.to(x)), torch.cos(x @ FEATURES.to(x))], -1))
    h = h + A.to(x) @ n.p + n.e(FEATURES.to(x)[:, :3].T[None, [0, 1, 2, 1]]) - 0.5 * n.q(torch.arange(4))
    return n.r(torch.relu(n.b(torch.relu(h))).flatten(1))


class Positions(nn.Module):
    """A vision transformer's block: a class token, learned positions, tied keys and queries, and a gate."""

    def __init__(self):
        super().__init__()
        self.patch = nn.Conv2d(2, W, 3, 2)
        self.token, self.positions = nn.Parameter(torch.zeros(1, 1, W)), nn.Parameter(torch.zeros(1, 5, W))
        self.norm, self.q, self.v, self.o, self.gate = nn.LayerNorm(W), linear(), linear(), linear(), linear(W, 2 * W)
        self.readout = linear(W, 1)

    def forward(self, x):
        h = self.patch(x).flatten(2).transpose(1, 2)
        h = torch.cat([self.token.expand(len(x), -1, -1), h], 1) + self.positions
        g = self.norm(h)
        q, v = heads(self.q(g)), heads(self.v(g))
        h = h + self.o(merged(F.scaled_dot_product_attention(q, q, v, scale=0.5 / q.shape[-1])))
        a, b = self.gate(h).chunk(2, -1)
        return self.readout((a * torch.sigmoid(b))[:, 0])


SLOPES = torch.tensor([0.0, 0.5, -1.0])[:, None, None] * (torch.arange(4.0) - torch.arange(4.0)[:, None])
A = torch.tensor([[0.5, 0.5, 0.0, 0.0], [0.3, 0.4, 0.3, 0.0], [0.0, 0.2, 0.5, 0.3], [0.0, 0.0, 0.5, 0.5]])
FEATURES = torch.tensor([[0.4, -0.9, 1.3, 0.2], [1.1, 0.3, -0.5, 0.8], [-0.2, 0.7, 0.6, -1.2]])
SEQUENCE, IMAGE, ROW = (4, 3), (2, 5, 5), (3,)
LAYERS = {
    "LayerNorm on positions": (
        lambda: Net(lambda n, x: n.r(n.n(torch.relu(n.b(n.m(torch.relu(n.a(x)))))).mean(1)),
                    a=linear(3), m=nn.LayerNorm(W), b=linear(), n=nn.LayerNorm(W), r=linear(W, 1)), SEQUENCE),
    "LayerNorm under tanh": (
        lambda: Net(lambda n, x: n.r(torch.tanh(n.n(n.b(torch.tanh(n.n(n.a(x))))))),
                    a=linear(3), b=linear(), n=nn.LayerNorm(W), r=linear(W, 1)), ROW),
    "RMSNorm": (
        lambda: Net(lambda n, x: n.r(torch.relu(n.b(n.n(torch.relu(n.a(x)))))[:, -1]),
                    a=linear(3), n=nn.RMSNorm(W, eps=1e-6), b=linear(), r=linear(W, 1)), SEQUENCE),
    "GroupNorm": (
        lambda: Net(lambda n, x: n.r(torch.relu(n.b(n.n(torch.relu(n.m(n.a(x)))))).flatten(1)),
                    a=conv(2), m=nn.GroupNorm(1, W), n=nn.GroupNorm(3, W), b=conv(), r=linear(W, 1)), IMAGE),
    "BatchNorm under erf": (
        lambda: Net(lambda n, x: n.r(torch.erf(n.n(n.a(x))).mean((2, 3))),
                    a=conv(2), n=nn.BatchNorm2d(W), r=linear(W, 1)).eval(), IMAGE),
    "graph": (
        lambda: Net(lambda n, x: n.r(torch.relu(n.b(A.to(x) @ torch.relu(n.a(A.to(x) @ x)))).mean(1)),
                    a=linear(3), b=linear(), r=linear(W, 1)), SEQUENCE),
    "sparse graph": (sparse_graph, SEQUENCE),
    "graph by einsum": (
        lambda: Net(lambda n, x: n.r(torch.relu(n.b(torch.einsum("nvc,uv->ncu", torch.relu(n.a(x)), A.to(x))
                                                    .transpose(1, 2))).mean(1)),
                    a=linear(3), b=linear(), r=linear(W, 1)), SEQUENCE),
    "positions that are correlated": (
        lambda: Net(encoded, a=linear(8), b=linear(), p=weight(4, W), e=linear(3), q=nn.Embedding(4, W),
                    r=linear(4 * W, 1)), SEQUENCE),
    "dense": (lambda: Net(dense, a=nn.Linear(3, 2 * W), b=linear(2 * W), r=linear(3 * W, 1)), ROW),
    "gate": (
        lambda: Net(lambda n, x: n.r(torch.relu(n.a(x)) * torch.relu(n.b(x)) + torch.relu(n.c(x))),
                    a=linear(3), b=linear(3), c=linear(3), r=linear(W, 1)), ROW),
    "gated linear unit": (
        lambda: Net(lambda n, x: n.r(F.glu(n.b(torch.relu(n.a(x))))), a=linear(3), b=linear(out=2 * W),
                    r=linear(out=1)),
        ROW,
    ),
    "one number": (
        lambda: Net(lambda n, x: n.r(torch.relu(n.a(x))).squeeze(-1), a=linear(3), r=linear(out=1)), ROW
    ),
    "transposed convolution": (
        lambda: Net(lambda n, x: n.r(torch.relu(n.b(torch.relu(n.a(x)))).flatten(1)), a=conv(2, stride=2),
                    b=nn.ConvTranspose2d(W, W, 3, stride=2, padding=1, output_padding=1), r=linear(16 * W, 1)), IMAGE),
    "groups": (
        lambda: Net(lambda n, x: n.r(torch.relu(n.c(torch.relu(n.b(torch.relu(n.a(x)))))).flatten(1)), a=conv(2),
                    b=conv(padding=1, groups=3), c=nn.ConvTranspose2d(W, W, 2, groups=2), r=linear(16 * W, 1)), IMAGE),
    "locally connected": (
        lambda: Net(lambda n, x: n.r(torch.relu(torch.einsum("bkl,okl->bol", F.unfold(n.a(x).relu(), (1, 2)), n.w)
                                                + n.b).mean(2)),
                    a=conv(2, window=4), w=weight(W, 2 * W, 2), b=weight(W, 2), r=linear(W, 1)), IMAGE),
    "locally connected on the input": (
        lambda: Net(lambda n, x: n.r(torch.relu(torch.einsum("olk,bkl->blo", n.w, F.unfold(x, 3, stride=2, padding=1))
                                                + n.b).flatten(1)),
                    w=weight(W, 9, 18), b=weight(W), r=linear(9 * W, 1)), IMAGE),
    "patches and a linear": (
        lambda: Net(lambda n, x: n.r(torch.relu(n.b(F.unfold(torch.erf(n.w @ F.unfold(n.a(x).relu(), (1, 2)))
                                                             .unflatten(2, (2, 1)), (2, 1)).transpose(1, 2))).mean(1)),
                    a=conv(2, window=4), w=weight(W, 2 * W), b=linear(2 * W), r=linear(W, 1)), IMAGE),
    "weights of each position": (
        lambda: Net(lambda n, x: n.r(torch.relu(torch.einsum("blc,loc->blo", torch.erf(n.a(x)), n.w)).mean(1)),
                    a=linear(3), w=weight(4, W, W), r=linear(W, 1)), SEQUENCE),
    "bilinear": (
        lambda: Net(lambda n, x: n.r(torch.relu(n.b(F.interpolate(torch.relu(n.a(x)), scale_factor=2, mode="bilinear")))
                                     .flatten(1)), a=conv(2, stride=2), b=conv(), r=linear(4 * W, 1)), IMAGE),
    "nearest": (
        lambda: Net(lambda n, x: n.r(torch.relu(n.b(F.interpolate(torch.relu(n.a(x)), size=(3, 4)))).flatten(1)),
                    a=conv(2, stride=2), b=conv(), r=linear(2 * W, 1)), IMAGE),
    "adaptive pool": (
        lambda: Net(lambda n, x: n.r(F.adaptive_avg_pool2d(torch.relu(n.a(x)), (2, 1)).flatten(1)),
                    a=conv(2), r=linear(2 * W, 1)), IMAGE),
    "mean over one axis, sum over another": (
        lambda: Net(lambda n, x: n.r(torch.relu(n.b(torch.relu(n.a(x)).mean(3))).sum(2)),
                    a=conv(2), b=nn.Conv1d(W, W, 3), r=linear(W, 1)), IMAGE),
    "patches as a sequence": (
        lambda: Net(lambda n, x: n.r(torch.relu(n.b(torch.relu(n.a(x)).flatten(2).transpose(1, 2))).mean(1)),
                    a=conv(2, stride=2), b=linear(), r=linear(W, 1)), IMAGE),
    "channels last": (
        lambda: Net(lambda n, x: n.r(torch.relu(n.b(torch.relu(n.a(x)).permute(0, 3, 2, 1))).flatten(1)),
                    a=linear(5), b=conv(), r=linear(W, 1)),
        (3, 3, 5)),
    "slices": (
        lambda: Net(lambda n, x: n.r(torch.relu(n.b(torch.relu(n.a(x))))[:, :, 1:, ::2].flip(2).roll(1, 3).flatten(1)),
                    a=conv(2, padding=1), b=conv(), r=linear(4 * W, 1)), IMAGE),
    "recurrent, last": (lambda: Recurrent(torch.tanh, every=False), SEQUENCE),
    "recurrent, every": (lambda: Recurrent(torch.relu, every=True), SEQUENCE),
    "nn.RNN, last": (
        lambda: Net(lambda n, x: n.r(n.a(x)[0][:, -1]), a=nn.RNN(3, W, batch_first=True), r=linear(W, 1)), SEQUENCE),
    "nn.RNN of two layers, mean": (
        lambda: Net(lambda n, x: n.r(n.a(x)[0].mean(1)), r=linear(W, 1),
                    a=nn.RNN(3, W, 2, nonlinearity="relu", batch_first=True)), (3, 3)),
    "nn.RNN in both directions": (
        lambda: Net(both_directions, r=linear(2 * W, 1),
                    a=nn.RNN(3, W, nonlinearity="relu", batch_first=True, bidirectional=True)), (2, 3)),
    "shared branches": (
        lambda: Net(lambda n, x: n.r(torch.relu(n.a(x[:, :2])) - 0.5 * torch.relu(n.a(x[:, 2:]))),
                    a=linear(2), r=linear(W, 1)), (4,)),
    "side by side": (lambda: Net(beside, a=linear(3), b=linear(), c=linear(), r=linear(W, 1)), SEQUENCE),
    "images side by side": (
        lambda: Net(images_beside, a=conv(2), b=conv(), c=conv(2), r=linear(7 * W, 1)), IMAGE),
    "tied depth": (lambda: Net(tied_depth, a=linear(3), b=linear(), r=linear(W, 1)), ROW),
    "tied images": (lambda: Net(tied_images, a=conv(2), b=conv(padding=1), r=linear(W, 1)), IMAGE),
    "skip over an activation": (lambda: Net(skip_over_activation, a=linear(3), r=linear(W, 1)), ROW),
    "masked mean": (lambda: Net(masked_mean, a=linear(3), b=linear(), r=linear(W, 1)), SEQUENCE),
    "masked recurrence": (lambda: Net(masked_recurrent, a=linear(3), b=linear(), r=linear(W, 1)), SEQUENCE),
    "mask of an image": (
        lambda: Net(lambda n, x: n.r(torch.relu(n.b(torch.relu(n.a(x)) * (x[:, :1, 1:-1, 1:-1] > 0))).flatten(1)),
                    a=conv(2), b=conv(padding=1), r=linear(9 * W, 1)), IMAGE),
    "constants of each position": (
        lambda: Net(lambda n, x: n.r(torch.relu(n.b(torch.relu(n.a(x)) * A[:, :1].to(x))).mean(1)),
                    a=linear(3), b=linear(), r=linear(W, 1)), SEQUENCE),
    "embeddings": (
        lambda: Net(looked_up, e=nn.Embedding(3, W, padding_idx=1), p=nn.Embedding(6, W), a=linear(3), b=linear(),
                    r=linear(W, 1)), SEQUENCE),
    "one layer called twice on the input": (
        lambda: Net(lambda n, x: n.r(torch.relu(n.a(x)) + n.a(x)), a=linear(3), r=linear(W, 1)), ROW),
    "attention": (attender, SEQUENCE),
    "attention, tied": (lambda: attender(tied=True), SEQUENCE),
    "attention, tied and causal": (lambda: attender(tied=True, causal=True), SEQUENCE),
    "attention of grouped queries": (
        lambda: Net(grouped, a=linear(3), q=linear(), k=linear(W, W // 2), v=linear(W, W // 2), o=linear(),
                    r=linear(W, 1)), SEQUENCE),
    "layer scale": (
        lambda: Net(lambda n, x: n.r(torch.relu(n.c(n.a(x) + n.s * n.b(torch.relu(n.a(x))))).mean(1)), a=linear(3),
                    b=linear(), c=linear(), s=nn.Parameter(torch.full((W,), 0.3)), r=linear(W, 1)), SEQUENCE),
    "layer scale under an activation": (
        lambda: Net(lambda n, x: n.r(torch.relu(n.a(x) * n.s).mean((2, 3))), a=conv(2),
                    s=nn.Parameter(torch.full((W, 1, 1), 0.5)), r=linear(W, 1)), IMAGE),
    "attention of one layer, with masks": (
        lambda: Net(packed, a=linear(3), c=linear(W, 3 * W), o=linear(), r=linear(4 * W, 1)), SEQUENCE),
    "attention without softmax": (
        lambda: Net(relu_scores, a=linear(3), q=linear(), v=linear(), o=linear(), r=linear(W, 1)), SEQUENCE),
    "linear attention of many heads": (
        lambda: Net(many_heads, a=linear(3), c=linear(W, 3 * W), o=linear(), r=linear(W, 1)), SEQUENCE),
    "attention, class token and positions": (Positions, IMAGE),
    "dropout": (
        lambda: Net(lambda n, x: n.r(torch.relu(n.b(n.d(torch.erf(n.c(n.d(torch.relu(n.a(x)))))))).mean(1)),
                    a=linear(3), c=linear(), b=linear(), d=nn.Dropout(0.3), r=linear(W, 1)), SEQUENCE),
    "dropout of sums that share weights": (lambda: Net(dropped_skip, a=linear(3), b=linear(), d=nn.Dropout(0.4),
                                                       r=linear(W, 1)), ROW),
    "dropout of channels": (
        lambda: Net(lambda n, x: n.r(torch.relu(n.b(n.d(torch.erf(n.a(x))))).mean((2, 3))),
                    a=conv(2), b=conv(window=2), d=nn.Dropout2d(0.3), r=linear(W, 1)), IMAGE),
    "alpha dropout": (
        lambda: Net(lambda n, x: n.r(n.d(F.selu(n.b(n.e(F.selu(n.a(x)))))).flatten(1)),
                    a=conv(2), b=conv(window=2), d=nn.AlphaDropout(0.2), e=nn.FeatureAlphaDropout(0.2),
                    r=linear(4 * W, 1)), IMAGE),
    "erf and its argument": (lambda: Net(erf_and_its_argument, a=linear(3), b=linear(), r=linear(W, 1)), ROW),
}  # fmt: skip


@functools.cache
def architecture_of_layer(name):
    """Read once for all tests, of which most are about kernels: an architecture is frozen."""
    make, shape = LAYERS[name]
    with torch.random.fork_rng():  # a test's random numbers are the same whether it reads first or not
        return architecture(make(), torch.zeros(1, *shape), law=(1.3, 0.3))
