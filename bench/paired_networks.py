"""Each network twice: as a plain torch module, and as neural-tangents' layers of the same law.

Neither library is imported here: the file is read in both environments. `t` holds torch's pieces (agreement.py), `s`
those of stax (rival_agreement.py). `t.lin`, `t.conv` and `s.D`, `s.C` are the libraries' own layers with the case's
law, biased where its sigma_b is not zero; `t.w` is the width, which only Monte Carlo changes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Shape = tuple[int, ...]
Factory = Callable[[Any], Any]


@dataclass(frozen=True)
class Twin:
    """One network. `shape` is that of an input, channels first; with `last`, channels last in both libraries."""

    name: str
    shape: Shape
    torch: Factory
    stax: Factory
    law: tuple[float, float] = (1.3, 0.4)
    last: bool = False
    parametrization: str = "ntk"
    graph: bool | str = False  # whether the rival's kernel takes `adjacency` beside the inputs; "each": one for each
    why: str = ""  # for those that are to differ: what it is
    control: Factory | None = None  # a torch network of the same weights, near this one and agreed on: the judge's aid


TWINS: list[Twin] = []
DIFFERENT: list[Twin] = []


def add(name: str, shape: Shape, torch: Factory, stax: Factory, **more: Any) -> None:
    (DIFFERENT if "why" in more else TWINS).append(Twin(name, shape, torch, stax, **more))


VECTOR, LINE, IMAGE, ODD, NINE, TOKENS = (6,), (3, 9), (3, 6, 5), (2, 7, 7), (2, 9, 9), (5, 4)


def mlp(depth: int, torch_phi: Factory, stax_phi: Factory) -> tuple[Factory, Factory]:
    """`depth` hidden layers, each with the activation, and a readout."""

    def ours(t: Any) -> Any:
        widths = [6] + [t.w] * depth
        hidden = [part for i in range(depth) for part in (t.lin(widths[i], t.w), torch_phi(t))]
        return t.seq(*hidden, t.lin(t.w, t.out))

    return ours, lambda s: s.serial(*(part for _ in range(depth) for part in (s.D(), stax_phi(s))), s.D())


def relu(t: Any) -> Any:
    return t.nn.ReLU()


def stax_relu(s: Any) -> Any:
    return s.Relu()


# Fully connected networks
add("linear", VECTOR, lambda t: t.lin(6, t.out), lambda s: s.D())
for depth in range(1, 11):
    add(f"mlp-relu-{depth}", VECTOR, *mlp(depth, relu, stax_relu), law=(2**0.5, 0.1))
for depth in (1, 3, 10):
    add(f"mlp-relu-{depth}-no-bias", VECTOR, *mlp(depth, relu, stax_relu), law=(2**0.5, 0.0))

PHI: dict[str, tuple[Factory, Factory]] = {
    "leaky": (lambda t: t.nn.LeakyReLU(0.2), lambda s: s.LeakyRelu(0.2)),
    "abs": (lambda t: t.nn.LeakyReLU(-1.0), lambda s: s.Abs()),
    "abrelu": (lambda t: t.fn(lambda h: 2 * t.F.leaky_relu(h, -0.25)), lambda s: s.ABRelu(-0.5, 2.0)),
    "erf": (lambda t: t.fn(t.torch.erf), lambda s: s.Erf()),
    "gelu": (lambda t: t.nn.GELU(), lambda s: s.Gelu()),
    "sin": (lambda t: t.fn(t.torch.sin), lambda s: s.Sin()),
    "cos": (lambda t: t.fn(t.torch.cos), lambda s: s.Cos()),
    "square": (lambda t: t.fn(lambda h: h**2), lambda s: s.Monomial(2)),
    "cube": (lambda t: t.fn(lambda h: h**3), lambda s: s.Monomial(3)),
    "sigmoid-like": (
        lambda t: t.fn(lambda h: 0.5 * t.torch.erf(h / 2.4020563531719796) + 0.5),
        lambda s: s.Sigmoid_like(),
    ),
}
for name, phi in PHI.items():
    rescaled = {"abrelu": (0.9, 0.3), "square": (0.7, 0.2), "cube": (0.5, 0.2), "sigmoid-like": (1.5, 0.3)}
    for depth in (1, 3):
        if name != "sigmoid-like" or depth == 1:
            add(f"mlp-{name}-{depth}", VECTOR, *mlp(depth, *phi), law=rescaled.get(name, (1.3, 0.4)))
add("mlp-sin-scaled", VECTOR, *mlp(2, lambda t: t.fn(lambda h: 1.5 * t.torch.sin(h)), lambda s: s.Sin(a=1.5)))
add("mlp-sin-fast", VECTOR, *mlp(2, lambda t: t.fn(lambda h: t.torch.sin(2 * h)), lambda s: s.Sin(b=2.0)))
add("mlp-erf-steep", VECTOR, *mlp(2, lambda t: t.fn(lambda h: t.torch.erf(2 * h)), lambda s: s.Erf(b=2.0)))
quadratic = mlp(2, lambda t: t.fn(lambda h: 1 + h + 0.5 * h**2), lambda s: s.Polynomial([1.0, 1.0, 0.5]))
add("mlp-polynomial", VECTOR, *quadratic, law=(0.7, 0.2))
add("mlp-exp", VECTOR, *mlp(1, lambda t: t.fn(t.torch.exp), lambda s: s.Exp()), law=(0.7, 0.2))
add("mlp-mixed", VECTOR, lambda t: t.seq(t.lin(6, t.w), t.nn.ReLU(), t.lin(t.w, t.w), t.fn(t.torch.erf),
                                         t.lin(t.w, t.w), t.nn.GELU(), t.lin(t.w, t.out)),
    lambda s: s.serial(s.D(), s.Relu(), s.D(), s.Erf(), s.D(), s.Gelu(), s.D()))  # fmt: skip
add("mlp-two-linear", VECTOR, lambda t: t.seq(t.lin(6, t.w), t.lin(t.w, t.w), t.nn.ReLU(), t.lin(t.w, t.out)),
    lambda s: s.serial(s.D(), s.D(), s.Relu(), s.D()))  # fmt: skip
add("mlp-dropout-eval", VECTOR, lambda t: t.seq(t.lin(6, t.w), t.nn.ReLU(), t.nn.Dropout(0.3), t.lin(t.w, t.out)),
    lambda s: s.serial(s.D(), s.Relu(), s.Dropout(0.7, mode="test"), s.D()))  # fmt: skip
add("mlp-standard", VECTOR, *mlp(3, relu, stax_relu), parametrization="standard")
add("mlp-standard-no-bias", VECTOR, *mlp(2, relu, stax_relu), parametrization="standard", law=(2**0.5, 0.0))


def cnn(shape: Shape, convs: list[tuple], head: str, phi: str = "relu") -> tuple[Factory, Factory]:
    """Convolutions (window, strides, padding), an activation after each; head is flat, mean or sum."""
    axes = len(shape) - 1
    torch_phi, stax_phi = PHI[phi] if phi != "relu" else (relu, stax_relu)

    def ours(t: Any) -> Any:
        parts: list[Any] = []
        for number, (window, strides, padding) in enumerate(convs):
            parts += [t.conv(t.w if number else shape[0], t.w, window, strides, padding), torch_phi(t)]
        body = t.seq(*parts)
        if head == "flat":
            return t.seq(body, t.nn.Flatten(), t.lin(t.size(body, shape), t.out))
        positions = tuple(range(2, 2 + axes))
        pool = {"mean": lambda h: h.mean(positions), "sum": lambda h: h.sum(positions)}[head]
        return t.seq(body, t.fn(pool), t.lin(t.w, t.out))

    def theirs(s: Any) -> Any:
        end = {"flat": s.Flatten, "mean": s.GlobalAvgPool, "sum": s.GlobalSumPool}[head]
        parts = [part for conv in convs for part in (s.C(*conv), stax_phi(s))]
        return s.serial(*parts, end(), s.D())

    return ours, theirs


# Convolutional networks; with a stride torch pads evenly, jax's SAME after more than before: on odd sizes they agree
for padding in ("SAME", "VALID", "CIRCULAR"):
    for head in ("flat", "mean"):
        add(f"conv1d-{padding.lower()}-{head}", LINE, *cnn(LINE, [((3,), (1,), padding)] * 2, head))
        add(f"conv2d-{padding.lower()}-{head}", IMAGE, *cnn(IMAGE, [((3, 3), (1, 1), padding)] * 2, head))
add("conv1d-even-window", LINE, *cnn(LINE, [((4,), (1,), "SAME")] * 2, "mean"))
add("conv1d-stride", LINE, *cnn(LINE, [((3,), (2,), "SAME"), ((3,), (2,), "VALID")], "mean"))
add("conv2d-stride-same", NINE, *cnn(NINE, [((3, 3), (2, 2), "SAME")] * 2, "mean"))
add("conv2d-stride-flat", ODD, *cnn(ODD, [((3, 3), (2, 1), "VALID"), ((2, 3), (1, 1), "VALID")], "flat"))
add("conv2d-filters", IMAGE, *cnn(IMAGE, [((1, 3), (1, 1), "SAME"), ((5, 1), (1, 1), "SAME")], "mean"))
add("conv2d-1x1", IMAGE, *cnn(IMAGE, [((1, 1), (1, 1), "VALID")] * 2, "mean"))
add("conv2d-sum", IMAGE, *cnn(IMAGE, [((3, 3), (1, 1), "SAME")], "sum"))
add("conv2d-deep", IMAGE, *cnn(IMAGE, [((3, 3), (1, 1), "SAME")] * 6, "mean"), law=(2**0.5, 0.1))
add("conv3d", (2, 3, 4, 3), *cnn((2, 3, 4, 3), [((3, 3, 3), (1, 1, 1), "SAME")] * 2, "mean"))
for name in ("leaky", "erf", "gelu", "sin"):
    add(f"conv2d-{name}", IMAGE, *cnn(IMAGE, [((3, 3), (1, 1), "SAME")] * 2, "mean", name))
add("conv2d-standard", IMAGE, *cnn(IMAGE, [((3, 3), (1, 1), "SAME")] * 2, "mean"), parametrization="standard")
add("conv2d-standard-flat", IMAGE, *cnn(IMAGE, [((3, 3), (1, 1), "VALID")], "flat"), parametrization="standard")
