"""What `certify` proves of the trained network: said where it is proved, and where it is not, never an error."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

import gramian
from gramian.certify import certify
from gramian.certify.proofs import proofs_of
from gramian.certify.study_clock import Clock
from gramian.checker.sentences import rounded_up
from gramian.errors import BadArgument
from gramian.prove.cost import least_seconds, predicted_cost
from gramian.prove.proof import NOT_PROVED, PROVED, Proof


def net(width=64, outputs=1):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, width), nn.Tanh(), nn.Linear(width, outputs)).double()


def rows(n=8, outputs=1):
    generator = torch.Generator().manual_seed(1)
    x, y = (torch.randn(n, k, generator=generator, dtype=torch.float64) for k in (3, outputs))
    return x, y


def proofs_in(one):
    return {c.statement: c for c in one if isinstance(c, Proof)}


@pytest.fixture(scope="module")
def reached():
    return certify(net(), *rows(), optimizer="gd", lr=0.01, steps=3000)


def test_a_run_that_reached_is_proved_and_what_is_proved_is_said(reached):
    assert reached.status == "reached, proved"
    assert reached.holds
    minimum = proofs_in(reached)["minimum"]
    assert minimum.status == PROVED
    third = reached.answer[2]
    # the exact run is proved as well, and stands first
    assert third.startswith("Proved: gradient descent in real numbers from this run's initial weights")
    assert "Proved: weights with training loss exactly 0, of this network as a formula in real numbers" in third
    assert f"lie within {rounded_up(minimum.numbers['radius'])} of the trained ones after Gauss-Newton steps" in third
    assert f"moved these by {rounded_up(minimum.numbers['moved'])} " in third
    assert "; the run that led here is observed." in third
    assert reached.run["origin"]["seconds"]["proof"] > 0


def test_the_certificate_is_one_that_the_checker_takes(reached, tmp_path):
    proofs_in(reached)["minimum"].save(tmp_path / "net.certificate")
    x, y = rows()
    assert gramian.prove.check(tmp_path / "net.certificate", x.numpy(), y.numpy()).valid


def test_the_descent_is_the_run_s_own_rate(reached):
    descent = proofs_in(reached)["descent"]
    assert descent.status == PROVED
    assert descent.numbers["step"] == pytest.approx(reached.run["loss"]["lr"])
    assert "gradient descent from there at this run's learning rate converges to such weights" in reached.answer[2]
    # 2 / lambda_max is 0.030 at the start and 0.022 at the minimum
    over_the_edge = certify(net(), *rows(), optimizer="gd", lr=0.029, steps=1)
    assert proofs_in(over_the_edge)["minimum"].status == PROVED
    assert proofs_in(over_the_edge)["descent"].status == NOT_PROVED
    assert "at this run's learning rate converges to such weights is not proved" in over_the_edge.answer[2]
    by_adam = certify(net(), *rows(), optimizer="adam", steps=40)
    assert proofs_in(by_adam)["descent"].numbers["step"] != pytest.approx(by_adam.run["loss"]["lr"])


def test_facts_hold_both_numbers_of_each_inequality(reached):
    facts = reached.run["certificates"][0]
    assert (facts["statement"], facts["status"]) == ("minimum", "proved")
    margins = {margin["name"]: margin for margin in facts["margins"]}
    assert margins["h"]["left"] < margins["h"]["right"] == 1
    assert margins["path"]["left"] < margins["path"]["right"]
    assert all(margin["holds"] for margin in margins.values())
    assert len(facts["premises"]) == len(margins) - 1  # h follows from the others


def test_a_run_that_did_not_reach_is_not_proved_though_a_minimum_is_near():
    one = certify(net(), *rows(), optimizer="gd", steps=2)
    assert one.status == "not reached, observed"
    assert not one.holds
    assert proofs_in(one)["minimum"].status == PROVED
    assert one.answer[2].startswith("Observed: ")
    assert "Proved: weights with training loss exactly 0" in one.answer[2]


def test_what_is_not_proved_says_which_inequality_and_what_would():
    one = certify(net(2), *rows(12), optimizer="gd", steps=2)
    minimum = proofs_in(one)["minimum"]
    assert minimum.status == NOT_PROVED
    assert one.why == "observed"
    assert "No proof of an exact minimum: " in one.answer[2]
    assert minimum.fix in one.answer[2]


class Sorted(nn.Module):
    def forward(self, x):
        return x.sort(dim=1).values


def test_a_layer_without_a_rule_is_one_sentence():
    one = certify(nn.Sequential(Sorted(), *net()), *rows(), steps=3)
    assert not proofs_in(one)
    assert "No proof of an exact minimum: " in one.answer[2]
    assert "sort" in one.answer[2]
    assert one.trace is not None


def test_the_cross_entropy_has_its_own_statement():
    x, _ = rows()
    one = certify(net(outputs=2), x, torch.arange(8) % 2, loss="cross-entropy", optimizer="adam", lr=0.1)
    assert one.status == "reached, proved"
    assert proofs_in(one).keys() == {"separation"}
    assert "each row's own class is ahead by at least" in one.answer[2]
    assert "which no finite weights reach" in one.answer[2]
    assert "exactly 0" not in one.answer[2]


def test_equal_inputs_with_different_targets_have_no_exact_minimum():
    x, y = rows()
    one = certify(net(), torch.cat([x, x[:1]]), torch.cat([y, y[:1] + 1e-3]), steps=3)
    assert not proofs_in(one)
    assert "There is no exact minimum to prove: equal inputs have different targets" in one.answer[2]


def test_a_diverged_run_is_not_tried():
    one = certify(net(), *rows(), optimizer="gd", lr=50.0, steps=20)
    assert one.trace.diverged
    assert not proofs_in(one)
    assert "proof" not in one.run["origin"]["seconds"]


def test_the_switch():
    one = certify(net(), *rows(), optimizer="gd", steps=3, prove=False)
    assert not proofs_in(one)
    assert "proof" not in " ".join(one.answer)
    assert "prove=False" in one.run["origin"]["python"]
    with pytest.raises(BadArgument, match='prove="auto", True or False'):
        certify(net(), *rows(), prove="yes")


def test_the_trained_network_stays_as_it_is():
    ends = []
    for prove in (True, False):
        module = net()
        certify(module, *rows(), parametrization="own", optimizer="gd", lr=0.01, steps=5, prove=prove)
        ends.append(module.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(ends[0].values(), ends[1].values(), strict=True))


def imagined_run(network, n=8, n_outputs=1, prove="auto"):
    x = torch.zeros(n, 3, dtype=torch.float64)
    return SimpleNamespace(
        data=SimpleNamespace(
            request=SimpleNamespace(prove=prove), inputs=x, n_outputs=n_outputs,
            training_targets=lambda: torch.zeros(n, n_outputs, dtype=torch.float64),
        ),
        trace=SimpleNamespace(diverged=False, interrupted=False), goal=SimpleNamespace(floor=0.0),
        train_outputs=torch.zeros(n, n_outputs), loss_name="squared",
        initial=SimpleNamespace(network=network, start=None), plan=SimpleNamespace(optimizer="gd", lr=0.1),
    )  # fmt: skip


def test_what_does_not_fit_the_time_is_not_tried():
    """40,000 outputs: 10^14 operations, more than 6 TFLOP/s in the 20 s that every study has."""
    proofs = proofs_of(imagined_run(net(outputs=10), n=4000, n_outputs=10), Clock())
    assert not proofs.tried
    assert "the Gram matrix of its 40,000 outputs alone takes about" in proofs.says
    assert "prove=True (--prove) takes the time" in proofs.says


def test_what_does_not_fit_the_memory_is_not_tried_whatever_the_time():
    proofs = proofs_of(imagined_run(net(outputs=10), n=4000, n_outputs=10, prove=True), Clock())
    assert not proofs.tried
    assert " GiB for a Gram matrix of 40,000 rows, and " in proofs.says
    assert " GiB are allowed." in proofs.says


class Interrupted(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3, 1, dtype=torch.float64))

    def forward(self, x):
        raise KeyboardInterrupt


def test_ctrl_c_leaves_the_training_s_result():
    proofs = proofs_of(imagined_run(Interrupted()), Clock())
    assert proofs.interrupted
    assert proofs.says == "No proof of an exact minimum: it was interrupted."


def test_predicted_costs_grow_with_the_rows_and_are_less_for_the_cross_entropy():
    x, y = rows(200, 2)
    few, many = (predicted_cost(net(outputs=2), x[:n], y[:n]) for n in (10, 200))
    assert (few.rows, many.rows) == (20, 400)
    assert few.bytes < many.bytes
    separation = predicted_cost(net(outputs=2), x, torch.arange(200) % 2, loss="cross-entropy")
    assert separation.bytes < many.bytes
    assert least_seconds(20_000) > 100 * least_seconds(2_000)
