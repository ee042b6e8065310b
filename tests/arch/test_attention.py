"""Attention: against its recursion by hand, in every way to write it, and what is refused."""

import math
import pickle

import pytest
import torch
from layers import Net, heads, linear, merged
from nets import relu_dual
from torch import nn
from torch.nn import functional as F

from gramian import architecture
from gramian.errors import BadArgument, NoLimit

W = 16


def by_hand(x, attend, *, same):
    """Linear(3), ReLU, attention of biased layers, Linear, mean, readout: K and Theta with all pairs of positions."""
    w, b = 1.3**2, 0.3**2
    k = w * torch.einsum("nic,mjc->nmij", x, x) / x.shape[-1] + b
    theta = k
    q = torch.einsum("nnii->ni", k)
    k, slope = relu_dual(q[:, None, :, None], k, q[None, :, None])
    theta = theta * slope
    v, theta_v = w * k + b, w * theta + w * k + b
    itself = torch.einsum("nnij->nij", v) if same else torch.zeros(len(x), 4, 4)
    a = attend(itself)
    k, theta = (torch.einsum("nij,nmjk,mlk->nmil", a, f, a) for f in (v, theta_v))
    k, theta = w * k + b, w * theta + w * k + b
    k, theta = k.mean((2, 3)), theta.mean((2, 3))
    return w * k + b, w * theta + w * k + b


def network(function, *, same=True):
    layers = {"a": linear(3, W), "k": linear(W, W), "v": linear(W, W), "o": linear(W, W), "r": linear(W, 1)}
    layers["q"] = layers["k"] if same else linear(W, W)

    def forward(n, x):
        h = torch.relu(n.a(x))
        return n.r(n.o(function(n.q(h), n.k(h), n.v(h), x)).mean(1))

    return Net(forward, **layers)


CAUSAL = torch.ones(4, 4).tril()


WAYS = {
    "one head": lambda q, k, v, x: F.scaled_dot_product_attention(q, k, v, scale=2 / W),
    "heads": lambda q, k, v, x: merged(F.scaled_dot_product_attention(heads(q), heads(k), heads(v), scale=2 / 8)),
    "views": lambda q, k, v, x: (
        F.scaled_dot_product_attention(
            *(h.view(*h.shape[:2], 2, W // 2).permute(0, 2, 1, 3) for h in (q, k, v)), scale=0.25
        )
        .permute(0, 2, 1, 3)
        .contiguous()
        .view(len(x), 4, W)
    ),
    "written": lambda q, k, v, x: (q @ k.mT * (2 / W)).softmax(-1) @ v,
    "scaled before": lambda q, k, v, x: torch.softmax((q * (4 / W)) @ (k / 2).transpose(1, 2), 2) @ v,
    "default scale of scaled queries": lambda q, k, v, x: F.scaled_dot_product_attention(2 * q / W**0.5, k, v),
    "einsum": lambda q, k, v, x: torch.einsum(
        "bhqk,bkhd->bqhd",
        (torch.einsum("bqhd,bkhd->bhqk", q.unflatten(2, (2, 8)), k.unflatten(2, (2, 8))) / 4).softmax(-1),
        v.unflatten(2, (2, 8)),
    ).flatten(2),
    "transposed and back": lambda q, k, v, x: ((q @ k.mT / 8).softmax(-1) @ v.mT.mT).mT.mT,
}
MASKED = {
    "is_causal": lambda q, k, v, x: F.scaled_dot_product_attention(q, k, v, scale=2 / W, is_causal=True),
    "bool": lambda q, k, v, x: F.scaled_dot_product_attention(q, k, v, CAUSAL.bool(), scale=2 / W),
    "float": lambda q, k, v, x: F.scaled_dot_product_attention(q, k, v, CAUSAL.log(), scale=2 / W),
    "masked_fill": lambda q, k, v, x: (2 * q @ k.mT / W).masked_fill(CAUSAL == 0, -math.inf).softmax(-1) @ v,
    "where": lambda q, k, v, x: torch.where(CAUSAL > 0, 2 * q @ k.mT / W, -math.inf).softmax(-1) @ v,
    "added": lambda q, k, v, x: F.dropout((2 * q @ k.mT / W + CAUSAL.log()).softmax(-1), 0.1, training=False) @ v,
}


@pytest.mark.parametrize("same", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_attention_is_the_recursion_by_hand(way, same):
    x = torch.randn(3, 4, 3)
    expected = by_hand(x, lambda k: (2 * k).softmax(-1), same=same)
    found = architecture(network(WAYS[way], same=same), x, law=(1.3, 0.3)).kernels(x)
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-8)  # arccos at correlation 1 by hand


@pytest.mark.parametrize("way", MASKED)
def test_a_causal_mask_is_the_recursion_by_hand(way):
    x = torch.randn(3, 4, 3)
    expected = by_hand(x, lambda k: (2 * k + CAUSAL.log()).softmax(-1), same=True)
    found = architecture(network(MASKED[way]), x, law=(1.3, 0.3)).kernels(x)
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize(
    ("function", "weights"),
    [
        (lambda q, k, v, x: torch.relu(q @ k.mT / W - 0.5) / 4 @ v, lambda k: torch.relu(k - 0.5) / 4),
        (lambda q, k, v, x: (3 * q @ k.mT / W) @ v, lambda k: 3 * k),
        (lambda q, k, v, x: torch.sigmoid(q @ k.mT / W) @ v, torch.sigmoid),
        (lambda q, k, v, x: (q @ k.mT / W).abs().pow(2) @ v, lambda k: k * k),
    ],
    ids=["relu", "linear", "sigmoid", "square"],
)
def test_weights_without_a_softmax(function, weights):
    x = torch.randn(3, 4, 3)
    found = architecture(network(function), x, law=(1.3, 0.3)).kernels(x)
    torch.testing.assert_close(found, by_hand(x, weights, same=True), rtol=1e-7, atol=1e-8)


def test_keys_that_the_input_hides():
    """As if the sequence was shorter, for each of the inputs; a query that sees nothing gives zeros."""
    x = torch.randn(3, 4, 3)
    x[:, :, 0] = torch.tensor([[1.0, 1, -1, -1], [1, 1, 1, 1], [-1, -1, -1, -1]])
    seen = x[:, None, :, 0] > 0

    def written(q, k, v, x):
        return F.scaled_dot_product_attention(q, k, v, attn_mask=x[:, None, :, 0] > 0, scale=1 / W)

    def weights(k):
        return k.masked_fill(~seen, -math.inf).softmax(-1).nan_to_num()

    expected = by_hand(x, weights, same=True)
    torch.testing.assert_close(architecture(network(written), x, law=(1.3, 0.3)).kernels(x), expected,
                               rtol=1e-7, atol=1e-8)  # fmt: skip


def test_heads_with_masks_of_their_own_are_averaged():
    x, slope = torch.randn(3, 4, 3), torch.tensor([0.3, -2.0])[:, None, None]
    bias = slope * (torch.arange(4.0)[:, None] - torch.arange(4.0)).abs()

    def together(q, k, v, x):
        return merged(F.scaled_dot_product_attention(heads(q), heads(k), heads(v), bias, scale=2 / W))

    def alone(which):
        return lambda q, k, v, x: F.scaled_dot_product_attention(q, k, v, bias[which], scale=1 / W)

    # the readout sees the mean over heads, and its own weights are the same in all three networks
    both, first, second = (architecture(network(f), x, law=(1.0, 0.0)).nngp(x) for f in (together, alone(0), alone(1)))
    torch.testing.assert_close(both, (first + second) / 2)


def test_parts_of_one_layer_are_layers_of_their_own():
    """In kernels, and in the law, which names the layer once."""
    x = torch.randn(3, 4, 3)
    a, o, r = linear(3, W), linear(W, W), linear(W, 1)

    def forward(n, x):
        q, k, v = n.c(torch.relu(n.a(x))).chunk(3, -1) if hasattr(n, "c") else n.split(torch.relu(n.a(x)))
        return n.r(n.o(F.scaled_dot_product_attention(q, k, q + v, scale=1 / W)).mean(1))

    class Three(nn.Module):
        def __init__(self):
            super().__init__()
            self.q, self.k, self.v = linear(W, W), linear(W, W), linear(W, W)

        def forward(self, h):
            return self.q(h), self.k(h), self.v(h)

    packed = architecture(Net(forward, a=a, c=linear(W, 3 * W), o=o, r=r), x, law={"*": (1.3, 0.3), "c": (0.9, 0.2)})
    apart = architecture(Net(forward, a=a, split=Three(), o=o, r=r), x, law={"split.*": (0.9, 0.2), "*": (1.3, 0.3)})
    torch.testing.assert_close(packed.kernels(x), apart.kernels(x))
    assert [s.op.rows[:1] for s in packed.steps if getattr(s.op, "rows", ())] == [(0,), (W,), (2 * W,)]
    alone = packed.training({"c.weight"}).ntk(x)
    torch.testing.assert_close(alone, apart.training({"split.q.weight", "split.v.weight"}).ntk(x))


def test_a_gate_of_the_halves_of_one_layer_is_a_product_of_two():
    x = torch.randn(4, 3)
    halves = Net(lambda n, x: n.r(torch.mul(*(lambda a, b: (a, torch.sigmoid(b)))(*n.c(x).chunk(2, -1)))),
                 c=linear(3, 2 * W), r=linear(W, 1))  # fmt: skip
    two = Net(lambda n, x: n.r(n.a(x) * torch.sigmoid(n.b(x))), a=linear(3, W), b=linear(3, W), r=linear(W, 1))
    torch.testing.assert_close(architecture(halves, x).kernels(x), architecture(two, x).kernels(x))


def test_attention_twice_with_shared_weights_follows_their_covariance():
    """A head of attention at a value, plus the same at twice the value: v is linear, the weights are not."""
    x = torch.randn(3, 4, 3)

    def twice(n, x):
        def once(h):
            return n.v((n.q(h) @ n.q(h).mT / W).softmax(-1) @ h)

        return n.r((once(n.a(x)) + once(2 * n.a(x))).mean(1))

    net = Net(twice, a=linear(3, W), q=linear(W, W), v=linear(W, W), r=linear(W, 1))
    nngp, ntk = architecture(net, x, law=(1.0, 0.0)).kernels(x)
    k = torch.einsum("nic,mjc->nmij", x, x) / 3
    itself = torch.einsum("nnij->nij", k)
    mean = itself.softmax(-1).mean(1) + 2 * (4 * itself).softmax(-1).mean(1)
    expected = torch.einsum("ni,nmij,mj->nm", mean, k, mean)
    torch.testing.assert_close(nngp, expected)
    torch.testing.assert_close(ntk, 3 * expected)


def test_axial_attention_has_one_matrix_for_each_row():
    x = torch.randn(2, 3, 4, 5)  # images with channels last

    def rows(n, x):
        h = n.a(x)
        q, v = n.q(h), n.v(h)
        return n.r(F.scaled_dot_product_attention(q, q, v, scale=1 / W).mean((1, 2)))

    net = Net(rows, a=linear(5, W), q=linear(W, W), v=linear(W, W), r=linear(W, 1))
    k = torch.einsum("nabc,mdec->nmabde", x, x) / 5
    a = torch.einsum("nnabae->nabe", k).softmax(-1)
    expected = torch.einsum("nabc,nmacdf,mdef->nm", a, k, a) / 144
    torch.testing.assert_close(architecture(net, x, law=(1.0, 0.0)).nngp(x), expected)


def test_attention_can_be_pickled_and_says_what_it_is():
    x = torch.randn(2, 4, 3)
    arch = architecture(network(MASKED["masked_fill"]), x)
    assert "Attention masked_fill, softmax, scale 2 / width" in str(arch)
    torch.testing.assert_close(pickle.loads(pickle.dumps(arch)).ntk(x), arch.ntk(x))
    halves = architecture(network(WAYS["heads"]), x)
    assert "2 heads" in str(halves)
    with pytest.raises(BadArgument, match=r"(?s)2 heads does not split 7, 7, 7.*width=6"):
        halves.network(7)
    with pytest.raises(NoLimit):
        arch.phase()


REFUSED = [
    (lambda q, k, v, x: merged(heads(q) @ heads(k).mT / 8**0.5 @ heads(q)), r"share random weights.*a Linear each"),
    (
        lambda q, k, v, x: merged(heads(q.relu()) @ heads(k).mT / 8**0.5 @ heads(v)),
        r"that have a mean.*by a Linear each",
    ),
    (lambda q, k, v, x: F.scaled_dot_product_attention(q, k, v), r"square root of the width of a head, here 16"),
    (lambda q, k, v, x: (q @ k.mT / 4).softmax(-1) @ v, r"Softmax attention .* square root"),
    (lambda q, k, v, x: (q @ k.mT / 4) @ v, r"Attention with its scores divided by the square root"),
    (
        lambda q, k, v, x: (q @ k.mT).softmax(-1) @ v,
        r"scores are not divided.*fix: divide by the width, q @ k.mT / q.sh",
    ),
    (lambda q, k, v, x: F.scaled_dot_product_attention(q, k, v, dropout_p=0.1, scale=1 / W), r"p = 0.1.*call .eval"),
    (lambda q, k, v, x: (q @ k.mT / W).softmax(1) @ v, r"`softmax` acts on the scores.*a softmax over the keys"),
    (lambda q, k, v, x: (q @ k.mT / W).softmax(-1).mT @ v, r"`mT` acts on the scores"),
    (lambda q, k, v, x: (k.mT @ v) / 4, r"neither is a parameter or a constant.*q @ k.mT / q.shape"),
    (lambda q, k, v, x: F.scaled_dot_product_attention(x, x, v, scale=1.0), r"queries of attention are made from the"),
    (
        lambda q, k, v, x: merged(
            F.scaled_dot_product_attention(heads(q), k[..., :8].unsqueeze(1), heads(v), scale=1 / W)
        ),
        r"whose axes before the last two differ",
    ),
    (lambda q, k, v, x: F.scaled_dot_product_attention(q.mT, k.mT, v.mT, scale=1 / 4).mT, r"the last axis is not the"),
    (lambda q, k, v, x: F.layer_norm(heads(q), (8,)).transpose(1, 2).flatten(2), r"split into 2 x 8.*merge them first"),
    (lambda q, k, v, x: heads(q).reshape(2, 4, W), r"mixes channels with positions"),
    (lambda q, k, v, x: q.unflatten(-1, (4, 4)).mT.flatten(2) + v, r"turns channels"),
    (lambda q, k, v, x: torch.einsum("bqd,bkd->bq", q, k)[..., None] * v, r'einsum "bqd,bkd->bq" has no'),
    (lambda q, k, v, x: torch.cat([q, v], -1)[..., 8:24], r"taken apart after Concat.*right after the layer"),
    (lambda q, k, v, x: torch.cat([q[..., :8] + q[..., 4:12], v[..., :8]], -1), r"taken apart in parts that overlap"),
    (lambda q, k, v, x: q[..., :1] * v, r"`slice` acts on the channels"),
    (lambda q, k, v, x: v.transpose(0, 1).relu().transpose(0, 1), r"the first one, the samples, moves"),
]


@pytest.mark.parametrize(("function", "text"), REFUSED, ids=range(len(REFUSED)))
def test_what_has_no_limit_is_refused_with_a_way_out(function, text):
    x = torch.randn(2, 4, 3)
    with pytest.raises(NoLimit, match="(?s)" + text):
        architecture(network(function, same=False), x).ntk(x)
