# Python 3.11 or newer and make are all that must be there; `make help` lists what can be done.

PYTHON ?= python3
# Where torch comes from, if not from the index pip is set up with. On Linux the plain index brings
# the CUDA build, gigabytes that no node needs; TORCH_INDEX=https://download.pytorch.org/whl/cpu
# brings the small one.
TORCH_INDEX ?=
# What is handed on to `gossipfl demo`: make demo DEMO="--seeds 0-4"
DEMO ?=

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
TORCH := $(shell grep '^torch==' constraints.txt)
DESCRIBED := pyproject.toml constraints.txt

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help venv demo test lint bench clean

help:  ## list what can be done
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## */  make \1|/' \
		| awk -F'|' '{ printf "%-14s %s\n", $$1, $$2 }'

venv: $(VENV)/.ready  ## make .venv with what a node needs

demo: $(VENV)/.ready  ## four hospitals train one model, on this machine
	$(BIN)/gossipfl demo $(DEMO)

test: lint  ## everything a change has to pass
	$(BIN)/python -m pytest --cov=gossipfl --cov-fail-under=92

lint: $(VENV)/.ready-dev  ## style, formatting and types only
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.ready-dev  ## print speed and memory, with the command behind each figure
	@for script in round_speed transfer_speed; do \
		echo "$$ $(BIN)/python -m benchmarks.$$script"; \
		$(BIN)/python -m benchmarks.$$script || exit 1; done

clean:  ## remove what these targets made
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# `venv` fails on an older Python too, but with words that help nobody.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "gossipfl needs Python 3.11 or newer, and $(PYTHON) is older or missing." >&2; \
		echo "Install one, or name it: make PYTHON=python3.12 …" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# torch first and alone where another index is named, so that nothing else comes from there.
$(VENV)/.ready: $(DESCRIBED) | $(BIN)/python
	@echo "Installing what a node needs; torch is the large part."
	$(if $(TORCH_INDEX),$(PIP) install --no-deps --index-url $(TORCH_INDEX) '$(TORCH)')
	$(PIP) install -c constraints.txt '$(TORCH)' -e .
	@touch $@

$(VENV)/.ready-dev: $(VENV)/.ready
	$(PIP) install -c constraints.txt -e '.[dev]'
	@touch $@
