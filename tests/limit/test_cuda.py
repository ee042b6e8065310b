"""The CUDA engine: its device code run by a C++ compiler against the torch engine, and compiled for GPUs by nvcc."""

import contextlib
import os
import shutil
import subprocess
import sys
from functools import partial
from types import SimpleNamespace

import emulated
import pytest
import test_duals as duals
import torch
from hypothesis import HealthCheck, Phase, given, settings
from layers import LAYERS, architecture_of_layer
from test_native import NETWORKS, of, some
from test_native import error as error_of_engine
from test_planes import images_net, networks, off, read
from torch import nn

from gramian import architecture
from gramian.errors import BadArgument
from gramian.limit.cuda import device, images, vectors
from gramian.limit.cuda.plane_schedule import CONVOLVES, KEEPS, TAKES, Plan, plan
from gramian.limit.kernel_program import program
from gramian.limit.planes import prepare as plane_program

compiled = pytest.mark.skipif(
    emulated.COMPILER is None and not os.environ.get("CI"), reason="there is no C++ compiler to run device code with"
)


@pytest.fixture(scope="module")
def emulator(tmp_path_factory):
    return emulated.Emulated(tmp_path_factory.mktemp("device"))


@pytest.fixture
def gpu(emulator, monkeypatch):
    """A device that is this CPU, and engine="cuda" on it."""
    monkeypatch.setitem(device.DEVICES, "cpu", lambda number: emulator)
    return emulator


error = partial(error_of_engine, engine="cuda")


@compiled
@pytest.mark.parametrize(("law", "dtype"), [
    ("bias", torch.float32), ("no bias", torch.float64),
    *(pytest.param(*other, marks=pytest.mark.slow) for other in (("bias", torch.float64), ("no bias", torch.float32))),
])  # fmt: skip
@pytest.mark.parametrize("net", NETWORKS)
def test_vectors_agree_with_torch(net, law, dtype, gpu):
    arch = of(net, law)
    for y in (None, some(3, seed=1)):
        assert error(arch, some(5), y, dtype) < (1e-12 if dtype == torch.float64 else 1.1e-6)  # erf's slope: 8.4e-7


@compiled
@pytest.mark.parametrize(("name", "spread"), [("elu", 0.05), ("h > 0", 0.0), ("mish", 0.05), ("mish", 0.0)])
def test_tables_and_series_agree_with_torch(name, spread, gpu):
    """Tables with factors of many terms, with jumps, of a smooth function; a series of all powers."""
    arch, x = duals.of(name), duals.inputs(spread)
    assert error(arch, x[:3], x[3:], torch.float64) < 1e-12
    assert error(arch, x, None, torch.float32) < 2e-6


@compiled
def test_tiles_do_not_show_and_the_kernel_is_symmetric(gpu):
    arch, x = of("residual relu False", "bias"), some(75)
    whole = arch.kernels(x, engine="cuda")
    tiled = vectors.kernels(arch, program(arch), x, None, ntk=True, tile=40)
    for has, right in zip(tiled, whole, strict=True):
        torch.testing.assert_close(has, right, rtol=1e-13, atol=0)
        assert torch.equal(has, has.mT)


@compiled
@pytest.mark.parametrize("count", [2, 100])
def test_near_duplicates_are_taken_from_their_distance(count, gpu):
    """Few of them one by one; where they are many, all products in double."""
    arch = of("mlp relu", "no bias")
    x = (some(1) + 1e-4 * some(count, seed=1)).float()
    x = torch.cat([x, some(100, seed=2).float()]) if count == 2 else x
    expected, found = arch.ntk(x.double(), engine="torch"), arch.ntk(x, engine="cuda")
    scale = (expected.diagonal()[:, None] * expected.diagonal()).sqrt()
    assert float(((found - expected).abs() / scale).max()) < 1e-6
    lost = float(scale[0, 1] - expected[0, 1])
    assert abs(float(scale[0, 1]) - float(found[0, 1]) - lost) < 1e-2 * lost + 1e-7 * float(scale[0, 1])


@compiled
@given(networks())
@settings(
    deadline=None, max_examples=12, derandomize=True, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
)
def test_random_networks_agree_with_torch(gpu, network):
    module, shape = network
    torch.manual_seed(0)
    x, y = torch.randn(4, *shape), torch.randn(3, *shape)
    x[1, ..., : shape[-1] // 2] = 0  # variances of zero
    arch = architecture(module, x, law=(1.2, 0.3))
    if not runs_on_cuda(arch):
        return
    for other in (None, y):
        expected = arch.kernels(x, other, engine="torch")
        own = [k.diagonal() if other is None else k for k in expected]
        for found, k, scale in zip(arch.kernels(x, other, engine="cuda"), expected, own, strict=True):
            assert off(found, k, scale) < 1e-12
        single = arch.kernels(x.float(), None if other is None else y.float(), engine="cuda")
        for found, k, scale in zip(single, expected, own, strict=True):
            assert off(found, k, scale) < 5e-6
        alone = arch.nngp(x, other, engine="cuda")
        torch.testing.assert_close(alone, arch.kernels(x, other, engine="cuda")[0], rtol=1e-13, atol=0)


def runs_on_cuda(arch):
    return arch.explain().splitlines()[1] == "on a GPU: CUDA engine, where cuda.core is installed"


@compiled
@pytest.mark.parametrize("name", LAYERS)
def test_what_it_takes_of_the_registry_agrees(name, gpu):
    arch, x = architecture_of_layer(name), torch.randn(3, *LAYERS[name][1], generator=torch.Generator().manual_seed(3))
    if not runs_on_cuda(arch):
        with pytest.raises(BadArgument, match="The CUDA engine cannot compute this kernel"):
            arch.ntk(x, engine="cuda")
        return
    for found, k in zip(arch.kernels(x, engine="cuda"), arch.kernels(x, engine="torch"), strict=True):
        torch.testing.assert_close(found, k, rtol=1e-12, atol=1e-12)


class Skips(nn.Module):
    """A value that is read three times, the last time after others; strides that agree."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.third = (nn.Conv2d(3, 3, 3, padding=1) for _ in range(3))
        self.down, self.aside = nn.Conv2d(3, 3, 3, stride=2, padding=1), nn.Conv2d(3, 3, 1, stride=2)

    def forward(self, x):
        h = self.first(x)
        a = h + 0.5 * self.second(torch.relu(h))
        b = self.third(torch.relu(a)) - 0.3 * h
        c = torch.relu(b)
        return (self.down(c) + self.aside(c)).relu().mean((2, 3))


@compiled
@pytest.mark.parametrize("size", [8, 7])
def test_values_that_are_kept_come_back(size, gpu):
    module = nn.Sequential(Skips(), nn.Linear(3, 1))
    x = torch.randn(4, 3, size, size, generator=torch.Generator().manual_seed(1))
    arch = architecture(module, x, law=(1.3, 0.3))
    found = plan(plane_program(program(arch)))
    assert {KEEPS, TAKES, CONVOLVES} <= {op[0] for op in found.ops}
    assert found.axes[0].wraps == (size == 8)
    assert error(arch, x, None, torch.float64) < 1e-12
    assert error(arch, x, x[:2].flip(3), torch.float32) < 1e-6


@compiled
@pytest.mark.parametrize("pooled", [False, True])
def test_rows_in_registers_and_in_memory_agree_with_torch(pooled, gpu):
    """9 columns fit into registers, 33 only into memory."""
    for shape, held in (((3, 9, 9), "#define ROWS 16"), ((3, 2, 33), "#define ROWS 0")):
        x = torch.randn(3, *shape, generator=torch.Generator().manual_seed(2))
        module = images_net(pooled=pooled, bias=True)
        module(x)
        arch = architecture(module, x, law=(1.3, 0.3))
        gpu.started.clear()
        assert error(arch, x, None, torch.float32) < 1e-6
        assert {line for source, *_ in gpu.started for line in source.splitlines() if "define ROWS" in line} >= {held}
        assert error(arch, x, None, torch.float64) < 1e-12


@compiled
def test_full_width_and_two_tiles(gpu):
    """32 columns fill a warp; two tiles of images, and a network after the mean."""
    module = nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1), nn.ReLU(), nn.Conv2d(3, 3, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 1),
    )  # fmt: skip
    x = torch.randn(3, 2, 4, 32, generator=torch.Generator().manual_seed(2))
    arch = architecture(module, x, law=(1.3, 0.3))
    for dtype, bound in ((torch.float64, 1e-12), (torch.float32, 1e-6)):
        assert error(arch, x, None, dtype) < bound
    whole = arch.ntk(x, engine="cuda")
    _, tiled = images.kernels(arch, images.prepare(program(arch)), x, None, ntk=True, rows=2)
    torch.testing.assert_close(tiled, whole, rtol=1e-13, atol=0)
    assert torch.equal(tiled, tiled.mT)


@compiled
@pytest.mark.parametrize("pooled", [False, True])
@pytest.mark.parametrize("gap", [1e-8, 1e-6, 1e-4, 1e-2])
def test_nearly_equal_images_are_computed_again_in_double(gap, pooled, gpu):
    arch = read(images_net(pooled=pooled), 8)
    x = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(4))
    e = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(5))
    e -= (e * x).sum() / (x * x).sum() * x
    y = ((1 - gap) * x + (2 * gap - gap * gap) ** 0.5 * x.norm() / e.norm() * e).float()
    x = x.float()
    expected = arch.ntk(x.double(), y.double(), engine="torch")
    limit = (arch.ntk(x.double(), engine="torch") * arch.ntk(y.double(), engine="torch")).sqrt()
    gpu.started.clear()
    found = arch.ntk(x, y, engine="cuda")
    assert abs(found.double() - expected) < 3e-7 * limit
    again = [source for source, *_ in gpu.started if "#define REAL double" in source]
    assert bool(again) == (gap < 1e-3)


NOT_RUN = {
    "its planes mix": (nn.Conv2d(2, 3, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2), nn.Conv2d(3, 3, 2)),
    "the ReLU family and erf": (nn.Conv2d(2, 3, 3), nn.Tanh()),
}


@pytest.mark.parametrize("says", NOT_RUN)
def test_what_it_lacks_is_named(says, gpu):
    x = torch.randn(2, 2, 4, 4)
    body = nn.Sequential(*NOT_RUN[says], nn.Flatten())
    arch = architecture(nn.Sequential(*body, nn.Linear(body(x.float()).shape[1], 1)).double(), x.double())
    with pytest.raises(BadArgument, match=rf"(?s)CUDA engine cannot.*why: .*{says}.*fix: engine=\"auto\""):
        arch.ntk(x.double(), engine="cuda")
    assert says in arch.explain().splitlines()[1]


@pytest.fixture
def own_cuda_core():
    """`cuda.core` is looked for again, before and after."""
    device.library.cache_clear()
    yield
    device.library.cache_clear()


def test_explain_speaks_of_gpus():
    assert of("mlp relu", "bias").explain().endswith("on a GPU: CUDA engine, where cuda.core is installed")


def test_without_a_gpu_or_cuda_core_it_says_so(monkeypatch, own_cuda_core):
    arch, x = of("mlp relu", "bias"), some(2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(BadArgument, match=r"(?s)where: a GPU.*why: torch finds no CUDA device.*fix: engine=\"auto\""):
        arch.ntk(x, engine="cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for name in ("cuda.core", "cuda.core.experimental"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(
        BadArgument, match=r"(?s)where: cuda.core.*why: it is not installed: pip install 'gramian\[cuda"
    ):
        arch.ntk(x, engine="cuda")
    monkeypatch.setitem(sys.modules, "cuda.core", SimpleNamespace(Program=None))
    device.library.cache_clear()
    with pytest.raises(BadArgument, match=r"(?s)where: inputs, on cpu.*why: it runs on a GPU, where x.cuda\(\)"):
        arch.ntk(x, engine="cuda")


@pytest.mark.parametrize("legacy", [True, False])
def test_tf32_is_off_for_products_and_comes_back(legacy):
    """However it was allowed: torch refuses to read one of its two settings once the other was used."""
    chosen = torch.backends.cuda.matmul
    before = chosen.fp32_precision
    try:
        if legacy:
            torch.set_float32_matmul_precision("high")
        else:
            chosen.fp32_precision = "tf32"
        with vectors.exact_products():
            assert chosen.fp32_precision == "ieee"
        assert chosen.fp32_precision == "tf32"
    finally:
        torch.set_float32_matmul_precision("highest")
        chosen.fp32_precision = before


def test_places_of_kept_values_are_used_again():
    class Deep(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList(nn.Conv2d(3, 3, 3, padding=1) for _ in range(9))

        def forward(self, x):
            x = self.layers[0](x)
            for layer in self.layers[1:]:
                x = x + layer(x.relu())
            return x.relu().mean((2, 3))

    x = torch.zeros(1, 3, 8, 8)
    found = plan(plane_program(program(architecture(nn.Sequential(Deep(), nn.Linear(3, 1)), x))))
    assert isinstance(found, Plan)
    assert found.places == 1
    assert found.in_registers


SOURCES = {
    f"{kind} {str(dtype)[6:]} {'ntk' if ntk else 'nngp'}": (dtype, ntk, kind)
    for dtype, ntk in ((torch.float32, True), (torch.float64, True), (torch.float32, False))
    for kind in ("vectors", 0, 8, 16, 32)
    if (dtype, kind) != (torch.float64, 32)
}


def code_of(name):
    dtype, ntk, kind = SOURCES[name]
    if kind == "vectors":
        layers = "\n".join(
            ["DEVICE Value network(const Factors &f, Value in) {", "    Value v0 = in, v1 = affine(in, REAL(0.5));"]
            + [f"    v0 = {call};" for call in (
                "biased(f, 0, v0, REAL(1.0))", "slopes(v0, REAL(0.9))", "sum(f, 4, v0, v1)", "erf_layer(f, 8, v0)",
                "series(f, 14, v0, 5, 3)", "table(f, 22, v0, 16, 4, 1, true)", "jump(v0, REAL(2.0))",
            )] + ["    return v0;", "}", ""]
        )  # fmt: skip
        return device.source(dtype, ntk, "arccos.h", "angles.h", "vectors.h", layers, "vectors_tile.h")
    held = "planes_registers.h" if kind else "planes_memory.h"
    return device.source(dtype, ntk, *images.SHARED_CODE, held, "planes_run.h", rows=kind)


# one of each file of device code; the others differ in a number or a type, and take 2 to 6 s each
COMPILED_EACH_TIME = ("vectors float32 ntk", "0 float32 ntk", "16 float64 ntk")
NVCC = shutil.which("nvcc")


@pytest.mark.skipif(NVCC is None and not os.environ.get("CI"), reason="nvcc is not installed")
@pytest.mark.parametrize(
    "name", [n if n in COMPILED_EACH_TIME else pytest.param(n, marks=pytest.mark.slow) for n in SOURCES]
)
def test_device_code_compiles_for_gpus_without_large_spills(name, tmp_path):
    """For sm_90. Spilled registers are slow memory: a few may be, arrays that were meant to stay in registers not."""
    (tmp_path / "code.cu").write_text(device.whole(code_of(name)), encoding="utf-8")
    command = [NVCC, "-std=c++17", "-arch=sm_90", "-cubin", "-Xptxas", "-v", "-o", "code.cubin", "code.cu"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    line = next(line for line in (done.stderr + done.stdout).splitlines() if "bytes spill stores" in line)
    assert int(line.split(" bytes spill stores")[0].split(",")[-1]) < 512, line


@pytest.mark.skipif(device.library() is None, reason="cuda.core is not installed")
def test_nvrtc_takes_the_same_code(tmp_path):
    """Without a GPU: compiled, not loaded."""
    try:
        made = device.binary(code_of("8 float32 ntk"), (9, 0))
    except RuntimeError as error:
        pytest.skip(f"NVRTC is not installed: {type(error).__name__}")
    assert len(made.code) > 10_000


def test_a_launch_has_torch_s_stream_whole_blocks_and_eight_bytes_an_argument(monkeypatch, own_cuda_core):
    """What `cuda.core` gets, with one that only writes it down; each kernel is compiled once."""
    told = []
    core = SimpleNamespace(
        Device=lambda n: SimpleNamespace(set_current=lambda: None, create_stream=lambda s: s.__cuda_stream__()),
        LaunchConfig=lambda **settings: settings,
        ProgramOptions=lambda **options: told.append(options),
        Program=lambda code, code_type, options: SimpleNamespace(
            compile=lambda kind: SimpleNamespace(get_kernel=lambda name: (name, kind, "__shfl_sync" in code))
        ),
        launch=lambda *given: told.append(given),
    )
    monkeypatch.setitem(sys.modules, "cuda.core", core)
    monkeypatch.setattr(torch.cuda, "device", lambda n: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda n: SimpleNamespace(multi_processor_count=2))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda n: (9, 0))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: SimpleNamespace(cuda_stream=77))
    gpu, x = device.Gpu(0), torch.zeros(3)
    for _ in range(2):
        gpu.run("#include LANES", "planes", 9, (x, 5, 0.5))
    options, first, second = told
    assert options == {"std": "c++17", "arch": "sm_90"}
    stream, config, kernel, *arguments = first
    assert (stream, config) == ((0, 77), {"grid": 3, "block": 128})
    assert kernel == ("planes", "cubin", True)
    assert arguments == [x.data_ptr(), 5, 0.5]
    assert [getattr(a, "dtype", None) for a in arguments] == [None, "int64", "float64"]
    assert second == first
