"""`monitor.prove()`: a theorem about the watched module as it is now, which stays as it is."""

import pytest
import torch
from torch import nn

import gramian
from gramian import Monitor
from gramian.data import one_hot
from gramian.errors import BadArgument, Unsupported
from gramian.prove.proof import PROVED


def net(outputs=2, *more):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 64), nn.Tanh(), *more, nn.Linear(64, outputs))


def rows(n=8, outputs=2):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(n, 3, generator=generator), torch.randn(n, outputs, generator=generator)


def watched(module, loss, x, y, steps=3):
    optimizer = torch.optim.SGD(module.parameters(), lr=0.01)
    monitor = Monitor(module, optimizer, loss, x, y)
    for _ in range(steps):
        optimizer.zero_grad()
        loss(module(x), y).backward()
        optimizer.step()
    return monitor


@pytest.mark.parametrize(
    "loss", [nn.MSELoss(), nn.MSELoss(reduction="sum"), nn.L1Loss(), nn.HuberLoss(), nn.functional.mse_loss]
)
def test_a_minimum_is_proved_for_losses_that_are_0_where_outputs_are_targets(loss):
    assert watched(net(), loss, *rows()).prove().status == PROVED


def test_the_module_and_its_run_stay_as_they_are(tmp_path):
    module, (x, y) = net(2, nn.Dropout(0.3)), rows()
    monitor = watched(module, nn.MSELoss(), x, y)
    before, random = {k: v.clone() for k, v in module.state_dict().items()}, torch.get_rng_state()
    proof = monitor.prove(polished=True)
    assert all(torch.equal(v, module.state_dict()[k]) for k, v in before.items())
    assert module.training
    assert all(m.training for m in module)
    assert torch.equal(torch.get_rng_state(), random)
    assert monitor.watching
    assert any("evaluation mode" in text for text in proof.content.assumes)
    proof.save(tmp_path / "net.certificate")
    assert gramian.prove.check(tmp_path / "net.certificate", x.double().numpy(), y.double().numpy()).valid


def test_it_is_about_the_weights_of_now():
    monitor = watched(net(), nn.MSELoss(), *rows(), steps=0)
    moved = [monitor.prove().numbers["moved"]]
    for p in monitor.optimizer.param_groups[0]["params"]:
        p.data += 0.1
    moved.append(monitor.prove().numbers["moved"])
    assert moved[0] != pytest.approx(moved[1], rel=1e-3)


def test_descent_and_separation_have_their_statements():
    x, y = rows()
    assert watched(net(), nn.MSELoss(), x, y).prove("descent", polished=True).statement == "descent"
    classes = (x[:, 0] > 0).long()
    proof = watched(net(), nn.CrossEntropyLoss(), x, classes, steps=300).prove()
    assert (proof.statement, proof.status) == ("separation", PROVED)


def test_class_numbers_are_the_rows_that_the_loss_compares_with():
    x, _ = rows()
    classes = torch.arange(8) % 2
    own = watched(net(), lambda f, y: nn.functional.mse_loss(f, nn.functional.one_hot(y, 2).to(f)), x, classes)
    with pytest.raises(BadArgument, match="<lambda> has no proof"):
        own.prove()  # a function of the user's: nobody knows its minimum
    module = net()
    monitor = Monitor(module, torch.optim.SGD(module.parameters(), lr=0.01), "squared", x, classes)
    assert monitor.prove().content.y.tolist() == one_hot(classes, 2).tolist()


@pytest.mark.parametrize(
    ("loss", "statement", "words"),
    [
        (nn.CrossEntropyLoss(label_smoothing=0.1), "minimum", "label smoothing"),
        (nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0], dtype=torch.float64)), "minimum", "class weights"),
        (nn.MultiMarginLoss(), "minimum", "The loss MultiMarginLoss has no proof"),
        (nn.L1Loss(), "descent", "L1Loss has no proof of 'descent'"),
    ],
)
def test_other_losses_are_refused_in_four_parts(loss, statement, words):
    x, y = rows()
    if not isinstance(loss, nn.L1Loss):
        y = torch.arange(8) % 2
    with pytest.raises(BadArgument, match=words) as error:
        watched(net(), loss, x, y).prove(statement)
    assert error.value.where
    assert error.value.why
    assert error.value.fix


class Named(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = net()

    def forward(self, x):
        return {"logits": self.inner(x)}


def test_outputs_that_are_no_rows_of_numbers_are_refused():
    x, y = rows()
    module = Named()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.01)
    monitor = Monitor(module, optimizer, lambda out, y: nn.functional.mse_loss(out["logits"], y), x, y)
    with pytest.raises(BadArgument):
        monitor.prove()
    monitor = Monitor(module, optimizer, nn.MSELoss(), x, y)
    with pytest.raises(BadArgument, match="one row of numbers"):
        monitor.prove()


class Sorted(nn.Module):
    def forward(self, x):
        return x.sort(dim=1).values


def test_a_layer_without_a_rule_is_named():
    x, y = rows()
    with pytest.raises(Unsupported, match="sort"):
        watched(nn.Sequential(Sorted(), nn.Linear(3, 2)), nn.MSELoss(), x, y).prove()


def test_a_monitor_that_watches_nothing_says_why():
    module = net()
    with pytest.warns(RuntimeWarning, match="does not watch"):
        monitor = Monitor(module, torch.optim.SGD(module.parameters(), lr=0.1), nn.MSELoss(), torch.zeros(4, 7), None)
    with pytest.raises(BadArgument, match="Nothing is watched"):
        monitor.prove()
