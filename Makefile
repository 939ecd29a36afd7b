# make demo   set up and run the whole pipeline on sample_data/
# make test   set up and run all checks and tests
.DEFAULT_GOAL := help
.PHONY: help fuzz bench experiments scorecard demo test test-fast test-models check docs faults sample-data constraints clean

PYTHON ?= python3
VENV ?= .venv
DESCRIPTORS ?= descriptors.npz
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
	@echo "make test-models  each model package in an environment of its own (MODELS=mace [VERSION=0.3.10]: only that)"
	@echo "make check        ruff, mypy --strict, import-linter"
	@echo "make faults       kill every command at random moments and misuse it (10 minutes)"
	@echo "make docs         build the docs into docs/_build/html, warnings are errors"
	@echo "make fuzz         feed every reader damaged files, a minute each (10 minutes)"
	@echo "make bench        measure speed and memory beside numpy and FAISS (10 minutes)"
	@echo "make experiments  retrain on chosen frames and with weights, find wrong labels, relax (1.5 hours)"
	@echo "make scorecard    judge every way to get an error bar (an hour; QUICK=1: a minute; MODELS=: no packages)"
	@echo "make sample-data  train the small force field again and remake sample_data/"
	@echo "make constraints  write the installed versions to constraints.txt (see CONTRIBUTING.md)"
	@echo "make clean        remove the environment and everything that was built"

lowest.txt: pyproject.toml
	grep -oE '"[A-Za-z0-9-]+(\[[a-z]+\])?>=[0-9.]+' pyproject.toml | tr -d '"' \
		| sed 's/\[.*\]//; s/>=/==/' | sort -u > $@

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

# A package gets PyTorch first and alone: with anything else pip takes gigabytes of CUDA.
# VERSION=0.3.10 with MODELS=mace takes that version of it, in an environment of its own.
MODELS ?= mace nequip sevenn chgnet matgl metatrain deepmd
VERSION ?=
ENVIRONMENTS = $(MODELS:%=%$(addprefix -,$(VERSION)))
DISTRIBUTION_mace = mace-torch
DISTRIBUTION_deepmd = deepmd-kit
build/models/%/ready: PACKAGE = $(firstword $(subst -, ,$*))
build/models/%/ready: pyproject.toml
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/pip install --quiet torch==2.13.0
	echo torch==2.13.0 > $(@D)/constraints.txt
	$(@D)/bin/pip install --quiet --constraint $(@D)/constraints.txt \
		'pytest>=8.0' 'hypothesis>=6.100' --editable '.[$(PACKAGE)]' \
		$(addprefix $(or $(DISTRIBUTION_$(PACKAGE)),$(PACKAGE))==,$(VERSION))
	rm -f $(@D)/lib/python*/site-packages/deepmd/lib/libdeepmd_op_pt.so  # is for PyTorch 2.11
	touch $@

# MACE up to 0.3.9 reads files of networks that a new PyTorch takes only when it is told so.
test-models: $(ENVIRONMENTS:%=build/models/%/ready)
	for environment in $(ENVIRONMENTS); do \
		package=$${environment%%-*}; \
		LTAU_TEST_PACKAGE=$$package TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1 \
			build/models/$$environment/bin/pytest tests/packages/installed -m $$package || exit 1; \
	done

check: $(VENV)/ltau-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(VENV)/ltau-dev
	$(BIN)/sphinx-build --quiet --fail-on-warning --nitpicky -b html docs docs/_build/html

FUZZED := npy npz h5 csv jsonl xyz yaml artifact
fuzz: $(VENV)/ltau-dev
	$(BIN)/pip install --quiet atheris
	for kind in $(FUZZED); do \
		$(BIN)/python -m tests.readers.fuzz $$kind -max_total_time=60 -max_len=65536 -timeout=20 \
			-rss_limit_mb=4096 build/fuzz/$$kind || exit 1; \
	done

faults: $(VENV)/ltau-dev
	$(BIN)/python -m tests.system.faults

bench: $(VENV)/ltau
	$(INSTALL) '.[benchmark]'
	test -f $(DESCRIPTORS) || $(MAKE) $(DESCRIPTORS)
	$(BIN)/python benchmarks/search.py $(DESCRIPTORS)
	$(BIN)/python benchmarks/scale.py
	$(BIN)/python benchmarks/ingest.py --gigabytes 2
	$(BIN)/python benchmarks/scaling.py $(DESCRIPTORS)

# torch's newest build brings gigabytes of CUDA; the script needs the CPU only
$(DESCRIPTORS): $(VENV)/ltau
	$(BIN)/pip install --quiet torch==2.13.0 chgnet ase
	$(BIN)/python benchmarks/make_descriptors.py $@

# torch's newest build brings gigabytes of CUDA; the scripts need the CPU only
experiments: $(VENV)/ltau
	$(INSTALL) '.[sample]'
	$(BIN)/python benchmarks/selection.py
	$(BIN)/python benchmarks/reweighting.py
	$(BIN)/python benchmarks/suspects.py
	$(BIN)/python benchmarks/relaxation.py build/relaxation

# QUICK=1 judges the model of sample_data/ and trains nothing; MODELS= trains no models of packages
SCORED := $(filter mace metatrain,$(MODELS))
scorecard: $(VENV)/ltau $(if $(QUICK),,$(SCORED:%=build/models/%/ready))
	$(if $(QUICK),,$(BIN)/pip install --quiet torch==2.13.0)
	$(if $(QUICK),,$(INSTALL) '.[scorecard]')
	PYTHONPATH=benchmarks:sample_data OMP_NUM_THREADS=1 $(BIN)/python -m scorecard \
		$(if $(QUICK),--quick,--packages $(SCORED))

sample-data: $(VENV)/ltau
	$(INSTALL) '.[sample]'
	$(BIN)/python sample_data/make_sample_data.py

# After make clean, and make test CONSTRAINTS= with Python 3.11. Other Pythons need other versions.
constraints:
	$(BIN)/pip freeze --exclude-editable | sed 's/$$/; python_version == "3.11"/' > constraints.txt

clean:
	rm -rf $(VENV) lowest.txt demo build *.egg-info docs/_build .mypy_cache .ruff_cache .pytest_cache
