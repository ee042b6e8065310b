"""Monte Carlo in parametrizations that learn features: the first step's kernel, and outputs that vanish."""

import pytest
import torch
from torch import nn

from gramian import architecture, certify, monte_carlo
from gramian.errors import BadArgument


def mlp(depth=2, width=96):
    layers = [part for n in range(depth) for part in (nn.Linear(width if n else 3, width), nn.ReLU())]
    return nn.Sequential(*layers, nn.Linear(width, 2))


LAW = (1.2, 0.3)


@pytest.mark.parametrize(
    ("parametrization", "depth", "width"), [("mup", 2, 64), ("mup", 2, None), ("mean_field", 1, 48)]
)
def test_the_tangent_kernel_is_the_first_steps_and_outputs_vanish_like_one_over_the_width(
    parametrization, depth, width
):
    x, y = torch.randn(3, 3), torch.randn(2, 3)  # 5 standard errors, 80 draws; the bias of finite width is one or two
    plain = architecture(mlp(depth), x, law=LAW)
    found = monte_carlo(mlp(depth), x, y, law=LAW, parametrization=parametrization, width=width, kind="both", draws=80,
                        accuracy=0.001)  # fmt: skip
    n = 96 if width is None else width
    assert float(((found.ntk - plain.ntk(x, y)).abs() / found.ntk_error).max()) < 5
    assert float(((n * found.nngp - plain.nngp(x, y)).abs() / (n * found.nngp_error)).max()) < 5
    assert found.nngp_error.norm() < 0.2 * found.nngp.norm()
    arch = architecture(mlp(depth), x, law=LAW, parametrization=parametrization)
    drawn = torch.stack([arch.network(width, seed=draw)(x)[:, 0].square() for draw in range(100)]).mean(0)
    assert arch.network(width).output_scale == pytest.approx(n**-0.5)
    torch.testing.assert_close(n * drawn, plain.nngp(x).diagonal(), rtol=0.5, atol=0)  # 100 draws: 0.14 by chance


class Square(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(3, 4), nn.Linear(4, 1)

    def forward(self, x):
        return self.b(torch.softmax(self.a(x), 1))


def test_what_has_no_such_parametrization_says_so():
    x = torch.randn(4, 3)
    for call, said in [
        (lambda: monte_carlo(mlp(3), x, parametrization="mean_field"), r"own width in the mean_field.*4 affine layers"),
        (
            lambda: monte_carlo(Square(), x, parametrization="mup"),
            r"mup parametrization: `softmax`.*fix: parametrizati",
        ),
        (lambda: monte_carlo(lambda width: mlp(2, width), x, width=8, parametrization="mup"), r"what a function makes"),
        (lambda: monte_carlo(mlp(), x, parametrization="other"), r"known are 'ntk', 'standard', 'mup', 'mean_field'"),
        (
            lambda: certify(mlp(), x, torch.randn(4, 1), parametrization="mup"),
            r"No certificate.*kernel that stays.*ntk",
        ),
    ]:
        with pytest.raises(BadArgument, match="(?s)" + said):
            call()
