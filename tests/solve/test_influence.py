"""Influence and leave-one-out errors are those of fitting again without the row."""

import pytest
import torch
from torch import nn

from gramian.empirical import Sketch, empirical_ntk, linearize, projected_gradients
from gramian.errors import BadArgument, NotPositive
from gramian.gram import Gram, store_features
from gramian.solve import attribution, attribution_of_features, fit_linearized, solve


@pytest.fixture
def problem():
    net = nn.Sequential(nn.Linear(3, 40), nn.Tanh(), nn.Linear(40, 1))
    x, y, new = torch.randn(12, 3), torch.randn(12, 2), torch.randn(4, 3)
    return net, x, y, new


@pytest.mark.parametrize("ridge", [0.0, 0.5])
def test_it_is_what_a_fit_without_the_row_gives(problem, ridge):
    net, x, y, new = problem
    k, cross = empirical_ntk(net, x), empirical_ntk(net, new, x)
    found = attribution(k, cross, y, ridge)
    whole = solve(k, y, ridge, leave_one_out=True)
    torch.testing.assert_close(found.prediction, whole.predict(cross), rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(found.leave_one_out, whole.leave_one_out, rtol=1e-7, atol=1e-7)
    for i in range(12):
        rest = [j for j in range(12) if j != i]
        without = solve(k[rest][:, rest], y[rest], ridge)
        for c in range(2):
            expected = found.prediction[:, c] - without.predict(cross[:, rest])[:, c]
            torch.testing.assert_close(found.influence(c)[:, i], expected, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(
            found.leave_one_out[i], y[i] - without.predict(k[i : i + 1, rest])[0], rtol=1e-6, atol=1e-6
        )
    rows, values = found.top(test=1, k=3, output=1)
    assert values.abs().tolist() == sorted(found.influence(1)[1].abs().tolist(), reverse=True)[:3]
    torch.testing.assert_close(found.influence(1)[1][rows], values)


def test_it_is_the_linearized_network_trained_without_the_row(problem):
    """End to end: the network's own targets and outputs, and a refit of its linearization."""
    net, x, y, new = problem
    y = y[:, :1]
    model = linearize(net)
    residual = (y - net(x)).detach()
    found = attribution(empirical_ntk(net, x), empirical_ntk(net, new, x), residual, ridge=0.3)
    whole = fit_linearized(model, x, y, ridge=0.3)(new)
    for i in (0, 7):
        rest = [j for j in range(12) if j != i]
        without = fit_linearized(model, x[rest], y[rest], ridge=0.3)(new)
        torch.testing.assert_close(found.influence()[:, i], (whole - without).detach()[:, 0], rtol=1e-7, atol=1e-7)


def test_features_give_the_same_as_their_kernel(problem, tmp_path):
    net, x, y, new = problem
    sketch = Sketch(7)
    phi, test = projected_gradients(net, x, sketch), projected_gradients(net, new, sketch)
    dual = attribution(phi @ phi.mT, test @ phi.mT, y, 0.2)
    stored = store_features(lambda rows: projected_gradients(net, rows, sketch), x, tmp_path, tile=5)
    for features in (phi, stored):
        primal = attribution_of_features(features, test, y, 0.2)
        torch.testing.assert_close(primal.influence(1), dual.influence(1), rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(primal.leave_one_out, dual.leave_one_out, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(primal.prediction, dual.prediction, rtol=1e-9, atol=1e-9)
    assert repr(primal) == "Attribution(4 predictions of 2 outputs, 12 training rows, ridge=0.2)"


def test_many_features_come_close_to_the_exact_influence(problem):
    net, x, y, new = problem
    exact = attribution(empirical_ntk(net, x), empirical_ntk(net, new, x), y, ridge=5.0).influence()
    gaps = []
    for size in (256, 16384):
        sketch = Sketch(size)
        phi, test = projected_gradients(net, x, sketch), projected_gradients(net, new, sketch)
        found = attribution(phi @ phi.mT, test @ phi.mT, y, 5.0).influence()
        gaps.append(float((found - exact).norm() / exact.norm()))
    assert gaps[1] < 0.05
    assert gaps[0] / gaps[1] > 3  # 8 on average: one over the root of the size


def test_what_is_refused(problem):
    net, x, y, new = problem
    k, cross = empirical_ntk(net, x), empirical_ntk(net, new, x)
    with pytest.raises(BadArgument, match=r"(?s)test kernel of shape \(12, 4\) for 12 training.*where: attribution"):
        attribution(k, cross.mT, y)
    with pytest.raises(BadArgument, match=r"(?s)targets of type torch.int64"):
        attribution(k, cross, y.long())
    with pytest.raises(BadArgument, match="ridge=-1"):
        attribution(k, cross, y, -1)
    twice = torch.cat([x, x])
    with pytest.raises(NotPositive, match=r"(?s)`gram` \(24 x 24.*ridge="):
        attribution(empirical_ntk(net, twice), empirical_ntk(net, new, twice), torch.cat([y, y]))
    with pytest.raises(BadArgument, match=r"(?s)test features of shape \(4, 6\) .* of 5 columns.*the same Sketch"):
        attribution_of_features(torch.randn(12, 5), torch.randn(4, 6), y, 0.1)
    gram = Gram(lambda a, b=None: empirical_ntk(net, a, b), x, tile=5)
    torch.testing.assert_close(attribution(gram, cross, y, 0.1).weights, attribution(k, cross, y, 0.1).weights)
