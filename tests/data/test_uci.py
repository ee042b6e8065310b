import numpy as np
import pytest

from gramian.data import available, load
from gramian.errors import BadArgument, BadData


def standardized(x):
    return (x - x.mean(0)) / x.std(0, ddof=1)


@pytest.fixture
def root(tmp_path):
    """Set `plain` without a test file, `apart` with one on another scale, `alike` with one on the same."""
    random = np.random.default_rng(0)
    x, y = standardized(random.normal(size=(20, 3))), np.arange(20) % 2
    splits = {f"fold{k}_train": np.r_[k : k + 12] for k in range(4)}
    splits |= {f"fold{k}_test": np.r_[k + 12 : k + 16] for k in range(4)}
    splits |= {"tune_train": np.arange(0, 20, 3), "tune_val": np.arange(1, 20, 3)}
    raw = 100 + 50 * random.normal(size=(8, 3))
    (tmp_path / "uci" / "small").mkdir(parents=True)
    for name, test in (("plain", None), ("apart", raw), ("alike", standardized(raw))):
        more = {} if test is None else {"X_test": test, "y_test": np.arange(8) % 2}
        np.savez(tmp_path / "uci" / "small" / f"{name}.npz", X=x, y=y, **splits, **more)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "rows", "n_test"),
    [
        ("plain", range(12), 4),
        ("plain:2", range(2, 14), 4),
        ("plain:tune", range(0, 20, 3), 7),
        ("alike", range(20), 8),
        ("alike:1", range(1, 13), 4),
        ("apart", range(12), 4),
    ],
)
def test_the_authors_own_splits(root, name, rows, n_test):
    data = load(f"uci:{name}", data_dir=root)
    assert data.rows.tolist() == list(rows)
    assert len(data.x_test) == n_test
    assert data.name == f"uci:{name}"


def test_a_test_file_on_another_scale_is_not_used_and_that_is_said(root):
    assert "another scale" in load("uci:apart", data_dir=root).notes[0]
    assert "each standardized by themselves" in load("uci:alike", data_dir=root).notes[0]
    assert load("uci:plain", data_dir=root).notes[:-1] == ()


def test_unknown_set_and_split(root):
    with pytest.raises(
        BadData, match=r"(?s)no UCI set 'plane' among the 3 found.*Did you mean 'plain'\?.*fix: uci:NAME"
    ):
        load("uci:plane", data_dir=root)
    with pytest.raises(BadArgument, match=r"(?s)no split '4' of plain.*fix: uci:plain:0"):
        load("uci:plain:4", data_dir=root)
    np.savez(root / "uci" / "odd.npz", X=np.zeros((2, 2)))
    with pytest.raises(BadData, match=r"(?s)arrays y, fold0_train, fold0_test are not there.*fix: give it by its path"):
        load("uci:odd", data_dir=root)


def test_doctor_counts_them(root):
    row = available(root)[-1]
    assert (row.name, row.present, row.note) == ("uci", True, "3 sets, as uci:NAME")
