"""DenseNet without max-pool: Huang et al. 2016 (arXiv:1608.06993), as torchvision writes it."""

import torch
from torch import nn


class DenseLayer(nn.Module):
    def __init__(self, into, growth, bn_size=4):
        super().__init__()
        self.norm1, self.relu1 = nn.BatchNorm2d(into), nn.ReLU()
        self.conv1 = nn.Conv2d(into, bn_size * growth, kernel_size=1, bias=False)
        self.norm2, self.relu2 = nn.BatchNorm2d(bn_size * growth), nn.ReLU()
        self.conv2 = nn.Conv2d(bn_size * growth, growth, kernel_size=3, padding=1, bias=False)

    def forward(self, features):
        x = torch.cat(features, 1)
        return self.conv2(self.relu2(self.norm2(self.conv1(self.relu1(self.norm1(x))))))


class DenseNet(nn.Module):
    def __init__(self, growth=4, layers=2, num_classes=2):
        super().__init__()
        self.conv0 = nn.Conv2d(3, 2 * growth, kernel_size=3, padding=1, bias=False)
        channels, self.blocks, self.transitions = 2 * growth, nn.ModuleList(), nn.ModuleList()
        for _ in range(2):
            self.blocks.append(nn.ModuleList([DenseLayer(channels + i * growth, growth) for i in range(layers)]))
            channels += layers * growth
            self.transitions.append(
                nn.Sequential(
                    nn.BatchNorm2d(channels), nn.ReLU(), nn.Conv2d(channels, channels // 2, 1, bias=False),
                    nn.AvgPool2d(2, 2),
                )
            )  # fmt: skip
            channels //= 2
        self.norm5, self.classifier = nn.BatchNorm2d(channels), nn.Linear(channels, num_classes)

    def forward(self, x):
        x = self.conv0(x)
        for block, transition in zip(self.blocks, self.transitions, strict=True):
            features = [x]
            for layer in block:
                features.append(layer(features))
            x = transition(torch.cat(features, 1))
        return self.classifier(torch.relu(self.norm5(x)).mean((2, 3)))


class PlainDenseNet(nn.Module):
    """Concatenated post-activations, as in the U-Net: the order with a limit."""

    def __init__(self, growth=4, layers=3, num_classes=2):
        super().__init__()
        self.first = nn.Conv2d(3, growth, 3, padding=1)
        self.layers = nn.ModuleList([nn.Conv2d((i + 1) * growth, growth, 3, padding=1) for i in range(layers)])
        self.classifier = nn.Linear((layers + 1) * growth, num_classes)

    def forward(self, x):
        features = [torch.relu(self.first(x))]
        for layer in self.layers:
            features.append(torch.relu(layer(torch.cat(features, 1))))
        return self.classifier(torch.cat(features, 1).mean((2, 3)))
