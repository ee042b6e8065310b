"""One source runs on each instruction set: the loops for vectors and for planes, in float64 and float32."""

import os
import subprocess
import sys

import pytest
import torch
from test_native import some
from test_planes import images_net, off, read
from torch import nn

from gramian import architecture
from gramian.library import library

pytestmark = pytest.mark.skipif(library().module is None, reason="gramian was installed without a C++ compiler")
SCRIPT = """
import torch
from gramian.library import library
networks = torch.load("networks", weights_only=False)
kernels = [[arch.ntk(x, engine="native"), arch.ntk(x.float(), engine="native")] for arch, x in networks]
torch.save(kernels, "kernels")
print(library().isa)
"""
LOWER = ("SSE2", "NEON")  # what the machine lacks, a lower one computes
USED = {"base": LOWER, "avx2": ("AVX2", *LOWER), "avx512": ("AVX-512", "AVX2", *LOWER)}


@pytest.mark.parametrize("isa", USED)
def test_every_instruction_set_gives_the_same(isa, tmp_path):
    """In a process of its own: the choice is made once."""
    net = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8), nn.LeakyReLU(0.2), nn.Linear(8, 1))
    vectors, images = some(70), torch.randn(20, 3, 9, 9)
    networks = [
        (architecture(net, vectors[:2], law=(1.2, 0.5)), vectors),
        (read(images_net(4, pooled=True, stride=2), 9), images),
    ]
    torch.save(networks, tmp_path / "networks")
    environment = os.environ | {"GRAMIAN_ISA": isa}
    done = subprocess.run([sys.executable, "-c", SCRIPT], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() in USED[isa]
    kernels = torch.load(tmp_path / "kernels")
    for (arch, x), (double, single), accuracy in zip(networks, kernels, (1e-12, 1e-13), strict=True):
        expected = arch.ntk(x, engine="torch")
        torch.testing.assert_close(double, expected, rtol=accuracy, atol=0)
        assert off(single, expected, expected) < 1e-6
