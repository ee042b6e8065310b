"""Samples shared out over two processes: the same operator as of one, and errors that leave nobody waiting."""

import subprocess
import sys

import pytest
import torch
import torch.distributed as dist

from gramian.empirical import EmpiricalNTK

PROGRAM = """
import os, sys, datetime
import torch, torch.distributed as dist
from torch import nn
from gramian.empirical import EmpiricalNTK, GaussNewton
from gramian.errors import BadArgument, BadData
from gramian.gram import extreme_eigenvalues, log_determinant, trace

rank, folder = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2,
                        timeout=datetime.timedelta(seconds=300))
torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
net = nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 2))
x, y, group = torch.randn(40, 3), torch.randn(5, 3), dist.group.WORLD
mine = (slice(0, 13), slice(13, 40))[rank]  # shares of two sizes
theta, alone = EmpiricalNTK(net, x[mine], group=group, max_bytes=1), EmpiricalNTK(net, x)
assert theta.shape == alone.shape == (80, 80), theta.shape
assert "2 processes" in repr(theta)
v = torch.randn(80, 2)
product = theta @ v
torch.testing.assert_close(product, alone @ v, rtol=1e-12, atol=1e-12)
torch.testing.assert_close(theta.dense(), alone.dense(), rtol=1e-12, atol=1e-12)
other = [product.clone(), product.clone()]
dist.all_gather(other, product)
assert torch.equal(other[0], other[1]), "the processes must hold the same bits, or Lanczos parts ways"
two, both = EmpiricalNTK(net, x[mine], y[rank::2], "mean", group=group), EmpiricalNTK(net, x, y, "mean")
order = [0, 2, 4, 1, 3]  # the columns follow the ranks
torch.testing.assert_close(two @ torch.eye(5), (both @ torch.eye(5))[:, order], rtol=1e-12, atol=1e-12)
newton = GaussNewton(net, x[mine], group=group)
u = torch.randn(newton.shape[0])
torch.testing.assert_close(newton @ u, GaussNewton(net, x) @ u, rtol=1e-12, atol=1e-12)
for a, b in zip(extreme_eigenvalues(theta, 2), extreme_eigenvalues(alone, 2)):
    torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)
for f in (lambda op: trace(op, products=12), lambda op: log_determinant(op, 1.0, steps=10, probes=3)):
    assert abs(f(theta).value - f(alone).value) < 1e-8 * abs(f(alone).value)
wrapped = nn.parallel.DistributedDataParallel(net)
torch.testing.assert_close(EmpiricalNTK(wrapped, x[mine], group=group) @ v, product)
print("same")
try:
    bad = x[mine].clone()
    bad[2, 1] = torch.nan if rank else 0.0
    EmpiricalNTK(net, bad, group=group)
except (BadArgument, BadData) as error:
    print(error)
net[0].weight.data[0, 0] += rank * 1e-12
try:
    EmpiricalNTK(net, x[mine], group=group)
except BadArgument as error:
    print(error)
dist.barrier()
dist.destroy_process_group()
sys.stdout.flush()
os._exit(0)  # all is checked and said; a thread of gloo or DDP that still runs at Python's own exit ends in abort()
"""

pytestmark = pytest.mark.skipif(not dist.is_available(), reason="this torch was built without torch.distributed")


def test_two_processes_make_the_products_of_one_and_refuse_together(tmp_path):
    command = [sys.executable, "-c", PROGRAM]
    both = [
        subprocess.Popen(
            [*command, str(rank), str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for rank in range(2)
    ]
    said = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], said[0][1][-2000:] + said[1][1][-2000:]
    first, second = (out for out, _ in said)
    assert "1 of the other processes refused the module or its share of the samples." in first
    assert "`x` has 1 values that are NaN or infinite." in second
    assert "first at row 2, entry (1,)" in second
    for out in (first, second):
        assert out.startswith("same\n")
        assert "The parameters are not the same on all processes: a checksum of one of them is between" in out
        assert "fix: load the same state_dict on each" in out


def test_a_group_of_one(tmp_path):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    try:
        net, x = torch.nn.Linear(3, 2), torch.randn(4, 3)
        a, b = EmpiricalNTK(net, x, group=dist.group.WORLD), EmpiricalNTK(net, x)
        torch.testing.assert_close(a @ torch.eye(8), b @ torch.eye(8))
    finally:
        dist.destroy_process_group()
