"""`gramian fit` and `gramian predict`."""

import re

import joblib
import numpy as np
import pandas as pd

from gramian.data import load
from gramian.predict import NTKClassifier, fit


def test_the_model_is_what_python_gives_and_takes_rows_as_they_lie(gramian_in, tmp_path):
    done = gramian_in("fit --data digits --n 100 --n-test 50 --out m.joblib")
    assert done.exit_code == 0, done.stderr
    data = load("digits", n=100, n_test=50)
    x, x_test = (rows.flatten(1).numpy() for rows in (data.x, data.x_test))
    y, y_test = (np.array(data.classes)[labels.numpy()] for labels in (data.y, data.y_test))
    expected = NTKClassifier(input_shape=(1, 8, 8)).fit(x, y)
    model = joblib.load(tmp_path / "m.joblib")
    raw = 16 * x_test
    np.testing.assert_allclose(model.decision_function(raw), expected.decision_function(x_test), rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(fit(data).decision_function(raw), model.decision_function(raw), rtol=1e-12, atol=1e-12)
    share = 100 * expected.score(x_test, y_test)
    assert re.search(rf"test accuracy +{share:.0f} % of 50 rows", done.stdout), done.stdout


def test_predictions_leave_the_training_rows_out_of_the_score(gramian_in, tmp_path):
    gramian_in("fit --data iris --normalize standardize --out m.joblib")
    done = gramian_in("predict m.joblib --data iris --out p.csv")
    assert done.exit_code == 0, done.stderr
    assert "of 30 rows" in done.stdout
    assert "120 rows that it was trained on are left out" in done.stdout
    frame = pd.read_csv(tmp_path / "p.csv")
    assert list(frame.columns) == ["row", "prediction", "label", "trained_on"]
    assert frame.trained_on.sum() == 120
    share = (frame.prediction == frame.label)[~frame.trained_on].mean()
    assert f"{100 * share:.3g} %" in done.stdout


def test_a_table_without_labels_is_predicted(gramian_in, tmp_path):
    table = pd.DataFrame(np.random.default_rng(0).normal(size=(60, 2)), columns=["a", "b"])
    table.assign(label=np.where(table.a > 0, "up", "down")).to_csv(tmp_path / "t.csv", index=False)
    pd.DataFrame({"a": [2.0, -2.0], "b": [0.1, 0.1]}).to_csv(tmp_path / "u.csv", index=False)
    assert gramian_in("fit --data t.csv --out m.joblib").exit_code == 0
    done = gramian_in("predict m.joblib --data u.csv --out p.csv")
    assert done.exit_code == 0, done.stderr
    assert (tmp_path / "p.csv").read_text() == "row,prediction\n0,up\n1,down\n"


def test_regression_of_targets_of_any_unit(gramian_in, tmp_path):
    done = gramian_in("fit --data diabetes --normalize standardize --ridge 0.3 --bias --out m.joblib")
    found = re.search(r"test R² +(0\.\d+) of 88 rows", done.stdout)
    assert found is not None
    assert float(found[1]) > 0.3
    gramian_in("predict m.joblib --data diabetes --out p.csv")
    frame = pd.read_csv(tmp_path / "p.csv")
    assert abs(frame.prediction.mean() - frame.label.mean()) < 10  # in the unit of the targets, 25 .. 346


def test_rows_of_another_shape_and_files_that_are_no_model(gramian_in, tmp_path):
    gramian_in("fit --data iris --n 50 --out m.joblib")
    done = gramian_in("predict m.joblib --data wine")
    assert done.exit_code == 2
    assert "rows of shape 13; the model takes 4" in done.stderr
    (tmp_path / "other.joblib").write_bytes(b"no pickle")
    done = gramian_in("predict other.joblib --data iris")
    assert done.exit_code == 2
    assert "is no model of this version of gramian" in done.stderr
