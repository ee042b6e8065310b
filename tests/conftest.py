"""What tests of several packages share: a machine that lacks something."""

import sys

import pytest

from gramian.library import library


@pytest.fixture
def without_native_library(monkeypatch):
    """An installation whose C++ part was not built."""
    monkeypatch.setitem(sys.modules, "gramian._native", None)
    library.cache_clear()
    yield
    library.cache_clear()
