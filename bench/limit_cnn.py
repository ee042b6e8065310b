"""What does the limit NTK of a convolutional network cost, against its recursion by hand and neural-tangents?"""

from itertools import pairwise

import torch
from compare import compare
from recursions import cnn_flat, cnn_pooled
from torch import nn


def network(hidden: int, size: int, *, pooled: bool) -> nn.Module:
    """3x3 convolutions that keep the image's size, then flattened or averaged over space, and read out."""
    channels = [3, *[4] * hidden]
    layers = [part for a, b in pairwise(channels) for part in (nn.Conv2d(a, b, 3, padding=1, bias=False), nn.ReLU())]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 1, bias=False)]
    flat = [nn.Flatten(), nn.Linear(4 * size * size, 1, bias=False)]
    return nn.Sequential(*layers, *(head if pooled else flat))


torch.manual_seed(0)
for hidden in (2, 5):
    images = torch.randn(64, 3, 32, 32)
    compare("limit_cnn", "cnn-flat", network(hidden, 32, pooled=False), cnn_flat, hidden, images)
for hidden in (2, 5):
    images = torch.randn(4, 3, 16, 16)
    compare("limit_cnn", "cnn-pooled", network(hidden, 16, pooled=True), cnn_pooled, hidden, images, repeats=3)
