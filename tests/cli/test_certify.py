"""`gramian certify` and `gramian report`, end to end on small networks."""

import json
import signal
import subprocess
import sys

import pytest
import torch

from gramian.cli import show
from gramian.cli.printed_answer import print_answer

FEW = "--data digits --n 20 --n-test 20 --quiet"
SMALL = f"{FEW} --width 32"


@pytest.fixture
def facts_of(tmp_path):
    return lambda folder="gramian-report": json.loads((tmp_path / folder / "report.json").read_text())


def test_two_networks_in_one_report(gramian_in, facts_of, nets, tmp_path):
    done = gramian_in(f"certify {SMALL} --net mlp --net {nets}:make --accuracy 0.3")
    assert done.exit_code == 0, done.stderr
    facts = facts_of()
    assert [run["title"].split(",")[0] for run in facts["runs"]] == ["MLP", "mynets.py:make"]
    assert "digits: 2 networks" in done.stdout
    for run in facts["runs"]:
        assert run["title"] in done.stdout
        assert run["origin"]["command"].startswith("gramian certify --data digits --n 20")
        assert all(one["theorem"][:40] in done.stdout for one in run["certificates"])
    assert done.stdout.rstrip().endswith("gramian-report/report.html")
    assert (tmp_path / "gramian-report" / "report.html").stat().st_size > 10_000
    assert "Traceback" not in done.stderr


PYTHON_LINES = {
    "built in": f"{SMALL} --net resnet --depth 3 --optimizer gd --steps 30 --seed 1",
    "settings": f"{SMALL} --net mlp --optimizer momentum --momentum 0.5 --steps 9 --loss cross-entropy --accuracy 0.2",
    "batches, dtype": f"{SMALL} --net mlp --batch-size 7 --steps 9 --dtype float64 --lr 0.05 --bias",
    "law": f"{SMALL} --net mlp --law 1.3,0.1 --bias --steps 6 --normalize unit",
    "allen-zhu": f"{SMALL} --net mlp --parametrization allen-zhu --steps 4 --flatten",
    "own, built in": f"{FEW} --net mlp --parametrization own --steps 4 --dtype float64 --seed 3",
    "a file": f"{FEW} --net NETS:make --steps 6 --dtype float64",
    "a file, in place": f"{FEW} --net NETS:make --parametrization own --steps 6 --dtype float64 --seed 2",
    "no proof": f"{FEW} --net NETS:make --steps 3 --dtype float64 --no-prove",
    "targets": "--data diabetes --n 20 --n-test 9 --quiet --net mlp --width 16 --targets as-given --steps 5 --lr 1e-6",
}


# tests/certify/test_python_line.py holds every setting to this; here it is the command's own way to the line
AMONG_THE_FAST = ("built in", "no proof", "own, built in", "a file, in place", "targets")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in AMONG_THE_FAST else pytest.mark.slow) for n in PYTHON_LINES]
)
def test_the_python_in_the_report_does_the_same(name, gramian_in, facts_of, nets, monkeypatch, tmp_path):
    gramian_in(f"certify {PYTHON_LINES[name].replace('NETS', nets)}")
    [run] = facts_of()["runs"]
    monkeypatch.syspath_prepend(tmp_path)
    *first, last = run["origin"]["python"].split("; ")
    names: dict = {}
    for line in first:
        exec(line, names)
    again = eval(last, names)
    assert again.run["loss"]["measured"] == run["loss"]["measured"]
    assert again.run["loss"]["lr"] == run["loss"]["lr"]
    assert ("prove=False" in last) == ("--no-prove" in PYTHON_LINES[name])
    assert ("proof" in again.run["origin"]["seconds"]) == ("proof" in run["origin"]["seconds"])


def test_a_minimum_that_is_not_reached_exits_1(gramian_in):
    done = gramian_in(f"certify {SMALL} --steps 2")
    assert done.exit_code == 1
    assert "Not reached: after 2 steps SGD left" in done.stdout


def test_equal_rows_with_different_labels_are_named(gramian_in, tmp_path):
    (tmp_path / "t.csv").write_text("a,b,label\n1,2,x\n3,1,x\n2,5,y\n1,2,y\n3,3,x\n1,7,y\n")
    done = gramian_in("certify --data t.csv --n 6 --n-test 0 --quiet")
    assert done.exit_code == 1
    assert "No network can: rows 0 and 3 are the same input" in done.stdout


def test_a_network_that_fails_does_not_take_the_others_with_it(gramian_in, facts_of, nets):
    done = gramian_in(f"certify {SMALL} --steps 5 --net {nets}:softmaxed --parametrization ntk --net mlp")
    assert done.exit_code == 2
    assert "softmax" in done.stderr
    [run] = facts_of()["runs"]
    assert run["title"].startswith("MLP")


def test_options_without_effect_are_mistakes(gramian_in, nets):
    done = gramian_in(f"certify --data digits --net {nets}:make --width 64")
    assert done.exit_code == 2
    assert "--width would have no effect on mynets.py:make" in done.stderr
    assert "fix: --parametrization ntk" in done.stderr
    assert "leave them out" in gramian_in(f"certify --data digits --net {nets}:make --depth 3 --bias").stderr


def test_images_go_as_vectors_into_a_network_of_vectors(gramian_in, nets):
    assert gramian_in(f"certify {FEW} --net {nets}:vectors --flatten --steps 3").exit_code == 1
    assert "--flatten" in gramian_in(f"certify --data digits --n 20 --net {nets}:vectors").stderr


def test_regression_targets_are_standardized_and_it_is_said(gramian_in, facts_of):
    done = gramian_in("certify --data diabetes --n 30 --n-test 10 --width 32 --steps 3 --quiet")
    assert "were brought to mean 0 and deviation 1" in " ".join(done.stdout.split())
    facts = facts_of()
    [run] = facts["runs"]
    assert run["loss"]["measured"][0] < 300  # 30 rows of size 1, not of size 150
    assert facts["data"]["standardized"]
    assert 20 < facts["data"]["targets"]["deviation"][0] < 100
    assert run["scores"]["train"]["rmse"][0] > 20  # in the target's unit
    assert f"{run['scores']['train']['rmse'][0]:.3g}" in done.stdout
    plain = gramian_in("certify --data diabetes --n 30 --n-test 10 --width 32 --steps 3 --quiet --targets as-given")
    assert not facts_of()["data"]["standardized"]
    assert "targets=" in plain.stdout


def test_a_checkpoint_goes_on_where_it_stopped(gramian_in, facts_of):
    gramian_in(f"certify {SMALL} --accuracy 1e-9 --steps 40 --lr 0.01 --out whole")
    gramian_in(f"certify {SMALL} --accuracy 1e-9 --steps 20 --lr 0.01 --out half --checkpoint run.safetensors")
    gramian_in(f"certify {SMALL} --accuracy 1e-9 --steps 40 --lr 0.01 --out rest --checkpoint run.safetensors")
    whole, rest = (facts_of(folder)["runs"][0]["loss"] for folder in ("whole", "rest"))
    assert rest["steps"][-1] == whole["steps"][-1] == 40
    assert rest["measured"][-1] == whole["measured"][-1]


def test_ctrl_c_while_training_still_writes_the_report(tmp_path, facts_of):
    script = f"""
import signal, sys, threading, time
from gramian.train import loop
from gramian.cli import main
before = loop.Bar.show
def show(self, step, loss, accuracy):
    if step >= 10 and not hasattr(loop, "asked"):
        loop.asked = True  # a second Ctrl-C would end it at once
        signal.raise_signal(signal.SIGINT)
    before(self, step, loss, accuracy)
loop.Bar.show = show
sys.argv = ["gramian", *{("certify " + SMALL + " --accuracy 1e-9 --steps 5000").split()!r}]
main()
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 130, done.stderr
    [run] = facts_of()["runs"]
    assert run["origin"]["interrupted"] is True
    assert 10 <= run["loss"]["steps"][-1] < 5000
    assert "interrupted after" in done.stdout


def test_report_makes_the_page_again(gramian_in, facts_of, tmp_path):
    gramian_in(f"certify {SMALL} --steps 3")
    page = tmp_path / "gramian-report" / "report.html"
    before = page.read_text()
    page.unlink()
    done = gramian_in("report gramian-report")
    assert done.exit_code == 0
    assert page.read_text() == before
    assert "Not reached: after 3 steps SGD left" in done.stdout
    assert gramian_in("report gramian-report/report.json --out copy").exit_code == 0
    assert facts_of("copy") == facts_of()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"runs": [', "is no JSON"),
        ("[1, 2]", "holds no runs"),
        ('{"schema": 1, "runs": []}', "holds no runs"),
        ('{"schema": 99, "runs": [{}]}', "has schema 99; this version reads 3"),
    ],
)
def test_report_refuses_what_is_none(gramian_in, tmp_path, text, said):
    (tmp_path / "report.json").write_text(text)
    done = gramian_in("report report.json")
    assert done.exit_code == 2
    assert said in done.stderr
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize("columns", [80, 100, 120, 160])
@pytest.mark.parametrize("count", [1, 3])
def test_no_line_is_wider_than_the_terminal_and_no_number_is_cut(monkeypatch, capsys, columns, count):
    run = {
        "title": "ResNet, depth 5, width 1024",
        "status": "observed",
        "answer": ["Yes: it did.", "Fast.", "Because."],
        "accuracy": {"steps": [0, 1049], "train": [0.1, 1.0], "test": [0.1, 0.9]},
        "loss": {"steps": [0, 1049], "measured": [1.0, 0.1], "lr": 0.00423, "lr_max": 0.00845},
        "width": {"run_width": 1024, "useful_width": 12345},
        "test": {"network_error": [0.1234], "kernel_error": 0.0641},
        "certificates": [{"theorem": "A theorem " * 9, "status": "implied", "reference": "arXiv:1811.03962"}],
        "warnings": ["A warning " * 20],
    }
    monkeypatch.setenv("COLUMNS", str(columns))
    print_answer({"title": "digits", "runs": [run] * count}, show.out())
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= columns
    for number in ("100 %", "1,049", "0.00423 / 0.00845", "1,024", "12,345", "12.3 %", "6.41 %"):
        assert printed.count(number) == count, number


@pytest.mark.parametrize(("columns", "lines"), [(120, 4), (80, 9)])  # title and rule, a line a network; or a column
def test_the_table_lies_down_where_it_has_no_room(monkeypatch, capsys, columns, lines):
    numbers = {f"Number {i}": "1,234,567" for i in range(6)}
    rows = [{"Network": name, "Verdict": "CONTRADICTED", **numbers} for name in ("a", "b")]
    monkeypatch.setenv("COLUMNS", str(columns))
    show.table(rows, show.out())
    printed = [line for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert len(printed) == lines
    assert sum("CONTRADICTED" in line for line in printed) == (2 if columns == 120 else 1)


def test_float64_is_the_default_of_no_command(gramian_in):
    """The tests' own default dtype does not leak into what a user's network is made of."""
    assert torch.get_default_dtype() == torch.float32
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
