import gzip
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gramian.data import load
from gramian.data.idx import IDX_FILES, IDX_TYPES, read_idx
from gramian.errors import BadData

CODES = {np.dtype(dtype): code for code, dtype in IDX_TYPES.items()}


def idx(array):
    array = array.astype(array.dtype.newbyteorder(">"))
    return struct.pack(f">HBB{array.ndim}I", 0, CODES[array.dtype], array.ndim, *array.shape) + array.tobytes()


@pytest.fixture
def folder(tmp_path):
    """Four files as MNIST has them, two of them gzipped: 40 and 30 images of 5 x 4 pixels, 3 classes."""
    place = tmp_path / "mnist"
    place.mkdir()
    random = np.random.default_rng(0)
    for name, n in zip(IDX_FILES, (40, 40, 30, 30), strict=True):
        pixels = random.integers(1, 256, (n, 5, 4)) if "images" in name else np.arange(n) % 3
        content = idx(pixels.astype(np.uint8))
        if "train" in name:
            (place / name).write_bytes(content)
        else:
            (place / f"{name}.gz").write_bytes(gzip.compress(content))
    return place


@given(array=hnp.arrays(st.sampled_from([np.dtype(t) for t in IDX_TYPES.values()]), hnp.array_shapes(max_dims=3)))
def test_every_type_and_shape_comes_back(array, tmp_path_factory):
    path = tmp_path_factory.mktemp("idx") / "a"
    path.write_bytes(idx(array))
    back = read_idx(path)
    assert back.dtype == array.dtype.newbyteorder("=")
    np.testing.assert_array_equal(back, array)


def test_a_folder_is_images_channels_first_with_its_official_test_set(folder):
    data = load("mnist", data_dir=folder.parent, n=9, normalize="none")
    assert data.x.shape == (9, 1, 5, 4)
    assert data.x_test.shape == (30, 1, 5, 4)
    assert np.bincount(data.y).tolist() == [3, 3, 3]
    images = read_idx(folder / IDX_FILES[0])
    np.testing.assert_array_equal((data.x[:, 0] * 255).round().numpy(), images[data.rows.numpy()])
    assert data.rows.numpy() % 3 == pytest.approx(data.y.numpy())
    assert load(folder, normalize="none").x.shape == (40, 1, 5, 4)


@pytest.mark.parametrize("cut", [0, 3, 10, 500])
def test_a_truncated_file_is_named(folder, cut):
    path = folder / IDX_FILES[0]
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(BadData, match=rf"(?s)where: .*{IDX_FILES[0]}.*why: .*fix: download or copy the file again"):
        load(folder)


def test_a_truncated_gz_is_named(folder):
    path = folder / f"{IDX_FILES[2]}.gz"
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[: size // 2])
    with pytest.raises(
        BadData, match=rf"(?s)gzip file cannot be read.*where: .*gz \({size // 2} bytes\).*truncated.*fix:"
    ):
        load(folder)


def test_wrong_magic_wrong_length_and_no_gzip(folder):
    path = folder / IDX_FILES[1]
    good = path.read_bytes()
    path.write_bytes(b"<html>" + good)
    with pytest.raises(BadData, match=r"(?s)not an idx file: it begins with 3c 68 74 6d.*why: .*error page"):
        load(folder)
    path.write_bytes(good + b"\0")
    with pytest.raises(BadData, match=r"(?s)49 bytes where the header \(shape \(40,\)\) says 48.*appended"):
        load(folder)
    path.unlink()
    (folder / f"{IDX_FILES[1]}.gz").write_bytes(good)
    with pytest.raises(BadData, match=r"(?s)cannot be read.*or not gzip"):
        load(folder)


def test_images_and_labels_must_match_and_all_files_be_there(folder):
    (folder / IDX_FILES[1]).write_bytes(idx(np.zeros(39, np.uint8)))
    with pytest.raises(BadData, match=r"train images of shape \(40, 5, 4\) do not go with labels of shape \(39,\)"):
        load(folder)
    (folder / IDX_FILES[1]).unlink()
    with pytest.raises(BadData, match=rf"(?s)1 of the 4 idx files of mnist are missing: {IDX_FILES[1]}\..*where:"):
        load(folder)


def test_one_idx_file_alone_points_to_its_folder(folder):
    with pytest.raises(BadData, match=r"(?s)no reader.*images or labels only.*fix: give the folder"):
        load(folder / f"{IDX_FILES[2]}.gz")
