"""What does the empirical NTK of a wide network cost, against the tutorial's Jacobians, nngeometry, neural-tangents?"""

import sys
from itertools import pairwise

import torch
from compare_empirical import compare
from torch import nn

WIDTHS, N = (784, 512, 512, 512, 512, 512, 10), 256

torch.manual_seed(0)
layers = [part for a, b in pairwise(WIDTHS) for part in (nn.Linear(a, b), nn.ReLU())]
net = nn.Sequential(*layers[:-1])  # 1.46 million parameters
# the tutorial's whole does not fit: two Jacobians are 28 GiB. neural-tangents' other ways take 5 to 8 GB and over 70 s
compare("empirical_mlp", "784-512x5-10", "mlp", net, torch.randn(N, 784), 32, ["structured derivatives"], repeats=3)
print("memory is beside the start; gramian's includes its result", file=sys.stderr)
