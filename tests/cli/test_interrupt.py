"""Ctrl-C during a call into compiled code."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import gramian

resource = pytest.importorskip("resource")  # of Unix
pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals wake a thread there")

LONG = "import hashlib; hashlib.pbkdf2_hmac('sha256', b'', b'', 200_000_000)"  # minutes, and Python is not asked
SHORT = """
import time
try:
    for _ in range(200):
        time.sleep(0.1)
except KeyboardInterrupt:
    time.sleep(2)  # a report is written, longer than the thread waits
    print("kept", flush=True)
"""

WATCH = "from gramian.cli.interrupt_watch import watch; watch(); print('here', flush=True)"
IMPORTS = {True: "import time; from gramian.train.ctrl_c import CtrlC; ", False: ""}  # torch takes seconds to load
TRAINING = """
with CtrlC() as interrupt:
    while not interrupt.asked:
        time.sleep(0.1)
time.sleep(2)  # the answer on the steps that were made
print("kept", flush=True)
"""


@pytest.mark.parametrize(
    ("code", "exit_code", "said"), [(LONG, 130, "Interrupted"), (SHORT, 0, "kept"), (TRAINING, 0, "kept")]
)
def test_ctrl_c(code, exit_code, said):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"{IMPORTS[code is TRAINING]}{WATCH}\n{code}",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=300)
        assert said in output
        assert process.returncode == exit_code
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert used.ru_utime - before.ru_utime < 15  # most of it is the import of torch; LONG is minutes
    finally:
        process.kill()


IN_EXEC = """
import sys
from gramian.cli import app, main
@app.command("wait")
def wait():
    exec("import time; print('here', flush=True); time.sleep(60)")
sys.argv = ["gramian", "wait"]
main()
"""


def test_an_interrupted_command_exits_130_also_out_of_an_exec(tmp_path):
    """Dataclasses and named tuples are made by `exec`; Python killed itself by SIGINT after one was interrupted."""
    (tmp_path / "waits.py").write_text(IN_EXEC)
    path = os.pathsep.join([str(tmp_path), str(Path(gramian.__file__).parents[1])])
    process = subprocess.Popen(
        [sys.executable, "-m", "waits"],  # `python -c` ends otherwise
        env=os.environ | {"PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=300)
        assert process.returncode == 130
        assert "Interrupted" in said
    finally:
        process.kill()
