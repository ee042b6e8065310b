"""Adapters of the package `peft`, where it is installed."""

import warnings

import pytest
import torch
from zoo import mlp

from gramian.empirical import empirical_ntk, jacobian
from gramian.empirical.contraction.ntk import read
from gramian.empirical.modules.output_functions import Batch, Model

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    peft = pytest.importorskip("peft")


@pytest.mark.parametrize("options", [{}, {"use_rslora": True}, {"use_dora": True}], ids=["lora", "rslora", "dora"])
def test_a_lora_adapter(options):
    net = mlp(3, 6, 6, 2)
    config = peft.LoraConfig(r=2, target_modules=["0", "2"], init_lora_weights=False, **options)
    net, x = peft.get_peft_model(net, config).eval(), torch.randn(5, 3)
    source, _ = read(Model(net), Batch(x), None, True)
    assert source.batched
    if not options.get("use_dora"):  # whose scale is made of the product of both factors
        assert not source.uses.general
        assert len(source.uses.structured) == 4
    j = jacobian(net, x)
    torch.testing.assert_close(
        empirical_ntk(net, x, outputs="full"), torch.einsum("icp,jdp->ijcd", j, j), rtol=1e-10, atol=1e-10
    )
