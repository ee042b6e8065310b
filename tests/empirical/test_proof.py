"""A parameter goes the structured way if and only if its layer's calls are its only use."""

import pytest
import torch
from pieces import kernel
from torch import nn
from zoo import inputs, make

from gramian.empirical import empirical_ntk, jacobian
from gramian.empirical.contraction.gradient_checks import Untrusted
from gramian.empirical.contraction.ntk import read
from gramian.empirical.modules.observed_calls import CallWatcher
from gramian.empirical.modules.output_functions import Batch, Model
from gramian.empirical.modules.structured_parameters import CallRecorder, nodes_below

GENERAL = {  # what must go the general way, by module of the zoo; every other reached parameter is structured
    "mlp": set(),
    "conv2d circular": set(),
    "residual": set(),
    "sequence first": set(),
    "folded": set(),
    "tied layers": set(),  # two layers' calls, both seen
    "twice": set(),
    "hooked": set(),
    "frozen bias": set(),
    "hypernetwork": set(),
    "tied": {"layer.weight"},
    "raw": {"scale", "token"},
    "norms": set(),
    "attention": set(),
    "image to image": set(),
    # the weight is made of these by other operations; its layer's own bias is used as it is
    "weight_norm": {"0.parametrizations.weight.original0", "0.parametrizations.weight.original1"},
    "pruned": {"0.weight_orig"},
    "conv transpose 2d": set(),
    "embedding padded": set(),
    "embedding by frequency": {"0.weight"},
    "decoder": set(),
    "projections": set(),
    "autoencoder": set(),
    "lora": set(),
    "encoder layer": set(),
    "cross attention": {"query", "attention.in_proj_weight", "attention.in_proj_bias"},
    "tied parametrization": {"layer.parametrizations.weight.original"},
    "in place": set(),
    "views": {"layer.weight"},
    "no grad": set(),
    "shared vector": {"vector", "other"},
    "all norms": set(),
    "folded batch norm": set(),
    "functional slope": {"first.weight", "first.bias", "second.weight"},
}


def uses_of(net, x):
    """Read from the graph alone, also where there is no backward pass."""
    recorder = CallRecorder({name: p for name, p in net.named_parameters() if p.requires_grad})
    out = Model(net)(Batch(x), watched=CallWatcher(recorder.names, recorder.note))
    return recorder.uses(nodes_below(out.grad_fn))


@pytest.mark.parametrize("name", GENERAL)
def test_the_general_way_is_taken_only_where_needed(name):
    net, shape = make(name)
    source, _ = read(Model(net), Batch(inputs(3, shape)), None, True)
    used = source.uses
    assert source.batched
    assert set(used.general) == GENERAL[name]
    structured = {p for call in used.calls for p in (call.weight, call.bias)} - {None}
    trainable = {key for key, p in net.named_parameters() if p.requires_grad}
    assert structured | set(used.general) | set(used.unused) == trainable
    assert not structured & set(used.general)


@pytest.mark.parametrize("by", ["nested", "single"])
@pytest.mark.parametrize("name", ["custom function", "branch", "linear slope"])
def test_what_vmap_cannot_run_has_its_own_backward_passes(name, by):
    """Neither way under vmap comes to an end, and yet there is a kernel."""
    net, shape = make(name)
    x = inputs(3, shape)
    with pytest.raises((RuntimeError, Untrusted)):
        kernel(net, x, by=by)
    j = jacobian(net, x)
    torch.testing.assert_close(empirical_ntk(net, x, outputs="full"), torch.einsum("icp,jdp->ijcd", j, j))


def test_a_parameter_without_influence_is_known():
    net, shape = make("raw")
    assert uses_of(net, inputs(1, shape)).unused == ("unused",)


def test_a_second_derivative_is_another_use_of_the_weight():
    """Its graph has one edge into the weight, as in a plain call, but not through the call's output."""
    net, shape = make("linear slope")
    found = uses_of(net, inputs(1, shape))
    assert set(found.general) == {"first.weight", "second.weight"}
    assert not any(call.used for call in found.calls)


def test_a_call_whose_input_is_overwritten_later_is_not_trusted():
    class Overwrites(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 2)

        def forward(self, x):
            h = x * 1
            out = self.layer(h)
            h.zero_()
            return out

    assert set(uses_of(Overwrites(), torch.randn(1, 3)).general) == {"layer.weight", "layer.bias"}


def test_a_global_hook_that_changes_outputs_is_noticed():
    net, x = make("mlp")[0], torch.randn(3, 3)
    handle = nn.modules.module.register_module_forward_hook(
        lambda m, args, out: 2 * out if isinstance(m, nn.Linear) else None
    )
    try:
        j = jacobian(net, x)
        torch.testing.assert_close(empirical_ntk(net, x, outputs="full"), torch.einsum("icp,jdp->ijcd", j, j))
    finally:
        handle.remove()
