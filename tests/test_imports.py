"""Every form of import gives what it says: `train`, `solve` and `certify` are packages, and functions."""

import copy
import inspect
import pickle
import subprocess
import sys

import pytest
import torch

FORMS = [
    "import gramian.solve.rates as r; r.max_lr",
    "import gramian.solve.rates; gramian.solve.rates.max_lr",
    "import gramian.train as gt; gt.Trace; gt.trainer.train",
    "import gramian.train.trainer; gramian.train.trainer.train",
    "from gramian.train import Trace, train; train.__code__",
    "from gramian.certify.theorems import THEOREMS; import gramian; gramian.certify.theorems",
    "from gramian import certify; certify.Certificate; import gramian; gramian.certify is certify or 1 / 0",
    "from gramian.solve.cholesky import solve; import gramian; gramian.solve.cholesky.solve is solve or 1 / 0",
    "from gramian import predicted; predicted.gradient_flow",
    "import gramian.predicted as p; p.momentum; import gramian; gramian.predicted.nesterov",
    "from gramian.predicted import gradient_descent",
    "from gramian import *; train, solve, certify, predicted, Gram",
]
CALL = "import torch, gramian; float(gramian.solve(torch.eye(2).double(), torch.ones(2)).alpha.sum()) == 2 or 1 / 0"


@pytest.mark.slow  # a process a form
@pytest.mark.parametrize("code", [*FORMS, CALL, *(f"{form}; {CALL}" for form in FORMS[:2])])
def test_in_a_fresh_process(code):
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("code", FORMS)
def test_whatever_was_imported_before(code):
    exec(code, {})


def test_a_package_that_is_called_is_its_function():
    import gramian
    import gramian.solve as package
    from gramian.solve.cholesky import solve

    assert inspect.signature(gramian.solve) == inspect.signature(solve)
    k, y = torch.eye(3, dtype=torch.float64), torch.ones(3, 1, dtype=torch.float64)
    torch.testing.assert_close(gramian.solve(k, y).alpha, solve(k, y).alpha)
    assert pickle.loads(pickle.dumps(gramian.solve)) is package is copy.deepcopy(gramian.solve)
    assert callable(gramian.train)
    assert callable(gramian.certify)
