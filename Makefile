# Everything a developer runs; `make help` lists it. Each target installs what it needs into .venv.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

BIN := .venv/bin
TORCH := torch==2.13.0
VITALEDGE_DEVICE_KINDS ?= container,aarch64
comma := ,
KINDS = $(subst $(comma), ,$(VITALEDGE_DEVICE_KINDS))
PYTEST_DEVICE = PYTHONUNBUFFERED=1 $(BIN)/python -m pytest -m device -v

# Real records where there are some; else tests that need them are skipped and the demo simulates.
ifndef VITALEDGE_DATA
ifneq ($(wildcard ../shared/data/mitdb),)
export VITALEDGE_DATA := $(abspath ../shared/data)
endif
endif

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_INPUT := 1
export PIP_ROOT_USER_ACTION := ignore

# A version manager's stub may stand for a Python that is not there, so each candidate is run.
FIND_PYTHON = for p in python3.11 python3.12 python3.13 python3; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$p"; exit 0; } || true; \
	done; echo "no Python 3.11 or newer found; on Debian 12: apt-get install python3 python3-venv" >&2; exit 1

.PHONY: help demo test device-test check bench studies clean

help: ## list the targets
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

demo: .venv/.stamp ## train, shrink, ship and measure a model on this machine, in minutes
	$(BIN)/vitaledge demo

test: .venv/.stamp ## run the tests
	$(BIN)/python -m pytest

device-test: .venv/.stamp ## run the acceptance tests on emulated gateways: root, Debian's packages, a quarter of an hour
	deploy/install_debian_packages.sh --devices || echo "what is missing, tests on emulated gateways skip" >&2
	$(MAKE) --no-print-directory --jobs=2 $(addprefix device-test-,$(KINDS) $(if $(filter aarch64,$(KINDS)),power-cuts))

# Each line of output says which of those that run side by side it is of.
device-test-power-cuts: export VITALEDGE_DEVICE_KINDS = aarch64
device-test-power-cuts:
	$(PYTEST_DEVICE) tests/device/test_power_cuts.py 2>&1 | sed -u 's/^/power-cuts: /'

device-test-%: export VITALEDGE_DEVICE_KINDS = $*
device-test-%:
	$(PYTEST_DEVICE) tests/device --ignore tests/device/test_power_cuts.py 2>&1 | sed -u 's/^/$*: /'

check: .venv/.stamp ## formatting, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: .venv/.stamp ## run the benchmarks
	mkdir -p benchmarks/out
	$(BIN)/python -m pytest benchmarks --benchmark-json=benchmarks/out/bench.json --benchmark-columns=min,median,max,rounds

studies: .venv/.stamp ## run every study and publish its tables in docs/results: hours; goes on where it stopped
	for study in $$($(BIN)/vitaledge study list); do $(BIN)/vitaledge study "$$study" --publish docs/results; done

clean: ## remove caches and build outputs; .venv and runs stay
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks
	find edge_runtime host_tools benchmarks tests -name __pycache__ -type d -prune -exec rm -rf {} +

# torch comes first and by exact version, so that nothing else decides which one is installed.
.venv/.stamp: pyproject.toml constraints.txt deploy/install_debian_packages.sh
	python=$$($(FIND_PYTHON)); deploy/install_debian_packages.sh "$$python"; \
	[ -x $(BIN)/pip ] || "$$python" -m venv .venv
	$(BIN)/python -m pip install -q -c constraints.txt $(TORCH)
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[dev]'
	touch $@
