"""Limit kernels at places that the other tests do not have: odd inputs, deep networks, other spellings of variance."""

import math

import mpmath
import numpy as np
import pytest
import torch
from torch import nn

import gramian
from gramian.errors import GramianError

D = torch.float64


def arch_of(act, inputs=3, law=(1.2, 0.3), depth=1):
    layers = [m for i in range(depth) for m in (nn.Linear(inputs if i == 0 else 8, 8), act)]
    return gramian.architecture(nn.Sequential(*layers, nn.Linear(8, 1)), torch.zeros(1, inputs), law=law)


def relu_in_50_digits(x, y, depth, w, b):
    """NNGP and NTK of a ReLU network, by the arc-cosine recursion; x, y lists of numbers."""
    mpmath.mp.dps = 50
    w, b = mpmath.mpf(w), mpmath.mpf(b)
    x, y = [mpmath.mpf(t) for t in x], [mpmath.mpf(t) for t in y]

    def first(u, v):
        return w**2 * mpmath.fsum(s * t for s, t in zip(u, v, strict=True)) / len(u) + b**2

    q, k, p = first(x, x), first(x, y), first(y, y)
    theta = k
    for _ in range(depth):
        s = mpmath.sqrt(q * p)
        c = mpmath.mpf(0) if s == 0 else max(min(k / s, 1), -1)
        angle = mpmath.acos(c)
        mean = s * (mpmath.sqrt(1 - c * c) + (mpmath.pi - angle) * c) / (2 * mpmath.pi)
        slope = (mpmath.pi - angle) / (2 * mpmath.pi)
        q, k, p = w**2 * q / 2 + b**2, w**2 * mean + b**2, w**2 * p / 2 + b**2
        theta = k + w**2 * slope * theta
    return float(k), float(theta)


@pytest.mark.parametrize("engine", ["auto", "torch"])
def test_norms_of_any_size_against_50_digits(engine):
    """Down to where squares have no place, and up; rows of zeros; x and -x."""
    base = torch.tensor([[0.3, -1.0, 0.5], [-0.3, 1.0, -0.5], [0.0, 0.0, 0.0], [1.0, 0.2, 0.1]], dtype=D)
    for size in (1e-150, 1e-9, 1.0, 1e9, 1e150):
        for depth, bias in ((1, 0.0), (3, 0.0), *([(2, 0.3)] if size <= 1 else [])):
            x = size * base
            k, theta = arch_of(nn.ReLU(), law=(1.2, bias), depth=depth).kernels(x, engine=engine)
            for i in range(4):
                for j in range(i, 4):
                    right = relu_in_50_digits(x[i].tolist(), x[j].tolist(), depth, 1.2, bias)
                    top = math.sqrt(float(k[i, i] * k[j, j])), math.sqrt(float(theta[i, i] * theta[j, j]))
                    least = 1e-310  # numbers below have few digits
                    assert float(k[i, j]) == pytest.approx(right[0], rel=1e-12, abs=1e-13 * top[0] + least)
                    assert float(theta[i, j]) == pytest.approx(right[1], rel=1e-12, abs=1e-13 * top[1] + least)


@pytest.mark.slow
def test_a_network_of_a_thousand_layers():
    x = torch.tensor([[0.3, -1.0, 0.5], [1.0, 0.2, 0.1]], dtype=D)
    arch = arch_of(nn.ReLU(), law="he", depth=1000)
    k, theta = arch.kernels(x)
    right = relu_in_50_digits(x[0].tolist(), x[1].tolist(), 1000, math.sqrt(2), 0.0)
    assert float(k[0, 1]) == pytest.approx(right[0] / 2, rel=1e-9)  # the readout has sigma_w 1
    assert bool(theta.isfinite().all())


FORMS = {
    "float16": lambda x: x.half(),
    "bfloat16": lambda x: x.bfloat16(),
    "turned": lambda x: x.T.contiguous().T,
    "every second": lambda x: torch.stack([x, x], 2).flatten(1)[:, ::2],
    "one row again and again": lambda x: x[:1].expand(5, 3),
    "a leaf": lambda x: nn.Parameter(x),
    "reversed": lambda x: torch.from_numpy(np.ascontiguousarray(x.numpy()[::-1])).flip(0),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("act", [nn.ReLU(), nn.Tanh()], ids=["relu", "tanh"])
def test_inputs_of_any_form_have_the_kernel_of_their_numbers(form, act):
    x = FORMS[form](torch.randn(5, 3, dtype=D, generator=torch.Generator().manual_seed(0)))
    plain, arch = torch.tensor(x.tolist(), dtype=D), arch_of(act)
    right = arch.ntk(plain)
    found = arch.ntk(x)
    single = {torch.float16: 2e-3, torch.bfloat16: 2e-2, D: 1e-12}.get(x.dtype, 1e-5)
    torch.testing.assert_close(found.double(), right, rtol=single, atol=single)
    mixed = arch.ntk(plain, x)
    torch.testing.assert_close(mixed.double(), right, rtol=1e-6, atol=1e-6)


def test_numbers_of_other_kinds_are_refused():
    x, arch = torch.randn(5, 3, dtype=D), arch_of(nn.ReLU())
    for form in (x.int(), x > 0, x + 0j, x.tolist(), x[0], x[:, :2], x[:0]):
        for call in (lambda form=form: arch.ntk(form), lambda form=form: arch.ntk(x, form)):
            with pytest.raises(GramianError, match=r"(?s)where: .*why: .*fix: "):
                call()


def test_half_a_tanhshrink_keeps_its_digits_in_float32():
    """h - tanh h of 0.01 has three digits left in float32."""
    x = torch.tensor([[0.01, 0.0], [-0.006, 0.008], [0.02, 0.001]], dtype=D) * 2**0.5
    for act in (nn.Tanhshrink(), nn.Softsign()):
        arch = arch_of(act, inputs=2, law=(1.0, 0.0))
        right = arch.ntk(x)
        for engine in ("auto", "torch"):
            found = arch.ntk(x.float(), engine=engine).double()
            assert float((found - right).abs().max() / right.abs().max()) < 1e-5


ACTIVATIONS = [
    nn.ReLU(), nn.LeakyReLU(0.2), nn.ELU(0.7), nn.SELU(), nn.CELU(1.3), nn.GELU(), nn.GELU("tanh"), nn.SiLU(),
    nn.Mish(), nn.Softplus(), nn.Softsign(), nn.Tanh(), nn.Sigmoid(), nn.LogSigmoid(), nn.Tanhshrink(), nn.Hardtanh(),
    nn.ReLU6(), nn.Hardsigmoid(), nn.Hardswish(), nn.Softshrink(),
]  # fmt: skip


def second_moment(act, deviation):
    """E act(u)^2 by Gauss-Legendre rules between points that are dense around the bends of all of these."""
    edges = np.unique(np.concatenate([
        np.linspace(0, 12, 97) * deviation, np.geomspace(1e-6, 60, 140), [0.5, 1.0, 3.0, 6.0, 20.0],
    ]))  # fmt: skip
    edges = edges[edges <= 12 * deviation]
    nodes, weights = np.polynomial.legendre.leggauss(12)
    half, middle = np.diff(edges)[:, None] / 2, (edges[1:] + edges[:-1])[:, None] / 2
    z, w = (middle + half * nodes).ravel(), (half * weights).ravel()
    z, w = np.concatenate([-z, z]), np.concatenate([w, w])
    w = w * np.exp(-((z / deviation) ** 2) / 2) / (deviation * math.sqrt(2 * math.pi))
    with torch.no_grad():
        return float((act(torch.from_numpy(z)) ** 2) @ torch.from_numpy(w))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*Standardize the inputs")
@pytest.mark.parametrize("act", ACTIVATIONS, ids=str)
def test_variances_from_1e_8_to_1e_8(act):
    """Right at each, on both engines and in both precisions, or refused in four parts."""
    arch, count = arch_of(act, inputs=2, law=(1.0, 0.0)), 0
    for variance in (1e-8, 1e-4, 1e-2, 1.0, 9.0, 1e2, 1e4, 1e6, 1e8):
        s = math.sqrt(variance)
        x = math.sqrt(2) * torch.tensor([[s, 0.0], [-s, 0.0], [0.6 * s, 0.8 * s], [0.0, 0.0]], dtype=D)
        right = second_moment(act, s)
        for dtype, tolerance in ((D, 3e-9), (torch.float32, 3e-5)):
            for engine in ("auto", "torch"):
                try:
                    k = arch.nngp(x.to(dtype), engine=engine).double()
                except GramianError as error:
                    assert all(part in str(error) for part in ("where:", "why:", "fix:"))  # noqa: PT017
                    continue
                assert k.diagonal()[:3].tolist() == pytest.approx([right] * 3, rel=tolerance)
                assert bool((k**2 <= k.diagonal()[:, None] * k.diagonal() * (1 + 10 * tolerance) + 1e-300).all())
                count += 1
    assert count >= 20
    print(f"{act}: {count} of 36 right, the others refused")
