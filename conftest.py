"""Tests and doctests are float64, seeded, and warnings are errors."""

import math

import pytest
import torch

import gramian


@pytest.fixture(autouse=True)
def _float64_and_seeded():
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture(autouse=True)
def _names_in_doctests(doctest_namespace):
    public = {name: getattr(gramian, name) for name in gramian.__all__}
    doctest_namespace.update(public, torch=torch, math=math, gramian=gramian)
