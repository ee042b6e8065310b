"""A certificate's file: whole or refused, and every changed number found."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

import gramian
from gramian.checker import check
from gramian.checker.certificate_file import HEADER, read, seal, write
from gramian.errors import BadArgument, BadData


@pytest.fixture(scope="module")
def proof():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 30), nn.Tanh(), nn.Linear(30, 2))
    x, y = torch.randn(6, 3, dtype=torch.float64), torch.randn(6, 2, dtype=torch.float64)
    return gramian.prove(net, x, y), x, y


@pytest.fixture(scope="module")
def path(proof, tmp_path_factory):
    path = tmp_path_factory.mktemp("proof") / "net.certificate"
    proof[0].save(path)
    return path


def test_a_saved_certificate_is_valid_and_says_the_same(proof, path):
    result = check(path)
    assert result.valid
    assert result.says == proof[0].checked.says
    assert proof[0].summary.startswith(result.says[:-1])
    assert str(result).startswith("VALID: Weights with training loss exactly 0")
    assert "assumed:" in str(result)


def test_the_checker_loads_no_torch_and_nothing_of_the_prover(path):
    code = (
        "import sys; from gramian.checker import check; valid = check(sys.argv[1]).valid; "
        "own = sorted(m for m in sys.modules if m.startswith('gramian.')); "
        "known = ('checker', 'errors', 'files', 'version'); "
        "print(valid, 'torch' in sys.modules, [m for m in own if m.split('.')[1] not in known])"
    )
    result = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, env=os.environ)
    assert result.stdout.split("\n")[0] == "True False []", result.stderr


def test_it_is_about_the_data_that_it_holds_and_no_other(proof, path):
    _, x, y = proof
    assert check(path, x.numpy(), y.numpy()).valid
    with pytest.raises(BadData, match="other data"):
        check(path, x.numpy() + 1e-9)
    with pytest.raises(BadData, match="other data"):
        check(path, x.numpy(), y.numpy()[:3])


def test_each_of_a_thousand_changed_bytes_is_found(path, tmp_path):
    data = path.read_bytes()
    rng = np.random.default_rng(0)
    target = tmp_path / "changed.certificate"
    for place in rng.choice(len(data), 1000, replace=len(data) < 1000):
        changed = bytearray(data)
        changed[place] ^= 1 << rng.integers(8)
        target.write_bytes(bytes(changed))
        try:
            assert not check(target).valid, f"byte {place}"
        except BadData as error:
            assert "fix:" in str(error)  # noqa: PT017


def test_a_truncated_or_foreign_file_is_refused(path, tmp_path):
    data = path.read_bytes()
    for name, content in (("half", data[: len(data) // 2]), ("empty", b""), ("text", b"{}"), ("short", data[:-1])):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(BadData, match="no certificate"):
            check(tmp_path / name)
    with pytest.raises(BadData, match="no certificate"):
        check(tmp_path / "nowhere")


def resealed(path, target, change):
    """A certificate changed by someone who knows how to seal it."""
    content = read(path)
    numbers, arrays = dict(content.numbers), {k: v.copy() for k, v in content.program.arrays.items()}
    x, y = content.x.copy(), content.y.copy()
    change(numbers, arrays, x, y)
    program = type(content.program)(content.program.steps, arrays, content.program.trained)
    write(target, type(content)(content.statement, content.says, content.assumes, numbers, program, x, y))
    return check(target)


def _better(name, factor):
    def change(numbers, *_):
        numbers[name] *= factor

    return change


CHANGES = {
    "a smaller residual": _better("residual", 0.2),
    "a larger singular value": _better("sigma", 1.1),
    "a smaller Lipschitz constant": _better("lipschitz", 0.9),
    "a smaller radius": _better("radius", 0.9),
    "other targets": lambda numbers, arrays, x, y: y.__iadd__(1e-6),
    "other inputs": lambda numbers, arrays, x, y: x.__iadd__(1e-6),
    "other weights": lambda numbers, arrays, x, y: arrays["0.weight"].__iadd__(1e-6),
    "no number": _better("residual", float("nan")),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_false_claim_is_found_although_it_is_sealed(name, path, tmp_path):
    result = resealed(path, tmp_path / "sealed.certificate", CHANGES[name])
    assert not result.valid
    assert "NOT VALID" in str(result)


def test_what_is_not_proved_is_not_saved(tmp_path):
    net = nn.Linear(1, 1)
    x, y = torch.arange(5.0)[:, None], torch.tensor([[1.0], [-1], [1], [-1], [1]])
    proof = gramian.prove(net, x, y)
    assert proof.status == "not proved"
    with pytest.raises(BadArgument, match="not proved"):
        proof.save(tmp_path / "x.certificate")
    assert not list(tmp_path.iterdir())


def test_the_seal_covers_names_types_and_shapes():
    a = np.arange(6.0)
    seals = {seal("t", {"a": a}), seal("t", {"b": a}), seal("t", {"a": a.reshape(2, 3)}), seal("u", {"a": a}),
             seal("t", {"a": a.astype(np.float32)})}  # fmt: skip
    assert len(seals) == 5


def test_the_header_is_json_that_people_can_read(path):
    data = path.read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
    fields = json.loads(header[HEADER])
    assert fields["statement"] == "minimum"
    assert [s["kind"] for s in fields["steps"]] == ["input", "affine", "function", "affine"]
