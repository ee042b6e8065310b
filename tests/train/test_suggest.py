"""Advice: the edge of stability of real optimizers, the explicit curvature, forecasts against real steps."""

import copy
import dataclasses
import math

import pytest
import torch
from torch import nn

from gramian import linearize, suggest
from gramian.errors import BadArgument, BadData
from gramian.train.curvature import sharpness

OPTIMIZERS = {
    "sgd": lambda p, lr: torch.optim.SGD(p, lr),
    "heavy ball": lambda p, lr: torch.optim.SGD(p, lr, momentum=0.8),
    "dampened": lambda p, lr: torch.optim.SGD(p, lr, momentum=0.5, dampening=0.3),
    "nesterov": lambda p, lr: torch.optim.SGD(p, lr, momentum=0.8, nesterov=True),
    "decay": lambda p, lr: torch.optim.SGD(p, lr, weight_decay=0.7),
    "groups": lambda p, lr: torch.optim.SGD([{"params": p[:1], "lr": lr}, {"params": p[1:], "lr": 3 * lr}], lr),
}
LOSSES = {
    "mean squares": (nn.MSELoss(), lambda n, c: torch.randn(n, c)),
    "cross-entropy": (nn.CrossEntropyLoss(), lambda n, c: torch.arange(n) % c),
    "smoothed": (nn.CrossEntropyLoss(label_smoothing=0.1), lambda n, c: torch.arange(n) % c),
    "logistic": (nn.BCEWithLogitsLoss(), lambda n, c: (torch.arange(n * c) % 2.0).reshape(n, c)),
}


def mlp(into=4, width=8, out=3):
    return nn.Sequential(nn.Linear(into, width), nn.Tanh(), nn.Linear(width, out))


@pytest.mark.parametrize("name", LOSSES)
def test_sharpness_is_the_largest_eigenvalue_of_the_hessian(name):
    loss, targets = LOSSES[name]
    net, x, y = mlp(), torch.randn(6, 4), targets(6, 3)
    scale = {n: torch.rand_like(p) + 0.5 for n, p in net.named_parameters()}
    decay, shift = {"0.weight": 0.3}, {"2.weight": 0.2}
    sizes = {n: p.numel() for n, p in net.named_parameters()}
    s, d, more = (
        torch.cat([torch.as_tensor(by.get(n, 0.0)).expand(p.shape).flatten() for n, p in net.named_parameters()])
        for by in (scale, decay, shift)
    )
    assert len(s) == sum(sizes.values())
    h = hessian(net, x, y, loss)
    exact = torch.linalg.eigvalsh(s[:, None] * (2 * h + torch.diag(d)) * s + torch.diag(more))[-1]
    found = sharpness(net, x, y, loss, scale, decay=decay, shift=shift, times=2.0, tolerance=1e-10)
    assert found == pytest.approx(float(exact), rel=1e-6)


def hessian(net, x, y, loss, h=1e-5):
    """In the parameters in a row, by differences of gradients: torch.func's is 0.3 % off behind a batch_norm."""
    weights = [p for p in net.parameters() if p.requires_grad]
    rows = []
    for p in weights:
        for k in range(p.numel()):
            sides = []
            for step in (h, -2 * h):
                p.data.view(-1)[k] += step
                sides.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss(net(x), y), weights)]))
            p.data.view(-1)[k] += h
            rows.append((sides[0] - sides[1]) / (2 * h))
    made = torch.stack(rows)
    return (made + made.mT) / 2


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_real_steps_converge_just_below_the_largest_stable_rate_and_diverge_just_above(name):
    net, x, y = nn.Linear(5, 2), torch.randn(20, 5), torch.randn(20, 2)
    loss = nn.MSELoss()
    largest = suggest(net, (x, y), loss, OPTIMIZERS[name](list(net.parameters()), 1.0)).largest

    def moved(lr):
        trained = copy.deepcopy(net)
        optimizer = OPTIMIZERS[name](list(trained.parameters()), lr)
        for _ in range(1500):
            optimizer.zero_grad()
            loss(trained(x), y).backward()
            optimizer.step()
        return float(trained.weight.detach().norm())

    assert moved(0.96 * largest) < 10
    assert not moved(1.04 * largest) < 1e6


def test_adam_hovers_where_its_rate_is_the_largest_stable_one():
    """Full-batch Adam sharpens until 38 over the rate (Cohen et al. 2022, arXiv:2207.14484). Observed 0.9 to 1.1."""
    net, x = mlp(4, 32, 1), torch.randn(30, 4)
    y = torch.sin(3 * x[:, :1])
    adam = torch.optim.Adam(net.parameters(), lr=0.02)
    for _ in range(1500):
        adam.zero_grad()
        nn.functional.mse_loss(net(x), y).backward()
        adam.step()
    advice = suggest(net, (x, y), nn.MSELoss(), adam, rehearse=0)
    assert not advice.guessed
    assert advice.lr_now / advice.largest == pytest.approx(1, abs=0.4)


@pytest.mark.parametrize("name", LOSSES)
def test_the_forecast_is_what_the_linearized_network_does(name):
    loss, targets = LOSSES[name]
    net, x, y = mlp(4, 64), torch.randn(6, 4), targets(6, 3)
    lr = suggest(net, (x, y), loss, "sgd", rehearse=0).lr
    advice = suggest(net, (x, y), loss, torch.optim.SGD(net.parameters(), lr, momentum=0.5), budget=50)
    linear = linearize(net)
    optimizer = torch.optim.SGD(linear.parameters(), lr, momentum=0.5)
    for predicted in advice.forecast.losses:
        value = loss(linear(x), y)
        assert float(value.detach()) == pytest.approx(predicted, rel=1e-9)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()


def test_a_batch_too_large_for_its_gram_matrix_is_represented_by_its_first_rows():
    net, half = nn.Linear(3, 2), torch.randn(512, 3)
    x = torch.cat([half, half])
    y = x @ torch.randn(3, 2)
    for loss, lr in ((nn.MSELoss(), 0.5), (nn.MSELoss(reduction="sum"), 0.5 / 2048)):
        sgd = torch.optim.SGD(net.parameters(), lr)
        whole = suggest(net, (x, y), loss, sgd, budget=40).forecast
        assert whole.rows == 512
        sgd.param_groups[0]["lr"] = lr if loss.reduction == "mean" else 2 * lr
        mean = suggest(net, (half, y[:512]), loss, sgd, budget=40).forecast
        ratio = [a / b for a, b in zip(whole.losses, mean.losses, strict=False)]
        assert max(ratio) == pytest.approx(min(ratio), rel=1e-9)


def test_the_slowest_row_is_the_one_with_the_smallest_input():
    x = torch.eye(4) * torch.tensor([1.0, 2.0, 0.05, 3.0])
    advice = suggest(nn.Linear(4, 1, bias=False), (x, torch.ones(4, 1)), "squared", "sgd", budget=100)
    assert advice.forecast.slow[0] == 2
    assert (advice.forecast.directions, advice.forecast.of) == (1, 4)
    assert advice.steps == math.inf
    assert "1 are not learned in 100 steps" in str(advice)
    assert "Slowest rows" in str(advice)


def test_a_network_that_sharpens_gets_a_smaller_rate_than_half_the_largest():
    net = nn.Sequential(nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 3))
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(0.3)
    x, y = torch.randn(30, 4), torch.arange(30) % 3
    before = copy.deepcopy(net.state_dict())
    state = torch.get_rng_state()
    advice = suggest(net, (x, y), nn.CrossEntropyLoss(), "sgd", rehearse=200)
    assert advice.passed
    assert advice.lr < 0.3 * advice.largest
    assert f"{2 * advice.lr:.3g}, the largest tried" in str(advice)
    assert [t.held for t in advice.trials][-1] is False
    assert ("At these weights only" in str(advice)) == (advice.lr < advice.largest / 4)
    assert all(torch.equal(before[n], t) for n, t in net.state_dict().items())
    assert torch.equal(state, torch.get_rng_state())
    assert all(p.grad is None for p in net.parameters())
    calm = suggest(nn.Linear(4, 3), (x, y), nn.CrossEntropyLoss(), "sgd", rehearse=20)
    assert "At these weights only" not in str(calm)


def test_above_the_edge_it_says_so_and_forecasts_nothing():
    net, x, y = nn.Linear(3, 1), torch.randn(8, 3), torch.randn(8, 1)
    advice = suggest(net, (x, y), nn.MSELoss(), torch.optim.SGD(net.parameters(), 100.0))
    assert advice.over_the_edge
    assert advice.forecast is None
    assert "above it" in str(advice)
    assert "is exceeded" in str(advice)


def test_before_its_first_step_adam_is_guessed():
    net, x, y = mlp(), torch.randn(8, 4), torch.arange(8) % 3
    advice = suggest(net, (x, y), nn.CrossEntropyLoss(), torch.optim.AdamW(net.parameters(), lr=1e-3))
    assert advice.guessed
    assert "ask again after some steps" in str(advice)
    assert "no constant kernel" in str(advice)


@pytest.mark.parametrize(
    ("batch", "loss", "optimizer", "kind", "text"),
    [
        (lambda x, y: x, nn.MSELoss(), "sgd", BadArgument, "not a pair"),
        (lambda x, y: (x, y[:2]), nn.MSELoss(), "sgd", BadArgument, "x has 5 rows, y has 2"),
        (lambda x, y: (x.float(), y), nn.MSELoss(), "sgd", BadData, "parameters are torch.float64"),
        (lambda x, y: (x[:, :2], y), nn.MSELoss(), "sgd", BadData, "does not take inputs of shape"),
        (lambda x, y: (x / 0, y), nn.MSELoss(), "sgd", BadData, "finite"),
        (lambda x, y: (x, y), nn.MSELoss(reduction="none"), "sgd", BadArgument, "not one number"),
        (lambda x, y: (x, y), nn.MSELoss(), "lion", BadArgument, "'lion' is not known"),
        (lambda x, y: (x, y), "hinge", "sgd", BadArgument, "no loss that is known"),
    ],
)
def test_bad_input_is_refused(batch, loss, optimizer, kind, text):
    with pytest.raises(kind, match=text):
        suggest(mlp(), batch(torch.rand(5, 4), torch.rand(5, 3)), loss, optimizer)


def test_an_optimizer_of_another_module_or_of_an_unknown_kind_is_refused():
    net, batch = mlp(), (torch.rand(5, 4), torch.rand(5, 3))
    with pytest.raises(BadArgument, match="holds none of the module's"):
        suggest(net, batch, nn.MSELoss(), torch.optim.SGD(mlp().parameters(), 0.1))
    with pytest.raises(BadArgument, match="Rprop is not known"):
        suggest(net, batch, nn.MSELoss(), torch.optim.Rprop(net.parameters()))


def test_batch_normalization_is_measured_as_it_is_trained():
    net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 3))
    x, y, loss = 5 * torch.randn(12, 4) + 3, torch.arange(12) % 3, nn.CrossEntropyLoss()
    buffers = {n: t.clone() for n, t in net.named_buffers()}
    advice = suggest(net, (x, y), loss, "sgd", rehearse=0)
    bare = copy.deepcopy(net)  # the same function of the weights, without anything to update
    bare[1] = nn.BatchNorm1d(8, track_running_stats=False)
    assert advice.sharpness == pytest.approx(float(torch.linalg.eigvalsh(hessian(bare, x, y, loss))[-1]), rel=2e-3)
    assert "mixes the samples" in str(advice)
    assert net.training
    assert all(torch.equal(buffers[n], t) for n, t in net.named_buffers())
    assert suggest(net.eval(), (x, y), loss, "sgd", rehearse=0).sharpness != pytest.approx(advice.sharpness, rel=0.1)


def test_outputs_without_an_axis_are_forecast_as_those_of_one():
    torch.manual_seed(0)
    x, y = torch.randn(8, 3), torch.randn(8)
    net = nn.Sequential(nn.Linear(3, 32), nn.Tanh(), nn.Linear(32, 1))
    squeezed = nn.Sequential(net, nn.Flatten(0))
    optimizer = torch.optim.SGD(net.parameters(), 0.05)
    one = suggest(net, (x, y[:, None]), nn.MSELoss(), optimizer)
    other = suggest(squeezed, (x, y), nn.MSELoss(), torch.optim.SGD(squeezed.parameters(), 0.05))
    assert other.forecast.losses == pytest.approx(one.forecast.losses, rel=1e-5)


@pytest.mark.parametrize(
    ("real", "forecast", "words"),
    [
        (0.00703, 0.0071, "the loss was 0.00703; forecast: 0.0071."),
        (0.000134, 0.00703, "the loss was 0.000134, lower than the forecast 0.00703, of 1 at the start."),
        (0.4, 0.6, "lower than the forecast 0.6: the kernel moves"),
        (0.9, 0.6, "higher than the forecast 0.6: the kernel moves"),
    ],
)
def test_a_forecast_is_compared_in_what_is_left_and_not_only_in_the_way_down(real, forecast, words):
    net = nn.Linear(4, 1)
    advice = suggest(net, (torch.randn(6, 4), torch.randn(6, 1)), nn.MSELoss(), "sgd", rehearse=5, budget=20)
    made = dataclasses.replace(advice.forecast, losses=[1.0, forecast])
    said = str(dataclasses.replace(advice, loss=1.0, rehearsal=(1.0, real), forecast=made))
    assert words in said
    assert "as forecast" not in said
