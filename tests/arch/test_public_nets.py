"""Public architectures as their authors write them: a kernel comes out, or the refusal names the line and a way out."""

import math

import densenet
import first_tries
import gcn
import gpt2
import mixers
import pytest
import recurrent
import resnet
import torch
import unet
import vgg
import vit
import wide_resnet
from nets import jacobian_gram
from torch import nn

from gramian import architecture
from gramian.errors import NoLimit

IMAGE = (3, 8, 8)
EDGES = [(0, 1), (1, 2), (2, 3), (0, 4)]
READ = {
    "VGG": (vgg.VGG, (3, 32, 32)),
    "WideResNet": (wide_resnet.WideResNet, IMAGE),
    "GCN": (lambda: gcn.GCN(EDGES, 5, 3), (5, 3)),
    "U-Net": (unet.UNet, IMAGE),
    "DenseNet of post-activations": (densenet.PlainDenseNet, IMAGE),
    "Elman": (recurrent.Elman, (4, 3)),
    "ViT": (vit.ViT, IMAGE),
    "Llama's block without rotary positions": (lambda: first_tries.Llama(rotary=False), (4, 5)),
    "ConvNeXt without groups": (lambda: first_tries.ConvNeXt(groups=1), IMAGE),
    "GPT-2, scores over the width": (lambda: gpt2.GPT2(attention=gpt2.WidthScaledAttention), (4, 5)),
}
REFUSED = {
    "ResNet-18": (resnet.ResNet18, IMAGE,
        r"ReLU is not Gaussian.*where: layer1.0.relu \(ReLU\), .*resnet.py:\d+: return self.relu\(out\)\n.*"
        r"fix: .*pre-activation order.*gramian.monte_carlo\(module, x\)"),
    "GPT-2": (gpt2.GPT2, (4, 5),
        r"Softmax attention with .*square root.*here 4.*where: h.0.attn .*gpt2.py:\d+: y = F.scaled_dot_product_"
        r"attention\(.*fix: divide by the width itself, F.scaled_dot_product_attention\(q, k, v, scale=1 / "
        r"q.shape\[-1\]\).*gramian.monte_carlo"),
    "GPT-2 with one head": (lambda: gpt2.GPT2(attention=gpt2.OneHeadAttention), (4, 5),
        r"Softmax attention with .*square root.*here 8.*where: h.0.attn .*gpt2.py:\d+: y = F.scaled_dot_product_"
        r"attention\(.*fix: .*gramian.monte_carlo"),
    "nn.TransformerEncoderLayer": (vit.Encoder, (4, 5),
        r"Softmax attention with .*square root.*where: encoder.self_attn \(MultiheadAttention\).*fix: divide by "
        r"the width"),
    "ConvNeXt": (first_tries.ConvNeXt, IMAGE,
        r"group for each of 8 channels.*where: block.block.0 \(Conv2d\), .*first_tries.py:\d+: .*self.block\(x\)\n.*"
        r"fix: fewer groups.*gramian.monte_carlo"),
    "LSTM tagger": (first_tries.Tagger, (4, 5),
        r"`lstm` has no.*where: rnn \(LSTM\), .*first_tries.py:\d+: .*fix: nn.RNN, .*gramian.monte_carlo"),
    "RNN tagger": (lambda: first_tries.Tagger(nn.RNN), (4, 5),
        r"a value at each position.*where: tag \(Linear\), .*first_tries.py:\d+: .*fix: .*outputs=\"full\""),
    "timm's block": (lambda: nn.Sequential(nn.Linear(5, 8), first_tries.Block()), (4, 5),
        r"Softmax attention with .*square root.*where: 1.attn \(Attention\), .*first_tries.py:\d+: x = attn @ v\n.*"
        r"fix: divide by the width"),
    "Llama's block": (first_tries.Llama, (4, 5),
        r"multiplied by a constant of shape \(4, 4\).*first_tries.py:\d+: q = \(q \* self.cos.*why: .*rotary.*"
        r"fix: leave it out"),
    "MLP-Mixer": (mixers.MlpMixer, IMAGE,
        r"Linear layer acts on positions.*where: blocks.0.mlp_tokens.fc1 \(Linear\), .*mixers.py:\d+: .*self.fc1\(x\).*"
        r"fix: .*gramian.monte_carlo"),
    "ConvMixer": (mixers.conv_mixer, IMAGE,
        r"group for each of 8 channels.*where: 3.0.fn.0 \(Conv2d\), .*mixers.py:\d+: return self.fn\(x\) \+ x\n.*"
        r"fix: fewer groups.*gramian.monte_carlo"),
    "DenseNet": (densenet.DenseNet, IMAGE,
        r"ReLU acts after .* concatenation of channels.*where: blocks.0.0.relu1 \(ReLU\), .*densenet.py:\d+: return .*"
        r"self.relu1\(self.norm1\(x\)\).*fix: put the activation before, and after any normalization of each part"),
}  # fmt: skip


@pytest.mark.parametrize("name", READ)
def test_kernels_are_symmetric_and_positive(name):
    make, shape = READ[name]
    x = torch.randn(3, *shape)
    for kernel in architecture(make().eval(), x, law=(1.3, 0.3)).kernels(x):
        assert torch.equal(kernel, kernel.T)
        lam = torch.linalg.eigvalsh(kernel)
        assert lam[0] > -len(x) * torch.finfo(kernel.dtype).eps * lam[-1]


@pytest.mark.parametrize(
    "name",
    [
        "WideResNet",
        "GCN",
        pytest.param("U-Net", marks=pytest.mark.slow),
        "Elman",
        "ViT",
        "GPT-2, scores over the width",
    ],
)
def test_the_mean_over_finite_networks_is_within_chance(name):
    make, shape = READ[name]
    x = torch.randn(2, *shape)
    arch = architecture(make().eval(), x, law=(1.3, 0.3))
    # widths 48, 128, 64, 192, 128, 128
    widen = {"WideResNet": 12, "GCN": 8, "U-Net": 8, "Elman": 12, "ViT": 16, "GPT-2, scores over the width": 16}[name]
    draws = 24
    finite = torch.stack([jacobian_gram(arch.network(widen=widen, seed=draw), x) for draw in range(draws)])
    ntk = arch.ntk(x)
    off = (finite.mean(0) - ntk).abs() / (finite.std(0) / math.sqrt(draws))
    assert off.max() < 5  # standard errors, of which a finite width's own bias may be one or two
    assert (finite.mean(0) - ntk).norm() < 0.15 * ntk.norm()


@pytest.mark.parametrize("name", REFUSED)
def test_a_refusal_names_the_line_and_a_way_out(name):
    make, shape, text = REFUSED[name]
    x = torch.randn(2, *shape)
    with pytest.raises(NoLimit, match="(?s)" + text):
        architecture(make().eval(), x).kernels(x)


def test_torchs_recurrent_layer_is_its_loop():
    """The same function, and the same kernel where the loop's one bias has the variance of the layer's two."""
    packed, loop = recurrent.TorchRNN().eval(), recurrent.Elman()
    with torch.no_grad():
        loop.i2h.weight.copy_(packed.rnn.weight_ih_l0)
        loop.i2h.bias.copy_(packed.rnn.bias_ih_l0 + packed.rnn.bias_hh_l0)
        loop.h2h.weight.copy_(packed.rnn.weight_hh_l0)
        loop.h2o.load_state_dict(packed.fc.state_dict())
    x = torch.randn(3, 4, 3)
    torch.testing.assert_close(loop(x), packed(x))
    one = architecture(packed, x, law={"*": (1.2, 0.3)}).kernels(x)
    two = architecture(loop, x, law={"i2h": (1.2, 0.3 * 2**0.5), "*": (1.2, 0.3)}).kernels(x)
    torch.testing.assert_close(one, two)


def test_a_wide_resnet_without_training_its_normalization_has_the_smaller_kernel():
    net, x = wide_resnet.WideResNet().eval(), torch.randn(2, *IMAGE)
    whole = architecture(net, x).ntk(x)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.requires_grad_(False)
    gain = torch.linalg.eigvalsh(whole - architecture(net, x).ntk(x))
    assert gain[0] > 0
