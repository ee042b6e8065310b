"""The complexity measure of labels, against its closed forms and the certified bound of the same number."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from gramian import architecture
from gramian.bounds import arora2019, complexity_measure, h_infinity, label_projections
from gramian.data import correlated_sphere, random_signs, with_label_noise
from gramian.errors import BadArgument, BadData, NotPositive


def test_h_infinity_is_the_limit_of_the_network_whose_first_layer_trains():
    x = correlated_sphere(12, 5)
    net = nn.Sequential(nn.Linear(5, 4, bias=False), nn.ReLU(), nn.Linear(4, 1, bias=False))
    net[2].requires_grad_(False)
    limit = architecture(net, x[:2], law="lecun").ntk(x)
    torch.testing.assert_close(h_infinity(x), 5 * limit, rtol=1e-9, atol=1e-12)  # that kernel divides by d


@pytest.mark.parametrize("angle", [0.0, 1e-9, 1e-6, 1e-3, 1.0, math.pi - 1e-7, math.pi])
def test_close_and_opposite_inputs_keep_their_digits(angle):
    pair = torch.tensor([[1.0, 0.0], [math.cos(angle), math.sin(angle)]])
    value = float(h_infinity(pair)[0, 1])
    assert value == pytest.approx(math.cos(angle) * (math.pi - angle) / (2 * math.pi), rel=1e-9, abs=1e-16)


def test_it_is_the_number_inside_the_certified_bound():
    x, y = correlated_sphere(15, 6), random_signs(15)
    certified = arora2019(x.numpy(), y.numpy(), width=math.inf).numbers["complexity"]
    assert float(complexity_measure(x, y)) == pytest.approx(certified, rel=1e-6)


def test_linear_labels_have_norm_two_of_their_direction():
    """A quarter of the linear kernel is in H, so that y'H^-1 y <= 4 |b|^2 for y = b.x, nearly with equality."""
    x = correlated_sphere(200, 3)
    measure = float(complexity_measure(x, x[:, 0]))
    assert 1.99 < measure * math.sqrt(200 / 2) <= 2


def test_several_labelings_cost_one_factorization_and_are_the_same():
    x, y = correlated_sphere(10, 4), random_signs(10, 3)
    each = torch.stack([complexity_measure(x, column) for column in y.unbind(1)])
    torch.testing.assert_close(complexity_measure(x, y), each)
    torch.testing.assert_close(complexity_measure(None, y, h_infinity(x)), each)


def test_noise_adds_rows_and_half_of_them_change():
    y = torch.ones(4000)
    shares = (0.1, 0.5, 1.0)
    noisy = [with_label_noise(y, share, generator=torch.Generator().manual_seed(3)) for share in shares]
    for share, labels in zip(shares, noisy, strict=True):
        assert float((labels < 0).double().mean()) == pytest.approx(share / 2, abs=0.03)  # 4 standard errors
    assert bool(((noisy[0] < 0) <= (noisy[1] < 0)).all())


def test_projections_are_shares_in_the_order_of_learning():
    x, y = correlated_sphere(20, 4), random_signs(20)
    gram = h_infinity(x)
    shares = label_projections(gram, y)
    lam = torch.linalg.eigvalsh(gram).flip(0)
    assert float(shares.sum()) == pytest.approx(1)
    quadratic = float((shares / lam).sum()) * 20  # y'H^-1 y of |y|^2 = 20
    assert math.sqrt(2 * quadratic / 20) == pytest.approx(float(complexity_measure(x, y)))


def test_what_has_no_measure_is_refused():
    with pytest.raises(BadArgument, match="Neither inputs nor a kernel"):
        complexity_measure(None, torch.ones(2))
    with pytest.raises(BadData, match="Row 1 of x is 0"):
        h_infinity(torch.tensor(np.diag([1.0, 0.0])))
    with pytest.raises(NotPositive):
        complexity_measure(torch.ones(2, 3), torch.tensor([1.0, -1.0]))
