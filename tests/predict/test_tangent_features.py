"""Regression on tangent features: scikit-learn's contract, the kernel, and what it comes to."""

import numpy as np
import pytest
import torch
from sklearn.utils.estimator_checks import parametrize_with_checks

from gramian import empirical_ntk
from gramian.bounds import h_infinity
from gramian.errors import BadArgument
from gramian.predict import TangentFeatureRegressor
from gramian.train import two_layer_relu


@parametrize_with_checks([TangentFeatureRegressor(neurons=30, ridge=1e-6)])
def test_it_is_an_estimator(estimator, check):
    check(estimator)


def test_its_kernel_is_that_of_the_network_at_its_start():
    x = np.random.default_rng(1).standard_normal((7, 4))
    model = TangentFeatureRegressor(neurons=12).fit(x, x[:, 0])
    net = two_layer_relu(4, 12)
    with torch.no_grad():
        net[0].weight.copy_(torch.from_numpy(model.weights_))
    ntk = empirical_ntk(net, torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(model.kernel(x, x), ntk / 4, rtol=1e-12)


def test_many_neurons_come_to_the_limit_like_one_over_their_root():
    x = torch.nn.functional.normalize(torch.randn(8, 5), dim=1)
    counts, draws = (100, 400, 1600), 20
    errors = []
    for count in counts:
        models = [TangentFeatureRegressor(count, random_state=k).fit(x, x[:, 0]) for k in range(draws)]
        errors.append(
            np.mean([np.linalg.norm(5 * m.kernel(x.numpy(), x.numpy()) - h_infinity(x).numpy()) for m in models])
        )
    slope = np.log(errors[-1] / errors[0]) / np.log(counts[-1] / counts[0])
    assert slope == pytest.approx(-0.5, abs=0.15)


def test_fewer_features_than_samples_give_least_squares():
    x = np.random.default_rng(2).standard_normal((50, 3))
    y = np.sin(x).sum(1)
    model = TangentFeatureRegressor(neurons=5).fit(x, y)
    features = np.concatenate([(x @ w > 0)[:, None] * x for w in model.weights_], 1) / np.sqrt(15)
    expected = features @ np.linalg.lstsq(features, y, rcond=None)[0]
    np.testing.assert_allclose(model.predict(x), expected, atol=1e-9)


@pytest.mark.parametrize("keywords", [{"neurons": 0}, {"ridge": -1.0}])
def test_settings_that_make_no_sense_are_refused(keywords):
    with pytest.raises(BadArgument, match="make no sense"):
        TangentFeatureRegressor(**keywords).fit(np.eye(3), np.ones(3))
