"""What is done at once where memory is short: blocks of samples, or units apart, whichever takes fewer passes."""

from dataclasses import replace

import pytest
import torch
from pieces import workload
from shaped import GPT2, ViT
from zoo import mlp

from gramian.empirical.contraction.memory_plan import plans

NETS = {
    "mlp": (lambda: mlp(20, 64, 64, 64, 5), lambda: torch.randn(1, 20)),
    "ViT": (lambda: ViT(image=16, width=16, depth=3).eval(), lambda: torch.randn(1, 3, 16, 16)),
    "GPT-2": (GPT2, lambda: torch.randint(11, (1, 6))),
}


def load_of(name, numbers, full, n=40, m=None):
    build, draw = NETS[name]
    _, load = workload(build(), draw(), outputs="full" if full else "mean", max_bytes=8 * numbers)
    load = replace(load, n=n, m=m or n, symmetric=m is None)
    return load, load.units()


@pytest.mark.parametrize("full", [False, True], ids=["mean", "full"])
@pytest.mark.parametrize("m", [None, 30], ids=["x", "x and y"])
@pytest.mark.parametrize("name", NETS)
def test_every_unit_once_and_never_dearer_than_all_together(name, m, full):
    for numbers in (2**18, 2**20, 2**22):
        load, units = load_of(name, numbers, full, m=m)
        found, together = plans(load, units), load.together(units)
        assert [unit for plan in found for unit in plan.units] == units
        if together is not None:
            assert sum(map(load.cost, found)) <= load.cost(together)


@pytest.mark.parametrize("name", NETS)
def test_more_memory_is_never_dearer(name):
    costs = []
    for numbers in (2**18, 2**20, 2**22, 2**27):
        load, units = load_of(name, numbers, True)
        costs.append(sum(map(load.cost, plans(load, units))))
    assert costs == sorted(costs, reverse=True)
    assert len(plans(load, units)) == 1  # all fits


def test_units_go_apart_where_that_saves_passes():
    """40 images in an eighth of the memory that all of it wants."""
    load, units = load_of("ViT", 2**20, True)
    found = plans(load, units)
    assert len(found) > 1
    assert sum(map(load.cost, found)) < 0.7 * load.cost(load.together(units))
