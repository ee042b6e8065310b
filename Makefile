# gramian: `make demo` to see what it does, `make test` to check it. Python 3.11 or newer, a C++ compiler, git and make.
PYTHON ?= python3
JOBS ?= 2
BENCH ?= limit_mlp limit_cnn limit_conv limit_fc empirical_mlp empirical_cnn empirical_shaped predicted_curve width_sweep agreement cifar_kernel suggest_tasks proofs prove_run prove_before pac_bayes spectrum_gpt2

VENV := .venv
BIN := $(VENV)/bin
LOCK := requirements-dev.lock
PINNED := $(BIN)/python -m pip install -qq -c $(LOCK) --no-build-isolation
CODE := src tests bench docs examples conftest.py
NATIVE := native/CMakeLists.txt $(wildcard native/src/*)

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow lint bench claims docs lock clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-10s %s\n", $$1, $$2}'

demo: $(VENV)/.installed  ## certify an MLP, a CNN and a ResNet on digits, and write a report to open
	$(BIN)/gramian certify --data digits --net mlp --net cnn --net resnet --out demo-report
	@echo "Open this file in a browser: demo-report/report.html"

test: $(VENV)/.installed-test lint  ## lint, types, and every test that takes less than 20 s
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist worksteal

lint: $(VENV)/.installed-test  ## ruff and mypy
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/mypy

test-slow: $(VENV)/.installed-test  ## the tests that take longer
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist worksteal -m slow

bench: $(VENV)/.installed .venv-bench/.installed  ## what bench/README.md lists, kept in bench/results; BENCH=limit_mlp runs one
	set -e; for name in $(BENCH); do $(BIN)/python bench/$$name.py; done

claims: $(VENV)/.installed  ## the papers as checked claims, at smoke scale, on $(JOBS) processes
	OMP_NUM_THREADS=1 $(BIN)/gramian claims run --all --jobs $(JOBS)

docs: $(VENV)/.installed  ## write the pages of docs/ that are made from the code
	$(BIN)/python docs/generate.py

# Stamps: each environment is made once, and again when what it is made from has changed.
$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "gramian needs Python 3.11 or newer; \`$(PYTHON)\` is $$($(PYTHON) --version 2>&1)."; \
		echo "  fix: make $(MAKECMDGOALS) PYTHON=python3.11"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.installed: $(VENV)/.made $(LOCK) pyproject.toml $(NATIVE)
	@echo "Installing gramian and what it needs into $(VENV); PyTorch is large, this can take minutes."
	@$(BIN)/python -m pip install -qq -c $(LOCK) setuptools scikit-build-core nanobind cmake ninja
	$(PINNED) -e .
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(PINNED) -e '.[test]'
	@touch $@

# The rival's own pins clash with ours, so it lives apart; where it cannot be installed, the benchmarks go without it.
.venv-bench/.installed: bench/rival.lock
	$(PYTHON) -m venv .venv-bench
	-.venv-bench/bin/python -m pip install -qq -r bench/rival.lock
	@touch $@

lock:  ## pin the newest versions that pyproject.toml allows (TORCH=2.13.0 says which PyTorch)
	rm -rf .venv-lock
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python -m pip install -qq torch==$(or $(TORCH),2.13.0)
	.venv-lock/bin/python -m pip install -qq -e '.[test]' scikit-build-core nanobind cmake ninja
	{ sed '/^#/!d' $(LOCK); .venv-lock/bin/python -m pip freeze --all --exclude gramian --exclude pip | sed 's/+cpu$$//'; } > $(LOCK).new
	mv $(LOCK).new $(LOCK)
	rm -rf .venv-lock

clean:  ## remove what make made
	rm -rf .venv .venv-bench .venv-lock demo-report build dist src/*.egg-info src/gramian/_native.*.so src/gramian/_native.*.pyd .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests bench docs -name __pycache__ -type d -prune -exec rm -rf {} +
