# make demo   set up and run the whole pipeline on sample_data/
# make test   set up and run all checks and tests
.DEFAULT_GOAL := help
.PHONY: help bench experiments demo test test-fast check docs sample-data constraints clean

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# a file goes to one process, so that what its tests share is made once; slow files first
PYTEST := $(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder
# Versions of everything that is installed: those that all tests passed with. CONSTRAINTS=lowest.txt
# takes the lowest that pyproject.toml allows, CONSTRAINTS= the newest.
CONSTRAINTS ?= constraints.txt
INSTALL = $(BIN)/pip install --quiet $(addprefix --constraint ,$(CONSTRAINTS)) --editable

help:
	@echo "make demo         run the whole pipeline on sample_data/ (into demo/)"
	@echo "make test         all checks, the docs and the tests"
	@echo "make test-fast    the tests that take no seconds (one minute)"
	@echo "make check        ruff, mypy --strict, import-linter"
	@echo "make docs         build the docs into docs/_build/html, warnings are errors"
	@echo "make bench        measure speed and memory beside numpy and FAISS (10 minutes)"
	@echo "make experiments  retrain on chosen frames and with weights; find wrong labels (20 minutes)"
	@echo "make sample-data  train the small force field again and remake sample_data/"
	@echo "make constraints  write the installed versions to constraints.txt (see CONTRIBUTING.md)"
	@echo "make clean        remove the environment and everything that was built"

lowest.txt: pyproject.toml
	grep -oE '"[A-Za-z0-9-]+>=[0-9.]+' pyproject.toml | tr -d '"' | sed 's/>=/==/' | sort -u > $@

$(VENV)/ltau: pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) .
	@touch $@

$(VENV)/ltau-dev: pyproject.toml $(CONSTRAINTS) | $(VENV)/ltau
	$(INSTALL) '.[dev]'
	@touch $@

demo: $(VENV)/ltau
	PATH="$(abspath $(BIN)):$$PATH" sh sample_data/demo.sh

test: check docs
	$(PYTEST)

test-fast: $(VENV)/ltau-dev
	$(PYTEST) -m "not slow"

check: $(VENV)/ltau-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(VENV)/ltau-dev
	$(BIN)/sphinx-build --quiet --fail-on-warning --nitpicky -b html docs docs/_build/html

bench: $(VENV)/ltau
	$(INSTALL) '.[benchmark]'
	$(BIN)/python benchmarks/scale.py
	$(BIN)/python benchmarks/ingest.py --gigabytes 2
	$(BIN)/python benchmarks/scaling.py

# torch's newest build brings gigabytes of CUDA; the scripts need the CPU only
experiments: $(VENV)/ltau
	$(INSTALL) '.[sample]'
	$(BIN)/python benchmarks/selection.py
	$(BIN)/python benchmarks/reweighting.py
	$(BIN)/python benchmarks/suspects.py

sample-data: $(VENV)/ltau
	$(INSTALL) '.[sample]'
	$(BIN)/python sample_data/make_sample_data.py

# After make clean, and make test CONSTRAINTS= with Python 3.11. Other Pythons need other versions.
constraints:
	$(BIN)/pip freeze --exclude-editable | sed 's/$$/; python_version == "3.11"/' > constraints.txt

clean:
	rm -rf $(VENV) lowest.txt demo build *.egg-info docs/_build .mypy_cache .ruff_cache .pytest_cache
