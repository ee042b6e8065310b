"""A runner of commands in a folder of its own, and files as users have them."""

import re
import textwrap
from collections.abc import Callable

import pytest
import torch
from typer.testing import CliRunner, Result

from gramian.cli import app


@pytest.fixture
def gramian_in(tmp_path, monkeypatch) -> Callable[..., Result]:
    """`gramian_in("kernel --data digits")` in an empty folder, without the data folder of whoever runs the tests."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GRAMIAN_DATA", raising=False)
    monkeypatch.setenv("COLUMNS", "120")
    torch.set_default_dtype(torch.float32)  # as a user has it

    def run(command: str) -> Result:
        return CliRunner().invoke(app, command.split())

    return run


@pytest.fixture
def assert_refused(gramian_in) -> Callable[[str, str], None]:
    """`assert_refused(command, pattern)`: exit code 2, the pattern on stderr, nothing on stdout."""

    def refused(command: str, pattern: str) -> None:
        done = gramian_in(command)
        assert done.exit_code == 2
        assert re.search(f"(?s){pattern}", done.stderr), done.stderr
        assert done.stdout == ""
        assert "Traceback" not in done.stderr

    return refused


@pytest.fixture
def nets(tmp_path) -> str:
    """A file of networks, good and bad."""
    path = tmp_path / "mynets.py"
    path.write_text(
        textwrap.dedent(
            """
            import torch
            from torch import nn

            print("talk of the user's file")
            number = 3
            net = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))

            def make():
                return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))

            def told(in_shape, n_outputs):
                d = torch.Size(in_shape).numel()
                return nn.Sequential(nn.Flatten(), nn.Linear(d, 16), nn.ReLU(), nn.Linear(16, n_outputs))

            def vectors():
                return nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))

            def needs(depth):
                return make()

            def raises():
                return nn.Linear(3)

            def forgets():
                make()

            class Crooked(nn.Module):
                def __init__(self):
                    super().__init__()
                    self.layer = nn.Linear(64, 10)

                def forward(self, x):
                    return self.layer(x.flatten(1)) @ torch.ones(3, 3)

            def five():
                return nn.Sequential(nn.Flatten(), nn.Linear(64, 5))

            def softmaxed():
                return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Softmax(1), nn.Linear(8, 10))
            """
        )
    )
    return "mynets.py"
