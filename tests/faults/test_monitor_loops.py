"""A monitor in every kind of loop: watched, or one clear warning; and the run is the same bit for bit without it."""

import random
import warnings

import numpy as np
import pytest
import torch
from monitor_loops import run, state
from monitor_losses import LOOPS

from gramian import Monitor


@pytest.fixture(autouse=True)
def _single():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)  # as people have it
    yield
    torch.set_default_dtype(before)


def same(a, b):
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a.nan_to_num(7.0), b.nan_to_num(7.0))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def ends(name, optimizer, steps, watched):
    random.seed(3)
    np.random.seed(3)  # noqa: NPY002 (the global one is what modules draw from)
    loop, told = LOOPS[name], []

    def watch(net, made, loss, x, y):
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            monitor = Monitor(net, made, loss, x, y, share=1.0)
        told.extend(str(one.message) for one in found if "training goes on" in str(one.message))
        return monitor

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net, made, monitor, losses = run(loop, optimizer, steps, watch if watched else None)
        if monitor is not None:
            monitor.close()
        return state(net, made), losses, monitor, told


def check(name, optimizer="sgd", steps=4):
    if name in ("scripted", "traced"):  # torch.jit rounds otherwise once it has optimized, for all modules of a kind
        ends(name, optimizer, steps, watched=False)
    alone, losses, _, _ = ends(name, optimizer, steps, watched=False)
    beside, watched_losses, monitor, told = ends(name, optimizer, steps, watched=True)
    assert same(losses, watched_losses)
    assert same(alone, beside)
    assert monitor.step == steps
    assert monitor.watching == LOOPS[name].watched, (str(monitor), told)
    for text in told:
        assert all(part in text for part in ("  where: ", "  why: ", "  fix: ")), text
    assert len(told) <= 1, told
    if monitor.watching:
        trace = monitor.trace
        assert trace.measured["loss"].steps[-1] == steps
        assert trace.measured["distance"].values
        left_out = [name for name, why in trace.config["skipped"].items() if "failed" in why]
        assert bool(left_out) == bool(told)
    else:
        assert len(told) == 1
        assert "ot watched" in str(monitor)
    return monitor


@pytest.mark.parametrize("name", LOOPS)
def test_a_loop_is_watched_or_told_and_stays_the_same(name):
    check(name)
