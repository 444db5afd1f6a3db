# A fresh clone needs only Python 3.11 or newer with pip; every target installs the rest into .venv first.
# Linux without an NVIDIA GPU: PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu make demo
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
INSTALLED := .venv/.installed

.PHONY: demo setup test check docs

demo: setup  ## annotated images become a visual assistant, in minutes
	$(BIN)/vistune demo --out runs/demo

setup: $(INSTALLED)  ## the package and its tools in .venv

$(INSTALLED): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	PIP_CONSTRAINT=constraints.txt $(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

test: setup
	$(BIN)/python -m pytest -n auto  # a process for each core

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: setup  ## the documentation as a site in site/
	$(BIN)/mkdocs build --strict --quiet
