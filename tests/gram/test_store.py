"""A stored Gram matrix is the one that was saved, or an error says why not; an interrupted save goes on."""

import json
import os
import pickle

import pytest
import torch

from gramian.errors import BadArgument, StaleTiles
from gramian.gram import Gram


class Rbf:
    """A kernel that counts its tiles and can be interrupted."""

    def __init__(self, width=1.0, stop_after=None):
        self.width, self.stop_after, self.calls = width, stop_after, 0

    def __call__(self, x, y=None):
        if len(x) > 4:  # the fingerprint probes 4 rows
            self.calls += 1
            if self.stop_after is not None and self.calls > self.stop_after:
                raise KeyboardInterrupt
        return torch.exp(-torch.cdist(x, x if y is None else y).square() / self.width)


@pytest.fixture
def x():
    return torch.randn(20, 3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rows", [None, 11])
def test_what_is_opened_is_what_was_saved(x, dtype, rows, tmp_path):
    y = None if rows is None else torch.randn(rows, 3)
    gram = Gram(Rbf(), x, y, tile=8, dtype=dtype)
    saved = gram.save(tmp_path / "a" / "tiles")
    opened = Gram.open(tmp_path / "a" / "tiles", x=x, x2=y, kernel=Rbf())
    assert opened.shape == gram.shape
    assert opened.dtype == dtype
    assert torch.equal(opened.dense(), gram.dense())
    assert torch.equal(saved.dense(), gram.dense())
    assert torch.equal(pickle.loads(pickle.dumps(opened)).dense(), gram.dense())
    assert torch.equal(opened.save(tmp_path / "b").dense(), gram.dense())
    assert not list(tmp_path.rglob(".gramian-*"))


def test_an_interrupted_save_resumes_and_keeps_what_was_finished(x, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        Gram(Rbf(stop_after=4), x, tile=7).save(tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) == 4
    with pytest.raises(
        StaleTiles, match=r"(?s)2 of 6 tiles are missing.*the save was interrupted.*fix: .*save\(path\)"
    ):
        Gram.open(tmp_path)
    kernel = Rbf()
    resumed = Gram(kernel, x, tile=7).save(tmp_path)
    assert kernel.calls == 2
    assert torch.equal(resumed.dense(), Gram(Rbf(), x, tile=7).dense())


def test_a_damaged_tile_is_refused_when_read_and_replaced_when_saved_again(x, tmp_path):
    whole = Gram(Rbf(), x, tile=10).save(tmp_path).dense().clone()
    file = tmp_path / "tile-00000-00001.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.unlink()  # a mapped file is not written into
    file.write_bytes(content)
    with pytest.raises(StaleTiles, match=r"(?s)tile-00000-00001.safetensors is missing or is not what was written"):
        Gram.open(tmp_path).dense()
    kernel = Rbf()
    assert torch.equal(Gram(kernel, x, tile=10).save(tmp_path).dense(), whole)
    assert kernel.calls == 1


def test_other_data_another_kernel_or_layout_are_refused(x, tmp_path):
    Gram(Rbf(), x, tile=10).save(tmp_path)
    other = x.clone()
    other[3, 1] += 1e-12
    with pytest.raises(StaleTiles, match=r"(?s)made from x = float64\[20, 3\] sha256:.*where: .*fix: "):
        Gram(Rbf(), other, tile=10).save(tmp_path)
    with pytest.raises(StaleTiles, match="made from x"):
        Gram.open(tmp_path, x=other)
    with pytest.raises(StaleTiles, match="made from x2"):
        Gram.open(tmp_path, x=x, x2=x)
    with pytest.raises(StaleTiles, match="made with another kernel"):
        Gram.open(tmp_path, x=x, kernel=Rbf(1.001))
    with pytest.raises(StaleTiles, match=r"stored with tile=10, asked for tile=5"):
        Gram(Rbf(), x, tile=5).save(tmp_path)
    with pytest.raises(StaleTiles, match=r"dtype=float64, asked for dtype=float32"):
        Gram(Rbf(), x, tile=10, dtype=torch.float32).save(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": "other"}'])
def test_a_folder_that_is_no_store_is_refused(text, tmp_path):
    if text:
        (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(StaleTiles, match=r"(?s)no tiles could be opened.*manifest\.json.*fix: "):
        Gram.open(tmp_path)


def test_the_manifest_never_names_a_tile_that_is_not_there(x, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        Gram(Rbf(stop_after=3), x, tile=7).save(tmp_path)
    named = set(json.loads((tmp_path / "manifest.json").read_text())["tiles"])
    assert named == {file.name for file in tmp_path.glob("*.safetensors")}


def test_an_unwritable_folder_gets_four_parts(x, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BadArgument, match=r"(?s)cannot be written.*where: .*why: .*fix: "):
        Gram(Rbf(), x).save(tmp_path / "file" / "tiles")
    if os.geteuid():  # root may write anywhere
        (tmp_path / "locked").mkdir(mode=0o500)
        with pytest.raises(BadArgument, match="cannot be written"):
            Gram(Rbf(), x).save(tmp_path / "locked")
