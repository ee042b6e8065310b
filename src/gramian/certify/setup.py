"""What is trained, and the limit kernel that goes with it: one network in one parametrization."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from gramian.arch.law import Law
from gramian.arch.ops import Conv, Sum
from gramian.data import normalize_and_pad
from gramian.data.normalize import row_norms
from gramian.errors import BadArgument, NoLimit
from gramian.network import Architecture, architecture
from gramian.network.biases import says_uncounted
from gramian.train.theorem_networks import AllenZhuNetwork

PARAMETRIZATIONS = ("ntk", "standard", "own", "allen-zhu")
_WORDS = {"ntk": "NTK parametrization", "standard": "standard parametrization"}


@dataclass(frozen=True, eq=False)
class Setup:
    """A network to study.

    Args:
        arch: its architecture; None if it has no limit here, and then `no_limit` says why.
        build: makes the network at a width, from a seed.
        x: training inputs as the network takes them, so as they were given (but for `paper`); float64.
        x_test: the same of the test inputs.
        kernel: limit NTK in the units of the run at a width: (width, x, y) -> (n, m); None without a limit.
        family: "fully connected", "convolutional", "residual" or "other".
        depth: hidden layers.
        pixels: positions of a hidden layer, at most.
        window: positions of a filter, at most.
        own_width: channels of the narrowest hidden layer of the module as it was given.
        fixed_width: whether the width can't be chosen, because the module's own widths are kept.
        paper: whether it is the network of Allen-Zhu et al. with their initialization.
        initialization: in words.
        code: Python that makes the trained network from `module` and `x`, with WIDTH and SEED in the places of both.
        no_limit: why there is no limit; "" where there is one.
    """

    arch: Architecture | None
    build: Callable[[int, int], nn.Module]
    x: Tensor
    x_test: Tensor
    kernel: Callable[[int, Tensor, Tensor | None], Tensor] | None
    family: str
    depth: int
    pixels: int
    window: int
    own_width: int
    fixed_width: bool
    paper: bool
    initialization: str
    code: str = "module"
    no_limit: str = ""

    def limit_scale(self, width: int) -> float:
        """The limit NTK at this width over that at width 1: the network of Allen-Zhu et al. sums over its width."""
        if self.paper:
            return float(width)
        return 1.0

    def unit(self, width: int, n_outputs: int) -> float:
        """Squared gradients times this are in the units of Allen-Zhu et al.: W there is sqrt(2 / (q m)) times ours,
        the output sqrt(p / d) times ours."""
        ntk = self.initialization.startswith("NTK")
        if ntk:
            return self.window * width * self.pixels / (2 * n_outputs)
        return 1.0

    def stretch(self, width: int) -> float:
        """Distances of weights times this are in the units of Allen-Zhu et al."""
        if self.initialization.startswith("NTK"):
            return math.sqrt(2 / (self.window * width))
        return 1.0


def setup(
    module: nn.Module,
    x: Tensor,
    x_test: Tensor,
    law: Law | None,
    parametrization: str,
    dtype: torch.dtype,
    device: str,
    *,
    in_place: bool = False,
) -> Setup:
    """The setup of a module in a parametrization; rows go into the network as they are given.

    Only the network of Allen-Zhu et al. gets them scaled to norm one, and padded as they ask, so that different rows
    stay different. (A limit kernel divides <x, x'> by d, so that norm sqrt(d) is the theory's norm one.)

    `in_place`: with "own", the module is the user's, which is neither cast nor moved.
    """
    check_parametrization(parametrization)
    said, law = law, law if law is not None else default_law(module, parametrization)
    arch: Architecture | None = None
    no_limit: NoLimit | None = None
    try:
        arch = _read(module, x, law, parametrization)
    except NoLimit as error:
        if parametrization != "own":
            raise NoLimit(
                error.what,
                where=error.where,
                why=error.why,
                fix=f'{error.fix}; or parametrization="own": train the module as it stands, without its limit',
            ) from None
        no_limit = error
    if parametrization == "own" and not in_place:
        module = module.to(device, dtype)
    if arch is None:
        return _without_limit(module, x, x_test, str(no_limit))
    if parametrization == "allen-zhu":
        return _allen_zhu(arch, x, x_test, dtype, device)
    if parametrization == "own":
        words = f"as given (law of the limit: {_law_in_words(law, said)})"
        return _describe(arch, lambda width, seed: module, x, x_test, words, True)
    build, code = _drawn_anew(arch, law, parametrization, dtype, device)
    words = f"{_WORDS[parametrization]}, law {_law_in_words(law, said)}"
    return _describe(arch, build, x, x_test, words, parametrization == "standard", code)


def _read(module: nn.Module, x: Tensor, law: Law, parametrization: str) -> Architecture:
    """The architecture in evaluation mode, whose limit is tried on one row; the mode of every part comes back."""
    modes = [(part, part.training) for part in module.modules()]
    if parametrization in ("own", "standard"):
        scaling = "standard"
    else:
        scaling = "ntk"
    try:
        arch = architecture(module.eval(), x[:2], law, parametrization=scaling)
        arch.ntk(x[:1])  # refuses here, before any work
    finally:
        for part, mode in modes:
            part.training = mode
    return arch


def _law_in_words(law: Law, said: Law | None) -> object:
    """A law as it is named; `said` is None where it is the default."""
    if isinstance(law, str | tuple):
        return law
    if said is None:
        return f"he with biases of deviation {BIAS}"
    return "given"


def _drawn_anew(
    arch: Architecture, law: Law, parametrization: str, dtype: torch.dtype, device: str
) -> tuple[Callable[[int, int], nn.Module], str]:
    """How the architecture is drawn with new weights, and the Python that does it; "standard" keeps its widths."""
    if parametrization == "standard":
        code = f'gramian.architecture(module, x[:2], {law!r}, parametrization="standard")'
        return (
            lambda width, seed: arch.network(None, seed, dtype=dtype).to(device),
            f"{code}.network(seed=SEED, dtype={dtype})",
        )
    return (
        lambda width, seed: arch.network(width, seed, dtype=dtype).to(device),
        f"gramian.architecture(module, x[:2], {law!r}).network(WIDTH, seed=SEED, dtype={dtype})",
    )


BIAS = 0.1  # deviation of biases where the module has some and nothing is said, as the commands have it


def default_law(module: nn.Module, parametrization: str) -> Law:
    """The law where none is said: torch's own for the module's own weights; else "he", with biases where it has some.

    "he" alone has biases of deviation zero, and in the NTK parametrization they would not train either.
    """
    if parametrization in ("own", "standard"):
        return "torch"
    kinds = (nn.Linear, nn.modules.conv._ConvNd)
    if parametrization == "ntk" and any(isinstance(m, kinds) and m.bias is not None for m in module.modules()):
        return {"*": (math.sqrt(2), BIAS), "readout": (1.0, BIAS)}
    return "he"


def says_biases(module: nn.Module, arch: Architecture, law: Law | None, parametrization: str) -> str:
    """What to say of biases that do not count, or count otherwise than in `architecture`; "" where there is nothing."""
    if law is not None:
        return says_uncounted(arch, law)
    default = default_law(module, parametrization)
    if not isinstance(default, dict):
        return ""
    return (
        f"The biases of the new weights have the standard deviation {BIAS}: law={default}. `architecture`, `gramian "
        "kernel` and `gramian fit` take law='he' where nothing is said, in which they do not count."
    )


def check_parametrization(parametrization: str) -> None:
    """Raise unless it is one that certificates are about."""
    if parametrization in ("mup", "mean_field"):
        raise BadArgument(
            f"No certificate for the {parametrization} parametrization.",
            where="argument `parametrization` of certify",
            why="features move at every width there, so the kernel changes from the second step on; what certify "
            "predicts, and its theorems, are about a kernel that stays",
            fix=f'parametrization="ntk"; architecture(module, x, parametrization="{parametrization}").ntk(x) is the '
            "kernel of the first step",
        )
    if parametrization not in PARAMETRIZATIONS:
        raise BadArgument(
            f"Unknown parametrization {parametrization!r}.",
            where="argument `parametrization` of certify",
            why='"ntk" and "standard" draw the architecture anew, "own" trains the module as it stands, and '
            '"allen-zhu" draws the network of Allen-Zhu, Li and Song in its place',
            fix=f"one of {', '.join(PARAMETRIZATIONS)}",
        )


def _describe(arch, build, x, x_test, initialization: str, fixed: bool, code: str = "module") -> Setup:
    windows = [math.prod(s.op.window) for s in arch.steps if isinstance(s.op, Conv)]
    hidden = [s.shape for n, s in enumerate(arch.steps) if s.op.random and arch.hidden(n)]
    return Setup(
        arch=arch,
        build=build,
        x=x,
        x_test=x_test,
        kernel=lambda width, a, b: arch.ntk(a, b),
        family=family(arch),
        depth=max(arch.depth - 1, 0),
        pixels=max((math.prod(shape[1:]) for shape in hidden), default=1),
        window=max(windows, default=1),
        own_width=min((shape[0] for shape in hidden), default=arch.n_outputs),
        fixed_width=fixed,
        paper=False,
        initialization=initialization,
        code=code,
    )


def _without_limit(network: nn.Module, x: Tensor, x_test: Tensor, no_limit: str) -> Setup:
    widths = [p.shape[0] for p in network.parameters() if p.ndim >= 2][:-1]
    return Setup(
        arch=None,
        build=lambda width, seed: network,
        x=x,
        x_test=x_test,
        kernel=None,
        family="other",
        depth=len(widths),
        pixels=1,
        window=1,
        own_width=min(widths, default=1),
        fixed_width=True,
        paper=False,
        initialization="as given",
        no_limit=no_limit,
    )


def _allen_zhu(read: Architecture, x: Tensor, x_test: Tensor, dtype: torch.dtype, device: str) -> Setup:
    """Their network of the same family, depth and outputs; its NTK is m q p / (2 d) times that of unit weights."""
    kind = {"fully connected": "fc", "convolutional": "cnn", "residual": "resnet"}[family(read)]
    d, layers = read.n_outputs, max(read.depth - 2, 1)
    flat, flat_test = _padded(x, x_test, kind == "cnn")
    sides, places = None, ""
    if kind == "cnn":
        sides = _sides(x)
        places = f", pixels={sides!r}"

    def build(width: int, seed: int) -> nn.Module:
        generator = torch.Generator().manual_seed(seed)
        net = AllenZhuNetwork(flat.shape[1], d, layers, width, kind, pixels=sides, generator=generator)
        return net.to(device, dtype)

    no_limit = ""
    try:
        arch = architecture(build(8, 0).to(dtype=flat.dtype), flat[:2], "he")
        arch.ntk(flat[:1])
    except NoLimit as error:
        arch, no_limit = read, str(error)
    code = f"AllenZhuNetwork({flat.shape[1]}, {d}, {layers}, WIDTH, {kind!r}{places}, generator=Generator of SEED)"
    words = "as in arXiv:1811.03962, only hidden layers trained"
    base = replace(_describe(arch, build, flat, flat_test, words, False, code), depth=layers, paper=True)
    if no_limit:
        return replace(base, arch=None, kernel=None, no_limit=no_limit)
    # the limit kernel divides <x, x'> by the number of channels: rows times its root undo that
    stretch = math.sqrt(flat.shape[1])
    times = base.window * base.pixels / (2 * d)

    def kernel(width: int, a: Tensor, b: Tensor | None) -> Tensor:
        return times * width * arch.ntk(a * stretch, None if b is None else b * stretch)

    return replace(base, kernel=kernel)


def _padded(x: Tensor, x_test: Tensor, image: bool) -> tuple[Tensor, Tensor]:
    """Training and test rows scaled by one number and padded as the paper asks."""
    largest = float(torch.cat([x, x_test]).flatten(1).norm(dim=1).max())
    pad = _pad_images if image else normalize_and_pad
    padded_test = x_test
    if len(x_test):
        padded_test = pad(x_test, largest=largest)
    return pad(x, largest=largest), padded_test


def _sides(x: Tensor) -> int | tuple[int, int]:
    """Pixels along each side of an image, or of a series."""
    sides = tuple(x.shape[2:])
    if len(sides) == 2:
        return sides
    return sides[0]


def _pad_images(x: Tensor, *, largest: float) -> Tensor:
    r"""Images as `normalize_and_pad` has vectors, with two constant channels: norm 1, different images stay different.

    All images are divided by one number, so that the largest norm is $1/\sqrt2$; one constant channel makes all norms
    $1/\sqrt2$, another one has norm $1/\sqrt2$ itself.
    """
    p = math.prod(x.shape[2:])
    scaled = x / (largest * math.sqrt(2))
    # a channel that is v at all p pixels has the squared norm p v^2
    missing = (0.5 - row_norms(scaled).square()).clamp_min(0).sqrt() / math.sqrt(p)
    shape = (len(x), 1, *x.shape[2:])
    first = missing.to(x).view(-1, *[1] * (x.ndim - 1)).expand(shape)
    return torch.cat([scaled, first, torch.full(shape, math.sqrt(0.5 / p), dtype=x.dtype, device=x.device)], 1)


def family(arch: Architecture) -> str:
    """Which of the papers' families a network is of."""
    if any(isinstance(step.op, Sum) and not step.data for step in arch.steps):
        return "residual"
    if any(isinstance(step.op, Conv) for step in arch.steps):
        return "convolutional"
    return "fully connected"
