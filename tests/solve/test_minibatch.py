"""SGD under a constant kernel takes the course of `gramian.train` on a linear model, batch by batch."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from gramian.solve import gradient_descent, minibatch_descent
from gramian.train import train
from gramian.train.batches import Batches


def drawn(n, size, steps, seed):
    batches = Batches(n, size, torch.Generator().manual_seed(seed))
    return [batches.next() for _ in range(steps)]


@pytest.mark.parametrize("size", [1, 4, 5, 11, 40])  # 4 and 5 leave a smaller batch at the end of each epoch of 11
def test_the_course_is_that_of_a_linear_model_trained_by_sgd(size):
    n, seed, lr, wanted = 11, 3, 0.005, [0, 1, 2, 3, 10, 25]
    x, y, x_test, y_test = torch.randn(n, 30), torch.randn(n, 3), torch.randn(6, 30), torch.randn(6, 3)
    start = nn.Linear(30, 3, bias=False)
    with torch.no_grad():
        r0, f0 = start(x) - y, start(x_test) - y_test
    cross = (x_test @ x.mT, f0)
    found, found_test = minibatch_descent(x @ x.mT, r0, lr, drawn(n, min(size, n), 25, seed), wanted, cross=cross)
    assert found.shape == (6, n, 3)
    assert found_test.shape == (6, 6, 3)
    for k, step in enumerate(wanted):
        net = copy.deepcopy(start)
        trace = train(net, x, y, optimizer="sgd", batch_size=size, lr=lr, steps=step, seed=seed, probes=("loss",))
        with torch.no_grad():
            torch.testing.assert_close(net(x) - y, found[k], rtol=0, atol=1e-10)
            torch.testing.assert_close(net(x_test) - y_test, found_test[k], rtol=0, atol=1e-10)
        assert trace.measured["loss"].values[-1] == pytest.approx(float(found[k].square().sum() / 2), rel=1e-10)


def test_another_seed_takes_another_course():
    theta, r0 = torch.eye(9) + 0.5, torch.randn(9, 2)
    one, other = (minibatch_descent(theta, r0, 0.05, drawn(9, 2, 5, seed), [5]) for seed in (0, 1))
    assert (one - other).abs().max() > 1e-3


def test_batches_of_all_rows_are_gradient_descent_in_any_order():
    j, r0 = torch.randn(7, 20), torch.randn(7, 2)
    theta, steps = j @ j.mT, [0, 1, 5, 30]
    sgd = minibatch_descent(theta, r0, 0.01, drawn(7, 7, 30, 0), steps)
    torch.testing.assert_close(sgd, gradient_descent(theta, r0, 0.01, steps), rtol=0, atol=1e-12)


@given(seed=st.integers(0, 10**6), size=st.integers(1, 6), lr=st.floats(1e-4, 0.1))
@settings(max_examples=25, deadline=None)
def test_the_average_over_one_step_of_each_batch_is_a_step_of_gradient_descent(seed, size, lr):
    """n / |S| makes it unbiased where the batches of an epoch share out the rows evenly."""
    made = torch.Generator().manual_seed(seed)
    n = 6 * size
    j, r0 = torch.randn(n, 8, generator=made), torch.randn(n, 2, generator=made)
    parts = torch.randperm(n, generator=made).split(size)
    steps = torch.stack([minibatch_descent(j @ j.mT, r0, lr, [rows], [1])[0] for rows in parts])
    torch.testing.assert_close(steps.mean(0), gradient_descent(j @ j.mT, r0, lr, [1])[0], rtol=1e-9, atol=1e-9)


def test_the_arguments_stay_as_they_are():
    theta, r0, cross = torch.eye(4), torch.ones(4, 1), (torch.ones(2, 4), torch.ones(2, 1))
    minibatch_descent(theta, r0, 0.1, [torch.tensor([0])] * 3, [3], cross=cross)
    assert bool((r0 == 1).all())
    assert bool((cross[1] == 1).all())
    assert torch.equal(theta, torch.eye(4))


def test_float32_arguments_are_computed_in_float64():
    r = minibatch_descent(torch.eye(3).float(), torch.ones(3, 1).float(), 0.5, [torch.arange(3)] * 60, [60])
    assert r.dtype == torch.float64
    assert float(r.abs().max()) == pytest.approx(0.5**60, rel=1e-6)
