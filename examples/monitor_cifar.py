"""A convolutional network on CIFAR-10, watched while it trains; then a report to open in a browser.

CIFAR-10 is read from the folder that GRAMIAN_DATA names; without it, the digits of scikit-learn take its place.
"""

import argparse

import torch
from torch import nn

import gramian
import gramian.data

options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
options.add_argument("--rows", type=int, default=3000, help="training images")
options.add_argument("--steps", type=int, default=1500, help="steps on 64 images each")
options.add_argument("--lr", type=float, default=0.02)
options.add_argument("--out", default="report", help="folder for report.html and report.json")
options = options.parse_args()

torch.manual_seed(0)
scaled = {"normalize": "standardize", "dtype": torch.float32}
try:
    data = gramian.data.load("cifar10", n=options.rows, n_test=1000, **scaled)
except gramian.errors.BadData:
    data = gramian.data.load("digits", n=min(options.rows, 1400), **scaled)
print(f"{len(data.x):,} images of {data.name}")

channels = data.x.shape[1]
net = nn.Sequential(
    nn.Conv2d(channels, 32, 3, padding=1),
    nn.ReLU(),
    nn.Conv2d(32, 64, 3, stride=2, padding=1),
    nn.ReLU(),
    nn.Conv2d(64, 64, 3, stride=2, padding=1),
    nn.ReLU(),
    nn.AdaptiveAvgPool2d(2),
    nn.Flatten(),
    nn.Linear(256, 10),
)
loss = nn.CrossEntropyLoss()
sgd = torch.optim.SGD(net.parameters(), lr=options.lr, momentum=0.9)
test = {"x_test": data.x_test[:256], "y_test": data.y_test[:256]}
monitor = gramian.Monitor(net, sgd, loss, data.x[:256], data.y[:256], classes=data.classes, **test)  # 1

for _ in range(options.steps):
    rows = torch.randint(len(data.x), (64,))
    sgd.zero_grad()
    loss(net(data.x[rows]), data.y[rows]).backward()
    sgd.step()

print(monitor)  # 2
html, _ = monitor.report(options.out)  # 3
print(f"Open this file in a browser: {html}")
