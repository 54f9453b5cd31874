# A fresh clone needs python3 (3.11 or newer), make, and nothing else.

PYTHON ?= python3
BIN := .venv/bin
# The name of the stamp holds a checksum of what was installed from, so that a change of it installs again.
SUM := $(shell cat pyproject.toml .ci/constraints.txt | cksum | cut -d ' ' -f 1)
STAMP := .venv/installed-$(SUM)
CORE := .venv/core-$(SUM)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help venv demo test check bench bench-automl clean

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1|/p' Makefile | while IFS='|' read -r name text; do printf 'make %-12s %s\n' "$$name" "$$text"; done

venv: $(STAMP) ## set up .venv with everything in it
	@:

$(STAMP): | .venv/bin/pip
	@echo 'installing into .venv, with the engines, PyTorch and servers'\'' clients that the tests need'
	@$(BIN)/pip install --quiet --constraint .ci/constraints.txt --editable '.[dev]'
	@rm -f .venv/installed-* .venv/core-*
	@touch $@ $(CORE)

$(CORE): | .venv/bin/pip
	@echo 'installing into .venv'
	@$(BIN)/pip install --quiet --editable .
	@rm -f .venv/core-*
	@touch $@

.venv/bin/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo '$(PYTHON) is not Python 3.11 or newer; give one that is: make PYTHON=/path/to/python3' >&2; exit 1; }
	@$(PYTHON) -m venv .venv

demo: $(CORE) ## train, evaluate and predict on the flights data, in under 3 minutes
	@PATH="$(CURDIR)/$(BIN):$$PATH" bash examples/demo.sh

check: venv ## format, lint, types, import layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: check ## everything: the checks, unit tests, doctests, the README's commands
	$(BIN)/pytest -n 3 --dist worksteal

bench: venv ## run the benchmarks but for the next; results are appended to benchmarks/results/
	@for file in $(filter-out %/bench_automl.py,$(wildcard benchmarks/bench_*.py)); do \
		echo "$$file"; $(BIN)/python "$$file" || exit 1; done

bench-automl: venv ## against other AutoML tools, which are installed apart: hours; what is recorded is not run again
	$(BIN)/python benchmarks/bench_automl.py --resume --only small --time 60s
	$(BIN)/python benchmarks/bench_automl.py --resume --only large --time 120s
	$(BIN)/python benchmarks/bench_automl.py --resume --only small --time 300s

clean: ## remove the virtual environment, caches, and what the demo left
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache demo
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
