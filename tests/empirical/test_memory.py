"""The working memory stays under `max_bytes`."""

import subprocess
import sys

import pytest
import torch
from pieces import workload
from torch import nn
from torch.profiler import profile
from zoo import mlp

from gramian.empirical import empirical_ntk
from gramian.empirical.contraction.memory_plan import planned
from gramian.errors import BadArgument


def peak_bytes(run):
    """Most bytes that torch held at once for `run`, by its own allocator's log, and the result."""
    with profile(profile_memory=True) as log:
        result = run()
    now = peak = 0
    events = (e for e in log.profiler.kineto_results.events() if e.name() == "[memory]")
    for event in sorted(events, key=lambda e: e.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return peak, result


def conv():
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        nn.ReLU(),
        nn.GroupNorm(4, 16),
        nn.Conv2d(16, 16, 3),
        nn.Flatten(),
        nn.Linear(256, 4),
    )


class Tokens(nn.Module):
    """Linear maps of 12 tokens each, whose gradients are formed late."""

    def __init__(self):
        super().__init__()
        self.layers, self.head = mlp(20, 64, 64, 64), nn.Linear(64, 5)

    def forward(self, x):
        return self.head(self.layers(x).mean(1))


NETS = {"mlp": (lambda: mlp(20, 64, 64, 64, 5), (20,)), "conv": (conv, (3, 6, 6)), "tokens": (Tokens, (12, 20))}


@pytest.mark.parametrize("outputs", ["mean", "full"])
def test_of_tokens_inputs_are_kept_and_gradients_formed_late(outputs):
    _, load = workload(Tokens(), torch.randn(30, 12, 20), outputs=outputs)
    late = [unit.name for plan in planned(load) for unit in plan.units if unit.late]
    assert late == ["layers.2.weight", "layers.4.weight"]


@pytest.mark.parametrize("outputs", ["mean", "full"])
@pytest.mark.parametrize("two", [False, True], ids=["x", "x and y"])
@pytest.mark.parametrize(("make", "shape"), NETS.values(), ids=NETS.keys())
def test_peak_stays_under_the_bound(make, shape, two, outputs):
    net, x = make(), torch.randn(30, *shape)
    y = torch.randn(25, *shape) if two else None
    free, expected = peak_bytes(lambda: empirical_ntk(net, x, y, outputs))
    bound = (free - expected.nbytes) // 3
    peak, theta = peak_bytes(lambda: empirical_ntk(net, x, y, outputs, max_bytes=bound))
    assert peak - theta.nbytes < bound
    assert peak - theta.nbytes > bound / 5  # and it is used
    torch.testing.assert_close(theta, expected, rtol=1e-10, atol=1e-10)


PROGRAM = """
import re, torch
from pathlib import Path
from torch import nn
from gramian.empirical import empirical_ntk

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024

torch.set_num_threads(1)
net = nn.Sequential(nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.Flatten(),
                    nn.Linear(32 * 256, 10))
empirical_ntk(net, torch.randn(3, 3, 16, 16))
x = torch.randn(192, 3, 16, 16)
for max_bytes in (2**26, 2**30):
    before = peak()
    empirical_ntk(net, x, max_bytes=max_bytes)
    print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_the_process_grows_by_no_more():
    """192 images, 10 outputs: the per-sample gradients alone would be 192 x 10 x 92,000 numbers of 4 bytes."""
    run = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    bounded, free = map(int, run.stdout.split())
    assert bounded < 2**26
    assert bounded + free > 2**26  # what it takes if it may


def test_too_little_memory_is_refused_with_what_would_do():
    net, x = mlp(20, 64, 64, 5), torch.randn(6, 20)
    with pytest.raises(
        BadArgument, match=r"(?s)one pair of samples needs about [\d,]+ bytes.*where: parameter `0.weight`"
    ):
        empirical_ntk(net, x, max_bytes=3000)
    with pytest.raises(BadArgument) as error:
        empirical_ntk(net, x, max_bytes=100)
    assert error.value.fix.startswith("max_bytes=")
