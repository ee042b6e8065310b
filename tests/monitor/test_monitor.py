"""The monitor: a run that it does not change, a cost that it keeps, answers that are right, logs that are whole."""

import copy
import json
import sys
import types

import pytest
import torch
from torch import nn

import gramian
from gramian import LightningMonitor, Monitor, TrainerMonitor
from gramian.errors import BadArgument
from gramian.monitor import monitor as module_of_monitor
from gramian.monitor.words import sentences
from gramian.train import Series, Trace


def data(n=24, d=6, classes=3):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, d, generator=generator)
    return x, (torch.arange(n) % classes)


def mlp(width=32, d=6, out=3):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(d, width), nn.ReLU(), nn.Dropout(0.2), nn.Linear(width, out))


def loop(net, optimizer, loss, x, y, steps):
    net.train()
    for _ in range(steps):
        optimizer.zero_grad()
        loss(net(x), y).backward()
        optimizer.step()


def test_the_run_is_the_same_bit_for_bit_with_and_without_it():
    (x, y), loss = data(), nn.CrossEntropyLoss()
    ends = []
    for watched in (False, True):
        net = mlp()
        adam = torch.optim.Adam(net.parameters(), lr=0.01)
        monitor = Monitor(net, adam, loss, x, y, share=1.0) if watched else None
        torch.manual_seed(1)
        loop(net, adam, loss, x, y, 30)
        if monitor is not None:
            str(monitor)
            assert {0, 30} <= set(monitor.trace.steps)
            assert net.training
        ends.append(net.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(ends[0].values(), ends[1].values(), strict=True))


class Slow:
    """A probe that takes this long, by the clock of the test."""

    title, unit = "slow", ""

    def __init__(self, clock, name, cost, seconds):
        self.clock, self.name, self.cost, self.seconds = clock, name, cost, seconds

    def start(self, run):
        pass

    def measure(self, run):
        self.clock.now += self.seconds
        return float(run.step)


@pytest.mark.parametrize("share", [0.02, 0.2])
def test_measuring_keeps_to_its_share_of_the_time(monkeypatch, share):
    clock = types.SimpleNamespace(now=0.0)
    monkeypatch.setattr(module_of_monitor.time, "perf_counter", lambda: clock.now)
    net, (x, y) = mlp(), data()
    sgd = torch.optim.SGD(net.parameters(), lr=0.1)
    probes = [Slow(clock, "a", "cheap", 0.05), Slow(clock, "b", "gram", 0.4)]
    monitor = Monitor(net, sgd, nn.CrossEntropyLoss(), x, y, share=share, probes=probes)
    assert monitor.setup_seconds == pytest.approx(0.45)
    for step in range(3000):
        clock.now += 0.05
        sgd.step()
        if step > 1000:  # 50 s: the share is at least the second that the first steps may take
            assert monitor.overhead <= share
    assert 0.2 * share < monitor.overhead
    steps = monitor.trace.measured
    assert len(steps["b"].steps) >= 3
    assert len(steps["a"].steps) > len(steps["b"].steps)
    assert min(steps["a"].steps[1:]) < 40


def test_a_wide_network_is_lazy_and_a_narrow_one_with_small_weights_learns_features():
    x = data()[0].double()
    y = torch.sin(x[:, :1])
    arch = gramian.architecture(nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 1)), x)
    words = {}
    for name, width, factor in (("wide", 4096, 1.0), ("narrow", 16, 0.03)):
        net = arch.network(width, seed=0, dtype=torch.float64)
        with torch.no_grad():
            for p in net.parameters():
                p.mul_(factor)
        rate = gramian.suggest(net, (x, y), nn.MSELoss(), "sgd", rehearse=0).lr if factor == 1 else 1.0
        sgd = torch.optim.SGD(net.parameters(), rate)
        monitor = Monitor(net, sgd, nn.MSELoss(), x, y, probes=("kernel_drift", "linearization_gap"))
        loop(net, sgd, nn.MSELoss(), x, y, 200)
        words[name] = monitor.answer()[0]
    assert words["wide"].startswith("Lazy: the kernel has changed by")
    assert words["narrow"].startswith("Feature learning")


@pytest.mark.parametrize(("times", "says"), [(0.1, "could be larger"), (0.9, "at the edge"), (3.0, "lower it")])
def test_the_learning_rate_is_set_against_the_edge(times, says):
    x = data()[0]
    y = x @ torch.randn(6, 1, generator=torch.Generator().manual_seed(1))
    net = nn.Linear(6, 1)
    largest = gramian.suggest(net, (x, y), nn.MSELoss(), "sgd").largest
    sgd = torch.optim.SGD(net.parameters(), times * largest)
    monitor = Monitor(net, sgd, nn.MSELoss(), x, y)
    loop(net, sgd, nn.MSELoss(), x, y, 3)
    assert says in monitor.answer()[1]
    assert monitor.trace.measured["edge"].values[-1] == pytest.approx(times, rel=0.03)


def test_layers_without_gradient_and_layers_that_stand_still_are_named():
    (x, y), loss = data(), nn.CrossEntropyLoss()
    dead = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    with torch.no_grad():
        dead[0].bias.fill_(-100.0)
    sgd = torch.optim.SGD(dead.parameters(), 0.1)
    monitor = Monitor(dead, sgd, loss, x, y)
    loop(dead, sgd, loss, x, y, 3)
    assert "No gradient reaches `0.weight`, `0.bias`" in monitor.answer()[2]


def test_a_layer_that_stands_still_with_hardly_any_gradient_has_stopped():
    steps = [0, 30, 60, 90]
    way = [{"a": s, "b": b} for s, b in zip((0.0, 1.0, 2.0, 3.0), (0.0, 1.0, 1.999, 2.0), strict=True)]
    for gradient, says in ((0.01, "`b` stopped learning"), (1, "Every layer is still learning")):
        pulls = [{"a": 1.0, "b": pull} for pull in (0.5, 0.3, 0.1, 0.1 * gradient)]
        series = Series("", "", steps, pulls)
        trace = Trace({}, [], [], {"distance": Series("", "", steps, way), "layer_gradient_over_loss": series})
        assert says in sentences(trace, None)[2]


def test_the_slowest_sample_is_the_one_with_the_smallest_input():
    x = torch.eye(5) * torch.tensor([1.0, 2.0, 0.01, 3.0, 1.5])[:, None]
    y, net = torch.ones(5, 1), nn.Linear(5, 1, bias=False)
    sgd = torch.optim.SGD(net.parameters(), lr=0.3)
    monitor = Monitor(net, sgd, nn.MSELoss(), x, y)
    loop(net, sgd, nn.MSELoss(), x, y, 60)
    said = monitor.answer()[3]
    assert said.startswith("In 1 of 5 directions")
    assert said.endswith("The most residual has row 2.")


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_the_loss_is_the_user_s_own_a_mean_or_a_sum(reduction, tmp_path):
    (x, y), net, log = data(), mlp(), tmp_path / "log.jsonl"
    loss = nn.CrossEntropyLoss(reduction=reduction)
    settings = {"x_test": x[:5], "y_test": y[:5], "log": log}
    monitor = Monitor(
        net, torch.optim.SGD(net.parameters(), 0.01), loss, x, y, probes=("loss", "test_loss"), **settings
    )
    net.eval()
    whole, few = (float(loss(net(x[:n]), y[:n]).detach()) for n in (24, 5))
    assert monitor.trace.losses[0] == pytest.approx(whole, rel=1e-5)
    assert monitor.trace.measured["loss"].values[0] == pytest.approx(whole, rel=1e-5)
    assert monitor.trace.measured["test_loss"].values[0] == pytest.approx(few, rel=1e-5)
    assert json.loads(log.read_text())["loss"] == pytest.approx(whole, rel=1e-5)
    assert float(monitor.run.loss()) == pytest.approx(whole * (24 if reduction == "mean" else 1), rel=1e-5)


def test_the_log_is_one_json_line_a_measurement_and_is_continued(tmp_path):
    (x, y), loss, path = data(), nn.CrossEntropyLoss(), tmp_path / "new" / "log.jsonl"
    for _ in range(2):
        net = mlp()
        sgd = torch.optim.SGD(net.parameters(), 0.1)
        monitor = Monitor(net, sgd, loss, x, y, log=path, share=1.0)
        loop(net, sgd, loss, x, y, 5)
        monitor.close()
        sgd.step()
        assert monitor.step == 5
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["step"] for line in lines].count(0) == 2
    assert lines[0]["loss"] == pytest.approx(monitor.trace.measured["loss"].values[0])
    assert set(lines[0]["relative_distance"]) == {"0.weight", "0.bias", "3.weight", "3.bias"}


def test_tensorboard_gets_every_number(tmp_path, monkeypatch):
    written = []

    class SummaryWriter:
        def __init__(self, folder):
            self.folder = folder

        def add_scalar(self, name, value, step):
            written.append((name, step))

        def flush(self):
            pass

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", types.SimpleNamespace(SummaryWriter=SummaryWriter))
    net, (x, y) = mlp(), data()
    Monitor(net, torch.optim.SGD(net.parameters(), 0.1), nn.CrossEntropyLoss(), x, y, tensorboard=tmp_path)
    assert {("gramian/loss", 0), ("gramian/distance/0.weight", 0)} <= set(written)


def test_the_report_is_that_of_certify(tmp_path):
    (x, y), net, loss = data(), mlp(), nn.CrossEntropyLoss()
    sgd = torch.optim.SGD(net.parameters(), 0.1)
    monitor = Monitor(net, sgd, loss, x, y, x_test=x[:9], y_test=y[:9])
    loop(net, sgd, loss, x, y, 20)
    html, as_json = monitor.report(tmp_path / "report")
    facts = json.loads(as_json.read_text())
    assert facts["runs"][0]["answer"] == list(monitor.answer())
    assert facts["runs"][0]["loss"]["steps"][-1] == 20
    assert facts["runs"][0]["spectrum"]["final"]
    text = html.read_text()
    assert "watched" in text
    assert "Learning rate over the largest stable one" in text
    assert "From which width on?" not in text
    assert "No theorem was checked" not in text


def test_callbacks_begin_and_end_with_the_training(tmp_path, monkeypatch):
    (x, y), loss = data(), nn.CrossEntropyLoss()
    monkeypatch.setitem(sys.modules, "lightning.pytorch", types.SimpleNamespace(Callback=type("Callback", (), {})))
    monkeypatch.setitem(sys.modules, "transformers", types.SimpleNamespace(TrainerCallback=type("Base", (), {})))
    net = mlp()
    sgd = torch.optim.SGD(net.parameters(), 0.1)
    watching = LightningMonitor(loss, x, y, report=tmp_path / "a")
    watching.on_train_start(types.SimpleNamespace(optimizers=[sgd], is_global_zero=True), net)
    loop(net, sgd, loss, x, y, 4)
    watching.on_train_end(None, net)
    assert watching.monitor.step == 4
    assert (tmp_path / "a" / "report.html").exists()

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = mlp()

        def forward(self, input_ids):
            return {"logits": self.net(input_ids)}

    model = Model()
    sgd = torch.optim.SGD(model.parameters(), 0.1)
    watching = TrainerMonitor(loss, x, y)
    wrapped = types.SimpleNamespace(optimizer=sgd)
    watching.on_train_begin(None, None, None, model=model, optimizer=wrapped)
    sgd.step()
    watching.on_train_end(None, None, None)
    assert watching.monitor.step == 1


def test_what_is_not_installed_is_named(monkeypatch, tmp_path):
    for name in ("lightning.pytorch", "pytorch_lightning", "transformers", "torch.utils.tensorboard"):
        monkeypatch.setitem(sys.modules, name, None)
    x, y = data()
    with pytest.raises(BadArgument, match="pip install lightning"):
        LightningMonitor("squared", x, y)
    with pytest.raises(BadArgument, match="pip install transformers"):
        TrainerMonitor("squared", x, y)
    net = mlp()
    with pytest.warns(RuntimeWarning, match="(?s)training goes on.*pip install tensorboard"):
        assert Monitor(net, torch.optim.SGD(net.parameters(), 0.1), "squared", x, y, tensorboard=tmp_path).watching


def test_bad_settings_are_refused(tmp_path):
    (x, y), net = data(), mlp()
    sgd, loss = torch.optim.SGD(net.parameters(), 0.1), nn.CrossEntropyLoss()
    with pytest.raises(BadArgument, match="The optimizer is a str"):
        Monitor(net, "sgd", loss, x, y)
    with pytest.raises(BadArgument, match="The module is the class Linear"):
        Monitor(nn.Linear, sgd, loss, x, y)
    with pytest.raises(BadArgument, match="loss=3 is no loss"):
        Monitor(net, sgd, 3, x, y)
    with pytest.raises(BadArgument, match="share=0"):
        Monitor(net, sgd, loss, x, y, share=0)
    with pytest.raises(BadArgument, match="'losss' is no probe"):
        Monitor(net, sgd, loss, x, y, probes=("losss",))


def test_what_is_about_the_run_is_told_and_raises_nothing(tmp_path):
    (x, y), net = data(), mlp()
    sgd, loss = torch.optim.SGD(net.parameters(), 0.1), nn.CrossEntropyLoss()
    with pytest.warns(RuntimeWarning, match="holds none of the module's parameters"):
        assert Monitor(copy.deepcopy(net), sgd, loss, x, y).watching
    with pytest.warns(RuntimeWarning, match="(?s)goes on.*x has 24 rows, y has 3"):
        assert not Monitor(net, sgd, "cross-entropy", x, y[:3]).watching
    with pytest.warns(RuntimeWarning, match="cannot be written"):
        assert Monitor(net, sgd, loss, x, y, log=tmp_path).watching


def test_the_end_of_a_schedule_is_no_reason_to_raise_the_rate():
    values = {"edge": Series("", "", [0, 50, 100], [0.6, 0.5, 0.0])}
    said = sentences(Trace({"lr": 0.0, "largest_lr": 0.1}, [], [], values), None)[1]
    assert "was 0.6 times the largest stable one at step 0, and is 0 times it now: stable all" in said
    values = {"edge": Series("", "", [0, 50, 100], [0.6, 0.5, 0.1])}
    assert "could be larger" in sentences(Trace({"lr": 0.1, "largest_lr": 0.1}, [], [], values), None)[1]


def test_running_statistics_alone_change_no_kernel():
    """Batch normalization starts with statistics of nothing: when they come in, nothing was learned."""
    (x, y), net = data(), nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
    sgd, loss = torch.optim.SGD(net.parameters(), 0.0), nn.CrossEntropyLoss()
    monitor = Monitor(net, sgd, loss, 7 * x, y, share=1.0)
    before = {n: t.clone() for n, t in net.named_buffers()}
    assert float(before["1.running_var"].mean()) == 1
    loop(net, sgd, loss, 7 * x, y, 20)
    after = {n: t.clone() for n, t in net.named_buffers()}
    assert monitor.answer()[0] == "Lazy or feature learning: not known, no weight has moved up to step 20."
    assert monitor.trace.measured["kernel_drift"].values[-1] == pytest.approx(0, abs=1e-6)
    assert monitor.trace.measured["linearization_gap"].values[-1] == pytest.approx(0, abs=1e-6)
    assert float(after["1.running_var"].mean()) > 2
    assert all(torch.equal(after[n], t) for n, t in net.named_buffers())
