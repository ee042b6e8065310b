"""What is to be shown, end to end: curves that follow their prediction, gaps that shrink, digits that are fitted."""

import math
from functools import cache

import pytest
import torch

from gramian import architecture, empirical_ntk, train
from gramian.certify import Description, certify
from gramian.data import load, unit_norm
from gramian.gram import eigensystem
from gramian.network.zoo import ZOO, mlp
from gramian.solve import time_to
from gramian.solve.dynamics import loss_curve

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def digits():
    """500 digits of ten classes: rows of norm sqrt(64), centered one-hot targets."""
    data = load("digits", n=500, dtype=torch.float64)
    return 8 * unit_norm(data.x), data.targets.double()


@cache
def limit_of(activation, x):
    arch = architecture(mlp((1, 8, 8), 10, depth=2, width=8, activation=activation), x[:2])
    return arch, eigensystem(arch.ntk(x))


def problem(digits, activation, width, seed):
    """A network of one hidden layer (float32, NTK parametrization, He), its limit and its first residual."""
    x, y = digits
    arch, limit = limit_of(activation, x)
    network = arch.network(width, seed, dtype=torch.float32)
    with torch.no_grad():
        r0 = network(x.float()).double() - y
    return network, limit, r0


def measured(network, digits, **settings):
    x, y = digits
    trace = train(network, x.float(), y.float(), probes=(), **settings)
    return torch.tensor(trace.steps), torch.tensor(trace.losses)


def gap(losses, predicted):
    return float((losses / predicted - 1).abs().max())


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_loss_follows_the_limit_s_prediction_until_it_fell_100_fold(seed, digits):
    """Width 4096, GELU, 1 draw a seed, within 5 % at every step. Observed 3.2 %, 1.7 %, 3.9 %."""
    network, limit, r0 = problem(digits, "gelu", 4096, seed)
    lr = 1 / float(limit.values[-1])
    steps = int(1.3 * time_to(limit, r0, 0.01, lr))
    at, losses = measured(network, digits, lr=lr, steps=steps, stop_loss=float(r0.square().sum() / 200))
    assert losses[-1] <= losses[0] / 100 * (1 + 1e-6)
    assert gap(losses, loss_curve(limit, r0, at, lr)) < 0.05


def test_a_relu_network_follows_its_own_first_gram_matrix_over_all_outputs(digits):
    """Width 4096, ReLU, 1 draw, within 5 %: observed 2.1 %. Without the coupling of outputs it is off by 20 %."""
    network, limit, r0 = problem(digits, "relu", 4096, 0)
    lr = 1 / float(limit.values[-1])
    gram = empirical_ntk(network, digits[0].float(), outputs="full").permute(0, 2, 1, 3).reshape(5000, 5000)
    mean = eigensystem(empirical_ntk(network, digits[0].float()).double())
    steps = int(1.5 * time_to(limit, r0, 0.01, lr))
    at, losses = measured(network, digits, lr=lr, steps=steps, stop_loss=float(r0.square().sum() / 200))
    assert losses[-1] <= losses[0] / 100 * (1 + 1e-6)
    gram, r, predicted = gram.contiguous(), r0.float().flatten(), []
    for _ in at:
        predicted.append(float(r.double().square().sum() / 2))
        r = r - lr * (gram @ r)
    assert gap(losses, torch.tensor(predicted)) < 0.05
    assert gap(losses, loss_curve(mean, r0, at, lr)) > 0.1  # so the coupling is what does it


def test_the_gap_to_the_prediction_and_the_kernel_s_distance_shrink_like_one_over_root_width(digits):
    """Widths 128 to 4096, ReLU, 32 draws each, 100 steps at 1 / (2 lambda_max): both slopes within 0.15 of -1/2."""
    widths, gaps, kernels = (128, 256, 512, 1024, 2048, 4096), [], []
    for width in widths:
        off, kernel = [], []
        for seed in range(32):
            network, limit, r0 = problem(digits, "relu", width, seed)
            theta = (limit.vectors * limit.values) @ limit.vectors.mT
            own = empirical_ntk(network, digits[0].float()).double()
            kernel.append(float((own - theta).norm() / theta.norm()))
            lr = 1 / (2 * float(limit.values[-1]))
            at, losses = measured(network, digits, lr=lr, steps=100)
            off.append(gap(losses, loss_curve(limit, r0, at, lr)))
        gaps.append(root_mean_square(off))
        kernels.append(root_mean_square(kernel))
    assert slope(widths, gaps) == pytest.approx(-0.5, abs=0.15)  # observed -0.54
    assert slope(widths, kernels) == pytest.approx(-0.5, abs=0.15)  # observed -0.50


def root_mean_square(numbers):
    return math.sqrt(sum(v * v for v in numbers) / len(numbers))


def slope(widths, errors):
    m, e = (torch.tensor(v, dtype=torch.float64).log() for v in (widths, errors))
    m = m - m.mean()
    return float(m @ e / (m @ m))


@pytest.mark.parametrize(("net", "depth"), [("mlp", 3), ("cnn", 4), ("resnet", 5)])
def test_sgd_fits_all_digits_with_the_command_line_s_defaults(net, depth):
    """500 digits, width "auto", minibatches of 32, 3/4 of the largest stable rate, as `gramian certify --net` does."""
    data = load("digits", n=500)
    module = ZOO[net](data.in_shape, data.n_outputs, depth=depth)
    tested = {"x_test": data.x_test, "y_test": data.y_test}
    one = certify(module, data.x, data.y, parametrization="ntk", description=Description(name=net), **tested)
    assert one.run["accuracy"]["train"][-1] == 1.0
    assert one.reached
    assert one.answer[0].startswith("Reached: SGD brought the training loss to 0.")
    assert "with 100% training accuracy" in one.answer[0]
    assert one.run["test"]["network_error"][-1] < 0.15  # of 359 test rows; observed 0.11 at most
    assert one.run["width"]["slope"] == pytest.approx(-0.5, abs=0.2)
