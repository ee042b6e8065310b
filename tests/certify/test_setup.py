"""What is trained in each parametrization, and that its limit kernel is the one of what is trained."""

import math

import pytest
import torch
from torch import nn

from gramian.certify.network_form import activations
from gramian.certify.setup import PARAMETRIZATIONS, setup
from gramian.empirical import empirical_ntk
from gramian.errors import BadArgument, NoLimit
from gramian.network.zoo import DuResNet, ResNet, cnn, mlp
from gramian.train import AllenZhuNetwork

NETS = {
    "mlp": lambda: mlp((1, 4, 4), 3, depth=4, width=8),
    "cnn": lambda: cnn((1, 4, 4), 3, depth=4, width=8),
    "resnet": lambda: ResNet((1, 4, 4), 3, depth=5, width=8),
}


@pytest.fixture
def small(few):
    """Six images of 4 x 4 and two for testing."""
    x, x_test = few[0][:6, :, 2:6, 2:6] / 8 + 0.1, few[2][:2, :, 2:6, 2:6] / 8 + 0.1
    return tuple(4 * v / v.flatten(1).norm(dim=1).view(-1, 1, 1, 1) for v in (x, x_test))


def made(name, small, parametrization, law=None):
    module = NETS[name]() if isinstance(name, str) else name
    return setup(module, *small, law, parametrization, torch.float64, "cpu")


def draws_of(setting, width, draws):
    """Empirical NTKs of networks drawn, shape (draws, n, n), and their limit."""
    limit = setting.kernel(width, setting.x, None)
    return torch.stack([empirical_ntk(setting.build(width, seed), setting.x) for seed in range(draws)]), limit


def rms(off):
    return float(off.square().sum((1, 2)).mean().sqrt())


@pytest.mark.parametrize("parametrization", PARAMETRIZATIONS)
@pytest.mark.parametrize("name", NETS)
def test_every_family_is_set_up_in_every_parametrization(name, parametrization, small):
    found = made(name, small, parametrization)
    paper = parametrization == "allen-zhu"
    family = {"mlp": "fully connected", "cnn": "convolutional", "resnet": "residual"}[name]
    assert found.family == family
    assert found.depth == {"mlp": 3, "cnn": 3, "resnet": 4}[name] - paper  # its first layer is not trained
    image = name == "cnn"
    assert (found.pixels, found.window) == ((16, 9) if image else (1, 1))
    assert found.fixed_width == (parametrization in ("own", "standard"))
    assert found.paper == paper
    wanted = 1.0 if paper else 4.0
    torch.testing.assert_close(found.x.flatten(1).norm(dim=1), torch.full((6,), wanted))
    torch.testing.assert_close(found.x_test.flatten(1).norm(dim=1), torch.full((2,), wanted))
    width = found.own_width if found.fixed_width else 12
    network = found.build(width, 0)
    assert network(found.x).shape == (6, 3)
    if paper and name == "resnet":  # a ReLU of a sum with a ReLU in it has no Gaussian limit
        assert found.kernel is None
        assert "not Gaussian" in found.no_limit
        return
    assert found.no_limit == ""
    theta = found.kernel(width, found.x, None)
    torch.testing.assert_close(theta, theta.mT)
    torch.testing.assert_close(found.kernel(width, found.x_test, found.x)[:, :2].shape, torch.Size([2, 2]))
    assert torch.linalg.eigvalsh(theta)[0] > 0


@pytest.mark.parametrize(("name", "width", "draws"), [("mlp", 256, 24), ("cnn", 64, 24)])
def test_the_network_of_allen_zhu_has_the_kernel_that_is_predicted(name, width, draws, small):
    """m q p / (2 d) times that of unit weights: width 256 and 64, 24 draws, tolerance 3 standard errors."""
    drawn, limit = draws_of(made(name, small, "allen-zhu"), width, draws)
    spread = rms(drawn - drawn.mean(0)) / math.sqrt(draws - 1)
    assert float((drawn.mean(0) - limit).norm()) < 3 * spread
    assert spread < 0.1 * float(limit.norm())  # so that a factor of 2 would be 10 standard errors off
    assert float(drawn.mean(0).trace() / limit.trace()) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize(("name", "widths", "draws"), [("mlp", (32, 128, 512), 24), ("cnn", (32, 128), 32)])
def test_it_approaches_that_kernel_like_one_over_root_width(name, widths, draws, small):
    setting, errors = made(name, small, "allen-zhu"), []
    for width in widths:
        drawn, limit = draws_of(setting, width, draws)
        errors.append(rms(drawn - limit) / float(limit.norm()))
    slope = math.log(errors[-1] / errors[0]) / math.log(widths[-1] / widths[0])
    assert slope == pytest.approx(-0.5, abs=0.15)  # observed -0.46 and -0.39


def test_unit_turns_an_ntk_network_s_gradients_into_those_of_the_paper(small):
    """The same network in both parametrizations: its first and last layer fixed, on the padded rows of norm one."""
    paper = made("mlp", small, "allen-zhu")
    net = mlp((paper.x.shape[1],), 3, depth=paper.depth + 2, width=8)
    for layer in (net[1], net[-1]):
        layer.requires_grad_(False)
    root = paper.x.shape[1] ** 0.5  # their norm one is sqrt(d) here
    ours = setup(net, root * paper.x, root * paper.x_test, None, "ntk", torch.float64, "cpu")
    for width in (8, 100):
        found = ours.kernel(width, ours.x, None) * ours.unit(width, 3)
        torch.testing.assert_close(found, paper.kernel(width, paper.x, None), rtol=1e-9, atol=1e-9)


def test_unit_turns_a_convolutional_network_s_gradients_into_those_of_the_paper(small):
    """Rows of norm sqrt(p), so of norm one a pixel on average, where the paper's have norm one in all."""
    paper = made("cnn", small, "allen-zhu")
    layers = [nn.Conv2d(3, 8, 1, bias=False), nn.ReLU()]  # with the two channels of the padding
    for _ in range(paper.depth):
        layers += [nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.ReLU()]
    net = nn.Sequential(*layers, nn.Flatten(), nn.Linear(8 * 16, 3, bias=False))
    for layer in (net[0], net[-1]):
        layer.requires_grad_(False)
    root = 4 * 3**0.5  # the limit divides by the number of channels, and rows are of norm one a pixel on average
    ours = setup(net, root * paper.x, root * paper.x_test, None, "ntk", torch.float64, "cpu")
    assert (ours.pixels, ours.window) == (paper.pixels, paper.window) == (16, 9)
    found = ours.kernel(20, ours.x, None) * ours.unit(20, 3)
    torch.testing.assert_close(found, paper.kernel(20, 4 * paper.x, None), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("kind", "window"), [("fc", 1), ("cnn", 9)])
def test_stretch_turns_an_ntk_network_s_distances_into_those_of_the_paper(kind, window, small):
    """Weights of N(0, 2 / (q m)) there, of N(0, 1) here; width 64, 4 or 37 thousand weights, tolerance 5 %."""
    paper = AllenZhuNetwork(1, 3, 1, 64, kind, pixels=(4, 4), generator=torch.Generator().manual_seed(0))
    ours = made("mlp" if kind == "fc" else "cnn", small, "ntk")
    assert ours.window == window
    assert ours.stretch(64) == pytest.approx(float(paper.hidden[0].weight.detach().std()), rel=0.05)
    drawn = ours.build(64, 0).get_parameter("layers.3.layer.weight" if kind == "fc" else "layers.2.layer.weight")
    assert float(drawn.detach().std()) == pytest.approx(1, rel=0.05)


def test_other_parametrizations_have_their_own_units(small):
    for parametrization in ("own", "standard", "allen-zhu"):
        found = made("mlp", small, parametrization)
        assert (found.unit(64, 3), found.stretch(64)) == (1.0, 1.0)


@pytest.mark.parametrize("parametrization", ["ntk", "standard", "own"])
@pytest.mark.parametrize("name", ["mlp", "resnet"])
def test_the_limit_is_that_of_what_is_trained(name, parametrization, small):
    """Width 512, 8 draws, tolerance 10 % of the trace; torch's own initialization for "own", with its biases."""
    wide = {"mlp": lambda: mlp((1, 4, 4), 3, depth=3, width=512, bias=True),
            "resnet": lambda: ResNet((1, 4, 4), 3, depth=4, width=512, bias=True)}[name]  # fmt: skip
    drawn = []
    for seed in range(8):
        torch.manual_seed(seed)
        found = made(wide(), small, parametrization)
        drawn.append(empirical_ntk(found.build(512, seed), found.x))
    limit = found.kernel(512, found.x, None)
    mean = torch.stack(drawn).mean(0)
    assert float(mean.trace() / limit.trace()) == pytest.approx(1, abs=0.1)
    assert float((mean - limit).norm() / limit.norm()) < 0.15


def test_own_is_the_module_itself_and_the_others_leave_it_alone(small):
    for parametrization in PARAMETRIZATIONS:
        module = NETS["mlp"]().float()
        before = {k: v.clone() for k, v in module.state_dict().items()}
        found = setup(module, *small, None, parametrization, torch.float64, "cpu")
        assert (found.build(8, 0) is module) == (parametrization == "own")
        assert module.training
        assert next(module.parameters()).dtype == (torch.float64 if parametrization == "own" else torch.float32)
        for key, value in module.state_dict().items():
            assert torch.equal(value.float(), before[key])


def test_parts_in_eval_mode_stay_so(small):
    module = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3))
    module[3].eval()
    setup(module, *small, None, "ntk", torch.float64, "cpu")
    assert [part.training for part in module] == [True, True, True, False, True]


def test_standard_keeps_each_layer_s_own_width(small):
    module = nn.Sequential(nn.Flatten(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 20), nn.ReLU(), nn.Linear(20, 3))
    found = made(module, small, "standard")
    assert found.own_width == 12
    shapes = [tuple(p.shape) for p in found.build(found.own_width, 0).parameters() if p.ndim == 2]
    assert shapes == [(12, 16), (20, 12), (3, 20)]


def test_the_same_seed_builds_the_same_network(small):
    for parametrization in ("ntk", "standard", "allen-zhu"):
        found = made("mlp", small, parametrization)
        one, again, other = (found.build(8, seed)(found.x) for seed in (3, 3, 4))
        assert torch.equal(one, again)
        assert not torch.equal(one, other)


def test_the_law_is_said_in_the_initialization(small):
    said = {
        ("ntk", None): "NTK parametrization, law he",
        ("ntk", (1.0, 0.5)): "NTK parametrization, law (1.0, 0.5)",
        ("standard", None): "standard parametrization, law torch",
        ("own", None): "as given (law of the limit: torch)",
        ("own", "lecun"): "as given (law of the limit: lecun)",
        ("allen-zhu", None): "as in arXiv:1811.03962, only hidden layers trained",
    }
    for (parametrization, law), words in said.items():
        assert made("mlp", small, parametrization, law).initialization == words


def test_activations_and_their_smoothness_are_named(small):
    assert activations(made("mlp", small, "ntk").arch) == (("ReLU",), False)
    assert activations(made(mlp((1, 4, 4), 3, activation="gelu"), small, "ntk").arch)[1]
    names, smooth = activations(made(DuResNet((1, 4, 4), 3, width=8), small, "ntk", (1.0, 0.0)).arch)
    assert len(names) == 1
    assert smooth


def test_no_test_rows_are_no_obstacle(small):
    for parametrization in PARAMETRIZATIONS:
        for name in NETS:
            found = setup(NETS[name](), small[0], small[0][:0], None, parametrization, torch.float64, "cpu")
            assert len(found.x_test) == 0


def test_a_module_without_a_limit_is_trained_as_it_stands_or_not_at_all(small):
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.Softmax(1), nn.ReLU(), nn.Linear(8, 3))
    found = made(net, small, "own")
    assert found.kernel is None
    assert found.arch is None
    assert "softmax" in found.no_limit
    assert (found.own_width, found.depth, found.family) == (8, 1, "other")
    with pytest.raises(NoLimit, match=r'(?s)softmax.*where: 2 \(Softmax\).*why: .*fix: .*parametrization="own"'):
        made(net, small, "ntk")


def test_an_unknown_parametrization_is_refused(small):
    with pytest.raises(BadArgument, match=r"(?s)'fast'.*where: argument `parametrization`.*why: .*fix: one of ntk, st"):
        made("mlp", small, "fast")


@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_the_paper_s_padding_keeps_rows_apart_that_differ_by_a_factor(name, small):
    x = torch.cat([small[0][:2], 2 * small[0][:1], 0 * small[0][:1]])
    found = setup(NETS[name](), x, small[1], None, "allen-zhu", torch.float64, "cpu")
    flat = found.x.flatten(1)
    torch.testing.assert_close(flat.norm(dim=1), torch.ones(4))
    assert float(torch.pdist(flat).min()) > 0.1
    assert torch.linalg.eigvalsh(found.kernel(8, found.x, None))[0] > 0


def test_biases_of_the_module_are_in_the_kernel_of_what_is_drawn_anew(small):
    with_biases, without = (setup(mlp((1, 4, 4), 3, bias=b), *small, None, "ntk", torch.float64, "cpu")
                            for b in (True, False))  # fmt: skip
    assert with_biases.initialization == "NTK parametrization, law he with biases of deviation 0.1"
    off = with_biases.kernel(8, small[0], None) - without.kernel(8, small[0], None)
    assert float(off.min()) > 0.01
