"""scikit-learn accepts the estimators, and they are the kernel predictor and nothing else."""

import pickle
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits, load_iris
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer
from sklearn.utils.estimator_checks import parametrize_with_checks
from torch import nn

import gramian.sklearn
from gramian.errors import BadArgument, BadData, NotPositive
from gramian.network import architecture
from gramian.predict import NTKClassifier, NTKRegressor
from gramian.solve import solve


@dataclass(frozen=True)
class Rbf:
    """A kernel whose print, and so the name of a test, is the same in every process."""

    def __call__(self, x, y=None):
        return torch.exp(-torch.cdist(x.flatten(1), (x if y is None else y).flatten(1)).square() / 2)


rbf = Rbf()


@parametrize_with_checks([NTKRegressor(), NTKClassifier(), NTKClassifier(rbf, ridge=1e-6, tile=7)])
def test_scikit_learn_accepts_it(estimator, check):
    check(estimator)


def test_the_public_alias():
    assert gramian.sklearn.NTKClassifier is NTKClassifier
    assert gramian.sklearn.NTKRegressor is NTKRegressor


@pytest.mark.parametrize("outputs", [(), (2,)])
def test_the_regressor_is_the_kernel_predictor(outputs):
    rng = np.random.default_rng(0)
    X, y, X_test = rng.standard_normal((20, 3)), rng.standard_normal((20, *outputs)), rng.standard_normal((6, 3))
    model = NTKRegressor(rbf, ridge=0.1, tile=8).fit(X, y)
    x, x_test = torch.from_numpy(X), torch.from_numpy(X_test)
    assert model.ridge_ == pytest.approx(0.1)  # the diagonal of an RBF kernel is 1
    expected = solve(rbf(x), torch.from_numpy(y), 0.1).predict(rbf(x_test, x))
    np.testing.assert_allclose(model.predict(X_test), expected, rtol=1e-10)


@pytest.mark.filterwarnings("ignore:The . biases of the module")
@pytest.mark.parametrize("which", ["ntk", "nngp"])
def test_a_module_stands_for_its_limit(which):
    X, y = load_iris(return_X_y=True)
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    model = NTKRegressor(net, which=which, law="lecun", ridge=1e-3).fit(X[::10], y[::10])
    kernel = getattr(architecture(net, torch.from_numpy(X[:1]), law="lecun"), which)
    torch.testing.assert_close(model.kernel_(model.X_fit_), kernel(torch.from_numpy(X[::10])))
    assert model.ridge_ == pytest.approx(1e-3 * float(kernel(model.X_fit_).diagonal().mean()))


def test_a_small_ridge_interpolates_and_a_large_one_shrinks():
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((15, 4)), rng.standard_normal(15)
    np.testing.assert_allclose(NTKRegressor(ridge=0).fit(X, y).predict(X), y, atol=1e-8)
    sizes = [np.linalg.norm(NTKRegressor(ridge=r).fit(X, y).predict(X)) for r in (0, 0.1, 10, 1e6)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < 1e-4


@pytest.mark.filterwarnings("ignore:The . biases of the module")
def test_digits_images_and_vectors():
    """The default on 500 digits; a convolutional network sees the rows of X as images of shape (1, 8, 8)."""
    X, y = load_digits(return_X_y=True)
    train, test = slice(500), slice(500, 800)
    model = make_pipeline(Normalizer(), NTKClassifier()).fit(X[train], y[train])
    assert model.score(X[train], y[train]) == 1
    assert model.score(X[test], y[test]) > 0.92  # these 300 are harder than the rest
    net = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(256, 10))
    cnn = NTKClassifier(net, input_shape=(1, 8, 8)).fit(X[:100], y[:100])
    images = torch.from_numpy(X).reshape(-1, 1, 8, 8)
    kernel = architecture(net, images[:1]).ntk
    targets = torch.eye(10)[torch.from_numpy(y[:100])] - 0.1
    expected = solve(kernel(images[:100]), targets, cnn.ridge_).predict(kernel(images[test], images[:100]))
    np.testing.assert_allclose(cnn.decision_function(X[test]), expected, rtol=1e-8)


def test_labels_may_be_words_and_two_classes_have_one_decision():
    X, y = load_iris(return_X_y=True)
    names = np.array(["setosa", "versicolor", "virginica"])[y]
    model = NTKClassifier().fit(X, names)
    assert model.classes_.tolist() == ["setosa", "versicolor", "virginica"]
    assert model.score(X, names) > 0.95
    assert model.decision_function(X).shape == (150, 3)
    two = NTKClassifier().fit(X[50:], names[50:])
    assert two.decision_function(X).shape == (150,)
    assert set(two.predict(X)) == {"versicolor", "virginica"}


@pytest.mark.filterwarnings("ignore:The . biases of the module")
def test_it_clones_pickles_and_is_searched():
    X, y = load_iris(return_X_y=True)
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
    model = NTKClassifier(net, ridge=0.01).fit(X, y)
    copy = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(copy.decision_function(X), model.decision_function(X))
    assert clone(model).get_params()["ridge"] == 0.01
    search = GridSearchCV(NTKClassifier(), {"ridge": [1e-4, 1e6], "which": ["ntk"]}, cv=3, scoring="accuracy").fit(X, y)
    assert search.best_params_["ridge"] == 1e-4


def test_errors_say_what_to_do():
    X, y = load_iris(return_X_y=True)
    with pytest.raises(BadData, match=r"(?s)all 50 samples are of one class.*where: y.*fix: samples of at least two"):
        NTKClassifier().fit(X[:50], y[:50])
    with pytest.raises(BadArgument, match=r"(?s)input_shape=\(1, 2, 3\) has 6 numbers, X has 4 columns"):
        NTKClassifier(input_shape=(1, 2, 3)).fit(X, y)
    with pytest.raises(BadArgument, match=r"which='gp'"):
        NTKClassifier(which="gp").fit(X, y)
    with pytest.raises(BadArgument, match=r"ridge=-1"):
        NTKClassifier(ridge=-1).fit(X, y)
    with pytest.raises(NotPositive, match=r"(?s)two inputs are equal.*`ridge="):
        NTKClassifier(lambda x, y=None: x @ (x if y is None else y).mT, ridge=0).fit(X, y)
