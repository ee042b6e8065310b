"""Folders of images, a subfolder a class."""

import numpy as np
import pytest
import torch

from gramian.data import load
from gramian.errors import BadData


@pytest.fixture
def images(tmp_path):
    image = pytest.importorskip("PIL.Image")
    rng = np.random.default_rng(0)

    def save(name, size=(6, 5), mode="RGB", ending="png"):
        path = tmp_path / f"{name}.{ending}"
        path.parent.mkdir(parents=True, exist_ok=True)
        shape = size if mode == "L" else (*size, len(mode))
        pixels = rng.integers(0, 256, shape, dtype=np.uint8)
        image.fromarray(pixels, mode=None).save(path)
        return pixels

    return save


def test_pixels_classes_and_rows(images, tmp_path):
    pixels = [images(f"set/{kind}/{i}") for kind in ("cat", "dog") for i in range(5)]
    data = load(tmp_path / "set", n_test=2)
    assert data.classes == ("cat", "dog")
    assert data.x.shape == (8, 3, 6, 5)
    first = pixels[int(data.rows[0])]
    torch.testing.assert_close(data.x[0], torch.from_numpy(first).permute(2, 0, 1).double() / 255)
    assert data.y.tolist() == [int(row >= 5) for row in data.rows]
    assert data.scaling.says == "Inputs: divided by 255 and not scaled further."


def test_grey_images_and_a_test_folder(images, tmp_path):
    for split in ("train", "test"):
        for kind in ("a", "b"):
            for i in range(2 if split == "train" else 1):
                images(f"set/{split}/{kind}/{i}", mode="L", ending="jpg")
    data = load(tmp_path / "set")
    assert data.x.shape == (4, 1, 6, 5)
    assert data.x_test.shape == (2, 1, 6, 5)


def test_what_cannot_be_read_names_the_file(images, tmp_path):
    for kind in ("a", "b"):
        for i in range(3):
            images(f"set/{kind}/{i}")
    images("set/b/odd", size=(7, 5))
    with pytest.raises(BadData, match=r"(?s)an image of 5 x 7 pixels among images of 5 x 6.*where: .*odd\.png"):
        load(tmp_path / "set")
    (tmp_path / "set" / "b" / "odd.png").write_bytes(b"no image")
    with pytest.raises(BadData, match=r"(?s)image cannot be read.*odd\.png \(8 bytes\)"):
        load(tmp_path / "set")
    images("one/a/0")
    with pytest.raises(BadData, match="all 1 images are of one class, 'a'"):
        load(tmp_path / "one")
    (tmp_path / "none" / "text").mkdir(parents=True)
    with pytest.raises(BadData, match=r"(?s)no data in this folder.*which holds text/.*a subfolder a class"):
        load(tmp_path / "none")


def test_without_pillow_the_way_to_it_is_said(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "PIL", None)
    for kind in ("a", "b"):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / "0.png").write_bytes(b"")
    with pytest.raises(BadData, match=r'(?s)needs Pillow.*fix: pip install "gramian\[images\]"'):
        load(tmp_path)


def test_layouts_are_said_or_asked(tmp_path):
    path, y = tmp_path / "t.npz", np.array([0, 1, 0, 1])
    np.savez(path, x=np.zeros((4, 3, 8, 8)) + np.arange(4)[:, None, None, None], y=y)
    data = load(path, n_test=0)
    assert any("read with their 3 channels first" in note and "--layout" in note for note in data.notes)
    np.savez(path, x=np.random.default_rng(0).normal(size=(4, 3, 8, 4)), y=y)
    with pytest.raises(Exception, match=r"(?s)on the first axis or on the last one.*fix: layout="):
        load(path, n_test=0)
    assert load(path, n_test=0, layout="channels-last").in_shape == (4, 3, 8)
    assert load(path, n_test=0, layout="channels-first").in_shape == (3, 8, 4)
    np.savez(path, x=np.random.default_rng(0).normal(size=(4, 20, 2)), y=y)
    assert load(path, n_test=0, layout="channels-last").in_shape == (2, 20)
    assert any("Series of shape (20, 2) were read" in note for note in load(path, n_test=0).notes)
