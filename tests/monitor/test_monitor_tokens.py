"""Language models and models that return objects: what is looked at equals what is computed by hand."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.func import functional_call, jacrev
from torch.nn import functional as F

from gramian import Monitor, suggest
from gramian.empirical import empirical_ntk
from gramian.empirical.modules.arguments import tensors_of
from gramian.empirical.modules.calling import call_at
from gramian.errors import BadArgument
from gramian.monitor.label_positions import positions_of
from gramian.monitor.losses import UserLoss
from gramian.monitor.module_call import call_of
from gramian.monitor.watched import watched
from gramian.train.batch_view import view
from gramian.train.curvature import sharpness
from gramian.train.forward import MOST_POSITIONS, MOST_ROWS, rows_per_pass

VOCABULARY, LENGTH = 11, 6


class GPT(nn.Module):
    """Two heads, one block, causal; logits (n, s, vocabulary)."""

    def __init__(self, width=8):
        super().__init__()
        self.tokens, self.places = nn.Embedding(VOCABULARY, width), nn.Embedding(LENGTH, width)
        self.norm, self.qkv = nn.LayerNorm(width), nn.Linear(width, 3 * width)
        self.feed = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 16), nn.GELU(), nn.Linear(16, width))
        self.head = nn.Linear(width, VOCABULARY, bias=False)

    def forward(self, ids):
        x = self.tokens(ids) + self.places(torch.arange(ids.shape[1]))
        q, k, v = (t.unflatten(2, (2, -1)).transpose(1, 2) for t in self.qkv(self.norm(x)).chunk(3, 2))
        causal = torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool).tril()
        scores = (q @ k.mT).masked_fill(~causal, -1e9)
        x = x + (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)
        return self.head(x + self.feed(x))


class Causal(nn.Module):
    """As a library of models has it: inputs by name, an object with logits, labels shifted within."""

    def __init__(self):
        super().__init__()
        self.gpt = GPT()

    def forward(self, input_ids, attention_mask=None, labels=None):
        logits, loss = self.gpt(input_ids), None
        if labels is not None:
            loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
        return SimpleNamespace(logits=logits, loss=loss)


def batch(n=5):
    ids = torch.randint(VOCABULARY, (n, LENGTH + 1))
    return ids[:, :-1], ids[:, 1:].clone()


def test_log_odds_give_the_cross_entropy_of_the_tokens_and_their_kernel():
    net, (x, y) = GPT(), batch()
    y[0, 2] = -100
    module_call = call_of(net, nn.CrossEntropyLoss(), x, y)
    at = positions_of(module_call, UserLoss(module_call.loss, module_call.look, module_call.targets), 3).at
    run = watched(net, nn.CrossEntropyLoss(), x, y, (None, None), 5, 3).run
    assert (y.gather(1, at) != -100).all()
    rows, each = run.train.x, -net(x).log_softmax(2).gather(2, y.clamp_min(0)[:, :, None])[:, :, 0].gather(1, at)
    odds = run.module(*rows.tensors)
    torch.testing.assert_close(F.softplus(-odds), each)
    torch.testing.assert_close(run.objective(odds, run.train.targets), each.mean(1).sum())
    jacobian = jacrev(lambda w: functional_call(run.module, w, rows.tensors))({n: p.detach() for n, p in _named(net)})
    j = torch.cat([t.reshape(5, 3, -1) for t in jacobian.values()], 2)
    torch.testing.assert_close(empirical_ntk(run.module, rows), torch.einsum("icp,jcp->ij", j, j) / 3)
    assert [n for n, _ in _named(run.module)] == [n for n, _ in _named(net)]
    assert run.module.head.weight is net.head.weight


def _named(net):
    return list(net.named_parameters())


def test_the_sharpness_is_that_of_the_loss_over_all_positions():
    net, (x, y) = GPT(4), batch(3)
    seen = view(net, nn.CrossEntropyLoss(), x, y)
    names, numbers = [n for n, _ in _named(net)], [p.detach() for _, p in _named(net)]

    def goal(flat):
        parts = flat.split([p.numel() for p in numbers])
        at = {n: part.reshape(p.shape) for n, p, part in zip(names, numbers, parts, strict=True)}
        return F.cross_entropy(functional_call(net, at, (x,)).flatten(0, 1), y.flatten())

    # by backward passes alone: torch.func's forward mode through a LayerNorm's backward gives none that is symmetric
    h = torch.autograd.functional.hessian(goal, torch.cat([p.flatten() for p in numbers]))
    exact = float(torch.linalg.eigvalsh(h)[-1])
    assert sharpness(seen.module, seen.x, seen.y, seen.loss, tolerance=1e-10) == pytest.approx(exact, rel=1e-8)


def test_a_causal_model_with_inputs_by_name_and_its_own_loss():
    net, (x, _) = Causal(), batch()
    rows = {"input_ids": x, "attention_mask": torch.ones_like(x), "labels": x}
    seen = view(net, None, rows, None)
    torch.testing.assert_close(seen.loss(call_at(seen.module, {}, seen.x), seen.y), net(**rows).loss)
    assert watched(net, None, rows, None, (None, None), 5, 8).positions == LENGTH - 1
    assert set(rows) == {"input_ids", "attention_mask", "labels"}  # the caller's dict is as it was


@pytest.mark.parametrize("kind", ["plain", "named"])
def test_a_language_model_is_watched_and_left_as_it_is(kind):
    x, y = batch(12)
    ends = []
    for monitored in (False, True):
        torch.manual_seed(1)
        net = GPT() if kind == "plain" else Causal()
        adam = torch.optim.AdamW(net.parameters(), lr=3e-3)
        loss = nn.CrossEntropyLoss()
        inputs, targets = (x, y) if kind == "plain" else ({"input_ids": x, "labels": x}, None)
        if monitored:
            monitor = Monitor(net, adam, loss if kind == "plain" else None, inputs, targets, rows=6, share=1.0)
        for _ in range(10):
            adam.zero_grad()
            value = loss(net(x).flatten(0, 1), y.flatten()) if kind == "plain" else net(**inputs).loss
            value.backward()
            adam.step()
        ends.append(net.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(ends[0].values(), ends[1].values(), strict=True))
    said = monitor.answer()
    assert "the kernel has" in said[0]
    assert said[1].startswith("The learning rate is")
    assert said[3].startswith("Of the first residual")
    measured = monitor.trace.measured
    assert measured["loss"].values[-1] < measured["loss"].values[0]
    assert "head.weight" in str(measured["distance"].labels)


def test_advice_for_a_language_model():
    net, (x, y) = GPT(), batch()
    advice = suggest(net, (x, y), nn.CrossEntropyLoss(), "sgd", rehearse=20)
    assert advice.loss == pytest.approx(float(F.cross_entropy(net(x).flatten(0, 1), y.flatten()).detach()))
    assert "positions" in advice.why
    own = suggest(Causal(), ({"input_ids": x, "labels": x}, None), None, "adam", rehearse=20)
    assert own.passed


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda x, y: (x, None), "There are no targets"),
        (lambda x, y: (x, torch.full_like(y, -100)), "Sample 0 has no target at any position"),
        (lambda x, y: (x, y + VOCABULARY), "logits of 11 tokens"),
    ],
)
def test_bad_targets_are_told_and_end_nothing(change, text):
    net = GPT()
    with pytest.warns(RuntimeWarning, match=rf"(?s)the training goes on.*{text}.*where: .*why: .*fix: "):
        monitor = Monitor(net, torch.optim.SGD(net.parameters(), 0.1), nn.CrossEntropyLoss(), *change(*batch()))
    assert not monitor.watching
    assert text in str(monitor)


def test_a_loss_that_is_not_known_is_refused():
    class Odd(Causal):
        def forward(self, input_ids, labels=None):
            return SimpleNamespace(logits=self.gpt(input_ids), loss=torch.tensor(3.0))

    with pytest.raises(BadArgument, match=r"(?s)own loss is none that is known.*fix: the loss as a function"):
        view(Odd(), None, {"input_ids": batch()[0], "labels": batch()[0]}, None)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_tokens_that_floating_point_numbers_cannot_carry_travel_exactly(dtype):
    first = 2**24  # float32 has no 2^24 + 1, bfloat16 no 257

    class Far(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Embedding(4, 3, dtype=dtype)

        def forward(self, ids, mask):
            return SimpleNamespace(logits=self.table(ids - first) * mask[:, :, None])

    net, ids = Far(), first + torch.tensor([[0, 1], [1, 3], [2, 1], [3, 3]])
    x, y = {"ids": ids, "mask": torch.ones(4, 2, dtype=torch.bool)}, (ids - first) % 3
    seen = view(net, nn.CrossEntropyLoss(), x, y)
    assert torch.equal(call_at(seen.module, {}, seen.x), net(**x).logits)
    assert torch.equal(empirical_ntk(seen.module, x), empirical_ntk(nn.Sequential(net.table), ids - first))
    loss = float(F.cross_entropy(net(**x).logits.flatten(0, 1).float(), y.flatten()).detach())
    assert suggest(net, (x, y), nn.CrossEntropyLoss(), rehearse=0).loss == pytest.approx(loss, rel=2e-2)
    seen = watched(net, nn.CrossEntropyLoss(), x, y, (None, None), 4, 2)
    assert all(torch.equal(a, b) for a, b in zip(tensors_of(seen.x), x.values(), strict=True))
    odds = seen.run.module(*tensors_of(seen.run.train.x))
    assert float(F.softplus(-odds).mean().detach()) == pytest.approx(loss, rel=2e-2)


def test_what_a_pass_holds_counts_the_logits_of_a_large_vocabulary():
    net, (x, y) = GPT(), batch(3)
    run = watched(net, nn.CrossEntropyLoss(), x, y, (None, None), 3, 2).run
    assert run.numbers_out == LENGTH * VOCABULARY
    assert rows_per_pass(run.train.x, run.numbers_out) == rows_per_pass(run.train.x) == MOST_ROWS
    # 16 positions with 50,000 logits each, 256 of which stand for one position
    assert rows_per_pass(run.train.x, 16 * 50_000) == MOST_POSITIONS // (16 * 50_000 // 256)
