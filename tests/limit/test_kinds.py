"""Kinds of nodes are numbers that Python, C++ and CUDA agree on: each header's `enum` against Python's constants."""

import re
from pathlib import Path

import pytest

import gramian
from gramian.limit import planes, vector_inputs
from gramian.limit.cuda import plane_schedule

PACKAGE = Path(gramian.__file__).parent
NATIVE = Path(__file__).resolve().parents[2] / "native" / "src"
# Python's names where they are not those of the header
CUDA_NAMES = ("STARTS", "CONVOLVES", "BENDS", "ERFS", "ADDS", "SCALES", "KEEPS", "TAKES")
CUDA_WORDS = ("input", "affine", "relu", "erf_kind", "add", "scale", "keep", "take")


def kinds(header):
    """Names of the first `enum ... Kind` of a header with their numbers."""
    body = re.search(r"enum (?:class )?Kind : int \{(.*?)\};", header.read_text(encoding="utf-8"), re.DOTALL)[1]
    names = [re.sub(r"//.*", "", line) for line in body.splitlines() or [body]]
    words = [word.strip() for word in ",".join(names).split(",") if word.strip()]
    numbers = {}
    for word in words:
        name, _, value = word.partition("=")
        numbers[name.strip()] = int(value) if value else len(numbers)
    return numbers


@pytest.mark.parametrize(
    ("header", "module"), [(NATIVE / "planes_program.h", planes), (NATIVE / "vector_tile.h", vector_inputs)]
)
def test_nodes_of_the_native_engine(header, module):
    assert {name: getattr(module, name.upper()) for name in kinds(header)} == kinds(header)


def test_ops_of_the_cuda_engine():
    numbers = kinds(PACKAGE / "limit" / "cuda" / "planes.h")
    assert [numbers[word] for word in CUDA_WORDS] == [getattr(plane_schedule, name) for name in CUDA_NAMES]
    assert len(numbers) == len(CUDA_WORDS)
