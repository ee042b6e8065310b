"""A corpus of the ways in which people spell biases, constants, frozen blocks and functions of the input."""

import torch
from torch import nn
from torch.nn import functional as F


class Forward(nn.Module):
    """A module of some parts with a forward that is given."""

    def __init__(self, forward, **parts):
        super().__init__()
        self.given = forward
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x):
        return self.given(self, x)


def _in_place(h, b):
    h += b
    return h


BIASES = {
    "x @ W + b": lambda net, x: x @ net.w + net.b,
    "b + x @ W": lambda net, x: net.b + x @ net.w,
    "x @ W - b": lambda net, x: x @ net.w - net.b,
    "mm": lambda net, x: torch.mm(x, net.w) + net.b,
    "matmul": lambda net, x: torch.matmul(x, net.w).add(net.b),
    "torch.add": lambda net, x: torch.add(x @ net.w, net.b),
    "F.linear + b": lambda net, x: F.linear(x, net.w.T) + net.b,
    "F.linear(.., b)": lambda net, x: F.linear(x, net.w.t(), net.b),
    "F.linear(.., b.view)": lambda net, x: F.linear(x, net.w.t(), net.b.view(-1)),
    "b[None]": lambda net, x: x @ net.w + net.b[None],
    "unsqueeze": lambda net, x: x @ net.w + net.b.unsqueeze(0),
    "view": lambda net, x: x @ net.w + net.b.view(1, -1),
    "reshape": lambda net, x: x @ net.w + net.b.reshape(1, 8),
    "expand": lambda net, x: x @ net.w + net.b.expand(len(x), -1),
    "expand_as": lambda net, x: (lambda h: h + net.b.expand_as(h))(x @ net.w),
    "broadcast_to": lambda net, x: x @ net.w + torch.broadcast_to(net.b, (len(x), 8)),
    "repeat": lambda net, x: x @ net.w + net.b.repeat(len(x), 1),
    "tile": lambda net, x: x @ net.w + net.b.tile(1, 1),
    "clone": lambda net, x: x @ net.w + net.b.clone(),
    "to": lambda net, x: x @ net.w + net.b.to(x.dtype),
    "1.0 * b": lambda net, x: x @ net.w + 1.0 * net.b,
    "add_": lambda net, x: (x @ net.w).add_(net.b),
    "+=": lambda net, x: _in_place(x @ net.w, net.b),
    "addmm": lambda net, x: torch.addmm(net.b, x, net.w),
    "einsum": lambda net, x: torch.einsum("bi,ij->bj", x, net.w) + net.b,
    "tensordot": lambda net, x: torch.tensordot(x, net.w, 1) + net.b,
    "read twice": lambda net, x: (lambda h: h + net.b + 0 * h)(x @ net.w),
}


def _block(context):
    def forward(net, x):
        with context():
            h = torch.relu(net.a(x))
        return net.c(torch.relu(net.b(h)))

    return forward


def _preprocessed(net, x):
    with torch.no_grad():
        x = x / 0.25 * 0.25
    return net.c(torch.relu(net.b(torch.relu(net.a(x)))))


def _nested(net, x):
    with torch.no_grad():
        h = net.a(x)
        with torch.enable_grad():
            h = net.b(torch.relu(h))
    return net.c(torch.relu(h))


def _autocast(net, x):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        h = torch.relu(net.b(torch.relu(net.a(x))))
    return net.c(h.to(x.dtype))


def _detached_weight(net, x):
    h = torch.relu(F.linear(x, net.a.weight.detach(), net.a.bias.detach()))
    return net.c(torch.relu(net.b(h)))


# {name: (forward of layers a, b, c; the places in Linear, ReLU, Linear, ReLU, Linear of the frozen ones)}
BLOCKS = {
    "no_grad": (_block(torch.no_grad), (0,)),
    "set_grad_enabled(False)": (_block(lambda: torch.set_grad_enabled(False)), (0,)),
    "inference_mode": (_block(torch.inference_mode), (0,)),
    "inference_mode(False)": (_block(lambda: torch.inference_mode(False)), ()),
    "of the input": (_preprocessed, ()),
    "enable_grad inside": (_nested, (0,)),
    "autocast": (_autocast, ()),
    "weight.detach()": (_detached_weight, (0,)),
}

SCALARS = {
    "sin(g h)": lambda net, x: net.c(torch.sin(net.g * net.a(x))),
    "h sigmoid(g h)": lambda net, x: (lambda h: net.c(h * torch.sigmoid(net.g * h)))(net.a(x)),
    "sigmoid(g) h": lambda net, x: net.c(torch.sigmoid(net.g) * torch.relu(net.a(x))),
    "(1 + g) x": lambda net, x: net.c(torch.relu(net.a((1 + net.g) * x))),
    "skip + g f(x)": lambda net, x: net.c(torch.relu(net.a(x))) + net.g * net.skip(x),
    "h + g": lambda net, x: net.c(torch.relu(net.a(x) + net.g)),
    "h - exp(g)": lambda net, x: net.c(torch.relu(net.a(x) - torch.exp(net.g))),
    "h / g": lambda net, x: net.c(torch.relu(net.a(x)) / net.g),
    "h ** g": lambda net, x: net.c(net.a(x) ** net.g),
    "g.view(1, 1)": lambda net, x: net.c(torch.relu(net.a(x)) * net.g.view(1, 1)),
}

_TURN = torch.tensor([[1.0, 2, 0, 1], [0, 1, 1, 3], [2, 1, 0, 1]], dtype=torch.float64)
_FILTER = torch.tensor([[[1.0, -1.0]], [[0.5, 2.0]]], dtype=torch.float64)
INPUT_FUNCTIONS = {
    "standardized rows": lambda x: (x - x.mean(1, keepdim=True)) / x.std(1, keepdim=True),
    "var_mean": lambda x: (lambda v: (x - v[1]) / v[0])(torch.var_mean(x, 1, keepdim=True)),
    "sort": lambda x: x.sort(1).values,
    "topk": lambda x: x.topk(2, 1)[0],
    "median": lambda x: x - x.median(1, keepdim=True).values,
    "quantile": lambda x: x - x.quantile(0.5, dim=1, keepdim=True),
    "rfft": lambda x: torch.fft.rfft(x).abs(),
    "fft": lambda x: torch.view_as_real(torch.fft.fft(x)).flatten(1),
    "einsum": lambda x: torch.einsum("ni,nj->nij", x, x).flatten(1),
    "x[:, idx]": lambda x: x[:, [0, 2, 1]],
    "gather": lambda x: x.gather(1, x.argsort(1)),
    "stack": lambda x: torch.stack([x, x**2], 1).flatten(1),
    "tensordot": lambda x: torch.tensordot(x, _TURN.T, 1),
    "cdist": lambda x: torch.cdist(x[:, :, None], x[:, :, None]).flatten(1),
    "diff": lambda x: x.diff(dim=1),
    "bucketize": lambda x: torch.bucketize(x, torch.tensor([-1.0, 0.0, 1.0])).to(x.dtype),
    "searchsorted": lambda x: torch.searchsorted(torch.tensor([-1.0, 0.0, 1.0]), x.contiguous()).to(x.dtype),
    "max_pool": lambda x: F.max_pool1d(x[:, None], 2)[:, 0],
    "unfold": lambda x: x.unfold(1, 2, 1).flatten(1),
    "logsumexp": lambda x: x - x.logsumexp(1, keepdim=True),
    "nan_to_num": torch.nan_to_num,
    "F.linear, fixed": lambda x: F.linear(x, _TURN),
    "F.conv1d, fixed": lambda x: F.conv1d(x[:, None], _FILTER).flatten(1),
    "(A @ x.T).T": lambda x: (_TURN @ x.T).T,
    "F.pad": lambda x: F.pad(x, (1, 1)),
    "repeat": lambda x: x.repeat(1, 2),
    "tile": lambda x: x.tile(1, 2),
    "cat ones": lambda x: torch.cat([x, torch.ones(len(x), 1)], 1),
    "new_zeros": lambda x: torch.cat([x, x.new_zeros(len(x), 1)], 1),
    "softmax": lambda x: x.softmax(1),
    "log_softmax": lambda x: x.log_softmax(1),
    "norm": lambda x: x / x.norm(dim=1, keepdim=True),
    "normalize": lambda x: F.normalize(x, dim=1),
    "cumsum": lambda x: x.cumsum(1),
    "outer products": lambda x: (x[:, :, None] * x[:, None, :]).flatten(1),
    "upper triangle": lambda x: (x[:, :, None] * x[:, None])[:, [0, 0, 0, 0, 1, 1], [0, 1, 2, 3, 1, 2]],
    "Fourier features": lambda x: torch.cat([torch.sin(3 * x), torch.cos(3 * x)], 1),
    "random features": lambda x: torch.cos(x @ _TURN.T),
    "max": lambda x: torch.cat([x, x.max(1, keepdim=True).values], 1),
    "where": lambda x: torch.where(x > 0, x, 0.1 * x),
    "roll": lambda x: x.roll(1, 1) + x,
    "flip": lambda x: x.flip(1),
    "kron": lambda x: torch.stack([torch.kron(a, a) for a in x]),
    "det": lambda x: torch.linalg.det(x.view(-1, 2, 2))[:, None] * x,
    "inv": lambda x: torch.linalg.inv(x.view(-1, 2, 2)).flatten(1),
    "svdvals": lambda x: torch.linalg.svdvals(x.view(-1, 2, 2)),
    "one_hot": lambda x: F.one_hot((x > 0).long(), 2).flatten(1).to(x.dtype),
    "interpolate": lambda x: F.interpolate(x[:, None], scale_factor=2, mode="linear").flatten(1),
    "gradient": lambda x: torch.gradient(x, dim=1)[0],
    "polar": lambda x: torch.stack([x.norm(dim=1), torch.atan2(x[:, 0], x[:, 1])], 1),
    "window": lambda x: x * torch.hann_window(4, dtype=x.dtype),
}  # fmt: skip
MIXED_SAMPLES = {
    "x - x.mean(0)": lambda x: x - x.mean(0),
    "sort along the batch": lambda x: x.sort(0).values,
    "flip the batch": lambda x: x.flip(0),
    "random": lambda x: x + torch.rand_like(x),
    "cumsum along the batch": lambda x: x.cumsum(0),
    "rank in the batch": lambda x: x.argsort(0).to(x.dtype),
}
