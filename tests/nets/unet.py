"""A U-Net: Ronneberger et al. 2015 (arXiv:1505.04597), strided instead of max-pooled, read out by a mean."""

import torch
from torch import nn


def double(into, out):
    return nn.Sequential(nn.Conv2d(into, out, 3, padding=1), nn.ReLU(), nn.Conv2d(out, out, 3, padding=1), nn.ReLU())


class UNet(nn.Module):
    def __init__(self, width=8, num_classes=2):
        super().__init__()
        self.enc1, self.enc2, self.mid = double(3, width), double(width, 2 * width), double(2 * width, 4 * width)
        self.pool = nn.AvgPool2d(2)
        self.up2, self.dec2 = nn.ConvTranspose2d(4 * width, 2 * width, 2, stride=2), double(4 * width, 2 * width)
        self.up1, self.dec1 = nn.ConvTranspose2d(2 * width, width, 2, stride=2), double(2 * width, width)
        self.out = nn.Conv2d(width, num_classes, 1)

    def forward(self, x):
        e1 = self.enc1(x)
        e2 = self.enc2(self.pool(e1))
        m = self.mid(self.pool(e2))
        d2 = self.dec2(torch.cat([e2, self.up2(m)], dim=1))
        d1 = self.dec1(torch.cat([e1, self.up1(d2)], dim=1))
        return self.out(d1).mean((2, 3))
