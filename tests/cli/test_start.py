"""The command as a program: its start, its version, its exit codes."""

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sklearn import datasets

from gramian import __version__, cli
from gramian.cli import app
from gramian.cli.options import NAMES
from gramian.data import load
from gramian.data.sources import EMBEDDED, IN_FOLDERS

COMMANDS = [command.callback.__name__ for command in app.registered_commands]
GROUPED = [
    f"{group.typer_instance.info.name} {command.name}"
    for group in app.registered_groups
    for command in group.typer_instance.registered_commands
]


def test_help_and_version_do_not_wait_for_torch():
    code = (
        "import sys\nfrom typer.testing import CliRunner\nfrom gramian.cli import app\n"
        "print([CliRunner().invoke(app, [a]).exit_code for a in ('--help', '--version')])\n"
        "print(sorted({'torch', 'numpy', 'sklearn', 'pandas', 'plotly', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["[0, 0]", "[]"]


def test_python_m_gramian_prints_the_version():
    done = subprocess.run([sys.executable, "-m", "gramian", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"gramian {__version__}\n"


def test_help_names_every_data_set():
    for name in [*EMBEDDED, *IN_FOLDERS]:
        assert name in NAMES, "NAMES of cli/options.py"
        assert f'"{name}"' in load.__doc__, "the docstring of data.load"


@pytest.mark.parametrize("command", [*COMMANDS, *GROUPED])
def test_help_shows_the_python_that_does_the_same(gramian_in, command):
    done = gramian_in(f"{command} --help")
    assert done.exit_code == 0
    assert "In Python:" in done.stdout


def test_every_command_is_in_the_list_of_app():
    """A file in `cli` whose first line begins with `gramian NAME`, its own name, is a command."""
    files = [
        p for p in Path(cli.__file__).parent.glob("*.py") if p.read_text("utf-8").startswith(f'"""`gramian {p.stem}`')
    ]
    missing = sorted({p.stem for p in files} ^ set(COMMANDS))
    assert not missing, f"in only one of cli/app.py and the first lines of files in cli: {missing}"


def test_help_lists_every_command(gramian_in):
    listed = re.findall(r"^│ (\w+)  ", gramian_in("--help").stdout, flags=re.M)
    assert [name for name in listed if name in COMMANDS] == COMMANDS


def test_an_unknown_option_is_an_error_of_usage(gramian_in):
    done = gramian_in("certify --nett mlp")
    assert done.exit_code == 2
    assert "--net" in done.stderr


def test_ctrl_c_before_anything_was_measured_exits_130_and_writes_nothing(tmp_path):
    slow = tmp_path / "slow.py"
    slow.write_text("import time\nprint('here', flush=True)\ntime.sleep(60)\n")
    command = [sys.executable, "-m", "gramian", "certify", "--data", "digits", "--n", "20", "--net", f"{slow}:net"]
    running = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert running.stderr is not None
    assert running.stderr.readline() == "here\n"
    time.sleep(0.1)
    running.send_signal(signal.SIGINT)
    _, talk = running.communicate(timeout=300)
    assert running.returncode == 130
    assert talk == "Interrupted before anything was measured: nothing was written.\n"
    assert not (tmp_path / "gramian-report").exists()


@pytest.mark.parametrize(
    ("command", "text"),
    [
        ("certify --data digitz", r"error: no data set 'digitz'\.\n  where: known: digits.*Did you mean 'digits'.*fix"),
        ("certify --data t.csv", r"error: no file t\.csv.*where: .*why: .*fix: "),
        ("certify --data digits --n 50 --net mpl", r"no network 'mpl'.*Did you mean 'mlp'.*fix: one of mlp, cnn"),
        ("certify --data iris --net cnn", r"cnn convolves images; the rows of iris.*fix: --net mlp"),
        (
            "certify --data digits --optimizer sdg",
            r"--optimizer sdg is unknown.*Did you mean 'sgd'.*fix: one of sgd, gd",
        ),
        ("certify --data digits --loss sqared", r"--loss sqared is unknown.*'squared'"),
        ("certify --data digits --parametrization ntm", r"--parametrization ntm is unknown.*'ntk'"),
        ("certify --data digits --width wide", r"--width wide is no width.*fix: --width auto"),
        ("certify --data digits --n 50 --depth 1", r"--depth 1 makes no mlp.*fix: 2 or more"),
        ("certify --data digits --n 50 --activation rleu", r"--activation rleu is unknown.*'relu'"),
        ("certify --data digits --law 1,2,3 --n 50", r"--law 1,2,3 is neither a name nor a pair.*fix: he, lecun"),
        ("certify --data digits --n many", r"--n many is no number.*fix: --n 500, or --n all"),
        ("certify --data digits --steps 0", r"--steps 0 makes no sense.*1 or more"),
        ("certify --data digits --dtype float16", r"--dtype float16 is unknown.*fix: one of float32, float64"),
        ("certify --data digits --device abacus", r"no device 'abacus' here.*fix: --device cpu; `gramian doctor`"),
        ("certify --data mnist", r"where mnist lies was not said.*--data-dir FOLDER"),
        ("certify --data digits --n 50 --net mlp --net cnn --checkpoint a.st", r"one --checkpoint for 2 networks"),
        ("kernel --data digits --out k.txt", r"--out k\.txt does not end in \.npy.*fix: --out k\.npy"),
        ("kernel --data digits --which nkt --out k.npy", r"--which nkt is unknown.*'ntk'"),
        ("fit --data digits --out m.npy", r"does not end in \.joblib"),
        ("fit --data digits --ridge -1 --out m.joblib", r"--ridge -1\.0 makes no sense.*fix: a number, 0 or more"),
        ("predict m.joblib --data digits", r"no file m\.joblib.*fix: gramian fit"),
        ("report nowhere", r"cannot read nowhere.*fix: gramian report FOLDER"),
    ],
)
def test_mistakes_are_four_part_errors_with_exit_code_2(assert_refused, command, text):
    assert_refused(command, text)


def test_an_unwritable_out_is_found_before_the_long_work(gramian_in, tmp_path, monkeypatch):
    (tmp_path / "taken").write_text("")
    reads = []
    monkeypatch.setattr(datasets, "load_digits", lambda: reads.append("digits"))
    for command, text in [
        ("certify --data digits --n all --out taken", "taken is a file"),
        ("certify --data digits --n all --out taken/inside", "taken is a file"),
        ("kernel --data digits --n all --out no/folder/k.npy", "Cannot write no/folder/k.npy"),
        ("fit --data digits --n all --out taken/m.joblib", "Cannot write taken/m.joblib"),
    ]:
        done = gramian_in(command)
        assert done.exit_code == 2
        assert text in done.stderr
        assert not reads  # not even the data
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_out_of_memory_is_an_error_of_four_parts(gramian_in, monkeypatch):
    def no_memory(*_, **__):
        raise MemoryError

    monkeypatch.setattr(datasets, "load_digits", no_memory)
    done = gramian_in("kernel --data digits --out k.npy")
    assert done.exit_code == 2
    assert re.search(r"(?s)error: out of memory.*fix: fewer rows \(--n\)", done.stderr)


def test_an_error_that_is_ours_is_not_disguised(gramian_in, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("a bug")

    monkeypatch.setattr(datasets, "load_digits", broken)
    done = gramian_in("kernel --data digits --out k.npy")
    assert isinstance(done.exception, RuntimeError)
    assert str(done.exception) == "a bug"
