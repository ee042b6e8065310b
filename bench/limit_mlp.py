"""What does the limit NTK of a fully connected network cost, against its recursion by hand and neural-tangents?"""

import torch
from compare import compare
from recursions import mlp
from torch import nn

torch.manual_seed(0)
x = torch.randn(2000, 784)
for hidden in (1, 3, 5):
    layers = [part for _ in range(hidden) for part in (nn.Linear(784, 784, bias=False), nn.ReLU())]
    compare("limit_mlp", "mlp", nn.Sequential(*layers, nn.Linear(784, 1, bias=False)), mlp, hidden, x)
