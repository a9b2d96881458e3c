# Everything a fresh machine needs: Python 3.11 to 3.13, make, git. `make help` lists the targets.
SHELL := /bin/bash
.DEFAULT_GOAL := help

PYTHON ?= python3
SEEDS ?= 5
WORKERS ?= 2
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
RUN := $(BIN)/python -m perturbrl
# Some dependencies are source packages. They are built with the pinned build tools of .venv, by the one way that every
# pip from 23.0 on has, so that what is built does not depend on pip's cache and a second install needs no network.
PIP := $(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt
PIP_BUILD := $(PIP) --use-pep517 --no-build-isolation

# A venv whose Python has gone, or that was moved with the checkout, must not pass for installed.
PROBE := import os, importlib.metadata as m, perturbrl; m.version("torch"); m.version("pytest"); \
  assert os.path.samefile(os.path.dirname(os.path.dirname(perturbrl.__file__)), os.getcwd())
$(shell test ! -e $(STAMP) || $(BIN)/python -I -c '$(PROBE)' >/dev/null 2>&1 || rm -f $(STAMP) $(STAMP)-*)

# Tests run in several processes: one thread each.
export OMP_NUM_THREADS ?= 1

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-11s %s\n", $$1, $$2}'
	@echo "  PYTHON=python3.12 chooses the interpreter, ARGS='...' is passed on."

.PHONY: install
install: $(STAMP) ## make .venv with the exact versions of constraints.txt

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null || \
	  { echo "error: $(PYTHON) is $$($(PYTHON) --version 2>&1); perturbrl needs Python 3.11 to 3.13: make install PYTHON=python3.11" >&2; exit 2; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
	  { echo "error: $(PYTHON) has no venv module; on Debian: apt-get install python3-venv" >&2; exit 2; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@echo "installing perturbrl into $(VENV): about 2 minutes, more where torch (up to 3 GB with CUDA) downloads slowly"
	@$(PIP) hatchling setuptools
	@$(PIP_BUILD) -e '.[test]'
	@touch $@

# What test-full and bench need on top, once each.
$(STAMP)-test-full: EXTRAS := test,launchers,peers
$(STAMP)-bench: EXTRAS := test,peers
$(STAMP)-docs: EXTRAS := test,docs
$(STAMP)-test-full $(STAMP)-bench $(STAMP)-docs: $(STAMP)
	@echo "installing the extras $(EXTRAS) into $(VENV): up to 3 minutes"
	@$(PIP_BUILD) -e '.[$(EXTRAS)]'
	@touch $@

.PHONY: test
test: $(STAMP) ## the fast tests
	$(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile $(ARGS)

.PHONY: test-full
test-full: $(STAMP)-test-full ## every test: slow ones, and against peer libraries (installs them)
	$(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile -m '' $(ARGS)

.PHONY: lint
lint: $(STAMP) ## ruff, formatting and types
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy

.PHONY: bench
bench: $(STAMP)-bench ## speed, side by side with peers (installs them): every script of benchmarks/; ARGS=--quick is a smoke run
	@set -e; for script in benchmarks/bench_*.py; do echo "== $$script"; $(BIN)/python $$script $(ARGS); done

.PHONY: smoke
smoke: $(STAMP) ## train, evaluate and report on a tiny run, in under a minute
	$(RUN) train -m name=smoke agent=ppo,trpo_ppo source.n_cells=1000 protocol.search_episodes=16 \
	  protocol.return_episodes=16 schedule.total=4096 schedule.trpo=2048 schedule.ppo=2048 $(ARGS)
	$(RUN) evaluate outputs/smoke
	$(RUN) report outputs/smoke

.PHONY: reproduce
reproduce: $(STAMP) ## Tables I-III: train, evaluate, report, compare with the published numbers
	$(RUN) reproduce $(ARGS)

.PHONY: tables
tables: $(STAMP) ## Tables I-III with intervals over SEEDS=5 seeds
	$(RUN) reproduce --seeds $(SEEDS) $(ARGS)

.PHONY: results
results: $(STAMP) ## the tables, figures and numbers of README and docs again: hours, resumable; DATA=folder of the public files
	$(BIN)/python docs/make_results.py $(ARGS)

.PHONY: docs
docs: $(STAMP)-docs ## the documentation site with the API, offline, in build/docs; open build/docs/index.html
	$(BIN)/python docs/make_house.py
	$(BIN)/python -m sphinx -q -b html docs build/docs $(ARGS)
	@echo build/docs/index.html

.PHONY: wheel
wheel: $(STAMP) ## build the wheel into dist/
	rm -rf dist
	$(BIN)/python -m build --wheel --no-isolation --outdir dist . >/dev/null
	@ls dist

.PHONY: clean
clean: ## remove builds and caches; results, downloads and .venv stay
	rm -rf build dist docs/pages docs/api/*.rst .pytest_cache .mypy_cache .ruff_cache .hypothesis .smoke
	find . -path ./$(VENV) -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +
