"""What is said of the cost of a spectrum before it is computed."""

import torch

from gramian.certify import limit_cost as cost


def test_the_cost_of_a_spectrum_grows_with_the_cube_of_the_rows(monkeypatch):
    ticks = iter([10.0, 10.5])  # the trial takes half a second
    monkeypatch.setattr(cost.time, "perf_counter", lambda: next(ticks))
    assert cost.spectrum_seconds(torch.eye(2000)) == 0.0
    assert cost.spectrum_seconds(torch.eye(3000)) == 0.5 * 27
