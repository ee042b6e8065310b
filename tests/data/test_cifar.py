import zipfile

import numpy as np
import pytest
import torch

from gramian.data import cifar, load
from gramian.errors import BadData


def part(path, first, n, n_test=0):
    """Images whose red is the row number, green is full and blue is noise; LZMA, as in the wild."""
    rows = np.arange(first, first + n)
    arrays = {"train_x": _images(rows), "train_y": (rows % 10).astype(np.uint8)}
    if n_test:
        arrays |= {"test_x": _images(np.arange(n_test)), "test_y": (np.arange(n_test) % 10).astype(np.uint8)}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as file:
        for name, array in arrays.items():
            with file.open(f"{name}.npy", "w") as member:
                np.lib.format.write_array(member, array)


def _images(rows):
    x = np.broadcast_to(rows[:, None, None, None], (len(rows), 32, 32, 3)).astype(np.uint8)
    x[..., 1] = 255
    x[..., 2] = np.random.default_rng(0).integers(0, 256, x.shape[:3])
    return x


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "cifar10"
    place.mkdir()
    part(place / "cifar10_subset_train60_test20.npz", 0, 60, 20)
    part(place / "cifar10_train_60-99.npz", 60, 40)
    return place


def test_parts_are_one_set_in_official_order(folder):
    data = load("cifar10", data_dir=folder.parent, normalize="none")
    assert data.x.shape == (100, 3, 32, 32)
    assert data.x_test.shape == (20, 3, 32, 32)
    assert data.rows.tolist() == list(range(100))
    torch.testing.assert_close(data.x[:, 0, 3, 4] * 255, data.rows.double())
    assert (data.x[:, 1] == 1).all()
    assert data.y.equal(data.rows % 10)
    assert data.classes[3] == "cat"


def damage(path):
    """Near the end of the training images, whose bytes begin the file."""
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as file:
        info = file.getinfo("train_x.npy")
    end = info.header_offset + info.compress_size
    content[end - 8 : end] = b"\xff" * 8
    path.write_bytes(content)


def test_a_small_subset_leaves_the_other_parts_alone(folder):
    damage(folder / "cifar10_train_60-99.npz")
    data = load("cifar10", data_dir=folder.parent, n=20, n_test=10, normalize="none")
    assert np.bincount(data.y).tolist() == [2] * 10
    torch.testing.assert_close(data.x[:, 0, 0, 0] * 255, data.rows.double())
    assert any("first 60 of 100 training rows were read" in note for note in data.notes)
    with pytest.raises(BadData, match=r"(?s)cannot be read.*where: .*cifar10_train_60-99\.npz"):
        load("cifar10", data_dir=folder.parent, n=100)


def test_rows_are_decoded_no_further_than_needed(folder):
    found = cifar.find(folder)["train"][0]
    damage(found.path)
    assert (found.images(np.array([1, 3]))[:, 0, 5, 5] == [1, 3]).all()
    with pytest.raises(BadData, match=r"(?s)cannot be read.*where: .*member train_x.*fix: download or save"):
        found.images(np.array([1, 59]))


def test_what_is_missing_is_said(folder):
    data = load(folder, n=10)
    assert any("49,900 of 50,000 training images and 9,980 of 10,000 test images" in note for note in data.notes)
    (folder / "cifar10_subset_train60_test20.npz").write_bytes(b"PK nonsense")
    with pytest.raises(BadData, match=r"(?s)arrays cannot be read.*where: .*cifar10_subset.*truncated or damaged"):
        load(folder, n=10)


def test_an_empty_folder_says_what_to_put_there(tmp_path):
    (tmp_path / "cifar10").mkdir()
    with pytest.raises(BadData, match=r"(?s)no CIFAR-10 parts.*where: .*cifar10\*\.npz.*fix: np.savez_compressed"):
        load("cifar10", data_dir=tmp_path)


def test_images_of_another_form_are_refused(tmp_path):
    np.savez(tmp_path / "cifar10.npz", train_x=np.zeros((4, 3072), np.uint8), train_y=np.arange(4))
    with pytest.raises(BadData, match=r"shape \(4, 3072\) where bytes of shape \(n, h, w, 3\)"):
        load(tmp_path)
