"""What is done at once where memory is short: blocks of samples, or units apart, whichever takes fewer passes."""

import pytest
import torch
from shaped import GPT2, ViT
from zoo import mlp

from gramian.empirical.contraction.contracted_parameters import cheaper, make_units
from gramian.empirical.contraction.memory_plan import Budget, plans
from gramian.empirical.contraction.ntk import read
from gramian.empirical.modules.output_functions import Batch, Model

NETS = {
    "mlp": (lambda: mlp(20, 64, 64, 64, 5), lambda: torch.randn(1, 20)),
    "ViT": (lambda: ViT(image=16, width=16, depth=3).eval(), lambda: torch.randn(1, 3, 16, 16)),
    "GPT-2": (GPT2, lambda: torch.randint(11, (1, 6))),
}


def budget_of(name, numbers, full, n=40, m=None):
    build, draw = NETS[name]
    source, saved = read(Model(build()), Batch(draw()), None, full)
    budget = Budget(source, n, m or n, m is None, numbers, saved // 8)
    units = make_units(source.uses, source.parameters, False)
    return budget, [cheaper(u, n, m or n, source.n_outputs, full, budget.scratch) for u in units]


@pytest.mark.parametrize("full", [False, True], ids=["mean", "full"])
@pytest.mark.parametrize("m", [None, 30], ids=["x", "x and y"])
@pytest.mark.parametrize("name", NETS)
def test_every_unit_once_and_never_dearer_than_all_together(name, m, full):
    for numbers in (2**18, 2**20, 2**22):
        budget, units = budget_of(name, numbers, full, m=m)
        found, together = plans(budget, units), budget.together(units)
        assert [unit for plan in found for unit in plan.units] == units
        if together is not None:
            assert sum(map(budget.cost, found)) <= budget.cost(together)


@pytest.mark.parametrize("name", NETS)
def test_more_memory_is_never_dearer(name):
    costs = []
    for numbers in (2**18, 2**20, 2**22, 2**27):
        budget, units = budget_of(name, numbers, True)
        costs.append(sum(map(budget.cost, plans(budget, units))))
    assert costs == sorted(costs, reverse=True)
    assert len(plans(budget, units)) == 1  # all fits


def test_units_go_apart_where_that_saves_passes():
    """40 images in an eighth of the memory that all of it wants."""
    budget, units = budget_of("ViT", 2**20, True)
    found = plans(budget, units)
    assert len(found) > 1
    assert sum(map(budget.cost, found)) < 0.7 * budget.cost(budget.together(units))
