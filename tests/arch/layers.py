"""One small network for each layer that has a limit: entered here once, held to every contract."""

import torch
from torch import nn
from torch.nn import functional as F

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


A = torch.tensor([[0.5, 0.5, 0.0, 0.0], [0.3, 0.4, 0.3, 0.0], [0.0, 0.2, 0.5, 0.3], [0.0, 0.0, 0.5, 0.5]])
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
    "dense": (lambda: Net(dense, a=nn.Linear(3, 2 * W), b=linear(2 * W), r=linear(3 * W, 1)), ROW),
    "gate": (
        lambda: Net(lambda n, x: n.r(torch.relu(n.a(x)) * torch.relu(n.b(x)) + torch.relu(n.c(x))),
                    a=linear(3), b=linear(3), c=linear(3), r=linear(W, 1)), ROW),
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
