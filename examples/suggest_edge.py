"""Is the largest stable learning rate a cliff? A network on digits at 0.5 to 1.5 times the one that is suggested.

At random weights it is not: they change too fast. After some hundred steps it is: a tenth below it the loss goes on
falling, a tenth above it the loss rises.
"""

import argparse
import copy

import torch
from torch import nn

import gramian
import gramian.data

options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
options.add_argument("--rows", type=int, default=256, help="training images, all in each step")
options.add_argument("--steps", type=int, default=200, help="steps before the second question")
options = options.parse_args()

data = gramian.data.load("digits", n=options.rows, normalize="standardize", dtype=torch.float32)
x, y, loss = data.x, data.targets.float(), nn.MSELoss()


def train(net, optimizer, steps):
    """Losses before and after each step."""
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        value = loss(net(x), y)
        losses.append(float(value.detach()))
        value.backward()
        optimizer.step()
    return [*losses, float(loss(net(x), y).detach())]


torch.manual_seed(0)
net = nn.Sequential(nn.Flatten(), nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10))
sgd = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
for when in ("at random weights", f"after {options.steps} steps"):
    advice = gramian.suggest(net, (x, y), loss, sgd, budget=1000)
    print(f"\n{when}: {advice}\n")
    print("times the largest stable rate   highest loss / first   last loss / first")
    for factor in (0.5, 0.9, 1.1, 1.5):
        there, optimizer = copy.deepcopy((net, sgd))
        optimizer.param_groups[0]["lr"] = factor * advice.largest
        losses = train(there, optimizer, 100)
        print(f"{factor:28}   {max(losses) / losses[0]:20.3g}   {losses[-1] / losses[0]:17.3g}")
    sgd.param_groups[0]["lr"] = advice.lr
    train(net, sgd, options.steps)
