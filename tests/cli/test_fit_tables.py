"""`gramian fit` and `gramian predict` on tables: columns by name, categories, missing values, biases, scores."""

import joblib
import numpy as np
import pandas as pd
import pytest
import torch

import gramian
from gramian.data import load
from gramian.predict import NTKClassifier, NTKRegressor, fit


@pytest.fixture
def prices(tmp_path):
    """House prices with text, empty cells and columns of many units, of which a kernel explains most."""
    rng = np.random.default_rng(0)
    n = 160
    frame = pd.DataFrame(
        {
            "area": rng.uniform(30, 250, n).round(),
            "built": rng.integers(1900, 2020, n),
            "town": rng.choice(["Aachen", "Bonn", "Celle"], n),
            "garden": rng.choice([True, False], n),
        }
    )
    town = frame.town.map({"Aachen": 2000, "Bonn": 3000, "Celle": 1000})
    frame["price"] = (frame.area * town + 500 * (frame.built - 1900) + 20_000 * frame.garden).round()
    frame.loc[3, "area"] = np.nan
    frame.loc[7, "town"] = np.nan
    frame.to_csv(tmp_path / "p.csv", index=False)
    return frame


def predictions(tmp_path, name="predictions.csv"):
    return pd.read_csv(tmp_path / name)


def test_house_prices_on_the_command_line_and_in_python(gramian_in, tmp_path, prices):
    done = gramian_in("fit --data p.csv --target price --out m.joblib")
    assert done.exit_code == 2
    assert "2 cells are empty or NaN, in 2 of 160 rows." in done.stderr
    done = gramian_in("fit --data p.csv --target price --missing mean --out m.joblib")
    assert done.exit_code == 0, done.stderr
    assert "in the target's unit" in done.stdout
    assert "root of the mean square" in done.stdout
    done = gramian_in("predict m.joblib --data p.csv")
    assert done.exit_code == 0, done.stderr
    found = predictions(tmp_path)
    data = load(tmp_path / "p.csv", target="price", missing="mean")
    python = NTKRegressor(scale_targets=True).fit(data.x, data.y[:, 0])
    np.testing.assert_allclose(found.prediction[data.rows.numpy()], python.predict(data.x), rtol=1e-9)
    model = fit(data)
    np.testing.assert_allclose(model.predict(prices), found.prediction, rtol=1e-9)
    held = found[~found.trained_on]
    assert np.sqrt(((held.prediction - held.label) ** 2).mean()) < 0.2 * prices.price.std()


def test_columns_are_found_by_name_in_any_order(gramian_in, tmp_path, prices):
    gramian_in("fit --data p.csv --target price --missing mean --out m.joblib")
    gramian_in("predict m.joblib --data p.csv --out a.csv")
    prices[prices.columns[::-1]].assign(owner="x").to_csv(tmp_path / "reversed.csv", sep=";")
    done = gramian_in("predict m.joblib --data reversed.csv --out b.csv")
    assert done.exit_code == 0, done.stderr
    assert "Not used, because the training data had no such column: owner." in done.stderr
    np.testing.assert_allclose(
        predictions(tmp_path, "b.csv").prediction, predictions(tmp_path, "a.csv").prediction, rtol=1e-12
    )
    prices.rename(columns={"area": "Area"}).to_csv(tmp_path / "renamed.csv", index=False)
    done = gramian_in("predict m.joblib --data renamed.csv --out c.csv")
    assert done.exit_code == 2
    assert "1 training column is not there: area." in done.stderr
    assert "Did you mean 'Area'?" in done.stderr
    assert not (tmp_path / "c.csv").exists()


def test_one_row_without_labels_and_unseen_categories(gramian_in, tmp_path, prices):
    gramian_in("fit --data p.csv --target price --missing drop --out m.joblib")
    (tmp_path / "one.csv").write_text("garden,town,built,area\nFalse,Bonn,1950,100\n")
    done = gramian_in("predict m.joblib --data one.csv --out one-p.csv")
    assert done.exit_code == 0, done.stderr
    assert list(predictions(tmp_path, "one-p.csv").columns) == ["row", "prediction"]
    (tmp_path / "new.csv").write_text("garden,town,built,area\nFalse,Bonn,1950,100\nTrue,Dresden,1950,100\n")
    done = gramian_in("predict m.joblib --data new.csv")
    assert done.exit_code == 2
    assert "category 'Dresden' of column 'town' is none of the training data's." in done.stderr
    assert "row 1 (counted from 0; line 3 of the file)" in done.stderr
    done = gramian_in("predict m.joblib --data new.csv --unseen zero")
    assert done.exit_code == 0, done.stderr
    assert "1 row with a new category of 'town' (Dresden)" in done.stderr
    (tmp_path / "empty.csv").write_text("garden,town,built,area\nFalse,Bonn,1950,\nTrue,Bonn,1950,100\n")
    done = gramian_in("predict m.joblib --data empty.csv --out e.csv")  # as in fit: dropped
    assert done.exit_code == 0, done.stderr
    assert predictions(tmp_path, "e.csv").row.tolist() == [1]
    assert gramian_in("predict m.joblib --data empty.csv --missing refuse").exit_code == 2
    assert gramian_in("predict m.joblib --data empty.csv --missing mean --out f.csv").exit_code == 0
    assert predictions(tmp_path, "f.csv").row.tolist() == [0, 1]


def test_the_example_of_text_columns(gramian_in, tmp_path):
    (tmp_path / "t.csv").write_text("a,c,label\n1,x,0\n2,y,1\n3,x,0\n4,y,1\n5,x,1\n6,y,0\n")
    assert gramian_in("fit --data t.csv --out m.joblib").exit_code == 0
    done = gramian_in("predict m.joblib --data t.csv")
    assert done.exit_code == 0, done.stderr
    found = predictions(tmp_path)
    assert (found.prediction == found.label)[found.trained_on].all()
    gramian_in("predict m.joblib --data t.csv")  # nobody named the output: nothing is replaced
    assert (tmp_path / "predictions-2.csv").exists()


def test_a_minority_has_its_base_rate_and_balanced_accuracy(gramian_in, tmp_path):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(400, 3)), columns=list("abc"))
    frame["ill"] = np.where(frame.a > np.quantile(frame.a, 0.97), "yes", "no")
    frame.to_csv(tmp_path / "t.csv", index=False)
    done = gramian_in("fit --data t.csv --target ill --out m.joblib")
    assert "97.5 %, by always saying 'no'" in done.stdout  # 2 of 80 test rows
    assert "the mean over 2 classes" in done.stdout


def test_rings_need_biases_and_that_is_said(gramian_in, tmp_path):
    angle, radius = np.linspace(0, 6.2, 200), np.tile([1.0, 2.0], 100)
    frame = pd.DataFrame({"u": radius * np.cos(angle), "v": radius * np.sin(angle), "label": np.tile([0, 1], 100)})
    frame.to_csv(tmp_path / "rings.csv", index=False)
    (tmp_path / "net.py").write_text(
        "from torch import nn\ndef net(): return nn.Sequential(nn.Linear(2, 64), nn.ReLU(), nn.Linear(64, 2))\n"
    )
    done = gramian_in("fit --data rings.csv --net net.py:net --out m.joblib")
    said = "The 2 biases of the module do not count under law 'he'"
    assert said in done.stderr
    assert "--law torch" in done.stderr
    assert said in gramian_in("kernel --data rings.csv --net net.py:net --out k.npy").stderr
    done = gramian_in("fit --data rings.csv --net net.py:net --law torch --out m.joblib")
    assert "do not count" not in done.stderr
    assert "test accuracy      100 %" in done.stdout
    net = torch.nn.Sequential(torch.nn.Linear(2, 64), torch.nn.ReLU(), torch.nn.Linear(64, 2))
    data = load(tmp_path / "rings.csv")
    with pytest.warns(UserWarning, match="The 2 biases of the module do not count"):
        NTKClassifier(net).fit(data.x, data.y)
    assert NTKClassifier(net, law="torch").fit(data.x, data.y).score(data.x_test, data.y_test) == 1


def test_bias_makes_a_difference(gramian_in, tmp_path):
    for name, option in (("without", ""), ("with", "--bias"), ("said", "--bias --law 1.4142135623730951,0.1")):
        done = gramian_in(f"kernel --data iris --n 20 --out {name}.npy {option}")
        assert done.exit_code == 0, done.stderr
        assert ("standard deviation 0.1" in done.stderr) == ("--bias" in option)
    without, biased = np.load(tmp_path / "without.npy"), np.load(tmp_path / "with.npy")
    assert np.abs(without - biased).max() > 1e-3
    x = load("iris", n=20).x
    net = gramian.network.zoo.mlp((4,), 3, bias=True)
    law = {"readout": (1.0, 0.1), "*": (2**0.5, 0.1)}
    np.testing.assert_allclose(biased, gramian.architecture(net, x[:2], law=law).ntk(x), rtol=1e-12)


def test_laws_by_layer_can_be_typed(gramian_in, tmp_path):
    done = gramian_in("kernel --data iris --n 20 --law readout=1,0;*=he --out a.npy")
    assert done.exit_code == 0, done.stderr
    gramian_in("kernel --data iris --n 20 --out b.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), np.load(tmp_path / "b.npy"))


def test_the_model_in_python(gramian_in, tmp_path, prices):
    gramian_in("fit --data p.csv --target price --missing mean --out m.joblib")
    model = joblib.load(tmp_path / "m.joblib")
    with pytest.warns(UserWarning, match="no such column: owner"):
        model.predict(prices.assign(owner=1))
    with pytest.raises(gramian.errors.GramianError, match="an array has no names of columns"):
        model.predict(prices.to_numpy())
    with pytest.raises(gramian.errors.GramianError, match="is not there: area"):
        model.predict(prices.drop(columns="area"))
    numbers = prices[["area", "built", "price"]].dropna()
    plain = fit(load(numbers, target="price"))
    np.testing.assert_array_equal(
        plain.predict(numbers[["area", "built"]].to_numpy()), plain.predict(numbers[["built", "area"]])
    )


def test_estimators_take_frames_and_tensors_and_refuse_classes_and_text(prices):
    numbers = prices[["area", "built"]].dropna()
    y = prices.price[numbers.index]
    from_frame = NTKRegressor().fit(numbers, y).predict(numbers)
    from_tensor = NTKRegressor().fit(torch.tensor(numbers.to_numpy()), torch.tensor(y.to_numpy())).predict(numbers.to_numpy())  # fmt: skip  # noqa: E501
    np.testing.assert_array_equal(from_frame, from_tensor)
    with pytest.raises(gramian.errors.BadData, match=r"column 'town' holds .*not numbers"):
        NTKRegressor().fit(prices[["area", "town"]].dropna(), prices.price[:158])
    with pytest.raises(gramian.errors.BadArgument, match="kernel=Linear is a class, not a network"):
        NTKRegressor(torch.nn.Linear).fit(numbers, y)
    with pytest.raises(gramian.errors.BadArgument, match="neither a module nor a function"):
        NTKRegressor("rbf").fit(numbers, y)
