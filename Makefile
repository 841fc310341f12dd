# Everything runs in .venv/ of this checkout. `make install` makes it; the other targets call it first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# One more than cores: tests wait for processes and disks.
WORKERS = $(shell $(PYTHON) -c 'import os; print(len(os.sched_getaffinity(0)) + 1 if hasattr(os, "sched_getaffinity") else os.cpu_count() + 1)')

# Tests and commands start many processes: without kept bytecode each would compile all modules anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: install check test test-unit test-all demo lock clean

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "doyen needs Python 3.11 or newer: make install PYTHON=python3.12")'
	test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[finetune,dev]'
	@touch $(STAMP)
	@echo "installed: $(BIN)/doyen"

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: install
	$(BIN)/doyen models pull all-minilm-l6-v2 smollm2-135m-instruct
	OMP_NUM_THREADS=1 $(BIN)/pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder -m 'not slow' --durations=25

test-unit: install
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --dist loadfile -m 'not slow and not e2e' --durations=10

test-all: install
	$(BIN)/doyen models pull all-minilm-l6-v2 smollm2-135m-instruct
	$(BIN)/pytest --durations=20

demo: install
	$(BIN)/python examples/demo.py

lock:
	$(BIN)/python -m pip freeze --exclude-editable | sed 's/+cpu$$//' > constraints.txt

clean:
	rm -rf demo build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache
