"""Tests are float64, seeded, and warnings are errors."""

import pytest
import torch


@pytest.fixture(autouse=True)
def _float64_and_seeded():
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(torch.float32)
