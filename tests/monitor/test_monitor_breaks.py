"""What goes wrong in a watched run ends neither the run nor what was measured."""

import json
import math
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from gramian import Monitor
from gramian.errors import BadData


def data(n=24, d=6, classes=3):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(n, d, generator=generator), torch.arange(n) % classes


def mlp(width=16, d=6, out=3):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(d, width), nn.ReLU(), nn.Linear(width, out))


def loop(net, optimizer, x, y, steps, monitor=None):
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        optimizer.step()
        if monitor is not None:
            monitor.answer()  # measured at each step, however busy the machine is


def test_a_loss_that_is_not_finite_is_told_with_its_step(tmp_path):
    (x, y), net = data(), mlp()
    sgd = torch.optim.SGD(net.parameters(), 0.1)
    monitor = Monitor(net, sgd, nn.CrossEntropyLoss(), x, y, share=1.0, log=tmp_path / "log.jsonl")
    loop(net, sgd, x, y, 7, monitor)
    loop(net, sgd, x * math.nan, y, 1)
    loop(net, sgd, x, y, 6)
    said = monitor.answer()
    assert said[0].startswith("The loss is not finite since step 8; at step ")
    assert "edge" not in monitor.trace.config["skipped"]
    assert math.isnan(monitor.trace.losses[-1])
    monitor.report(tmp_path / "report")
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line for line in lines if "loss" in line][-1]["loss"] is None
    Monitor.report_of_log(tmp_path / "log.jsonl", tmp_path / "again")
    again = json.loads((tmp_path / "again" / "report.json").read_text())["runs"][0]
    assert again["answer"][0].startswith("The loss is not finite at step")


class Breaks:
    """A probe that fails at its second measurement."""

    name, title, unit, cost = "breaks", "", "", "cheap"

    def start(self, run):
        pass

    def measure(self, run):
        if run.step:
            raise RuntimeError("no such thing\nand more")
        return 1.0


def test_a_probe_that_fails_is_left_out_and_the_run_goes_on():
    (x, y), net = data(), mlp()
    sgd = torch.optim.SGD(net.parameters(), 0.1)
    monitor = Monitor(net, sgd, nn.CrossEntropyLoss(), x, y, probes=[Breaks(), "loss"], share=1.0)
    text = r"(?s)breaks failed at step 1 and is left out.*where: .*why: RuntimeError: no such thing\n  fix: "
    with pytest.warns(RuntimeWarning, match=text):
        loop(net, sgd, x, y, 5, monitor)
    assert monitor.trace.measured["breaks"].steps == [0]
    assert len(monitor.trace.measured["loss"].steps) > 2
    assert monitor.trace.config["skipped"]["breaks"] == "failed at step 1: no such thing"


def until_it_measures(monitor, step):
    while "the monitor" not in monitor.trace.config["skipped"] and monitor.step < 300:
        step()


def test_a_layer_that_is_unfrozen_ends_the_watching_and_not_the_run():
    (x, y), net = data(), mlp()
    net[0].requires_grad_(False)
    sgd = torch.optim.SGD(net.parameters(), 0.1)
    monitor = Monitor(net, sgd, nn.CrossEntropyLoss(), x, y, share=1.0)
    loop(net, sgd, x, y, 3)
    assert set(monitor.trace.measured["distance"].labels) == {"2.weight", "2.bias"}
    net[0].requires_grad_(True)
    with pytest.warns(RuntimeWarning, match=r"(?s)other parameters are trained.*fix: .*a new Monitor"):
        until_it_measures(monitor, lambda: loop(net, sgd, x, y, 1))
    assert "Lazy" in monitor.answer()[0] or "earning" in monitor.answer()[0]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_is_told_once_and_the_run_goes_on():
    (x, y), net = data(), mlp()
    sgd = torch.optim.SGD(net.parameters(), 0.1)
    with pytest.warns(
        RuntimeWarning, match=r"(?s)/dev/full cannot be written: No space left.*training goes on"
    ) as told:
        monitor = Monitor(net, sgd, nn.CrossEntropyLoss(), x, y, log="/dev/full", share=1.0, probes=("loss",))
    assert len(told) == 1
    loop(net, sgd, x, y, 5, monitor)  # a second warning would be an error
    assert len(monitor.trace.measured["loss"].steps) > 2


def test_lines_that_did_not_fit_are_written_when_there_is_room(tmp_path, monkeypatch):
    path = tmp_path / "log.jsonl"
    (x, y), net = data(), mlp()
    sgd = torch.optim.SGD(net.parameters(), 0.1)
    monitor = Monitor(net, sgd, nn.CrossEntropyLoss(), x, y, log=path, share=1.0, probes=("loss",))
    write, full = os.write, [True]

    monkeypatch.setattr(os, "write", lambda file, text: _short(write, file, text) if full[0] else write(file, text))
    with pytest.warns(RuntimeWarning, match="No space left"):
        loop(net, sgd, x, y, 3, monitor)
    before = path.read_text()
    assert before.endswith("\n")
    assert len(before.splitlines()) == 1
    full[0] = False
    loop(net, sgd, x, y, 3, monitor)
    steps = [json.loads(line)["step"] for line in path.read_text().splitlines()]
    assert steps == monitor.trace.measured["loss"].steps


def _short(write, file, text):
    """A disk with room for ten more bytes."""
    if len(text) > 10 and text.startswith(b"{"):
        return write(file, text[:10])
    raise OSError(28, "No space left on device")


KILLED = """
    import torch, gramian
    from torch import nn
    torch.manual_seed(0)
    x, y = torch.randn(24, 6), torch.arange(24) % 3
    net = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3))
    sgd = torch.optim.SGD(net.parameters(), 0.1)
    gramian.Monitor(net, sgd, nn.CrossEntropyLoss(), x, y, log={path!r}, share=1.0)
    while True:
        sgd.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        sgd.step()
"""


def test_a_killed_process_leaves_a_log_from_which_the_report_is_written(tmp_path):
    path = tmp_path / "log.jsonl"
    code = textwrap.dedent(KILLED).format(path=str(path))
    process = subprocess.Popen([sys.executable, "-c", code], env=os.environ)
    try:
        while (not path.exists() or path.read_text().count("\n") < 6) and process.poll() is None:
            time.sleep(0.05)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(lines) >= 6
    with path.open("a") as file:
        file.write('{"step": 99, "lo')  # as a disk that is full leaves it
    html, as_json = Monitor.report_of_log(path, tmp_path / "report")
    run = json.loads(as_json.read_text())["runs"][0]
    assert run["loss"]["steps"] == [line["step"] for line in lines if "loss" in line]
    assert any("earning" in said for said in run["answer"])
    assert "Sequential" in html.read_text()
    (x, y), net = data(), mlp()
    Monitor(net, torch.optim.SGD(net.parameters(), 0.1), nn.CrossEntropyLoss(), x, y, log=path)
    assert json.loads(path.read_text().splitlines()[-1])["step"] == 0  # after the broken line, on a line of its own


def test_a_file_that_is_no_log_is_refused(tmp_path):
    (tmp_path / "log").write_text('{"a": 1}\nnothing\n[1]\n')
    with pytest.raises(BadData, match="has no line that begins a run"):
        Monitor.report_of_log(tmp_path / "log", tmp_path)


WRAPPED = {
    "parallel": lambda net: nn.DataParallel(net),
    "compiled": lambda net: torch.compile(net, backend="eager"),
}


@pytest.mark.parametrize("name", WRAPPED)
def test_a_wrapped_module_is_measured_as_the_module_inside(name):
    (x, y), net = data(), mlp()
    sgd = torch.optim.SGD(net.parameters(), 0.1)
    monitor = Monitor(WRAPPED[name](net), sgd, nn.CrossEntropyLoss(), x, y)
    assert set(monitor.trace.measured["distance"].labels) == {"0.weight", "0.bias", "2.weight", "2.bias"}


def test_mixed_precision_accumulation_and_several_optimizers():
    (x, y), net = data(), mlp()
    first = torch.optim.SGD([{"params": net[0].parameters(), "lr": 0.0}], lr=0.1, momentum=0.9)
    first.add_param_group({"params": [net[2].weight], "lr": 0.2})
    second = torch.optim.Adam([net[2].bias], lr=0.01)
    monitor = Monitor(net, first, nn.CrossEntropyLoss(), x, y, share=1.0)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**8)
    for step in range(8):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = nn.functional.cross_entropy(net(x), y) / 2
        scaler.scale(loss).backward()
        if step % 2:
            with torch.autocast("cpu", dtype=torch.bfloat16):  # some loops step inside it
                for optimizer in (first, second):
                    scaler.step(optimizer)
            scaler.update()
            first.zero_grad()
            second.zero_grad()
    assert monitor.step == 4
    monitor.answer()
    edge = monitor.trace.measured["edge"].values
    assert not [name for name, why in monitor.trace.config["skipped"].items() if "failed" in why]
    assert all(value > 0 for value in edge)  # of the group that moves
    assert monitor.trace.measured["distance"].values[-1]["0.weight"] == 0
