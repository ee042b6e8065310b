"""Recurrent networks: Elman 1990, 'Finding structure in time', unrolled by a loop, and torch's own nn.RNN."""

import torch
from torch import nn


class Elman(nn.Module):
    """The last state's readout; both maps are shared by all times."""

    def __init__(self, in_features=3, hidden=16, num_classes=2):
        super().__init__()
        self.i2h, self.h2h = nn.Linear(in_features, hidden), nn.Linear(hidden, hidden, bias=False)
        self.h2o = nn.Linear(hidden, num_classes)

    def forward(self, x):
        h = torch.tanh(self.i2h(x[:, 0]))
        for t in range(1, x.size(1)):
            h = torch.tanh(self.i2h(x[:, t]) + self.h2h(h))
        return self.h2o(h)


class TorchRNN(nn.Module):
    def __init__(self, in_features=3, hidden=16, num_classes=2):
        super().__init__()
        self.rnn = nn.RNN(in_features, hidden, batch_first=True)
        self.fc = nn.Linear(hidden, num_classes)

    def forward(self, x):
        out, _ = self.rnn(x)
        return self.fc(out[:, -1])
