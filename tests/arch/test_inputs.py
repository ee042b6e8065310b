"""Several inputs, tokens and masks: against the same network without them, and what is refused."""

import pickle

import pytest
import torch
from nets import relu_dual
from structured import LONG, STRUCTURED, WORDS, Lengths, Siamese, Text, TwoInputs, text
from torch import nn
from torch.nn import functional as F

from gramian import Gram, architecture, certify, empirical_ntk, monte_carlo, train
from gramian.arch.inputs import leaves, rows
from gramian.empirical.operators.jacobian import jacobian
from gramian.errors import BadArgument, BadData, NoLimit

LAW = (1.3, 0.3)
every_structure = pytest.mark.parametrize("name", STRUCTURED)


def read(name, n=6):
    make, given = STRUCTURED[name]
    x = given(n)
    return architecture(make(), x, law=LAW), x


@every_structure
def test_kernels_of_structured_inputs_are_kernels(name):
    arch, x = read(name)
    nngp, ntk = arch.kernels(x)
    part = rows(x, slice(4, 6))
    for k, cross, own in zip((nngp, ntk), arch.kernels(x, part), arch.diag(x), strict=True):
        assert torch.equal(k, k.T)
        assert torch.linalg.eigvalsh(k)[0] >= -6 * torch.finfo(k.dtype).eps * k.diagonal().max()
        torch.testing.assert_close(cross, k[:, 4:], rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(own, k.diagonal(), rtol=1e-12, atol=0)
    assert torch.equal(pickle.loads(pickle.dumps(arch)).ntk(x), ntk)
    assert torch.equal(Gram(arch.ntk, x, tile=4).dense()[:4, :4], ntk[:4, :4])


def test_variable_lengths_are_the_sequences_without_padding():
    """The masked mean of a padded batch: the kernel of an MLP on the words alone, averaged over pairs of words."""
    x, lengths = torch.randn(4, LONG, 3), torch.tensor([1, 3, 5, 2])
    arch = architecture(Lengths(), (x, lengths), law=LAW)
    padded = arch.kernels((x, lengths))
    layers = [nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 1)]
    words = [x[i, : lengths[i]] for i in range(4)]
    mlp = architecture(nn.Sequential(*layers), x[0], law=LAW)
    for i in range(4):
        for j in range(4):
            for found, alone in zip(padded, mlp.kernels(words[i], words[j]), strict=True):
                torch.testing.assert_close(found[i, j], alone.mean(), rtol=1e-12, atol=0)
    other = x.clone()
    other[0, 1:], other[1, 3:], other[3, 2:] = 1e6, -3.0, 7.0  # what is behind a sequence's end does not matter
    torch.testing.assert_close(arch.kernels((other, lengths)), padded, rtol=1e-12, atol=0)


def test_text_is_the_hand_written_recursion():
    x = text(5)
    sw, sb = 1.3**2, 0.3**2
    ids, mask = x["ids"], x["mask"].double()
    same = (ids[:, None, :, None] == ids[None, :, None, :]).double()
    k = sw * (same + torch.eye(LONG))  # words and places
    theta, q = k, torch.full_like(k, 2 * sw)
    post, half = relu_dual(q, k, q)
    theta, k = sw * theta * half + sw * post + sb, sw * post + sb
    q = torch.full_like(k, sw * float(q[0, 0, 0, 0]) / 2 + sb)
    post, half = relu_dual(q, k, q)
    share = mask / mask.sum(1, keepdim=True)

    def pooled(field):
        return torch.einsum("abij,ai,bj->ab", field, share, share)

    nngp, ntk = architecture(Text(), x, law=LAW).kernels(x)
    torch.testing.assert_close(nngp, sw * pooled(post) + sb, rtol=0, atol=1e-7)  # arccos near 1
    torch.testing.assert_close(ntk, sw * pooled(theta * half) + sw * pooled(post) + sb, rtol=0, atol=1e-6)


class OneHot(nn.Module):
    def __init__(self):
        super().__init__()
        self.word, self.b, self.r = nn.Linear(WORDS, 8, bias=False), nn.Linear(8, 8), nn.Linear(8, 1)

    def forward(self, ids):
        h = self.word(F.one_hot(ids, WORDS).to(self.word.weight.dtype))
        return self.r(torch.relu(self.b(h)).mean(1))


class LookUp(OneHot):
    def __init__(self):
        super().__init__()
        self.word = nn.Embedding(WORDS, 8)

    def forward(self, ids):
        return self.r(torch.relu(self.b(self.word(ids))).mean(1))


def test_an_embedding_is_a_linear_layer_on_one_hot_vectors_up_to_the_fan_in():
    ids = torch.randint(0, WORDS, (5, LONG))
    table = architecture(LookUp(), ids, law={"word": (0.7, 0), "*": LAW})
    matrix = architecture(OneHot(), ids, law={"word": (0.7 * WORDS**0.5, 0), "*": LAW})
    for a, b in zip(table.kernels(ids), matrix.kernels(ids), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("law", "sigma"), [("he", 2**0.5), ("lecun", 1.0), ("torch", 1.0), ((0.5, 0.1), 0.5)])
def test_the_law_of_an_embedding(law, sigma):
    ids = torch.randint(0, WORDS, (2, LONG))
    assert architecture(LookUp(), ids, law=law).affine[0].sigma_w == pytest.approx(sigma)
    weight = architecture(LookUp(), ids, law=law).network(4000, seed=0).layers.word
    spread = (weight.layer.weight * weight.scaling.weight).std()
    assert float(spread.detach()) == pytest.approx(sigma, rel=0.03)  # 28,000 entries: 0.4 %
    drawn = monte_carlo(LookUp(), ids, law=law, kind="nngp", draws=60, accuracy=0.5, width=200)
    limit = architecture(LookUp(), ids, law=law).nngp(ids)
    assert float(((drawn.nngp - limit).abs() / drawn.nngp_error).max()) < 5


def test_the_padding_row_is_zero_and_does_not_train():
    ids = torch.tensor([[0, 0], [1, 2]])
    net = nn.Sequential(nn.Embedding(3, 4, padding_idx=0), nn.Flatten(), nn.Linear(8, 1, bias=False))
    arch = architecture(net, ids, law=(1, 0))
    assert arch.ntk(ids).tolist() == [[0.0, 0.0], [0.0, 2.0]]
    drawn = arch.network(5, seed=0)
    assert not drawn.layers.get_submodule("0").layer.weight[0].any()
    assert empirical_ntk(drawn, ids)[0].tolist() == [0.0, 0.0]


def test_learned_positions_are_the_same_for_all_samples():
    class Places(nn.Module):
        def __init__(self, form):
            super().__init__()
            self.a, self.place, self.r = nn.Linear(3, 4), nn.Embedding(LONG, 4), nn.Linear(4, 1)
            self.form = form

        def forward(self, x):
            s = torch.arange(x.shape[1])
            places = {
                "plain": lambda: self.place(s),
                "row": lambda: self.place(s[None]),
                "expanded": lambda: self.place(s.expand(x.shape[0], x.shape[1])),
                "unsqueezed": lambda: self.place(s).unsqueeze(0),
            }[self.form]()
            return self.r(torch.relu(places + self.a(x) if self.form == "row" else self.a(x) + places).mean(1))

    x = torch.randn(3, LONG, 3)
    found = [architecture(Places(f), x, law=LAW).ntk(x) for f in ("plain", "row", "expanded", "unsqueezed")]
    k = 1.3**2 * (torch.einsum("aic,bjc->abij", x, x) / 3 + torch.eye(LONG)) + 0.3**2
    q = torch.einsum("aaii->ai", k)
    post, half = relu_dual(q[:, None, :, None], k, q[None, :, None, :])
    expected = (1.3**2 * (k * half + post)).mean((2, 3)) + 0.3**2
    for theta in found:
        torch.testing.assert_close(theta, expected, rtol=0, atol=1e-6)


def test_empirical_kernels_of_structured_inputs_are_the_jacobian():
    for make, given in STRUCTURED.values():
        net, x = make(), given(3)
        j = jacobian(net, x)[:, 0]
        args, named = architecture(net, x).inputs.call(leaves(x))
        gradients = [
            torch.autograd.grad(out.sum(), list(net.parameters()), allow_unused=True, retain_graph=True)
            for out in net(*args, **named)
        ]
        for row, gradient in zip(j, gradients, strict=True):
            parts = [torch.zeros_like(p) if g is None else g for g, p in zip(gradient, net.parameters(), strict=True)]
            torch.testing.assert_close(row, torch.cat([g.flatten() for g in parts]), rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(empirical_ntk(net, x), j @ j.T, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(empirical_ntk(net, x, rows(x, slice(2))), j @ j[:2].T, rtol=1e-10, atol=1e-10)


def test_monte_carlo_takes_structured_inputs():
    make, given = STRUCTURED["text"]
    x = given(3)
    arch = architecture(make(), x, law=LAW)
    wide = monte_carlo(make(), x, law=LAW, width=128, draws=60, accuracy=0.5, kind="both")
    assert float(((wide.nngp - arch.nngp(x)).abs() / wide.nngp_error).max()) < 5
    assert monte_carlo(make(), x, law=LAW, draws=10, accuracy=0.5).ntk.shape == (3, 3)
    assert monte_carlo(lambda width: make(), x, law=LAW, width=12, draws=10, accuracy=0.5).ntk.shape == (3, 3)


def test_printing_names_the_inputs():
    said = str(read("text")[0])
    assert "input ids" in said
    assert "of input mask" in said
    assert "Embedding of 7 -> 12, sigma_w 1.3" in said


def test_float32_inputs_give_float32_kernels_and_tokens_the_default():
    arch, (image, row) = read("two inputs")
    assert arch.ntk((image.float(), row.float())).dtype == torch.float32
    assert arch.ntk((image.float(), row)).dtype == torch.float64
    assert read("text")[0].ntk(text(2)).dtype == torch.get_default_dtype()


def test_bad_structured_inputs_are_named():
    arch, x = read("text")
    two, (image, row) = read("two inputs")
    far = x | {"ids": x["ids"] + WORDS}
    bad = row.clone()
    bad[2, 1] = torch.nan
    no_length = architecture(Lengths(), (torch.randn(2, LONG, 3), torch.tensor([1, 2])))
    for call, said in [
        (lambda: arch.ntk(x["ids"]), r"`x` is a Tensor of shape \(6, 5\); this network takes a dict of 'ids', 'mask'"),
        (lambda: arch.ntk({"ids": x["ids"]}), r"a dict of 'ids'; this network takes a dict of 'ids', 'mask'.*fix: x={"),
        (lambda: arch.ntk(x | {"mask": x["mask"][:3]}), r"`x\['mask'\]` has 3 rows, the first tensor 6"),
        (lambda: arch.ntk(x | {"mask": x["mask"].bool()}), r"`x\['mask'\]` is torch.bool, not a tensor of whole num"),
        (lambda: arch.ntk(far), r"Tokens of `x` are between 7 and 1\d; the embedding has 7 rows"),
        (lambda: two.ntk((image, row), (image, bad)), r"`x2\[1\]` is not finite in 1 of 6 rows, first in row 2"),
        (lambda: two.ntk((image,)), r"`x` is a tuple of 1; this network takes 2 tensors"),
        (lambda: two.ntk((image, row[:, :3])), r"`x\[1\]` has shape \(6, 3\); this network takes \(n, 4\)"),
        (lambda: arch.network(4)(x["ids"]), r"called with \(Tensor\).*fix: network\(ids=ids, mask=mask\)"),
        (lambda: no_length.ntk((torch.randn(2, LONG, 3), torch.tensor([1, 0]))), r"divided by zero in row 1.*clamp"),
        (lambda: architecture(Text(), {}), r"`like` is dict of \[\].*like=\(x1"),
    ]:
        with pytest.raises(BadData, match="(?s)" + said):
            call()
    y = torch.zeros(6, 1)
    for refuse in (lambda: certify(TwoInputs(), (image, row), y), lambda: train(TwoInputs(), (image, row), y)):
        with pytest.raises(BadArgument, match=r"`x` is a tuple of 2 tensors; .*takes one tensor"):
            refuse()


def refused(forward, *shape):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.r = nn.Linear(3, 4), nn.Linear(4, 1)

        def forward(self, x):
            return self.r(forward(self, x).mean(1))

    return Net()


@pytest.mark.parametrize(
    ("forward", "said"),
    [
        (lambda n, x: n.a(x) * (x[..., :1] > 0).expand(2, LONG, 4).to(x.dtype).sum(2, keepdim=True),
         r"`sum` runs over an axis along which a mask was expanded.*fix: count before"),
        (lambda n, x: n.a(x) * torch.cat([x, x[..., :1]], 2), r"multiplied or divided.*mask\[:, :, None\]"),
        (lambda n, x: torch.where(x[..., :1] > 0, n.a(x), 1.0), r"filled with 1.*fix: fill with 0"),
        (lambda n, x: n.a(x).masked_fill(x[..., :1] > 0, -torch.inf), r"filled with -inf.*softmax"),
        (lambda n, x: n.a(x) * (x[..., :1] > 0).cumsum(0), r"`cumsum` of the inputs mixes the samples"),
        (lambda n, x: n.a(x) * torch.ones(4), r"by a constant of shape \(4,\).*same for all samples and channels"),
        (lambda n, x: torch.where(n.a(x)[:, :, :1].detach() > 0, n.a(x), 0.0), r"acts on the channels"),
    ],
)  # fmt: skip
def test_masks_without_a_rule_are_refused(forward, said):
    x = torch.randn(2, LONG, 3)
    with pytest.raises(NoLimit, match="(?s)" + said) as error:
        architecture(refused(forward), x).ntk(x)
    assert "test_inputs.py" in error.value.where


def test_bags_and_expanded_inputs_are_refused():
    class Bag(nn.Module):
        def __init__(self):
            super().__init__()
            self.bag, self.r = nn.EmbeddingBag(WORDS, 4), nn.Linear(4, 1)

        def forward(self, x):
            return self.r(self.bag(x))

    class Gray(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.r = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4, 1)

        def forward(self, x):
            return self.r(torch.relu(self.a(x.expand(x.shape[0], 3, 8, 8))).mean((2, 3)))

    with pytest.raises(NoLimit, match=r"(?s)`embedding_bag`.*bag hides its tokens.*fix: nn.Embedding"):
        architecture(Bag(), torch.randint(0, WORDS, (2, 3)))
    with pytest.raises(NoLimit, match=r"(?s)`conv2d` of a tensor that was expanded to \(2, 3, 8, 8\).*test_inputs.py"):
        architecture(Gray(), torch.randn(2, 3, 1, 1))


def test_a_siamese_network_of_equal_inputs_is_one_branch():
    tokens = torch.arange(WORDS)
    arch = architecture(Siamese(), {"left": tokens, "right": tokens}, law=(1.3, 0))

    class One(Siamese):
        def forward(self, left):
            return self.r(0.5 * torch.relu(self.b(self.word(left))))

    expected = architecture(One(), tokens, law=(1.3, 0)).kernels(tokens)
    for a, b in zip(arch.kernels({"left": tokens, "right": tokens}), expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
