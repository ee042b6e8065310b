"""Small networks of several inputs, tokens and masks, each with a function that makes n samples."""

import torch
from torch import nn

W, WORDS, LONG = 12, 7, 5


class Text(nn.Module):
    """Tokens and learned positions, and a mean over those that a mask keeps."""

    def __init__(self, padding=None):
        super().__init__()
        self.word, self.place = nn.Embedding(WORDS, W, padding_idx=padding), nn.Embedding(LONG + 3, W)
        self.b, self.r = nn.Linear(W, W), nn.Linear(W, 1)

    def forward(self, ids, mask):
        h = self.word(ids) + self.place(torch.arange(ids.shape[1], device=ids.device))
        h = torch.relu(self.b(torch.relu(h)))
        wide = mask.unsqueeze(-1).expand(h.size()).to(h.dtype)
        return self.r(torch.sum(h * wide, 1) / torch.clamp(wide.sum(1), min=1e-9))


class TwoInputs(nn.Module):
    """An image and a row of numbers, as positional arguments."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c, self.r = nn.Conv2d(2, W, 3), nn.Linear(4, W), nn.Linear(W, W), nn.Linear(W, 1)

    def forward(self, image, row):
        return self.r(torch.relu(self.c(torch.relu(self.a(image)).mean((2, 3))) + self.b(row)))


class Siamese(nn.Module):
    """One table and one layer for both inputs: they share all weights."""

    def __init__(self):
        super().__init__()
        self.word, self.b, self.r = nn.Embedding(WORDS, W), nn.Linear(W, W), nn.Linear(W, 1)

    def forward(self, left, right):
        return self.r(torch.relu(self.b(self.word(left))) - 0.5 * torch.relu(self.b(self.word(right))))


class Lengths(nn.Module):
    """Sequences whose lengths are given; the sum is divided by them."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.r = nn.Linear(3, W), nn.Linear(W, W), nn.Linear(W, 1)

    def forward(self, x, lengths):
        mask = torch.arange(x.shape[1], device=x.device)[None, :] < lengths[:, None]
        h = torch.relu(self.b(torch.relu(self.a(x))))
        return self.r(h.masked_fill(~mask[:, :, None], 0.0).sum(1) / lengths[:, None])


class Graphs(nn.Module):
    """A graph for each sample: Kipf and Welling's normalization, computed of its edges, and a skip beside it."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.r = nn.Linear(3, W), nn.Linear(W, W), nn.Linear(W, 1)

    def forward(self, x, edges):
        a = edges.to(x.dtype) + torch.eye(edges.shape[1], dtype=x.dtype, device=x.device)
        root = a.sum(-1).pow(-0.5)
        a = root[:, :, None] * a * root[:, None, :]
        h = torch.bmm(a, self.a(x))
        h = torch.relu(h + torch.einsum("nij,njc->nic", a, h))
        return self.r(torch.relu(a @ self.b(h)).mean(1))


def graphs(n):
    above = torch.triu(torch.rand(n, LONG, LONG) > 0.5, 1)
    return torch.randn(n, LONG, 3), (above | above.mT).long()


class Weighted(nn.Module):
    """A weighted adjacency of each sample, times the images of its nodes, channels first, from the right."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.r = nn.Conv1d(3, W, 1), nn.Conv1d(W, W, 1), nn.Linear(W, 1)

    def forward(self, x, weights):
        h = torch.erf(self.a(x) @ weights.softmax(-1).mT)
        return self.r(torch.erf(self.b(h) @ weights).mean(2) + torch.erf(self.b(h)).mean(2))


def text(n):
    lengths = torch.arange(n) % LONG + 1
    return {"ids": torch.randint(0, WORDS, (n, LONG)), "mask": (torch.arange(LONG) < lengths[:, None]).long()}


STRUCTURED = {
    "text": (Text, text),
    "text with padding": (lambda: Text(padding=0), text),
    "two inputs": (TwoInputs, lambda n: (torch.randn(n, 2, 5, 5), torch.randn(n, 4))),
    "siamese": (Siamese, lambda n: {k: torch.randint(0, WORDS, (n,)) for k in ("left", "right")}),
    "graphs": (Graphs, graphs),
    "weighted graphs": (Weighted, lambda n: (torch.randn(n, 3, LONG), torch.randn(n, LONG, LONG) / 2)),
    "lengths": (Lengths, lambda n: (torch.randn(n, LONG, 3), torch.arange(n) % LONG + 1)),
}
