# edged. `make help` lists the targets; `make run` shows it working.
SHELL := /bin/sh
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
SECONDS ?=
SUDO := $(shell [ "$$(id -u)" = 0 ] || command -v sudo)
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
# sbin is not on everybody's path, and Debian's mosquitto lives there.
export PATH := $(PATH):/usr/sbin:/sbin

.DEFAULT_GOAL := help
.PHONY: help run test soak check fmt bench models reference requirements clean python mosquitto

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## */\t/' | sort | awk -F'\t' '{printf "  make %-13s %s\n", $$1, $$2}'

run: $(VENV)/.demo  ## a simulated sensor, a broker, a real model, results before your eyes (SECONDS=10 ends by itself)
	@$(BIN)/python -m edged.demo $(if $(SECONDS),--seconds $(SECONDS))

test: $(VENV)/.dev mosquitto  ## the whole suite, against a real broker and real pseudo-terminals
	$(BIN)/python -m pytest $(TESTS)

soak: $(VENV)/.dev mosquitto  ## the long forms of the tests
	EDGED_SOAK=1 $(BIN)/python -m pytest $(TESTS)

check: $(VENV)/.dev  ## formatting, lint, types, import rules; writes nothing
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

fmt: $(VENV)/.dev  ## format and sort imports
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

bench: $(VENV)/.dev mosquitto  ## race the daemon against bare loops on this machine (ROUNDS=3, JSON=1)
	$(BIN)/python -m tests.bench.race $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(JSON),--json)

models: $(VENV)/.dev  ## train models/ anew from its seed (minutes)
	$(BIN)/python models/build.py

reference: $(VENV)/.dev  ## write edged/config/REFERENCE.md from the schema
	$(BIN)/python -m edged.config.reference > edged/config/REFERENCE.md.new && mv edged/config/REFERENCE.md.new edged/config/REFERENCE.md

COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.10 --generate-hashes --no-header --no-annotate --no-emit-index-url pyproject.toml
requirements: $(VENV)/.dev  ## pin the newest versions of all packages, with their hashes
	$(PIP) install uv
	$(COMPILE) --upgrade --extra cbor -o requirements/run.txt
	$(COMPILE) --upgrade --extra cbor --extra demo -o requirements/demo.txt
	$(COMPILE) --upgrade --extra cbor --extra demo --extra test --extra check -o requirements/dev.txt

clean:  ## remove what the targets made
	rm -rf $(VENV) build dist .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info

# The environment: made once, and again when the pins change.
python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "edged needs Python 3.10 or newer; set PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || $(SUDO) sh -c 'apt-get update -qq && apt-get install -qqy python3-venv' || \
		{ echo "python3-venv is missing: install it (apt install python3-venv), then try again" >&2; exit 1; }

$(BIN)/python: | python
	@echo "making the environment in $(VENV)"
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.run: requirements/run.txt pyproject.toml | $(BIN)/python
	@$(PIP) install --require-hashes -r requirements/run.txt
	@$(PIP) install --no-deps --editable .
	@touch $@

# The demo's broker: mosquitto where it is installed, else one from the package index.
$(VENV)/.demo: $(VENV)/.run requirements/demo.txt
	@command -v mosquitto >/dev/null || $(PIP) install --require-hashes -r requirements/demo.txt
	@touch $@

$(VENV)/.dev: $(VENV)/.run requirements/dev.txt
	@$(PIP) install --require-hashes -r requirements/dev.txt
	@touch $@

mosquitto:
	@command -v mosquitto >/dev/null || $(SUDO) sh -c 'apt-get update -qq && apt-get install -qqy mosquitto' || \
		{ echo "the tests need the mosquitto broker: apt install mosquitto" >&2; exit 1; }
