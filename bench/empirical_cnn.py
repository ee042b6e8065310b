"""What does the empirical NTK of a convolutional network cost, against the tutorial's Jacobians and neural-tangents?"""

import sys
from itertools import pairwise

import torch
from compare_empirical import compare
from torch import nn

N, CHANNELS = 32, (3, 64, 64, 64, 64)

torch.manual_seed(0)
layers = []
for a, b in pairwise(CHANNELS):
    layers += [nn.Conv2d(a, b, 3, padding=1), nn.ReLU()]
net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(CHANNELS[-1], 10))
ways = ["structured derivatives", "Jacobian contraction"]
if "--all" in sys.argv[1:]:  # minutes, and 11 GB
    ways.append("NTK-vector products")
compare("empirical_cnn", "conv 64x4, pooled", "cnn", net, torch.randn(N, 3, 32, 32), N, ways, repeats=2)
print("memory is beside the start; gramian's includes its result", file=sys.stderr)
