"""A graph convolutional network: Kipf and Welling 2016 (arXiv:1609.02907); the nodes of one graph are positions."""

import torch
from torch import nn
from torch.nn import functional as F


class GraphConvolution(nn.Module):
    """A x W + b, with the parameters as the authors hold them."""

    def __init__(self, in_features, out_features):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(in_features, out_features).uniform_(-1, 1))

    def forward(self, x, adj):
        support = torch.matmul(x, self.weight)
        return torch.matmul(adj, support)


class GCN(nn.Module):
    """Two graph convolutions and a readout of the mean over nodes."""

    def __init__(self, edges, nodes, in_features, width=16, num_classes=2):
        super().__init__()
        a = torch.eye(nodes)
        for i, j in edges:
            a[i, j] = a[j, i] = 1
        degree = a.sum(1)
        self.register_buffer("adj", a / torch.sqrt(degree[:, None] * degree[None]))
        self.gc1, self.gc2 = GraphConvolution(in_features, width), GraphConvolution(width, width)
        self.readout = nn.Linear(width, num_classes)
        self.dropout = 0.5

    def forward(self, x):
        x = F.relu(self.gc1(x, self.adj))
        x = F.dropout(x, self.dropout, training=self.training)
        x = F.relu(self.gc2(x, self.adj))
        return self.readout(x.mean(1))
