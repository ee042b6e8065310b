"""What is not finite between input and kernel is refused with row and layer; any dtype and layout is taken or said."""

import contextlib
import re

import numpy as np
import pytest
import torch
from torch import nn
from torch.autograd import forward_ad

import gramian
from gramian.errors import BadArgument, BadData, GramianError
from gramian.sklearn import NTKRegressor

D = torch.float64
ENGINES = ("auto", "torch")


def net(act=None, inputs=3, depth=1):
    act = nn.ReLU() if act is None else act
    hidden = [m for i in range(depth) for m in (nn.Linear(inputs if i == 0 else 8, 8), act)]
    return gramian.architecture(nn.Sequential(*hidden, nn.Linear(8, 1)), torch.zeros(1, inputs))


def deep(depth, sigma_w):
    layers = [m for _ in range(depth) for m in (nn.Linear(3, 3), nn.ReLU())]
    return gramian.architecture(nn.Sequential(*layers, nn.Linear(3, 1)), torch.zeros(1, 3), law=(sigma_w, 0.0))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("act", [nn.ReLU(), nn.Tanh(), nn.Hardtanh(), nn.GELU()], ids=lambda a: type(a).__name__)
def test_a_norm_that_overflows_is_refused_with_its_row(act, engine):
    x = torch.tensor([[1.0, 1.0, 1.0], [1e20, 1.0, 2.0]], dtype=torch.float32)
    with pytest.raises(BadData, match=r"(?s)float32 at row 1.*where: 0 \(Linear\).*fix: scale the inputs.*x\.double"):
        net(act).ntk(x, engine=engine)
    with pytest.raises(BadData, match="rows 0 of x and 1 of x2"):
        net(act).ntk(x[:1], x, engine=engine)


@pytest.mark.parametrize(
    ("depth", "sigma_w", "dtype"),
    [(50, 8.0, torch.float32), (170, 12.0, D), pytest.param(500, 4.0, D, marks=pytest.mark.slow)],
)
def test_the_layer_where_the_variance_overflows_is_named(depth, sigma_w, dtype):
    arch, x = deep(depth, sigma_w), torch.tensor([[0.5, 1.0, -1.0], [1.0, 0.5, -1.0]], dtype=dtype)
    said = set()
    for ask in (lambda: arch.ntk(x), lambda: arch.ntk(x, engine="torch"), lambda: arch.diag(x)):
        with pytest.raises(BadData, match="variance below this layer is") as error:
            ask()
        said.add(re.search(r"where: (\d+)", str(error.value)).group(1))
    assert len(said) == 1  # one text in all engines


class Of(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function, self.net = function, nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 1))

    def forward(self, x):
        return self.net(self.function(x))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("function", [torch.log, torch.sqrt, lambda x: x / (x + 1)], ids=["log", "sqrt", "0/0"])
def test_what_is_made_of_the_inputs_and_is_no_number_is_refused(function, engine):
    arch = gramian.architecture(Of(function), torch.ones(1, 3))
    x = torch.tensor([[1.0, 2.0, 3.0], [1.0, -1.0, 2.0]])
    with pytest.raises(BadData, match=r"rows? 1"):
        arch.ntk(x, engine=engine)
    with pytest.raises(BadData, match=r"rows? 0"):
        arch.ntk(x[1:], x[:1], engine=engine)
    assert arch.ntk(x[:1], engine=engine).isfinite().all()


def test_half_precision_is_computed_in_single():
    torch.manual_seed(0)
    big = torch.randn(2, 150528, dtype=torch.float32)
    arch = gramian.architecture(nn.Sequential(nn.Linear(150528, 4), nn.ReLU(), nn.Linear(4, 1)), big[:1])
    single = arch.ntk(big)
    for dtype, rtol in ((torch.float16, 2e-3), (torch.bfloat16, 2e-2)):
        made = arch.ntk(big.to(dtype))
        assert made.dtype == dtype
        torch.testing.assert_close(made.float(), single, rtol=rtol, atol=rtol)
        assert arch.diag(big.to(dtype))[1].isfinite().all()
    with pytest.raises(BadData, match=r"not finite in torch\.float16 at row 0"):
        net().ntk(torch.full((1, 3), 3e4, dtype=torch.float16))


def test_two_precisions_become_one():
    x = torch.randn(2, 3, dtype=torch.float32)
    mixed = net().ntk(x, x.double())
    assert mixed.dtype == D
    torch.testing.assert_close(mixed, net().ntk(x.double(), x.double().clone()))
    torch.testing.assert_close(net().ntk(x.double(), x), mixed.mT)


def test_autocast_and_inference_mode_change_nothing():
    x, arch = torch.randn(2, 3, dtype=torch.float32), net()
    right = arch.ntk(x)
    for engine in ENGINES:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            torch.testing.assert_close(arch.ntk(x, engine=engine), right, rtol=1e-5, atol=1e-6)
            assert arch.diag(x)[1].dtype == torch.float32
        with torch.inference_mode():
            torch.testing.assert_close(arch.ntk(x.clone(), engine=engine), right, rtol=1e-5, atol=1e-6)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch.func.jvp scripts its own decompositions
def test_transforms_of_torch_func_are_refused_in_one_sentence():
    x, k = torch.randn(2, 3, dtype=torch.float32), net().ntk
    asks = (
        lambda: torch.func.jacrev(lambda z: k(z[None], x)[0])(x[0]),
        lambda: torch.func.vmap(lambda z: k(z[None], x)[0])(x),
        lambda: torch.func.grad(lambda z: k(z).sum())(x),
        lambda: torch.func.hessian(lambda z: k(z).sum())(x),
        lambda: torch.func.jvp(k, (x,), (x,)),
    )
    for ask in asks:
        with pytest.raises(BadArgument, match=r"(?s)torch\.func.*fix: x\.requires_grad_\(\) and torch\.autograd"):
            ask()
    with forward_ad.dual_level(), pytest.raises(BadArgument, match="forward-mode"):
        k(forward_ad.make_dual(x, x))


@pytest.mark.parametrize("engine", ENGINES)
def test_any_layout_of_memory(engine):
    torch.manual_seed(0)
    base = torch.randn(12, 3, dtype=D)
    readonly = np.array(base.numpy())
    readonly.flags.writeable = False
    for inputs, layouts in (
        (3, [base[::2], base.mT.contiguous().mT[:6], base[:1].expand(6, 3), base.flip(0)[:6]]),
        (1, [base[:6, :1], base[:6, 1:2], base.mT[:1].mT[:6], base[:1, :1].expand(6, 1),
             torch.as_strided(base[:, 0].contiguous(), (6, 1), (1, 0))]),
    ):  # fmt: skip
        arch = net(inputs=inputs)
        for x in layouts:
            plain = torch.tensor(x.tolist(), dtype=D)
            torch.testing.assert_close(arch.ntk(x, engine=engine), arch.ntk(plain, engine=engine), rtol=0, atol=1e-14)
            torch.testing.assert_close(arch.ntk(x[:1], x, engine=engine), arch.ntk(plain[:1], plain, engine=engine))
            torch.testing.assert_close(arch.ntk(x, x[:1], engine=engine), arch.ntk(plain, plain[:1], engine=engine))


def test_one_column_in_the_estimator():
    x = np.linspace(-1, 1, 20)[:, None]
    assert np.isfinite(NTKRegressor(ridge=1e-6).fit(x, np.sin(x[:, 0])).predict(x)).all()


class Own(torch.Tensor):
    pass


def test_other_kinds_of_tensors_are_taken_or_refused_in_a_sentence():
    x, arch = torch.randn(3, 3, dtype=torch.float32), net()
    for same in (x.as_subclass(Own), nn.Parameter(x), nn.Parameter(x, requires_grad=False)):
        torch.testing.assert_close(arch.ntk(same).detach(), arch.ntk(x), rtol=1e-6, atol=1e-6)
    for wrong in (x.int(), x.bool(), x + 1j, x.to_sparse(), x.numpy(), [[1.0, 2.0, 3.0]], x[:0], None):
        with pytest.raises(BadData, match=r"(?s)where: .*why: .*fix: "):
            arch.ntk(wrong)
    with pytest.raises(BadData, match="there are no rows"):
        arch.ntk(x, x[:0])
    assert arch.ntk(x[:1]).shape == (1, 1)


@pytest.mark.slow
def test_no_kernel_is_silently_not_finite():
    """Inputs of all sizes that a dtype has: a finite kernel or one of our errors."""
    torch.manual_seed(1)
    count = 0
    for dtype, sizes in ((torch.float32, (1e-30, 1e-10, 1e10, 1e18, 1e30)), (D, (1e-200, 1e-100, 1e100, 1e170))):
        for size in sizes:
            x = torch.randn(3, 3, dtype=dtype) * size
            for act in (nn.ReLU(), nn.Tanh(), nn.ELU()):
                for engine in ENGINES:
                    count += 1
                    with contextlib.suppress(GramianError):
                        assert net(act).ntk(x, engine=engine).isfinite().all()
    assert count == 54
