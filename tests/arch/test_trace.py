"""Reading modules: what comes out, and what is refused, with the user's own line."""

import math
import pickle
import re

import pytest
import torch
from layers import Net
from nets import PooledCNN, PreprocessedInput, SumOfPosts
from torch import nn
from torch.nn import functional as F

from gramian import architecture
from gramian.arch.ops import Conv, Linear, ReLU
from gramian.errors import BadArgument, BadData, NoLimit


def mlp(*middle):
    return nn.Sequential(nn.Linear(3, 4), *middle, nn.Linear(4, 1))


def test_relu_in_three_spellings_is_one_architecture():
    class Functional(nn.Module):
        def __init__(self, relu):
            super().__init__()
            self.a, self.b, self.relu = nn.Linear(3, 4), nn.Linear(4, 1), relu

        def forward(self, x):
            return self.b(self.relu(self.a(x)))

    ops = {
        tuple(s.op for s in architecture(Functional(r), torch.zeros(2, 3)).steps)
        for r in (F.relu, torch.relu, nn.ReLU())
    }
    assert len(ops) == 1


def test_an_architecture_pickles_compares_and_prints():
    arch = architecture(PooledCNN().eval(), torch.zeros(2, 2, 6, 6), law=(1.2, 0.3))
    assert pickle.loads(pickle.dumps(arch)) == arch
    assert "Conv 3x2, stride 2x1, dilation 1x2 -> 8, sigma_w 1.2, b 0.3" in str(arch)
    assert arch.depth == 3
    assert arch.n_outputs == 2


def test_a_frozen_parameter_is_seen():
    net = mlp(nn.ReLU())
    net[2].requires_grad_(False)
    first, last = architecture(net, torch.zeros(1, 3)).affine
    assert (first.weight_trains, last.weight_trains, last.bias_trains) == (True, False, False)


def test_the_module_is_left_as_it_was():
    net = PooledCNN()
    net.train()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    with pytest.raises(NoLimit, match="training mode"):
        architecture(net, torch.randn(2, 2, 6, 6))
    assert net.training
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


def test_reshapes_and_scalings_of_the_input_are_plain_numbers():
    net = PreprocessedInput()
    arch = architecture(net, torch.zeros(2, 16))
    inside = architecture(nn.Sequential(net.conv, nn.ReLU(), nn.Flatten(), net.readout), torch.zeros(2, 1, 4, 4))
    x = torch.randn(5, 16)
    torch.testing.assert_close(arch.ntk(x), inside.ntk(x.view(5, 1, 4, 4) * 2 - 1))


def test_a_matrix_product_with_a_parameter_is_a_linear_layer():
    class Product(nn.Module):
        def __init__(self):
            super().__init__()
            self.W, self.V = nn.Parameter(torch.randn(3, 7)), nn.Parameter(torch.randn(7, 1))

        def forward(self, x):
            return torch.relu(x @ self.W) @ self.V

    x = torch.randn(4, 3)
    arch = architecture(Product(), x)
    assert [type(s.op) for s in arch.steps] == [Linear, ReLU, Linear]
    same = nn.Sequential(nn.Linear(3, 7, bias=False), nn.ReLU(), nn.Linear(7, 1, bias=False))
    torch.testing.assert_close(arch.ntk(x), architecture(same, x).ntk(x))


def test_same_padding_is_read_and_drawn():
    net = nn.Sequential(nn.Conv1d(1, 4, 4, padding="same"), nn.ReLU(), nn.Flatten(), nn.Linear(28, 1))
    arch = architecture(net, torch.zeros(1, 1, 7))
    op = arch.steps[0].op
    assert isinstance(op, Conv)
    assert op.padding == ((1, 2),)
    assert arch.network(5)(torch.zeros(2, 1, 7)).shape == (2, 1)


USERS = """import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(3, 4), nn.Linear(4, 1)

    def forward(self, x):
        h = self.a(x)
        if BRANCHES and h.sum() > 0:
            h = -h
        return self.b(torch.softmax(h, 1))
"""


@pytest.mark.parametrize("folder", ["torch", "gramian", "plain"])
@pytest.mark.parametrize(("branches", "shape", "line"), [
    (False, (2, 3), "14"), (True, (2, 3), "12"), (False, (2, 5), "11"),
], ids=["no rule", "branches", "wrong shape"])  # fmt: skip
def test_the_users_line_is_named_whatever_its_folder_is_called(folder, branches, shape, line, tmp_path):
    file = tmp_path / folder / "mynet.py"
    file.parent.mkdir()
    file.write_text(USERS)
    names = {"BRANCHES": branches, "__name__": "mynet"}
    exec(compile(USERS, str(file), "exec"), names)
    with pytest.raises((NoLimit, BadData), match=rf"where: [^\n]*{re.escape(str(file))}:({line})\b"):
        architecture(names["Net"](), torch.randn(*shape))


class PostActivation(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.v = nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 1)

    def forward(self, x):
        h = torch.relu(self.a(x))
        return self.v(torch.relu(h + self.b(h)))


class Transposed(nn.Module):
    def __init__(self):
        super().__init__()
        self.w, self.u, self.v = nn.Linear(4, 4), nn.Linear(3, 4), nn.Linear(4, 1)

    def forward(self, x):
        return self.v(torch.relu(self.w(torch.relu(self.u(x))) @ self.w.weight))


class SharedFactors(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.v = nn.Linear(3, 4), nn.Linear(4, 1)

    def forward(self, x):
        return self.v(torch.relu(self.a(x)) * torch.relu(self.a(0.5 * x)))


class Unlike(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.v = nn.Linear(3, 4), nn.Linear(4, 1)

    def forward(self, x):
        return self.v(torch.tanh(self.a(x)) + torch.relu(self.a(0.5 * x)))


class InputSkip(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.v = nn.Linear(3, 3), nn.Linear(3, 1)

    def forward(self, x):
        return self.v(x + torch.relu(self.a(x)))


class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(3, 1)

    def forward(self, x):
        if x.sum() > 0:
            return self.a(x)
        return -self.a(x)


class GroupsAfterConcat(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(2, 4, 1), nn.Conv2d(4, 4, 1)
        self.c, self.r = nn.Conv2d(8, 8, 1, groups=2), nn.Linear(8, 1)

    def forward(self, x):
        h = torch.relu(self.a(x))
        return self.r(self.c(torch.cat([h, torch.relu(self.b(h))], 1)).mean((2, 3)))


REFUSED = [
    (
        PostActivation(),
        r"not Gaussian.*test_trace.py:\d+: return self.v\(torch.relu\(.*fix: put a Linear or Conv between",
    ),
    (Transposed(), r"`w.weight` is used twice, once transposed.*test_trace.py:\d+.*fix: give each layer"),
    (SharedFactors(), r"factors share the random weights of `a.weight`.*test_trace.py:\d+: return self.v\(torch.relu"),
    (Unlike(), r"ReLU and tanh of values that share random weights.*fix: use the same activation"),
    (InputSkip(), r"input itself is added.*test_trace.py.*fix: put a Linear or Conv"),
    (mlp(nn.Softmax(1)), r"`softmax` has no infinite-width rule.*where: 1 \(Softmax\).*gramian.monte_carlo"),
    (nn.Sequential(nn.Dropout(0.5), *mlp(nn.ReLU())), r"Dropout of the input itself.*fix: call .eval\(\)"),
    (Branching(), r"torch.export can't read.*test_trace.py:\d+.*fix: write the forward without data-dependent"),
    (nn.Sequential(nn.ReLU()), r"no layer with weights"),
    (mlp(nn.Softmax(-1)), r"`softmax` has no infinite-width rule.*where: 1 \(Softmax\)"),
]


@pytest.mark.parametrize(("net", "text"), REFUSED, ids=lambda v: type(v).__name__ if isinstance(v, nn.Module) else "")
def test_what_has_no_limit_is_refused_with_its_line_and_a_way_out(net, text):
    x = torch.randn(2, 3)
    with pytest.raises(NoLimit, match="(?s)" + text):
        architecture(net, x).ntk(x)


@pytest.mark.parametrize(
    ("net", "shape", "text"),
    [
        (nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 1, 3)), (1, 2, 6, 6), r"a value at each position"),
        (nn.Sequential(nn.Conv2d(2, 4, 3, groups=2), nn.Flatten(), nn.Linear(64, 1)), (1, 2, 6, 6),
         r"groups=2 of the input itself.*fix: groups=1 in the first layer"),
        (nn.Sequential(nn.Conv2d(2, 4, 3), nn.Conv2d(4, 8, 3, groups=4), nn.Flatten(), nn.Linear(32, 1)), (1, 2, 6, 6),
         r"depthwise convolution: a group for each of 4 channels.*fix: fewer groups"),
        (GroupsAfterConcat(), (1, 2, 6, 6), r"groups=2 acts on channels that have different laws.*fix: groups=1 after"),
        (nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.ReLU(), nn.Linear(64, 1)), (1, 1, 6, 6),
         r"after a Flatten.*fix: put the activation before"),
        (nn.Sequential(nn.Conv2d(1, 4, 3), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16, 1)), (1, 1, 6, 6),
         r"`max_pool2d`"),
    ],
)  # fmt: skip
def test_images_without_a_limit_are_refused(net, shape, text):
    x = torch.randn(shape)
    with pytest.raises(NoLimit, match="(?s)" + text):
        architecture(net, x).ntk(x)


def test_an_input_of_the_wrong_shape_is_bad_data_and_says_how_to_pass_it(capfd):
    with pytest.raises(BadData, match=r"(?s)does not run on an input of shape \(2, 5\).*fix: run module\(like\)"):
        architecture(mlp(nn.ReLU()), torch.randn(2, 5))
    assert capfd.readouterr() == ("", "")  # no traceback of torch's above our error
    with pytest.raises(BadData, match=r"(?s)`like` is \(3,\).*like=x\[:2\]"):
        architecture(mlp(nn.ReLU()), torch.randn(3))


def test_an_unknown_parametrization_is_refused():
    with pytest.raises(BadArgument, match='fix: parametrization="ntk"'):
        architecture(mlp(nn.ReLU()), torch.randn(2, 3), parametrization="mean-field")


def test_sums_of_posts_are_accepted_where_they_are_independent():
    assert architecture(SumOfPosts(), torch.randn(2, 6)).depth == 4


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (lambda h: h * torch.sigmoid(h), F.silu),
        (lambda h: torch.relu(torch.relu(h)), torch.relu),
        (lambda h: h + torch.relu(h), lambda h: 2 * F.leaky_relu(h, 0.5)),
        (lambda h: h + F.relu(h, inplace=True), lambda h: 2 * torch.relu(h)),  # in place: both summands are the ReLU
        (lambda h: torch.relu(h) - torch.relu(-h), lambda h: h),
        (lambda h: 0.5 * h * (1 + torch.erf(h / math.sqrt(2))), F.gelu),
    ],
)
def test_a_function_written_out_is_the_activation_that_it_is(written, meant):
    x, a, v = torch.randn(4, 3), nn.Linear(3, 8), nn.Linear(8, 1)
    found, expected = (architecture(Written(a, f, v), x, law=(1.2, 0.3)).kernels(x) for f in (written, meant))
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


class Written(nn.Module):
    def __init__(self, a, function, v):
        super().__init__()
        self.a, self.v, self.function = a, v, function

    def forward(self, x):
        return self.v(self.function(self.a(x)))


UNEVEN = [
    {"padding": 1, "count_include_pad": False},
    {"stride": 2, "ceil_mode": True},
    {"stride": 2, "padding": 1, "ceil_mode": True, "count_include_pad": False},
]


@pytest.mark.parametrize("settings", UNEVEN)
def test_pools_whose_windows_at_the_edge_count_less_are_fixed_matrices(settings):
    settings = {"stride": 1, **settings}
    torch.manual_seed(0)
    x = torch.randn(3, 2, 6, 5, dtype=torch.float64)
    rows, columns = (F.avg_pool1d(torch.eye(size, dtype=torch.float64)[None], 3, **settings)[0] for size in (6, 5))

    class ByHand(nn.Module):
        def forward(self, h):
            return rows.T @ h @ columns

    def network(pool):
        conv, again = (nn.Conv2d(c, 4, 3, padding=1) for c in (2, 4))
        return nn.Sequential(
            conv, nn.ReLU(), pool, again, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 1)
        )

    pool = nn.AvgPool2d(3, **settings)
    torch.testing.assert_close(ByHand()(x), pool(x))
    torch.testing.assert_close(architecture(network(pool).double(), x).ntk(x),
                               architecture(network(ByHand()).double(), x).ntk(x))  # fmt: skip


def test_the_one_number_of_a_network_may_lose_its_axis_in_the_last_line():
    a, b, x = nn.Linear(3, 8), nn.Linear(8, 1), torch.randn(3, 3)
    kept = architecture(nn.Sequential(a, nn.ReLU(), b), x).kernels(x)
    for drop in (
        lambda f: f.squeeze(-1),
        lambda f: f.squeeze(),
        lambda f: f[:, 0],
        lambda f: f.view(-1),
        lambda f: f.flatten(),
        lambda f: f.reshape(len(f)),
    ):
        module = Net(lambda n, x, drop=drop: drop(n.b(torch.relu(n.a(x)))), a=a, b=b)
        arch = architecture(module, x)
        for engine in ("torch", "auto"):
            torch.testing.assert_close(arch.kernels(x, engine=engine), kept, rtol=1e-12, atol=0)
        assert arch.network(width=16, seed=0)(x).shape == (3,)


@pytest.mark.parametrize(
    ("last", "says"),
    [
        (
            lambda f: f.squeeze(-1).tanh(),
            r"(?s)length one here, is dropped, and another call follows.*fix: keep the axis",
        ),
        (
            lambda f: F.instance_norm(torch.cat([f[:, :, None]] * 4, 2)),
            r"(?s)`instance_norm`.*fix: nn.GroupNorm\(1, channels\)",
        ),
        (lambda f: f / f.std(-1, keepdim=True), r"(?s)`std`.*fix: nn.LayerNorm"),
        (lambda f: F.normalize(f), r"(?s)`linalg_vector_norm`.*fix: nn.RMSNorm"),
    ],
)
def test_what_follows_a_readout_is_refused_with_what_to_write(last, says):
    module = Net(lambda n, x: last(n.b(torch.relu(n.a(x)))), a=nn.Linear(3, 8), b=nn.Linear(8, 1))
    with pytest.raises(NoLimit, match=says):
        architecture(module, torch.randn(3, 3))
