"""The report of a watched loop: its four questions, the slowest samples as pictures, and only what was measured."""

import base64
import json
import math
import re
import struct
import zlib

import pytest
import torch
from torch import nn

from gramian import Monitor
from gramian.data import load
from gramian.monitor.measurement_schedule import PART, MeasurementSchedule
from gramian.monitor.samples import picture
from gramian.monitor.slow_samples import Slow
from gramian.monitor.words import QUESTIONS, sentences
from gramian.report.page import coded
from gramian.train import Series, Trace


def images(n=24, channels=3):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(n, channels, 8, 8, generator=generator), torch.arange(n) % 3


def watched(x, y, steps=6, loss=None, out=3, **settings):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(x[0].numel(), 16), nn.ReLU(), nn.Linear(16, out))
    sgd, loss = torch.optim.SGD(net.parameters(), 0.05), loss or nn.CrossEntropyLoss()
    monitor = Monitor(net, sgd, loss, x, y, **settings)
    for _ in range(steps):
        sgd.zero_grad()
        loss(net(x), y).backward()
        sgd.step()
    return monitor


def written(monitor, folder):
    html, as_json = monitor.report(folder)
    return html.read_text(), json.loads(as_json.read_text())["runs"][0]


def decoded(uri):
    """Height, width, channels and bytes of a PNG without filters, by the format's own words."""
    data = base64.b64decode(uri.removeprefix("data:image/png;base64,"))
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    at, parts = 8, {}
    while at < len(data):
        size, kind = struct.unpack(">I4s", data[at : at + 8])
        body = data[at + 8 : at + 8 + size]
        assert struct.unpack(">I", data[at + 8 + size : at + 12 + size]) == (zlib.crc32(kind + body),)
        parts[kind], at = body, at + 12 + size
    width, height, depth, color, *_ = struct.unpack(">IIBBBBB", parts[b"IHDR"])
    assert depth == 8
    channels = {0: 1, 2: 3}[color]
    raw = torch.tensor(list(zlib.decompress(parts[b"IDAT"]))).reshape(height, 1 + width * channels)
    assert not raw[:, 0].any()
    return raw[:, 1:].reshape(height, width, channels)


def test_slow_images_are_shown_with_their_label_and_the_network_s_answer(tmp_path):
    x, y = images()
    monitor = watched(x, y, classes=("cat", "dog", "owl"))
    text, run = written(monitor, tmp_path)
    assert len(run["samples"]) == 12
    first = run["samples"][0]
    assert first["label"] == ("cat", "dog", "owl")[y[first["row"]]]
    with torch.no_grad():
        assert first["said"] == ("cat", "dog", "owl")[int(monitor.run.module(x[first["row"]][None]).argmax())]
    assert text.count('<img src="data:image/png;base64,') == 12
    assert f"<strong>row {first['row']}</strong><span>{first['label']}, " in text
    shades = decoded(first["image"])
    row = x[first["row"]].permute(1, 2, 0)
    expected = (row - row.min()) / (row.max() - row.min()) * 255
    torch.testing.assert_close(shades.to(expected), expected, rtol=0, atol=0.51)


def test_slow_vectors_are_named_by_row_and_label(tmp_path):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(24, 6, generator=generator)
    text, run = written(watched(x, torch.arange(24) % 3), tmp_path / "classes")
    assert "<img" not in text
    assert {sample["label"] for sample in run["samples"]} <= {"0", "1", "2"}
    text, run = written(watched(x, torch.sin(x[:, :1]), loss=nn.MSELoss(), out=1), tmp_path / "numbers")
    first = run["samples"][0]
    assert f"target {first['label']}, output {first['said']}" in text
    assert float(first["label"]) == pytest.approx(float(torch.sin(x[first["row"], 0])), abs=5e-3)


@pytest.mark.parametrize(
    ("shape", "drawn"),
    [((1, 5, 7), (5, 7, 1)), ((3, 300, 4), (75, 1, 3)), ((6, 9), (6, 9, 1)), ((2, 8, 8), None), ((3, 2, 8), None)],
)
def test_what_is_shaped_like_an_image_is_drawn(shape, drawn):
    uri = picture(torch.randn(shape))
    assert (uri is None) if drawn is None else decoded(uri).shape == drawn
    assert picture(torch.zeros(shape, dtype=torch.int64)) is None
    assert drawn is None or set(decoded(picture(torch.ones(shape))).unique().tolist()) == {128}


def test_the_report_answers_the_four_questions_and_names_nothing_that_was_not_measured(tmp_path):
    x, y = images()
    monitor = watched(x, y)
    text, run = written(monitor, tmp_path)
    assert run["questions"] == list(QUESTIONS)
    assert [text.index(question) for question in QUESTIONS] == sorted(text.index(question) for question in QUESTIONS)
    page = text[: text.index('<script type="application/json"')].replace("\u00a0", " ")
    assert "not measured" not in re.sub(r"(?s)<table.*?</table>", "", page)
    for name in ("Useful width", "Kernel's test error", "Norms", "Seed", "kernel_alignment"):
        assert name not in page
    made = (
        r"of the training time, (of 5% that it may take|in a run that is short: 5% or 1 s in all are allowed); before"
    )
    assert re.search(made, page)
    assert "Training loss" in page
    assert run["loss"]["measured"][0] == pytest.approx(math.log(3), abs=0.3)  # a mean, as the loop has it


def test_layers_are_told_one_by_one(tmp_path):
    monitor = watched(*images(), steps=9, share=1.0)
    for _ in range(3):
        monitor.optimizer.step()
        monitor.answer()
    text, run = written(monitor, tmp_path)
    assert [layer["name"] for layer in run["layers"]] == ["1.weight", "1.bias", "3.weight", "3.bias"]
    way = monitor.trace.measured["relative_distance"].values[-1]
    assert run["layers"][0]["moved"] == pytest.approx(way["1.weight"])
    assert all(0 <= layer["lately"] <= 1 and 0 < layer["pull"] <= 1 for layer in run["layers"])
    assert "Layer by layer" in text


def test_a_kernel_that_only_grows_is_told_from_one_that_turns():
    def said(drift, cosine, largest):
        names = {"kernel_drift": drift, "kernel_cosine": cosine, "gram_max": largest}
        return sentences(Trace({}, [], [], {n: Series("", "", [0, 9], v) for n, v in names.items()}), None)[0]

    assert "has grown 4.0-fold and kept its shape (cosine 1.00)" in said([0.0, 3.0], [1.0, 1.0], [1.0, 4.0])
    assert "has shrunk to 40% of its size and kept its shape" in said([0.0, 0.6], [1.0, 1.0], [1.0, 0.4])
    turned = math.sqrt(100**2 - 2 * 100 * 0.5 + 1)
    assert "has grown 100-fold and turned (cosine 0.50)" in said([0.0, turned], [1.0, 0.5], [1.0, 90.0])
    assert said([0.0, 0.02], [1.0, 1.0], [1.0, 1.02]).startswith("Lazy: the kernel has changed by 2%")


def test_a_rate_that_came_near_the_edge_on_the_way_is_told():
    edge = Series("", "", [0, 50, 100], [0.1, 0.9, 0.2])
    said = sentences(Trace({"lr": 0.1, "largest_lr": 0.1}, [], [], {"edge": edge}), None)[1]
    assert said.startswith("The learning rate is 0.2 times the largest stable one (0.1 of 0.5): stable")
    assert said.endswith("; it came to 0.9 times it at step 50.")


def test_where_most_directions_are_not_learned_yet_it_says_what_is_left_along_strong_and_weak_ones():
    slow = Slow(7, 8, (3, 1), 1.0, left=0.9, strong=0.4, weak=0.98)
    said = sentences(Trace({}, [], [], {}), slow)[3]
    assert said.startswith(
        "Of the first residual 90% is left: 40% along the strongest tenth of the kernel's directions"
    )
    assert said.endswith("98% along the weakest half. The most residual has rows 3 and 1.")
    assert "7 of 8" not in said


def test_what_is_left_along_strong_directions_is_less(tmp_path):
    x = torch.eye(20) * torch.linspace(0.05, 2, 20)[:, None]
    torch.manual_seed(0)
    net = nn.Linear(20, 1, bias=False)
    sgd = torch.optim.SGD(net.parameters(), lr=2.0)
    monitor = Monitor(net, sgd, nn.MSELoss(), x, torch.ones(20, 1))
    for _ in range(10):
        sgd.zero_grad()
        nn.functional.mse_loss(net(x), torch.ones(20, 1)).backward()
        sgd.step()
    slow = monitor._slow()
    with torch.no_grad():
        exact = (1 - 2 * 2.0 / 20 * x.diagonal().square()) ** 10  # of each residual, by hand
    first = monitor._measuring._first[:, 0].abs()
    strong, weak = (float((exact * first)[part].norm() / first[part].norm()) for part in (slice(18, 20), slice(0, 10)))
    assert slow.strong == pytest.approx(strong, rel=1e-4)
    assert slow.weak == pytest.approx(weak, rel=1e-4)
    assert slow.rows[0] == 0


def test_a_schedule_measures_the_quick_things_whenever_it_measures():
    schedule = MeasurementSchedule(1.0)
    schedule.began -= 100
    assert set(PART) == schedule.due(1)
    schedule.took("quick", 1, 1000.0)  # too dear by itself
    assert schedule.due(5) == {"quick", "cheap", "gram"}
    schedule.took("cheap", 1, 1000.0)
    schedule.took("gram", 1, 1000.0)
    assert schedule.due(5) == set()
    assert sum(PART.values()) == pytest.approx(1)


def test_names_of_layers_are_set_as_code_and_all_else_is_escaped():
    assert coded("`0.bias` <b> 3 %") == "<code>0.bias</code> &lt;b&gt; 3\u00a0%"


def test_a_layer_that_no_optimizer_has_is_told():
    x, y = images()
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 8), nn.ReLU(), nn.Linear(8, 3))
    sgd = torch.optim.SGD(net[1].parameters(), 0.1)
    monitor = Monitor(net, sgd, nn.CrossEntropyLoss(), x, y)
    assert "never moved" not in monitor.answer()[2]
    for _ in range(3):
        sgd.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        sgd.step()
    assert monitor.answer()[2].startswith("`3.weight` and `3.bias` never moved: in no optimizer")


def test_a_rise_of_the_loss_on_the_way_is_told():
    trace = Trace({}, [0, 10, 20, 30, 40], [1.0, 0.01, 0.5, math.nan, 0.02], {})
    assert sentences(trace, None)[1].endswith("On the way the loss rose 50-fold, up to step 20.")
    assert "rose" not in sentences(Trace({}, [0, 10, 20], [1.0, 0.1, 0.4], {}), None)[1]


def test_wrong_labels_are_among_the_slowest_samples():
    """6 of 128 digits with another label, 100 steps: all 6 are among the twelve slowest (in five other draws too)."""
    digits = load("digits", n=1000, normalize="standardize", dtype=torch.float32)
    x, y = digits.x, digits.y.clone()
    wrong = torch.randperm(128, generator=torch.Generator().manual_seed(0))[:6]
    y[wrong] = (y[wrong] + 5) % 10
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 10)).to(x.dtype)
    sgd, loss = torch.optim.SGD(net.parameters(), 0.05, momentum=0.9), nn.CrossEntropyLoss()
    monitor = Monitor(net, sgd, loss, x[:128], y[:128], probes=("loss",))
    for _ in range(100):
        rows = torch.randint(1000, (64,))
        sgd.zero_grad()
        loss(net(x[rows]), y[rows]).backward()
        sgd.step()
    assert set(wrong.tolist()) <= set(monitor._slow().rows)
