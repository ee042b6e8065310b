"""The whole kernel of networks in the shapes of public ones."""

import pytest
import torch
from resnet import ResNet18
from shaped import GPT2, ViT

from gramian.empirical import EmpiricalNTK, empirical_ntk, jacobian
from gramian.empirical.contraction.ntk import read
from gramian.empirical.modules.output_functions import Batch, Model


def settled(net, x):
    """A network in evaluation mode whose batch norms have seen data."""
    with torch.no_grad():
        net.train()(x)
    return net.eval()


SMALL = {
    "ResNet-18": (lambda x: settled(ResNet18(width=2, num_classes=3), x), lambda n: torch.randn(n, 3, 8, 8)),
    "ViT": (lambda x: ViT().eval(), lambda n: torch.randn(n, 3, 8, 8)),
    "GPT-2": (lambda x: GPT2(), lambda n: torch.randint(11, (n, 6))),
}
# at the size of the papers' networks, of the ViT the smallest
WHOLE = {
    "ResNet-18": (lambda x: settled(ResNet18(width=64, num_classes=10), x), lambda n: torch.randn(n, 3, 32, 32)),
    "ViT": (
        lambda x: ViT(image=32, patch=4, width=192, heads=3, depth=12, classes=10).eval(),
        lambda n: torch.randn(n, 3, 32, 32),
    ),
}


@pytest.mark.parametrize("name", SMALL)
def test_equals_the_explicit_jacobians(name):
    """64 samples, every pair of outputs."""
    build, draw = SMALL[name]
    x = draw(64)
    net = build(x)
    j = jacobian(net, x)
    full = torch.einsum("icp,jdp->ijcd", j, j)
    error = (empirical_ntk(net, x, outputs="full") - full).abs().max() / full.abs().max()
    assert error < 1e-8  # observed below 1e-14


@pytest.mark.parametrize("name", SMALL)
def test_every_weight_has_a_structure(name):
    build, draw = SMALL[name]
    x = draw(2)
    source, _ = read(Model(build(x)), Batch(x), None, True)
    assert source.batched
    assert set(source.uses.general) == ({"token", "places"} if name == "ViT" else set())


@pytest.mark.slow
@pytest.mark.parametrize("name", WHOLE)
def test_the_whole_network_agrees_with_products(name):
    """64 samples, 10 outputs, float32: against J J^T v, which knows of no structure."""
    torch.set_default_dtype(torch.float32)
    build, draw = WHOLE[name]
    x = draw(64)
    net = build(x)
    theta = empirical_ntk(net, x, outputs="full", max_bytes=2**31)
    v = torch.randn(64, 10)
    expected = (EmpiricalNTK(net, x) @ v.flatten()).reshape(v.shape)
    assert (torch.einsum("ijcd,jd->ic", theta, v) - expected).abs().max() < 1e-4 * expected.abs().max()


def language_model():
    """GPT-2 with its 124 million parameters."""
    return GPT2(vocabulary=50257, context=1024, width=768, heads=12, depth=12)


def margin(out):
    """Of the scores of the next token: how far one is above another."""
    return out[:, 5] - out[:, 7]


@pytest.mark.slow
def test_a_language_model_of_124_million_parameters():
    """The margin between two tokens of a GPT-2, 64 samples of 8 tokens: one number a sample, p = 124 million."""
    torch.set_default_dtype(torch.float32)
    net = language_model()
    assert sum(p.numel() for p in net.parameters()) == 124_439_808
    x = torch.randint(50257, (64, 8))
    theta = empirical_ntk(net, x, outputs=margin, max_bytes=2**31)
    v = torch.randn(64)
    expected = EmpiricalNTK(net, x, outputs=margin) @ v
    assert (theta @ v - expected).abs().max() < 1e-4 * expected.abs().max()
