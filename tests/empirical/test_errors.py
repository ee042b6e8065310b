"""Each refusal says what, where, why, and what to type instead."""

import pytest
import torch
from torch import nn
from zoo import mlp

from gramian.empirical import EmpiricalNTK, empirical_ntk, empirical_ntk_by_layer, jacobian, linearize
from gramian.errors import BadArgument, BadData


def says(error, what, where, why, fix):
    parts = (r"(?s).*", what, r".*\n  where: .*", where, r".*\n  why: .*", why, r".*\n  fix: .*", fix)
    return pytest.raises(error, match="".join(parts))


X = torch.ones(4, 3, dtype=torch.float64)


def test_nan_names_its_row():
    x = torch.randn(4, 3)
    x[2, 1] = float("nan")
    for run in (empirical_ntk, empirical_ntk_by_layer, jacobian, EmpiricalNTK):
        with says(BadData, "`x` has 1 values that are NaN", r"row 2, entry \(1,\)", "missing", "isfinite"):
            run(mlp(3, 4, 2), x)
    with says(BadData, "`x2` has 1 values", "row 2", "missing", "isfinite"):
        empirical_ntk(mlp(3, 4, 2), X, x)


def test_wrong_shape_gives_the_modules_own_words():
    with says(
        BadData, r"failed on `x` of shape \(1, 5\)", "Sequential", "RuntimeError: mat1 and mat2", "module's dtype"
    ) as e:
        empirical_ntk(mlp(3, 4, 2), torch.randn(4, 5))
    assert isinstance(e.value.__cause__, RuntimeError)


def test_wrong_dtype_too():
    with says(BadData, "torch.float32", "Sequential", "same dtype", "dtype and device"):
        empirical_ntk(mlp(3, 4, 2), X.float())


@pytest.mark.parametrize(
    ("x", "what"), [(torch.ones(0, 3), r"shape \(0, 3\)"), (torch.tensor(1.0), r"shape \(\)"), ([[1.0]], "type list")]
)
def test_empty_or_no_tensor(x, what):
    with says(BadData, what, "argument `x`", "counts the samples", "as_tensor"):
        empirical_ntk(mlp(3, 4, 2), x)


def test_two_inputs_of_different_shapes():
    with says(BadData, r"`x2` has samples of shape \(4,\), `x` of shape \(3,\)", "empirical_ntk", "resized", "reshape"):
        empirical_ntk(mlp(3, 4, 2), X, torch.ones(2, 4))


def test_nothing_to_train():
    for run in (empirical_ntk, empirical_ntk_by_layer, jacobian):
        with says(
            BadArgument, r"no trainable parameter \(4 in all\)", "Sequential", "requires_grad=False", "requires_grad_"
        ):
            run(mlp(3, 4, 2).requires_grad_(False), X)
    with says(BadArgument, r"no trainable parameter \(0 in all\)", "ReLU", "has no parameters", "give the module"):
        empirical_ntk(nn.ReLU(), X)
    with says(BadArgument, "no trainable parameter", "ReLU", "has no parameters", "give"):
        linearize(nn.ReLU())


def test_not_a_module():
    with says(BadArgument, "`module` is a function", "empirical_ntk", "gradients", "torch.nn.Module"):
        empirical_ntk(lambda x: x, X)


def test_unknown_options():
    net = mlp(3, 4, 2)
    with says(
        BadArgument, "`outputs` is 'trace'; known are 'mean', 'sum', 'full'", "outputs=", "averages", 'outputs="mean"'
    ):
        empirical_ntk(net, X, outputs="trace")
    with says(BadArgument, "`max_bytes` is 0", "max_bytes=", "working memory", "max_bytes=2"):
        empirical_ntk(net, X, max_bytes=0)


def test_training_mode_of_dropout_and_batch_norm():
    dropout = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 2))
    with says(
        BadArgument, "output is random", r"1 \(Dropout, p=0.5\) is in training mode", "dropout", r"module.eval\(\)"
    ):
        empirical_ntk(dropout, X)
    norm = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    with says(BadArgument, "mixes the samples", r"1 \(BatchNorm1d\) in training mode", "own mean", r"module.eval\(\)"):
        empirical_ntk(norm, X)
    bare = nn.Sequential(nn.Conv1d(1, 4, 1), nn.BatchNorm1d(4, track_running_stats=False)).eval()
    with says(BadArgument, "mixes the samples", "without running statistics", "own mean", "track_running_stats=True"):
        empirical_ntk(bare, torch.randn(4, 1, 3))
    for net in (dropout, norm):
        empirical_ntk(net.eval(), X)


class Body(nn.Module):
    """A linear map and something done to it."""

    def __init__(self, then):
        super().__init__()
        self.layer, self.then = nn.Linear(3, 2), then

    def forward(self, x):
        return self.then(self.layer(x))


def test_randomness_without_a_dropout_layer():
    noisy = Body(lambda h: nn.functional.dropout(h, 0.5))
    with says(BadArgument, "output is random", "Body: a forward pass draws random numbers", "noise", "eval"):
        empirical_ntk(noisy, X)
    hidden = Body(lambda h: nn.functional.dropout(h, 0.5) * 0)  # random inside, and zero at the output
    with says(BadArgument, "output is random", "Body", "noise", "eval"):
        empirical_ntk(hidden, X)


def test_mixing_without_a_norm_layer():
    with says(BadArgument, "mixes the samples", "changes when a second one is beside it", "batch axis", "batch_first"):
        empirical_ntk(Body(lambda h: h - 0.5 * h.mean(0)), torch.randn(4, 3))


def test_buffers_that_change():
    net = nn.utils.parametrizations.spectral_norm(nn.Linear(3, 2))
    before = {key: t.clone() for key, t in net.state_dict().items()}
    with says(
        BadArgument,
        r"changes the module's buffer `parametrizations.weight.0._[uv]`",
        "Linear",
        "power iteration",
        "eval",
    ):
        empirical_ntk(net, torch.randn(4, 3))
    assert all(torch.equal(t, before[key]) for key, t in net.state_dict().items())


def test_outputs_that_are_no_tensor():
    with says(BadArgument, "returns tuple", "Body", "tuple or dictionary", r"outputs=lambda out"):
        empirical_ntk(Body(lambda h: (h, h)), X)
    with says(BadArgument, r"returns a tensor of torch.int64", "Body", "class numbers", r"outputs=lambda out"):
        empirical_ntk(Body(lambda h: h.argmax(1)), X)


def test_complex_parameters():
    with says(BadArgument, "torch.complex128", "Linear.weight", "inner product", "two real"):
        empirical_ntk(nn.Linear(3, 2, dtype=torch.complex128), X)


def test_overflow_is_never_silent():
    net = Body(torch.exp)
    with torch.no_grad():
        net.layer.weight.fill_(200.0)
    with says(BadData, "NaN or infinite entries, in torch.float64", "empirical_ntk", "too large", "double"):
        empirical_ntk(net, torch.ones(2, 3))
    with says(BadData, "output on the last sample is NaN or infinite", "Body", "overflow", "double"):
        empirical_ntk(net, 2 * torch.ones(2, 3))
