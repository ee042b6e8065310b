"""`gramian kernel` and `gramian doctor`."""

import os
import sys

import numpy as np
import pytest
import torch

import gramian
from gramian.data import load
from gramian.library import library
from gramian.network.zoo import ZOO


@pytest.mark.parametrize("which", ["ntk", "nngp"])
def test_the_file_holds_what_python_gives(gramian_in, tmp_path, which):
    done = gramian_in(f"kernel --data digits --n 40 --net cnn --depth 3 --which {which} --out k.npy --seed 3")
    assert done.exit_code == 0, done.stderr
    data = load("digits", n=40, seed=3)
    x = data.x
    expected = getattr(gramian.architecture(ZOO["cnn"]((1, 8, 8), 10, depth=3), x[:2]), which)(x)
    found = torch.from_numpy(np.load(tmp_path / "k.npy"))
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
    assert [path.name for path in tmp_path.iterdir()] == ["k.npy"]


def test_a_folder_gets_tiles_and_a_second_call_completes_it(gramian_in, tmp_path):
    command = "kernel --data digits --n 300 --net mlp --out "
    assert gramian_in(command + "k.npy").exit_code == 0
    first = gramian_in(command + "tiles")
    assert first.exit_code == 0, first.stderr
    assert "tiles of 256 x 256; gramian.Gram.open('tiles') reads them" in " ".join(first.stdout.split())
    whole = np.load(tmp_path / "k.npy")
    assert np.array_equal(gramian.Gram.open(tmp_path / "tiles").dense().numpy(), whole)
    lost = tmp_path / "tiles" / "tile-00000-00001.safetensors"
    lost.unlink()
    kept = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "tiles").glob("*.safetensors")}
    second = gramian_in(command + "tiles")
    assert second.exit_code == 0
    assert "2 of 3 tiles were there." in second.stderr
    assert np.array_equal(gramian.Gram.open(tmp_path / "tiles").dense().numpy(), whole)
    for name, then in kept.items():
        assert (tmp_path / "tiles" / name).stat().st_mtime_ns == then
    other = gramian_in("kernel --data digits --n 300 --net mlp --depth 5 --out tiles")
    assert other.exit_code == 2
    assert "made with another kernel" in other.stderr


def test_ctrl_c_keeps_the_finished_tiles(gramian_in, tmp_path, monkeypatch):
    replace, tiles = os.replace, []

    def interrupted(name, path):
        if str(path).endswith(".safetensors"):
            tiles.append(path)
            if len(tiles) == 3:
                raise KeyboardInterrupt
        replace(name, path)

    monkeypatch.setattr(os, "replace", interrupted)
    done = gramian_in("kernel --data digits --n 300 --net mlp --out tiles")
    assert done.exit_code == 130
    assert "Interrupted: 2 of 3 tiles are in tiles; the same command goes on from there." in done.stderr
    assert len(list((tmp_path / "tiles").glob("*.safetensors"))) == 2


def test_it_prints_shape_diagonal_condition_and_time(gramian_in):
    words = {
        line.split()[0]: line for line in gramian_in("kernel --data digits --n 30 --out k.npy").stdout.splitlines()
    }
    assert list(words) == [
        "kernel",
        "biases",
        "data",
        "inputs",
        "shape",
        "diagonal",
        "eigenvalues",
        "condition",
        "time",
        "written",
    ]
    assert "30 x 30, float64" in words["shape"]
    x = load("digits", n=30).x.flatten(1)
    low, high = (3 * float(v) for v in (x.square().mean(1).min(), x.square().mean(1).max()))  # 3 layers, |x|^2 / d each
    assert words["diagonal"].split()[1:] == [f"{low:.3g}", "to", f"{high:.3g}"]
    assert "divided by 16 and not scaled further" in words["inputs"]


def test_a_law_as_a_pair_and_float32(gramian_in, tmp_path):
    gramian_in("kernel --data iris --n 20 --normalize standardize --law 1.5,0.5 --bias --dtype float32 --out k.npy")
    data = load("iris", n=20, normalize="standardize")
    x = data.x.float()
    expected = gramian.architecture(ZOO["mlp"]((4,), 3, bias=True), x[:2], law=(1.5, 0.5)).ntk(x)
    found = np.load(tmp_path / "k.npy")
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-5)


def test_small_data_are_split_and_not_refused(gramian_in):
    assert "iris, 120 rows" in gramian_in("kernel --data iris --out k.npy").stdout


def test_a_network_without_a_limit_names_the_layer(gramian_in, nets, tmp_path):
    done = gramian_in(f"kernel --data digits --n 10 --net {nets}:softmaxed --out k.npy")
    assert done.exit_code == 2
    assert "softmax" in done.stderr
    assert not (tmp_path / "k.npy").exists()


def test_a_kernel_larger_than_memory_is_refused(gramian_in, monkeypatch, tmp_path):
    # a machine with so little memory: what the operating system says cannot be said otherwise
    monkeypatch.setattr("gramian.predict.cost.free_memory", lambda: 4e5)
    monkeypatch.setattr("gramian.predict.cost.resident_memory", lambda: 0.0)
    done = gramian_in("kernel --data digits --n 1000 --out k.npy")
    assert done.exit_code == 2
    assert "a kernel of 1,000 rows takes" in done.stderr
    assert "fix: --n 200;" in done.stderr
    assert not (tmp_path / "k.npy").exists()
    done = gramian_in("kernel --data digits --out k.npy")  # nobody said how many
    assert done.exit_code == 0, done.stderr
    rows = len(np.load(tmp_path / "k.npy"))
    assert 150 < rows <= 206
    assert f"{rows} of 1,438 training rows were drawn: all would take about" in done.stderr


def test_doctor_finds_this_installation(gramian_in):
    done = gramian_in("doctor")
    assert done.exit_code == 0
    for line in (
        f"torch         {torch.__version__}",
        f"native  yes: C++, with {library().isa} instructions" if library().module else "native  not built: install",
        "cpu",
        "digits, iris, wine",
    ):
        assert line in done.stdout
    assert "--data-dir FOLDER, or export GRAMIAN_DATA=FOLDER" in done.stdout


@pytest.mark.usefixtures("without_native_library")
def test_doctor_says_how_to_get_the_native_engine_where_there_is_none(gramian_in):
    done = gramian_in("doctor")
    assert done.exit_code == 0
    assert done.stdout.count("not built: install from source") == 2  # among the engines, and in what is missing


def test_doctor_goes_on_where_the_data_folder_is_wrong(gramian_in):
    done = gramian_in("doctor --data-dir nowhere")
    assert done.exit_code == 0
    assert "no folder nowhere" in done.stdout


def test_doctor_says_what_cannot_be_imported(gramian_in, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    done = gramian_in("doctor")
    assert done.exit_code == 0
    assert "pip install --upgrade pyarrow" in done.stdout


def test_a_call_that_waits_for_its_turn_is_not_taken_for_a_slow_kernel():
    """On a machine with a load of 12 a product of one entry once took 0.05 s, and 20,000 rows 4,811 hours."""
    import time

    from gramian.predict.cost import seconds_per_entry, tile_for

    def waits(x, y=None):
        time.sleep(0.06)
        return x @ (x if y is None else y).mT

    per_entry = seconds_per_entry(waits, torch.randn(300, 3, dtype=torch.float64))
    assert per_entry < 1e-6
    assert tile_for(per_entry) >= 256
