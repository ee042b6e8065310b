"""The monitor and the advice in one of several processes: as in one, and without a word that the others must answer."""

import subprocess
import sys

import pytest
import torch
import torch.distributed as dist
from torch import nn

from gramian import Monitor
from gramian.train.forward import evaluating, statistics_of

pytestmark = pytest.mark.skipif(not dist.is_available(), reason="this torch was built without torch.distributed")

HEAD = """
import os, sys, datetime, json
import torch, torch.distributed as dist
from torch import nn
import gramian
from gramian.errors import BadArgument

rank, folder = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2,
                        timeout=datetime.timedelta(seconds=300))
torch.manual_seed(0)
x, y = torch.randn(24, 6), torch.arange(24) % 3
net = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3))
loss = nn.CrossEntropyLoss()
"""

WATCHED = (
    HEAD
    + """
ends = []
for watched in ((), (0,), (0, 1)):  # by nobody, by the first process alone, by each on its own
    torch.manual_seed(1)
    alone = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3))
    ddp = nn.parallel.DistributedDataParallel(alone)
    adam = torch.optim.Adam(ddp.parameters(), lr=0.01)
    monitor = gramian.Monitor(ddp, adam, loss, x, y, share=1.0) if rank in watched else None
    for step in range(12):
        mine = torch.arange(rank, 24, 2)[step % 4 :]
        adam.zero_grad()
        loss(ddp(x[mine]), y[mine]).backward()
        adam.step()
        if step == 5 and rank in watched:
            monitor.answer()
            gramian.suggest(ddp, (x, y), loss, adam, rehearse=3)
    if monitor is not None:
        assert monitor.step == 12
        assert monitor.trace.measured["kernel_drift"].steps[0] == 0
        assert not monitor.trace.config["skipped"].keys() & {"edge", "kernel_drift", "loss"}
        assert "layers" not in str(monitor.trace.measured["distance"].labels)
        monitor.report(f"{folder}/report-{len(watched)}-{rank}")
    ends.append(torch.cat([p.detach().flatten() for p in alone.parameters()]))
assert torch.equal(ends[0], ends[1]) and torch.equal(ends[0], ends[2]), "watching changed the run"
dist.barrier()
print("done", json.dumps(monitor.answer()))
dist.barrier()
dist.destroy_process_group()
sys.stdout.flush()
os._exit(0)  # all is said; a thread of gloo or DDP that still runs at Python's own exit ends in abort()
"""
)

SHARDED = (
    HEAD
    + """
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

fully_shard(net, mesh=init_device_mesh("cpu", (2,)))
sgd = torch.optim.SGD(net.parameters(), 0.1)
looks = (
    lambda: gramian.Monitor(net, sgd, loss, x, y),
    lambda: gramian.suggest(net, (x, y), loss, sgd),
    lambda: gramian.empirical_ntk(net.eval(), x),
    lambda: gramian.EmpiricalNTK(net, x, group=dist.group.WORLD),
)
import warnings
for look in looks:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)
            look()
    except (BadArgument, RuntimeWarning) as error:  # the monitor tells it and watches nothing
        print(error)
dist.barrier()
dist.destroy_process_group()
sys.stdout.flush()
os._exit(0)  # all is said; a thread of gloo or DDP that still runs at Python's own exit ends in abort()
"""
)


def said_by_two(program, folder):
    both = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(rank), str(folder)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    said = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], said[0][1][-2000:] + said[1][1][-2000:]
    return [out for out, _ in said]


def test_under_distributed_data_parallel_it_watches_where_it_is_made_and_changes_nothing(tmp_path):
    for out in said_by_two(WATCHED, tmp_path):
        assert "done" in out
        assert "The learning rate is" in out
    for name in ("report-1-0", "report-2-0", "report-2-1"):
        assert (tmp_path / name / "report.html").exists()
    assert not (tmp_path / "report-1-1").exists()


def test_sharded_parameters_are_refused(tmp_path):
    for out in said_by_two(SHARDED, tmp_path):
        assert out.count("The module's parameters are spread over processes (FSDP).\n  where: ") == 4
        assert (
            out.count("\n  why: what is measured is computed in one process, from whole parameters\n  fix: Dist") == 4
        )


def test_synchronized_batch_normalization_is_measured_without_the_others(tmp_path):
    """In training mode it waits for the other processes (and on a CPU it raises): only eval mode may be used."""
    torch.manual_seed(0)
    x, y = torch.randn(24, 2, 5, 5), torch.arange(24) % 3
    one = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(36, 3))
    other = nn.SyncBatchNorm.convert_sync_batchnorm(one)
    answers = []
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    try:
        for net in (one, other):
            sgd = torch.optim.SGD(net.parameters(), 0.1)
            answers.append(Monitor(net, sgd, nn.CrossEntropyLoss(), x, y).trace.measured)
    finally:
        dist.destroy_process_group()
    assert answers[0].keys() == answers[1].keys()
    for name in ("gram_max", "edge", "loss"):
        assert answers[0][name].values == pytest.approx(answers[1][name].values)


def test_held_statistics_make_the_function_that_training_has_and_leave_the_buffers():
    torch.manual_seed(0)
    net, x = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.BatchNorm1d(8)), torch.randn(20, 3)
    before = {name: t.clone() for name, t in net.named_buffers()}
    trained = net(x).detach()
    net.load_state_dict(net.state_dict() | before)
    with evaluating(net), statistics_of(net, x):
        torch.testing.assert_close(net(x).detach(), trained)
        torch.testing.assert_close(net(x[:3]).detach(), trained[:3])
    assert all(torch.equal(before[name], t) for name, t in net.named_buffers())
    assert not [m for m in net.modules() if m._forward_pre_hooks]
