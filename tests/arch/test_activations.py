"""The contract of every activation. A new one is a line in ACTIVATIONS: a function, its kinks, a tolerance."""

import math
import pickle
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.modules import activation as torch_activations

from gramian.arch.ops import READERS, Activation, Call, Piecewise, Pointwise, Smooth, Value, fuse
from gramian.arch.ops.smooth import SMOOTH_FUNCTIONS
from gramian.duals.derivatives import slope
from gramian.errors import NoLimit


@dataclass(frozen=True)
class Line:
    """A function as a user writes it, where it bends, and which op it becomes."""

    function: object
    op: str
    kinks: tuple[float, ...] = ()
    jumps: bool = False
    largest: float = 3.0  # variance


ACTIVATIONS = {
    "relu": Line(torch.relu, "ReLU", (0.0,)),
    "leaky": Line(nn.LeakyReLU(0.2), "LeakyReLU", (0.0,)),
    "prelu, frozen": Line(nn.PReLU().requires_grad_(False), "LeakyReLU", (0.0,)),
    "abs": Line(torch.abs, "Abs", (0.0,)),
    "sign": Line(torch.sign, "Sign", (0.0,), jumps=True),
    "step": Line(lambda h: torch.heaviside(h, torch.tensor(0.5)), "Heaviside", (0.0,), jumps=True),
    "h > 0": Line(lambda h: (h > 0) * 1.0, "Scale", (0.0,), jumps=True),
    "relu^2": Line(lambda h: torch.relu(h) ** 2, "RectifiedPower", (0.0,)),
    "relu^3": Line(lambda h: functional.relu(h).square() * functional.relu(h), "RectifiedPower", (0.0,)),
    "erf": Line(torch.erf, "Erf"),
    "gelu": Line(nn.GELU(), "GELU"),
    "gelu, tanh": Line(nn.GELU("tanh"), "Smooth"),
    "sin": Line(torch.sin, "Sin"),
    "cos": Line(torch.cos, "Cos"),
    "exp": Line(torch.exp, "Exp", largest=1.0),
    "gaussian": Line(lambda h: torch.exp(-(h**2)), "Gaussian"),
    "gaussian, wider": Line(lambda h: torch.exp(1 - h * h / 2), "Gaussian"),
    "square": Line(torch.square, "Polynomial"),
    "cubic": Line(lambda h: h**3 - 3 * h, "Polynomial"),
    "elu": Line(nn.ELU(0.7), "Kinked", (0.0,)),
    "celu": Line(nn.CELU(2.0), "Kinked", (0.0,)),
    "selu": Line(nn.SELU(), "Kinked", (0.0,)),
    "hardtanh": Line(nn.Hardtanh(), "Kinked", (-1.0, 1.0)),
    "relu6": Line(nn.ReLU6(), "Kinked", (0.0, 6.0)),
    "clamp from below": Line(lambda h: h.clamp(min=0.1), "Kinked", (0.1,)),
    "hardsigmoid": Line(nn.Hardsigmoid(), "Kinked", (-3.0, 3.0)),
    "hardswish": Line(nn.Hardswish(), "Kinked", (-3.0, 3.0)),
    "threshold": Line(nn.Threshold(0.1, 0.2), "Kinked", (0.1,), jumps=True),
    "softshrink": Line(nn.Softshrink(), "Kinked", (-0.5, 0.5)),
    "hardshrink": Line(nn.Hardshrink(), "Kinked", (-0.5, 0.5), jumps=True),
    "softsign": Line(nn.Softsign(), "Pointwise", (0.0,)),
    "tanh": Line(torch.tanh, "Smooth"),
    "sigmoid": Line(torch.sigmoid, "Smooth"),
    "silu": Line(nn.SiLU(), "Smooth"),
    "softplus": Line(nn.Softplus(2.0), "Smooth"),
    "mish": Line(nn.Mish(), "Smooth"),
    "atan": Line(torch.atan, "Smooth"),
    "logsigmoid": Line(nn.LogSigmoid(), "Smooth"),
    "tanhshrink": Line(nn.Tanhshrink(), "Pointwise"),
    "swish 1.7": Line(lambda h: h * torch.sigmoid(1.7 * h), "Pointwise"),
    "snake": Line(lambda h: h + torch.sin(h) ** 2, "Pointwise"),
    "sinh": Line(torch.sinh, "Pointwise", largest=1.0),
    "root": Line(lambda h: torch.sqrt(1 + h**2), "Pointwise"),
    "h + relu(h)": Line(lambda h: h + torch.relu(h), "TwoSlopes", (0.0,)),
    "shifted relu": Line(lambda h: torch.relu(h - 1), "Pointwise", (1.0,)),
    "bump": Line(lambda h: torch.relu(1 - h**2), "Pointwise", (-1.0, 1.0)),
    "where": Line(lambda h: torch.where(h > 0, h, torch.expm1(h)), "Pointwise", (0.0,)),
    "maximum": Line(lambda h: torch.maximum(h, 0.1 * h), "Pointwise", (0.0,)),
    "laplace": Line(lambda h: h * torch.exp(-h.abs()), "Pointwise", (0.0,)),
}


class Wide(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.linear, self.function = nn.Linear(4, 6), function

    def forward(self, x):
        return self.function(self.linear(x))


class Step:
    def __init__(self, op, inputs):
        self.op, self.inputs = op, inputs


def read(function):
    """The op that a function on a Linear becomes, which must be one op but for a factor; and the factor."""
    if isinstance(function, nn.Module):
        function.double()
    graph = torch.export.export(Wide(function).eval(), (torch.randn(2, 4),), strict=False).graph_module
    values, steps, constants = {}, [], dict(graph.named_buffers())
    values["linear"] = Value(0, (6,))
    steps.append(Step(None, (-1,)))
    for node in graph.graph.nodes:
        if node.op == "get_attr":
            values[node.name] = constants[node.target]
        if node.op != "call_function" or node.name == "linear":
            continue
        schema = node.target._schema.arguments
        plain = list(node.args) + [node.kwargs.get(a.name, a.default_value) for a in schema[len(node.args) :]]
        args = tuple(values.get(a.name, torch.tensor(0.5)) if isinstance(a, torch.fx.Node) else a for a in plain)
        if node.name.startswith("prelu"):
            args = (args[0], function.weight.detach())
        if not any(isinstance(a, Value) for a in args):
            values[node.name] = torch.tensor(0.5)
            continue
        call = Call(str(node.target), args, (6,))
        if call.target not in READERS and "aten." in call.target and fuse(call, steps) is None:
            raise NoLimit(f"no rule for {call.target}")
        op, inputs = fuse(call, steps) or READERS[call.target].read(call)
        steps.append(Step(op, (inputs[0].index,)))
        values[node.name] = Value(len(steps) - 1, (6,))
    op = steps[-1].op
    if hasattr(op, "dual"):
        return op
    return steps[steps[-1].inputs[0]].op  # under a factor of 1


OPS = {}


@pytest.fixture(params=ACTIVATIONS)
def entry(request):
    """(op, line), read once."""
    line = ACTIVATIONS[request.param]
    if request.param not in OPS:
        OPS[request.param] = read(line.function)
    return OPS[request.param], line


def points(line, count=3):
    q1, q2 = torch.linspace(0.2, line.largest, count), torch.linspace(line.largest, 0.5, count)
    return q1, torch.tensor([0.7, -0.4, 0.93])[:count] * (q1 * q2).sqrt(), q2


def panels(kinks, low, high, each=10, size=60):
    """Gauss-Legendre on many short panels between the kinks."""
    x, w = np.polynomial.legendre.leggauss(each)
    edges = [np.linspace(a, b, size + 1) for a, b in zip([low, *kinks], [*kinks, high], strict=True)]
    left, right = np.concatenate([e[:-1] for e in edges]), np.concatenate([e[1:] for e in edges])
    half = (right - left)[:, None] / 2
    return ((left + right)[:, None] / 2 + half * x).ravel(), (half * w).ravel()


def normal(x, mean, var):
    return np.exp(-((x - mean) ** 2) / (2 * var)) / math.sqrt(2 * math.pi * var)


def conditional_quadrature(f, q1, k, q2, kinks):
    """E f(u) f(v) as the integral over u of f(u) E[f(v) | u]: another way than the package's."""
    q1, k, q2 = float(q1), float(k), float(q2)
    var = q2 - k * k / q1
    u, wu = panels(kinks, -10 * q1**0.5 - 6, 10 * q1**0.5 + 6)
    v, wv = panels(kinks, -11 * q2**0.5 - 7, 11 * q2**0.5 + 7)
    fu, fv = (f(torch.from_numpy(t)).numpy() for t in (u, v))
    return float((normal(u, 0, q1) * wu * fu) @ normal(v[None], k / q1 * u[:, None], var) @ (fv * wv))


def test_it_becomes_the_op_that_it_should(entry):
    op, line = entry
    assert line.op in (type(op).__name__, "Scale"), "is the file of the op imported in arch/ops/__init__.py?"
    assert pickle.loads(pickle.dumps(op)) == op
    h = torch.linspace(-3, 3, 41)
    torch.testing.assert_close(op.phi(h), line.function(h), atol=1e-9, rtol=1e-9)  # torch's softplus is off by 1e-9
    assert op.phi(h.float()).dtype == torch.float32
    if isinstance(op, Pointwise):
        assert op.kinks == pytest.approx(line.kinks, abs=1e-14)


def test_the_dual_is_the_gaussian_integral(entry):
    op, line = entry
    for q1, k, q2 in zip(*points(line), strict=True):
        kernel, kdot = op.dual(q1, k, q2)
        size = float((op.dual(q1, q1, q1)[0] * op.dual(q2, q2, q2)[0]).sqrt())
        exact = conditional_quadrature(op.phi, q1, k, q2, line.kinks)
        assert float(kernel) == pytest.approx(exact, abs=1e-10 * size)
        steep = float((op.dual(q1, q1, q1)[1] * op.dual(q2, q2, q2)[1]).sqrt())
        exact = conditional_quadrature(lambda x: slope(op.phi, x), q1, k, q2, line.kinks)
        assert float(kdot) == pytest.approx(exact, abs=1e-10 * steep)


def test_the_diagonal_and_the_mean_are_one_dimensional_integrals(entry):
    op, line = entry
    q = torch.tensor([0.2, line.largest])
    x, w = panels(line.kinks, -10 * line.largest**0.5 - 6, 10 * line.largest**0.5 + 6)
    for variance, kernel, mean in zip(
        q, op.dual(q, q, q)[0], op.mean(q) if op.mean(q) is not None else 0 * q, strict=True
    ):
        values = op.phi(torch.from_numpy(x)).numpy()
        density = normal(x, 0, float(variance)) * w
        assert float(kernel) == pytest.approx(density @ values**2, rel=1e-10)
        assert float(mean) == pytest.approx(density @ values, abs=1e-10 * float(kernel) ** 0.5)


def test_the_scale_of_one_value_is_that_of_it_with_itself(entry):
    op, line = entry
    q = torch.tensor([0.2, line.largest])
    torch.testing.assert_close(op.own_scale(q), op.scale_dual(q, q, q), rtol=1e-9, atol=1e-12)


def test_price(entry):
    """The derivative's kernel is the kernel's derivative; not so where the function jumps."""
    op, line = entry
    q1, k, q2 = (t.requires_grad_() for t in points(line))
    kernel, kdot = op.dual(q1, k, q2)
    if not line.jumps:
        (by_k,) = torch.autograd.grad(kernel.sum(), k, retain_graph=True)
        torch.testing.assert_close(by_k, kdot, rtol=1e-9, atol=1e-10)
    elif not isinstance(op, Piecewise):
        assert not kdot.any()


def test_gradients_agree_with_differences(entry):
    op, line = entry
    q1, k, q2 = points(line)
    t = torch.stack([q1, k, q2]).requires_grad_()
    direction = torch.tensor([[0.3], [-0.5], [0.8]])
    for number in (0, 1):
        (grad,) = torch.autograd.grad(op.dual(*t)[number].sum() + 0 * t.sum(), t)
        step = 1e-5
        with torch.no_grad():
            up, down = (op.dual(*(t + sign * step * direction))[number].sum() for sign in (1, -1))
        assert float((grad * direction).sum()) == pytest.approx(float((up - down) / (2 * step)), rel=2e-6, abs=2e-6)


@pytest.mark.parametrize("k", [1.0, -1.0, 0.0, 1 - 1e-16, 1 - 1e-12])
def test_gradients_are_finite_where_inputs_are_equal_opposite_or_zero(entry, k):
    op, _ = entry
    for q in (1.0, 0.0):
        t = torch.tensor([q, k * q, q], requires_grad=True)
        for value in op.dual(*t):
            assert torch.isfinite(value)
            (grad,) = torch.autograd.grad(value + 0 * t.sum(), t, retain_graph=True)
            assert torch.isfinite(grad).all()


def test_gradient_at_equal_inputs_is_price_s(entry):
    op, line = entry
    if line.jumps:
        pytest.skip("the kernel of a function that jumps has an infinite slope there")
    q, k = torch.tensor(1.0), torch.tensor(1.0, requires_grad=True)
    kernel, kdot = op.dual(q, k, q)
    (by_k,) = torch.autograd.grad(kernel, k, retain_graph=True)
    assert float(by_k) == pytest.approx(float(kdot.detach()), rel=1e-9)


def test_a_kernel_of_points_is_symmetric_and_positive(entry):
    op, line = entry
    x = torch.randn(10, 3, generator=torch.Generator().manual_seed(0))
    x = torch.cat([x, x[:1], -x[1:2], x[2:3] + 1e-9, 0 * x[:1]])
    k = x @ x.T * line.largest / 12
    index = torch.arange(len(x))
    q = (x * x).sum(1) * line.largest / 12
    k[index, index] = q
    for kernel in op.dual(q[:, None], k, q):
        assert float((kernel - kernel.T).abs().max()) <= 1e-12 * float(kernel.abs().max())
        lam = torch.linalg.eigvalsh((kernel + kernel.T) / 2)
        assert lam[0] >= -len(x) * torch.finfo(x.dtype).eps * lam[-1] - 1e-300


def test_float32(entry):
    op, line = entry
    q1, k, q2 = points(line)
    for exact, rough in zip(op.dual(q1, k, q2), op.dual(q1.float(), k.float(), q2.float()), strict=True):
        assert rough.dtype == torch.float32
        torch.testing.assert_close(rough.double(), exact, rtol=2e-5, atol=2e-5)


def test_every_activation_of_ours_has_a_line():
    for name, line in ACTIVATIONS.items():
        OPS.setdefault(name, read(line.function))
    classes = {op.__name__ for op in READERS.values() if issubclass(op, Activation)} - {"PReLU", "RReLU"}  # slopes
    assert classes <= {line.op for line in ACTIVATIONS.values()}, "a line in ACTIVATIONS for each"
    smooth = {op.function for op in OPS.values() if isinstance(op, Smooth)}
    assert smooth == set(SMOOTH_FUNCTIONS), "a line in ACTIVATIONS for each of SMOOTH_FUNCTIONS in smooth.py"


def test_every_activation_module_of_torch_is_read_or_refused():
    made = {
        "Threshold": nn.Threshold(0.1, 0.2),
        "PReLU": nn.PReLU().requires_grad_(False),
        "Softmin": nn.Softmin(1),
        "Softmax": nn.Softmax(1),
        "LogSoftmax": nn.LogSoftmax(1),
    }
    refused = set()
    for name in torch_activations.__all__:
        if name in ("MultiheadAttention", "Softmax2d"):  # not elementwise, and not on vectors
            continue
        module = made.get(name) or getattr(nn, name)()
        try:
            op = read(module)
        except NoLimit:
            refused.add(name)
        else:
            assert torch.isfinite(op.dual(*torch.tensor([1.0, 0.5, 1.0]))[0]), name
    assert refused == {"GLU", "Softmin", "Softmax", "LogSoftmax"}


def test_a_trained_slope_is_refused():
    call = Call("aten.prelu.default", (Value(0, (6,)), _parameter(nn.PReLU())), (6,))
    with pytest.raises(NoLimit, match=r"(?s)slope of PReLU, `a`, is trained.*fix: freeze it"):
        READERS[call.target].read(call)


def _parameter(module):
    from gramian.arch.ops import Parameter

    return Parameter("a", module.weight.detach(), True)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (torch.log, r"(?s)log has an error of inf.*the function is infinite"),
        (lambda h: h.abs().sqrt(), r"(?s)Abs, sqrt has an error of"),
        (lambda h: 1 / h, r"(?s)reciprocal has an error of"),
        (lambda h: torch.relu(torch.sin(3 * h)), r"(?s)has \d+ kinks or more.*fix: a function with at most 8 kinks"),
    ],
)
def test_what_no_quadrature_reaches_is_refused(function, words):
    with pytest.raises(NoLimit, match=words):
        read(function).dual(*torch.tensor([1.0, 0.5, 1.0]))


def test_a_sum_of_two_branches_is_not_fused():
    steps = [Step(None, (-1,)), Step(None, (-1,))]
    assert fuse(Call("aten.add.Tensor", (Value(0, (6,)), Value(1, (6,)), 1), (6,)), steps) is None
    assert fuse(Call("aten.relu.default", (Value(0, (6,)),), (6,)), steps) is None
