"""Monte-Carlo kernels: right where the limit is known, a stated error that is true, and every module accepted."""

import copy

import pytest
import torch
from nets import PooledCNN, jacobian_gram
from torch import nn
from torch.nn import functional as F

import gramian
from gramian.empirical.modules.readout import find_readouts
from gramian.errors import BadArgument, BadData
from gramian.network.sampling import monte_carlo
from gramian.network.zoo import ZOO


def mlp(width=64, outputs=1, bias=True):
    return nn.Sequential(
        nn.Linear(5, width, bias=bias), nn.ReLU(), nn.Linear(width, width, bias=bias), nn.ReLU(),
        nn.Linear(width, outputs, bias=bias),
    )  # fmt: skip


class MaxPoolCNN(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.a, self.b = nn.Conv2d(1, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1)
        self.readout = nn.Linear(width * 4, 1)

    def forward(self, x):
        h = F.max_pool2d(F.relu(self.a(x)), 2)
        return self.readout(F.max_pool2d(F.relu(self.b(h)), 2).flatten(1))


class PostActivationResNet(nn.Module):
    def __init__(self, width=32):
        super().__init__()
        self.first, self.readout = nn.Linear(5, width), nn.Linear(width, 1)
        self.blocks = nn.ModuleList(nn.Linear(width, width) for _ in range(2))

    def forward(self, x):
        h = F.relu(self.first(x))
        for block in self.blocks:
            h = F.relu(h + block(h))
        return self.readout(h)


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.attend = nn.Embedding(11, 8), nn.MultiheadAttention(8, 2, batch_first=True)
        self.norm, self.readout = nn.LayerNorm(8), nn.Linear(8, 1)

    def forward(self, x):
        h = self.words(x)
        return self.readout(self.norm(h + self.attend(h, h, h)[0]).mean(1))


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell, self.readout = nn.RNN(3, 16, batch_first=True), nn.Linear(16, 1)

    def forward(self, x):
        return self.readout(self.cell(x)[0][:, -1])


def says(error, what, where, why, fix):
    return pytest.raises(error, match=rf"(?s){what}.*\n  where: .*{where}.*\n  why: .*{why}.*\n  fix: .*{fix}")


def within(estimate, error, exact, sigmas=4.0):
    assert ((estimate - exact).abs() <= sigmas * error + 1e-12).all(), ((estimate - exact) / error).abs().max()


@pytest.mark.parametrize("law", ["he", "torch", (1.2, 0.5), {"readout": (1, 0.3), "*": "he"}])
@pytest.mark.parametrize("width", [None, 256])
def test_it_is_the_limit_of_a_wide_network(law, width):  # width 256, up to 40 draws, 4 standard errors
    x, y = torch.randn(3, 5), torch.randn(2, 5)
    net = mlp(256)
    nngp, ntk = gramian.architecture(net, x, law).kernels(x, y)
    k = monte_carlo(net, x, y, law=law, width=width, kind="both", accuracy=0.03, draws=40)
    within(k.ntk, k.ntk_error, ntk)
    within(k.nngp, k.nngp_error, nngp)
    assert k.ntk.shape == k.nngp_error.shape == (3, 2)


@pytest.mark.parametrize("parametrization", ["ntk", "standard"])
def test_a_convolutional_network_too(parametrization):  # 64 channels, 60 draws, 4 standard errors
    x, net = torch.randn(2, 2, 6, 6), PooledCNN(64).eval()
    net.norm.weight.requires_grad_(False)
    arch = gramian.architecture(net, x, (1.4, 0.2), parametrization=parametrization)
    k = monte_carlo(net, x, law=(1.4, 0.2), kind="both", accuracy=0.01, draws=60, parametrization=parametrization)
    within(k.ntk, k.ntk_error, arch.ntk(x))
    within(k.nngp, k.nngp_error, arch.nngp(x))


def test_the_stated_error_is_the_spread_of_repeats():
    x, net = torch.randn(2, 5), mlp(16)
    repeats = [monte_carlo(net, x, accuracy=1e-9, draws=8, seed=s, kind="both") for s in range(60)]
    for name in ("ntk", "nngp"):
        spread = torch.stack([getattr(r, name) for r in repeats]).std(0)
        stated = torch.stack([getattr(r, f"{name}_error").square() for r in repeats]).mean(0).sqrt()
        ratio = stated / spread  # 60 repeats know their spread to 9 per cent
        assert (ratio > 0.7).all(), ratio
        assert (ratio < 1.4).all(), ratio


def test_extrapolation_takes_the_bias_of_finite_width_off():  # widths 6 and 12, 2000 draws, 4 standard errors
    def make(width):
        return mlp(width, bias=False)

    x = torch.tensor([[1.0], [-1.0]]).expand(2, 5)
    exact = gramian.architecture(make(6), x).nngp(x)
    plain = monte_carlo(make, x, width=6, kind="nngp", accuracy=1e-9, draws=2000)
    better = monte_carlo(make, x, width=6, extrapolate=True, kind="nngp", accuracy=1e-9, draws=2000)
    assert abs(plain.nngp - exact)[0, 1] > 4 * plain.nngp_error[0, 1]  # seen: 9 standard errors
    within(better.nngp, better.nngp_error, exact)
    half = float((plain.nngp - exact)[0, 1]) / 2  # the bias at width 12
    assert float(better.nngp_bias[0, 1]) == pytest.approx(half, abs=float(4 * better.nngp_error[0, 1]))
    assert better.nngp_bias[0, 1] * half > 0


def test_what_architecture_reads_is_widened_even_without_a_limit():
    x, net = torch.randn(2, 5), PostActivationResNet(4)
    with pytest.raises(gramian.errors.NoLimit):
        gramian.architecture(net, x).ntk(x)
    wide, own = (monte_carlo(net, x, width=w, kind="both", accuracy=0.1) for w in (64, None))
    built = monte_carlo(PostActivationResNet, x, width=64, kind="both", accuracy=0.1)
    assert wide.width == built.width == 64
    assert own.width is None
    within(wide.ntk, (wide.ntk_error**2 + built.ntk_error**2) ** 0.5, built.ntk)
    assert wide.draws < own.draws  # a wide network varies less


@pytest.mark.parametrize("make", [MaxPoolCNN, PostActivationResNet, Attention, Recurrent])
def test_modules_without_a_closed_form(make):
    shape = {MaxPoolCNN: (2, 1, 8, 8), PostActivationResNet: (2, 5), Recurrent: (2, 4, 3)}.get(make)
    x, net = torch.randint(11, (2, 6)) if shape is None else torch.randn(shape), make()
    k = monte_carlo(net, x, kind="both", accuracy=0.2, draws=60)
    assert k.reached
    for kernel in (k.ntk, k.nngp):
        assert torch.linalg.eigvalsh(kernel)[0] > -1e-12
        assert torch.equal(kernel, kernel.T)
    assert gramian.empirical_ntk(net, x).shape == k.ntk.shape


def test_what_is_averaged_is_the_kernel_of_the_scaled_network():
    """sum_p g_p <grad_p f, grad_p f'> of the drawn weights is the plain kernel of the network with unit weights."""
    x, seen = torch.randn(3, 5), []
    net = mlp(8, outputs=2)
    monte = monte_carlo(net, x, law=(1.3, 0.4), accuracy=1e-9, draws=2, seed=3)
    arch, generator = gramian.architecture(net, x, (1.3, 0.4)), torch.Generator().manual_seed(3)
    for _ in range(2):
        drawn = copy.deepcopy(net)
        for name, p in drawn.named_parameters():
            std = 0.4 if name.endswith("bias") else 1.3 / p.shape[1] ** 0.5
            p.data = std * torch.randn(p.shape, generator=generator)
        unit = arch.network(8)
        with torch.no_grad():
            for layer in ("0", "2", "4"):
                weight, bias = (drawn.get_parameter(f"{layer}.{part}") for part in ("weight", "bias"))
                unit.get_parameter(f"layers.{layer}.layer.weight").copy_(weight * weight.shape[1] ** 0.5 / 1.3)
                unit.get_parameter(f"layers.{layer}.bias.weight").copy_(bias[:, None] / 0.4)
        seen.append(jacobian_gram(unit, x))
    torch.testing.assert_close(monte.ntk, (seen[0] + seen[1]) / 2)
    torch.testing.assert_close(monte.ntk_error, (seen[0] - seen[1]).abs() / 2)


class BatchNormed(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.norm, self.readout = nn.Linear(5, 32), nn.BatchNorm1d(32), nn.Linear(32, 2)

    def forward(self, x):
        return self.readout(F.relu(self.norm(self.a(x))))


def test_batch_normalization_in_training_mode_sees_all_of_x():
    x, net = torch.randn(5, 5), BatchNormed().train()
    k = monte_carlo(net, x, kind="both", accuracy=0.05, draws=200)
    assert k.reached
    shifted = monte_carlo(net, 7 * x + 1, kind="both", accuracy=0.05, draws=200)
    torch.testing.assert_close(shifted.nngp, k.nngp, rtol=1e-3, atol=1e-3)  # the batch's mean and scale drop out
    assert net.norm.num_batches_tracked == 0
    apart = monte_carlo(net.eval(), x, kind="both", accuracy=0.05, draws=100)
    assert (apart.nngp - k.nngp).abs().max() > 0.05
    # one draw, against the explicit Jacobian
    one = monte_carlo(net.train(), x, parametrization="standard", accuracy=1e-9, draws=2, seed=1)
    generator, total = torch.Generator().manual_seed(1), 0
    for _ in range(2):
        for layer, sigma in ((net.a, 2**0.5), (net.readout, 1)):
            layer.weight.data = (
                sigma / layer.weight.shape[1] ** 0.5 * torch.randn(layer.weight.shape, generator=generator)
            )
            nn.init.zeros_(layer.bias)
        total = total + jacobian_gram(net, x)
    torch.testing.assert_close(one.ntk, total / 2)


def test_dropout_averages_over_the_masks():  # width 256, 60 draws: E mask^2 = 2 on the diagonal, 1 beside it
    x = torch.randn(3, 5)
    net = nn.Sequential(nn.Linear(5, 256), nn.ReLU(), nn.Dropout(0.5), nn.Linear(256, 1))
    plain = gramian.architecture(net.eval(), x).nngp(x)
    k = monte_carlo(net.train(), x, kind="nngp", accuracy=0.005, draws=60)
    within(k.nngp, k.nngp_error, plain * (1 + torch.eye(3)))


def test_the_same_seed_gives_the_same_numbers_and_nothing_is_changed():
    x, net = torch.randn(3, 5), BatchNormed().train().requires_grad_(False)
    net.readout.requires_grad_(True)
    before, state = {n: t.clone() for n, t in net.state_dict().items()}, torch.get_rng_state()
    a, b = (monte_carlo(net, x, draws=10, seed=4) for _ in range(2))
    assert torch.equal(a.ntk, b.ntk)
    assert not torch.equal(a.ntk, monte_carlo(net, x, draws=10, seed=5).ntk)
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(t, before[n]) for n, t in net.state_dict().items())
    assert [n for n, p in net.named_parameters() if p.requires_grad] == ["readout.weight", "readout.bias"]
    assert net.training


def test_frozen_parameters_are_drawn_and_give_nothing():
    x, net = torch.randn(3, 5), mlp(64, bias=False)
    for layer in (net[0], net[2]):
        layer.requires_grad_(False)
    k = monte_carlo(net, x, kind="both", accuracy=0.05)
    torch.testing.assert_close(k.ntk, k.nngp)  # only the readout trains: then they are the same


def test_it_stops_at_the_accuracy_or_at_the_last_draw():
    x, net, told = torch.randn(3, 5), mlp(32), []
    k = monte_carlo(net, x, accuracy=0.1, progress=lambda count, error: told.append((count, error)))
    assert k.reached
    assert k.draws == len(told) < 1000
    assert k.accuracy == told[-1][1] <= 0.1
    assert all(error > 0.1 for count, error in told[:-1] if count >= 8)
    assert k.accuracy == pytest.approx(float(k.ntk_error.norm() / k.ntk.norm()))
    assert k.nngp is None
    short = monte_carlo(net, x, accuracy=1e-4, draws=12)
    assert (short.reached, short.draws) == (False, 12)
    assert "12 draws at the module's own width, relative error" in str(short)
    assert "less accurate than asked" in str(short)


def test_single_precision_and_integers():
    x = torch.randn(3, 5)
    double, single = (monte_carlo(mlp(32), x, dtype=d, draws=10) for d in (torch.float64, torch.float32))
    torch.testing.assert_close(double.ntk, single.ntk, rtol=1e-4, atol=1e-4)
    assert not torch.equal(double.ntk, single.ntk)
    assert single.ntk.dtype == torch.float64  # sums are double


class Gated(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.gate, self.readout = nn.Linear(5, 8), nn.Parameter(torch.full((8,), 2.0)), nn.Linear(8, 1)

    def forward(self, x):
        return self.readout(self.gate * F.relu(self.a(x)))


def test_a_parameter_without_a_law():
    x, net = torch.randn(2, 5), Gated()
    with says(BadArgument, r"`gate`, shape \(8,\), has no law", "Gated", "linear, convolutional", '"gate"'):
        monte_carlo(net, x)
    kept = monte_carlo(net, x, kind="nngp", draws=10, draw=lambda name, p, g: p if name == "gate" else None)
    plain = monte_carlo(nn.Sequential(net.a, nn.ReLU(), net.readout), x, kind="nngp", draws=10)
    torch.testing.assert_close(kept.nngp, 4 * plain.nngp)  # the gate is 2
    drawn = monte_carlo(net, x, law={"gate": (2.0, 0), "*": "he", "readout": (1, 0)}, kind="both", draws=10)
    assert drawn.nngp.isfinite().all()


def test_tied_weights_with_two_laws():
    net = nn.Sequential(nn.Embedding(5, 5), nn.Flatten(), nn.Linear(5, 5, bias=False))
    net[2].weight = net[0].weight
    with says(BadArgument, "shared by layers", r"0 \(Embedding\), 2 \(Linear\)", "both", "sigma, 0"):
        monte_carlo(net, torch.tensor([[1], [2]]))
    law = {"0.weight": (0.5, 0)}
    assert monte_carlo(net, torch.tensor([[1], [2]]), law=law, draws=10).ntk.shape == (2, 2)


@pytest.mark.parametrize(
    ("options", "what", "fix"),
    [
        ({"accuracy": 0}, "`accuracy` is 0", "accuracy=0.05"),
        ({"accuracy": 2.0}, "`accuracy` is 2.0", "accuracy=0.05"),
        ({"draws": 1}, "`draws` is 1", "draws=1000"),
        ({"kind": "ntks"}, "`kind` is 'ntks'", "kind='ntk'"),
        ({"parametrization": "mu"}, "`parametrization` is 'mu'", "parametrization='ntk'"),
        ({"width": 0}, "`width` is 0", "width=256"),
        ({"extrapolate": True}, "`extrapolate` without `width`", "width=128"),
        ({"law": "glorot"}, "Unknown law 'glorot'", "law="),
    ],
)
def test_options_out_of_range(options, what, fix):
    with says(BadArgument, what, "", "", fix):
        monte_carlo(mlp(), torch.randn(2, 5), **options)


def test_no_module():
    for wrong, width in ((mlp, None), (3.0, 8), (lambda width: width, 8)):
        with says(BadArgument, "makes no torch.nn.Module", "monte_carlo", "function of the width", "make"):
            monte_carlo(wrong, torch.randn(2, 5), width=width)
    with says(
        BadArgument, r"no trainable parameter \(6 in all\)", "Sequential", "requires_grad=False", "requires_grad_"
    ):
        monte_carlo(mlp().requires_grad_(False), torch.randn(2, 5))


def test_an_overflow_is_no_kernel():
    for kind in ("ntk", "nngp"):
        with says(BadData, "NaN or infinite", "", "", "dtype|double"):
            monte_carlo(BatchNormed().eval(), torch.randn(2, 5), law=(1e200, 0), kind=kind)


@pytest.mark.parametrize("name", ZOO)
@pytest.mark.parametrize("bias", [False, True])
def test_readouts_are_those_of_the_architecture(name, bias):
    shape = (1, 8, 8) if name in ("cnn", "conv-resnet") else (6,)
    net, x = ZOO[name](shape, 2, width=6, bias=bias), torch.randn(2, *shape)
    arch = gramian.architecture(net, x)
    last = [arch.steps[i].op for i in range(len(arch.steps)) if arch.steps[i].op.random and not arch.hidden(i)]
    found = find_readouts(copy.deepcopy(net), x)
    assert found.names == {n for op in last for n in (op.weight_name, op.bias_name) if n}
    assert found.last == last[0].path


def test_two_heads_are_two_readouts_and_an_embedding_is_none():
    heads = TwoHeads()
    assert find_readouts(heads, torch.randn(2, 5)).names == {"a.weight", "a.bias", "b.weight", "b.bias"}
    assert find_readouts(heads, torch.randn(2, 5)).last is None
    found = find_readouts(nn.Sequential(nn.Embedding(3, 4), nn.Flatten(), nn.Linear(8, 1)), torch.tensor([[0, 1]]))
    assert found.names == {"2.weight", "2.bias"}


class TwoHeads(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.a, self.b = nn.Linear(5, 4), nn.Linear(4, 1), nn.Linear(4, 1)

    def forward(self, x):
        h = F.relu(self.first(x))
        return self.a(h) + self.b(h)


def test_bad_inputs():
    x = torch.randn(3, 5)
    x[1, 2] = float("nan")
    with says(BadData, "`x` has 1 values that are NaN", "row 1", "missing", "isfinite"):
        monte_carlo(mlp(), x)
    with says(BadData, r"`x` has shape \(0, 5\)", "argument `x`", "counts the samples", "shape"):
        monte_carlo(mlp(), x[:0])
    with says(BadData, r"failed on `x` of shape \(2, 4\)", "Sequential", "RuntimeError: mat1", "shape"):
        monte_carlo(mlp(), torch.randn(2, 4))
    with says(BadData, r"`x2` has samples of shape \(4,\)", "monte_carlo", "resized", "reshape"):
        monte_carlo(mlp(), torch.randn(2, 5), torch.randn(2, 4))
    with says(BadArgument, "mixes the samples", "monte_carlo", "batch", r"torch.cat\(\[x, x2\]\)"):
        monte_carlo(BatchNormed().train(), torch.randn(2, 5), torch.randn(2, 5))
    with says(BadArgument, "cannot be given width 64", "MaxPoolCNN", "architecture", "make"):
        monte_carlo(MaxPoolCNN(), torch.randn(2, 1, 8, 8), width=64)
    with says(BadArgument, r"returns shape \(\)", "ToOne", "row for each input", "outputs"):
        monte_carlo(ToOne(), torch.randn(2, 5))


class ToOne(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(5, 1)

    def forward(self, x):
        return self.a(x).sum()
