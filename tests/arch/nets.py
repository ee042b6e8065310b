"""Small modules that the tests of arch, limit and certify share."""

import torch
from torch import nn
from torch.nn import functional as F


class PooledCNN(nn.Module):
    """Circular and strided convolutions, local and global pooling, BatchNorm."""

    def __init__(self, width=8, activation=F.relu):
        super().__init__()
        self.a = nn.Conv2d(2, width, 3, padding=1, padding_mode="circular")
        self.b = nn.Conv2d(width, width, (3, 2), stride=(2, 1), padding=1, dilation=(1, 2))
        self.norm = nn.BatchNorm2d(width)
        self.readout = nn.Linear(width, 2)
        self.activation = activation

    def forward(self, x):
        h = F.avg_pool2d(self.activation(self.a(x)), 2)
        return self.readout(self.activation(self.norm(self.b(h))).mean((2, 3)))


class SumOfPosts(nn.Module):
    """Sums of post-activations with non-zero means, a difference, a constant."""

    def __init__(self, width=8):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, width), nn.Linear(width, width), nn.Linear(width, width)
        self.readout = nn.Linear(width, 2)

    def forward(self, x):
        h = F.relu(self.a(x))
        h = 1 - 0.7 * F.gelu(self.b(h)) + h + 2.0
        return self.readout(F.leaky_relu(self.c(h), 0.3))


class PreprocessedInput(nn.Module):
    """Takes flat rows and makes images of them before the first layer."""

    def __init__(self, width=8):
        super().__init__()
        self.conv, self.readout = nn.Conv2d(1, width, 3), nn.Linear(width * 4, 1)

    def forward(self, x):
        h = F.relu(self.conv(x.view(x.shape[0], 1, 4, 4) * 2 - 1))
        return self.readout(h.view(x.shape[0], -1))


class Elementwise(nn.Module):
    """A function of each value, as a module."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def jacobian_gram(network, *x, **named):
    """Mean over outputs of J J^T, row by row: the oracle."""
    parameters = [p for p in network.parameters() if p.requires_grad]
    out, total = network(*x, **named), 0
    out = out.reshape(len(out), -1)
    for c in range(out.shape[1]):
        rows = []
        for i in range(len(out)):
            grads = torch.autograd.grad(out[i, c], parameters, retain_graph=True, allow_unused=True)
            parts = [torch.zeros_like(p) if g is None else g for g, p in zip(grads, parameters, strict=True)]
            rows.append(torch.cat([g.flatten() for g in parts]))
        jacobian = torch.stack(rows)
        total = total + jacobian @ jacobian.T
    return total / out.shape[1]


def relu_dual(q1, k, q2):
    """Arc-cosine kernels, as in the papers: with arccos, which keeps half of the digits near equal inputs."""
    scale = (q1 * q2).sqrt()
    angle = torch.arccos((k / scale).clamp(-1, 1))
    half = (torch.pi - angle) / (2 * torch.pi)
    return scale * torch.sin(angle) / (2 * torch.pi) + half * k, half
