"""WideResNet-16-k in pre-activation order: Zagoruyko and Komodakis 2016 (arXiv:1605.07146)."""

import torch
from torch import nn
from torch.nn import functional as F


class Block(nn.Module):
    def __init__(self, in_planes, out_planes, stride):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_planes)
        self.conv1 = nn.Conv2d(in_planes, out_planes, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_planes)
        self.conv2 = nn.Conv2d(out_planes, out_planes, 3, 1, padding=1, bias=False)
        self.equal = in_planes == out_planes and stride == 1
        self.shortcut = None if self.equal else nn.Conv2d(in_planes, out_planes, 1, stride, bias=False)

    def forward(self, x):
        out = F.relu(self.bn1(x))
        skip = x if self.shortcut is None else self.shortcut(out)
        out = self.conv2(F.relu(self.bn2(self.conv1(out))))
        return torch.add(skip, out)


class WideResNet(nn.Module):
    def __init__(self, width=4, num_classes=2, depth=16):
        super().__init__()
        n = (depth - 4) // 6
        self.conv1 = nn.Conv2d(3, width, 3, padding=1, bias=False)
        planes, blocks = width, []
        for factor, stride in ((1, 1), (2, 2), (4, 2)):
            for i in range(n):
                blocks.append(Block(planes, factor * width, stride if i == 0 else 1))
                planes = factor * width
        self.blocks = nn.Sequential(*blocks)
        self.bn = nn.BatchNorm2d(planes)
        self.fc = nn.Linear(planes, num_classes)

    def forward(self, x):
        out = F.relu(self.bn(self.blocks(self.conv1(x))))
        out = F.adaptive_avg_pool2d(out, 1)
        return self.fc(out.view(out.size(0), -1))
