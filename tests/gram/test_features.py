"""Stored features are those that were made; a killed worker loses the tile it was at; other ones are refused."""

import os
import pickle
import signal
import subprocess
import sys
import time

import pytest
import torch
from torch import nn

from gramian.empirical import Sketch, projected_gradients
from gramian.errors import BadArgument, BadData, StaleTiles
from gramian.gram import Features, Gram, store_features


class Counted:
    """Features of a small network, counting the tiles made; the fingerprint asks for at most 4 rows."""

    def __init__(self, seed=0, stop_after=None):
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2))
        self.sketch, self.stop_after, self.calls = Sketch(32, seed=seed), stop_after, 0

    def __call__(self, x):
        if len(x) > 4:
            self.calls += 1
            if self.stop_after is not None and self.calls > self.stop_after:
                raise KeyboardInterrupt
        return projected_gradients(self.net, x, self.sketch)


@pytest.fixture
def x():
    return torch.randn(46, 3, generator=torch.Generator().manual_seed(1))


def test_what_is_opened_is_what_was_made(x, tmp_path):
    make = Counted()
    phi = store_features(make, x, tmp_path / "a", tile=10)
    expected = Counted()(x)
    for found in (phi, Features.open(tmp_path / "a", x=x), pickle.loads(pickle.dumps(phi))):
        assert found.shape == (46, 32)
        torch.testing.assert_close(found.dense(), expected)
        torch.testing.assert_close(found @ torch.ones(32), expected.sum(1))
        torch.testing.assert_close(found.moments(), expected.mT @ expected)
        torch.testing.assert_close(found.moments(x), expected.mT @ x)
    assert make.calls == 5
    assert repr(phi) == f"Features(46 x 32, 5 tiles in {tmp_path / 'a'})"
    assert not list(tmp_path.rglob(".gramian-*"))


def test_an_interrupted_worker_goes_on_where_it_stopped(x, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        store_features(Counted(stop_after=3), x, tmp_path, tile=10)
    with pytest.raises(
        StaleTiles, match=r"(?s)2 of 5 tiles are missing.*interrupted.*fix: store_features\(features, x"
    ):
        Features.open(tmp_path)
    again = Counted()
    phi = store_features(again, x, tmp_path, tile=10)
    assert again.calls == 2
    torch.testing.assert_close(phi.dense(), Counted()(x))


PROGRAM = """
import sys, time, torch
from gramian.gram import store_features
torch.set_default_dtype(torch.float64)
def slow(x):
    if len(x) > 4:
        print("tile", flush=True)
        time.sleep(0.3)
    return torch.cat([x, x.square()], 1)
store_features(slow, torch.arange(80.0).reshape(40, 2), sys.argv[1], tile=5)
"""


def test_a_killed_worker_loses_the_tile_it_was_at(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    for _ in range(4):
        process.stdout.readline()
    time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    calls = []

    def features(x):
        calls.append(len(x))
        return torch.cat([x, x.square()], 1)

    x = torch.arange(80.0).reshape(40, 2)
    phi = store_features(features, x, tmp_path, tile=5)
    assert calls.count(5) == 8 - 3
    assert torch.equal(phi.dense(), torch.cat([x, x.square()], 1))


def test_a_damaged_tile_is_refused_and_repaired(x, tmp_path):
    phi = store_features(Counted(), x, tmp_path, tile=10).dense().clone()
    file = tmp_path / "tile-00002-00000.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.unlink()  # a mapped file is not written into
    file.write_bytes(content)
    with pytest.raises(StaleTiles, match=r"(?s)tile-00002-00000.safetensors is missing or is not what was written"):
        Features.open(tmp_path).dense()
    again = Counted()
    assert torch.equal(store_features(again, x, tmp_path, tile=10).dense(), phi)
    assert again.calls == 1


def test_other_data_sketches_and_sizes_are_refused(x, tmp_path):
    store_features(Counted(), x, tmp_path, tile=10)
    with pytest.raises(StaleTiles, match=r"(?s)made with another kernel.*into another folder for other data"):
        store_features(Counted(seed=1), x, tmp_path, tile=10)
    with pytest.raises(StaleTiles, match=r"(?s)stored with tile=10, asked for tile=11"):
        store_features(Counted(), x, tmp_path, tile=11)
    with pytest.raises(StaleTiles, match=r"(?s)made from x = float64\[46, 3\] sha256"):
        Features.open(tmp_path, x=x + 1)
    with pytest.raises(StaleTiles, match=r"(?s)its format is 'gramian features 1'"):
        Gram.open(tmp_path)
    Gram(lambda a, b=None: a @ (a if b is None else b).mT, x, tile=20).save(tmp_path / "gram")
    with pytest.raises(StaleTiles, match=r"(?s)its format is 'gramian tiles 1'.*not written by store_features"):
        Features.open(tmp_path / "gram")
    with pytest.raises(BadArgument, match=r"(?s)the features of 1 rows have shape \(2, 3\).*fix: projected_gradients"):
        store_features(lambda rows: torch.ones(2, 3), x, tmp_path / "b")
    with pytest.raises(BadArgument, match="tile=0"):
        store_features(Counted(), x, tmp_path / "b", tile=0)
    with pytest.raises(BadData, match="there are no rows"):
        store_features(Counted(), x[:0], tmp_path / "b")
