"""`gramian prove` and `gramian check`, as they are typed."""

import subprocess
import sys

import pytest


def gramian(*words):
    return subprocess.run([sys.executable, "-m", "gramian", *words], capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def proved(tmp_path_factory):
    path = tmp_path_factory.mktemp("cli") / "iris.certificate"
    words = ("--data", "digits", "--n", "20", "--net", "mlp", "--width", "64", "--activation", "gelu")
    return gramian("prove", *words, "--out", str(path)), path


def test_a_proof_is_printed_and_written(proved):
    result, path = proved
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("✓ proved")
    assert "training loss exactly 0" in " ".join(result.stdout.split())
    assert "predicted: about" in result.stderr
    assert path.exists()


def test_the_certificate_is_checked_from_its_file(proved):
    _, path = proved
    result = gramian("check", str(path))
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("✓ valid")
    assert "Assumed" in result.stdout


def test_a_changed_certificate_is_an_error_of_four_parts(proved, tmp_path):
    data = bytearray(proved[1].read_bytes())
    data[-20] ^= 1
    (tmp_path / "changed.certificate").write_bytes(bytes(data))
    result = gramian("check", str(tmp_path / "changed.certificate"))
    assert result.returncode == 2
    for part in ("error:", "where:", "why:", "fix:"):
        assert part in result.stderr


def test_what_is_not_proved_exits_1_says_why_and_writes_nothing(tmp_path):
    path = tmp_path / "no.certificate"
    result = gramian("prove", "--data", "digits", "--n", "40", "--width", "4", "--quiet", "--out", str(path))
    assert result.returncode == 1, result.stderr
    assert "not proved" in result.stdout
    assert "What would prove it" in result.stdout
    assert not path.exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [(("--statement", "maximum"), "--statement"), (("--loss", "hinge"), "--loss"), (("--width", "0"), "--width")],
)
def test_unknown_words_are_refused(words, says):
    result = gramian("prove", "--data", "digits", "--n", "20", *words)
    assert result.returncode == 2
    assert says in result.stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--statement", "before", "--depth", "3", "--activation", "tanh"), "--depth 2"),
        (("--statement", "run", "--activation", "relu"), "--activation tanh"),
        (("--statement", "before", "--picture", "never.svg"), "--find scale"),
    ],
)
def test_a_network_that_a_statement_does_not_take_is_an_error_of_four_parts(words, says):
    """It was a traceback."""
    result = gramian("prove", "--data", "digits", "--n", "6", "--width", "8", "--quiet", *words)
    assert result.returncode == 2
    for part in ("error:", "where:", "why:", "fix:", says):
        assert part in result.stderr
    assert "Traceback" not in result.stderr
