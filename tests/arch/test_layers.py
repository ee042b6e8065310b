"""Each layer's limit against finite networks: no bias beyond chance at large width, and the rate 1/sqrt(width)."""

import math

import pytest
import torch
from layers import LAYERS
from nets import jacobian_gram
from structured import STRUCTURED
from torch.nn.modules.dropout import _DropoutNd

from gramian import architecture, empirical_ntk
from gramian.arch.inputs import leaves

WIDTHS, DRAWS, OUTPUTS = (48, 192), 24, 200


@pytest.mark.parametrize("name", [*LAYERS, *STRUCTURED])
def test_finite_networks_approach_the_limit(name):
    make, given = (LAYERS | STRUCTURED)[name]
    x = given(3) if callable(given) else torch.randn(3, *given)
    arch = architecture(make(), x, law=(1.3, 0.3))
    nngp, ntk = arch.kernels(x)
    args, named = arch.inputs.call(leaves(x))
    errors = []
    for width in WIDTHS:
        networks = [arch.network(width, seed=draw) for draw in range(DRAWS)]
        finite = torch.stack([jacobian_gram(network, *args, **named) for network in networks])
        errors.append(float((finite - ntk).flatten(1).norm(dim=1).median()))  # means have heavy tails
    off = (finite.mean(0) - ntk).abs() / (finite.std(0) / math.sqrt(DRAWS))
    assert off.max() < 5  # standard errors, of which a finite width's own bias may be one or two
    assert math.log(errors[1] / errors[0]) / math.log(WIDTHS[1] / WIDTHS[0]) == pytest.approx(-0.5, abs=0.3)
    with torch.no_grad():
        f = torch.stack([arch.network(WIDTHS[0], seed=draw)(*args, **named) for draw in range(OUTPUTS)])
        f = f.reshape(*f.shape[:2], -1)[:, :, 0]
    spread = torch.einsum("ra,rb->ab", f, f) / len(f) - nngp
    assert spread.norm() < 0.3 * nngp.norm()  # 200 draws: about 0.14 by chance
    if not any(isinstance(m, _DropoutNd) for m in networks[0].modules()):  # each forward pass draws other masks
        torch.testing.assert_close(empirical_ntk(networks[0], x), finite[0], rtol=1e-10, atol=1e-12)
