"""The largest stable rate against bisection: (optimizer and its options) x (loss) x (batch), at a minimum.

Two copies that begin 1e-9 apart make the same steps. Whether their distance grows is the stability of the optimizer's
recursion itself; no formula of ours takes part.
"""

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from gramian import suggest
from gramian.train.edge import stable_rate

SGD = torch.optim.SGD
STILL = 1 - 1e-5  # of adaptive memories, so that the preconditioner stands still while steps are made


def groups(p, **second):
    """Half of the parameters in a group of its own."""
    return [{"params": p[: len(p) // 2]}, {"params": p[len(p) // 2 :], **second}]


OPTIMIZERS = {
    "sgd": lambda p, lr: SGD(p, lr),
    "momentum 0.5": lambda p, lr: SGD(p, lr, momentum=0.5),
    "momentum 0.9": lambda p, lr: SGD(p, lr, momentum=0.9),
    "nesterov": lambda p, lr: SGD(p, lr, momentum=0.9, nesterov=True),
    "dampening": lambda p, lr: SGD(p, lr, momentum=0.8, dampening=0.4),
    "dampening alone": lambda p, lr: SGD(p, lr, dampening=0.4),
    "decay": lambda p, lr: SGD(p, lr, weight_decay=0.7, foreach=True),
    "groups of rates": lambda p, lr: SGD([g | {"lr": lr * (1 + 2 * k)} for k, g in enumerate(groups(p))], lr),
    "groups of decay": lambda p, lr: SGD(groups(p, weight_decay=0.0), lr, weight_decay=2.0),
    "groups of decay, turned": lambda p, lr: SGD(groups(p, weight_decay=2.0), lr, weight_decay=0.0),
    "groups of momentum": lambda p, lr: SGD(groups(p, momentum=0.0), lr, momentum=0.9),
    "a frozen group": lambda p, lr: SGD([g | {"lr": lr * k} for k, g in enumerate(groups(p))], lr),
    "maximize": lambda p, lr: SGD(p, lr, momentum=0.6, maximize=True),
    "Adam": lambda p, lr: torch.optim.Adam(p, lr, betas=(0.9, STILL)),
    "Adam, beta 0.5, decay": lambda p, lr: torch.optim.Adam(p, lr, betas=(0.5, STILL), weight_decay=0.3),
    "Adam, amsgrad": lambda p, lr: torch.optim.Adam(p, lr, betas=(0.9, STILL), amsgrad=True, foreach=True),
    "Adam, fused": lambda p, lr: torch.optim.Adam(p, lr, betas=(0.9, STILL), eps=0.1, fused=True),
    "AdamW": lambda p, lr: torch.optim.AdamW(groups(p, weight_decay=3.0), lr, betas=(0.6, STILL), weight_decay=0.1),
    "Adam, maximize": lambda p, lr: torch.optim.Adam(p, lr, betas=(0.9, STILL), maximize=True),
    "NAdam": lambda p, lr: torch.optim.NAdam(p, lr, betas=(0.9, STILL)),
    "RAdam": lambda p, lr: torch.optim.RAdam(p, lr, betas=(0.9, STILL)),
    "Adamax": lambda p, lr: torch.optim.Adamax(p, lr, betas=(0.9, STILL)),
    "RMSprop": lambda p, lr: torch.optim.RMSprop(p, lr, alpha=STILL),
    "RMSprop, centered, momentum": lambda p, lr: torch.optim.RMSprop(p, lr, alpha=STILL, centered=True, momentum=0.8),
    "Adagrad": lambda p, lr: torch.optim.Adagrad(p, lr),
    "Adagrad, lr_decay": lambda p, lr: torch.optim.Adagrad(p, lr, lr_decay=1e-6, initial_accumulator_value=0.5),
}


def linear(c, *after):
    return nn.Sequential(nn.Linear(4, c), *after)


def classes(n, c):
    """Of rows of which the second half repeats the first with other classes: no weights fit, so there is a minimum."""
    return (torch.arange(n) % (n // 2) + (torch.arange(n) >= n // 2)) % c


LOSSES = {  # network, loss, targets of n rows
    "mean squares": (lambda: linear(2), nn.MSELoss(), lambda n: torch.randn(n, 2)),
    "summed squares": (lambda: linear(2), nn.MSELoss(reduction="sum"), lambda n: torch.randn(n, 2)),
    "cross-entropy": (lambda: linear(3), nn.CrossEntropyLoss(), lambda n: classes(n, 3)),
    "smoothed and summed": (
        lambda: linear(3), nn.CrossEntropyLoss(label_smoothing=0.2, reduction="sum"), lambda n: classes(n, 3)
    ),
    "LogSoftmax and NLL": (lambda: linear(3, nn.LogSoftmax(1)), F.nll_loss, lambda n: classes(n, 3)),
    "Sigmoid and BCE": (lambda: linear(1, nn.Sigmoid()), nn.BCELoss(), lambda n: classes(n, 2)[:, None].double()),
    "BCE with logits": (lambda: linear(1), nn.BCEWithLogitsLoss(), lambda n: classes(n, 2)[:, None].double()),
    "Poisson": (lambda: linear(1), nn.PoissonNLLLoss(), lambda n: classes(n, 4)[:, None].double()),
    "Huber": (lambda: linear(1), nn.HuberLoss(delta=1.0), lambda n: torch.randn(n, 1)),
    "squared hinge": (lambda: linear(3), nn.MultiMarginLoss(p=2), lambda n: classes(n, 3)),
    "tanh network": (
        lambda: nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 1)), nn.MSELoss(), lambda n: torch.randn(n, 1)
    ),
}  # fmt: skip
BATCHES = (12, 48)
OPEN = {
    "tanh network": {("Adagrad, lr_decay", 48)}
}  # bisection finds no rate within 1.4 times of ours; why is not known
FAST = [("momentum 0.9", "LogSoftmax and NLL"), ("groups of decay", "mean squares"), ("AdamW", "mean squares"),
        ("Adam", "Sigmoid and BCE"), ("NAdam", "summed squares"), ("Adagrad, lr_decay", "cross-entropy")]  # fmt: skip


def at_a_minimum(name, loss_name, n):
    """Network, rows, targets, loss and an optimizer whose memory is full, where its steps stand still."""
    make, loss, targets = LOSSES[loss_name]
    half = torch.randn(n // 2, 4) * torch.tensor([2.0, 1.0, 0.5, 0.3])
    net, x, y = make(), torch.cat([half, half]), targets(n)
    if loss_name == "tanh network":  # with noise alone as targets its units saturate, and the minimum is at infinity
        y = net(x).detach() + 0.1 * y
    optimizer = OPTIMIZERS[name](list(net.parameters()), 1.0)
    moving = [(p, g) for g in optimizer.param_groups for p in g["params"]]
    coupled = [(p, 0.0 if g.get("decoupled_weight_decay") else g["weight_decay"]) for p, g in moving]
    newton = torch.optim.LBFGS(
        net.parameters(), max_iter=500, tolerance_grad=1e-11, tolerance_change=1e-14, line_search_fn="strong_wolfe"
    )

    def objective():
        newton.zero_grad()
        value = loss(net(x), y) + sum(w / 2 * p.square().sum() for p, w in coupled)
        value.backward()
        return value

    newton.step(objective)
    half_way = copy.deepcopy(net)  # where decoupled decay leads: the gradient there is to change no memory
    with torch.no_grad():
        for p in half_way.parameters():
            p.mul_(0.5)
    pull = max(float(g.abs().max()) for g in torch.autograd.grad(loss(half_way(x), y), list(half_way.parameters())))
    for p, group in moving:
        fill(optimizer, p, group, 10 * max(1.0, pull))
    goal = (lambda f, t: -loss(f, t)) if optimizer.param_groups[0]["maximize"] else loss
    return net, x, y, goal, optimizer


def fill(optimizer, p, group, size):
    """A long memory of gradients of several sizes."""
    if isinstance(optimizer, SGD):
        return
    square, zero = (size * (0.5 + torch.rand_like(p))).square(), torch.zeros_like(p)
    state = {"step": torch.tensor(1e7), "exp_avg": zero.clone(), "exp_avg_sq": square.clone()}
    if group.get("amsgrad"):
        state["max_exp_avg_sq"] = 2 * square
    if isinstance(optimizer, torch.optim.NAdam):
        state["mu_product"] = torch.tensor(0.0)
    if isinstance(optimizer, torch.optim.Adamax):
        state = {"step": torch.tensor(1e7), "exp_avg": zero.clone(), "exp_inf": square.sqrt()}
    if isinstance(optimizer, torch.optim.RMSprop):
        state = {"step": torch.tensor(1e7), "square_avg": square, "grad_avg": zero.clone()}
        state["momentum_buffer"] = zero.clone()
    if isinstance(optimizer, torch.optim.Adagrad):
        state = {"step": torch.tensor(1e6), "sum": square}
    optimizer.state[p] = state


def grows(net, x, y, loss, optimizer, factor, steps=200):
    """Whether two copies that begin close are further apart after some steps at `factor` times the rates."""
    apart = []
    copies = [copy.deepcopy((net, optimizer)) for _ in range(2)]
    draw = torch.Generator().manual_seed(1)
    for p in copies[1][0].parameters():
        p.data += 1e-9 * torch.randn(p.shape, generator=draw)
    for step in range(steps):
        for other, its in copies:
            if step == 0:
                for group in its.param_groups:
                    group["lr"] *= factor
            its.zero_grad()
            loss(other(x), y).backward()
            its.step()
        pairs = zip(copies[0][0].parameters(), copies[1][0].parameters(), strict=True)
        apart.append(sum(float((a - b).detach().square().sum()) for a, b in pairs) ** 0.5)
        if not math.isfinite(apart[-1]) or apart[-1] > 1e3 * apart[0]:
            return True
    return apart[-1] > 2 * max(apart[:50])


def bisected(net, x, y, loss, optimizer, low, high, halvings=6):
    """The factor on the optimizer's rates at which steps stop being stable, within `low` to `high`, or None."""
    if grows(net, x, y, loss, optimizer, low) or not grows(net, x, y, loss, optimizer, high):
        return None
    for _ in range(halvings):
        middle = math.sqrt(low * high)
        low, high = (low, middle) if grows(net, x, y, loss, optimizer, middle) else (middle, high)
    return math.sqrt(low * high)


def ratio(name, loss_name, n):
    """The rate that we say over the one of bisection; None where they are further apart than 1.4 times."""
    net, x, y, loss, optimizer = at_a_minimum(name, loss_name, n)
    said = stable_rate(net, x, y, loss, optimizer)
    found = bisected(net, x, y, loss, optimizer, said.largest / said.rule.lr / 1.4, said.largest / said.rule.lr * 1.4)
    return None if found is None else said.largest / said.rule.lr / found


@pytest.mark.parametrize(("name", "loss_name"), FAST)
def test_the_largest_stable_rate_is_that_of_bisection(name, loss_name):
    assert ratio(name, loss_name, 12) == pytest.approx(1, abs=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("loss_name", LOSSES)
def test_every_cell_of_the_grid(loss_name):
    found = {(name, n): ratio(name, loss_name, n) for name in OPTIMIZERS for n in BATCHES}
    wrong = {cell: r for cell, r in found.items() if r is None or abs(r - 1) > 0.1}
    print(f"{loss_name}: {len(found) - len(wrong)} of {len(found)} cells within 10 % of bisection")
    assert set(wrong) <= OPEN.get(loss_name, set())


def test_suggest_says_the_same():
    net, x, y, loss, optimizer = at_a_minimum("momentum 0.9", "cross-entropy", 12)
    assert suggest(net, (x, y), loss, optimizer, rehearse=0).largest == stable_rate(net, x, y, loss, optimizer).largest
