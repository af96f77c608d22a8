# edged. `make help` lists the targets; `make run` shows it working.
SHELL := /bin/sh
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
SECONDS ?=
JOBS ?= 2
FAST = $(addprefix tests/,clock config decode pipeline plan results stamp test_mirror.py test_pauses.py test_records.py test_topics.py)
# What the tests need beside Python: nothing, if all that are asked for are of the pure rooms.
NEEDS = mosquitto libfaketime floors filesystems shells systemd
LIVE = $(if $(TESTS),$(if $(filter-out $(FAST) $(addsuffix /%,$(FAST)),$(TESTS)),$(NEEDS)),$(NEEDS))
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
# sbin is not on everybody's path, and Debian's mosquitto lives there.
export PATH := $(PATH):/usr/sbin:/sbin

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run test test-fast test-devices test-peers soak check fmt bench many overload wear models pictures reference requirements package bundle clean broker mosquitto libfaketime floors filesystems chromium shells systemd \
	debootstrap qemu container peers ssh deploy rollback status logs undeploy

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## */\1\t/' | sort | awk -F'\t' '{printf "  make %-13s %s\n", $$1, $$2}'

run: $(VENV)/.run broker  ## a simulated sensor, a broker, a real model, results before your eyes (SECONDS=10 ends by itself)
	@$(BIN)/python -m edged.demo $(if $(SECONDS),--seconds $(SECONDS))

test: $(VENV)/.dev $(LIVE)  ## the whole suite, against a real broker and real pseudo-terminals (TESTS=tests/decode: a part; JOBS=2)
	$(BIN)/python -m pytest -n $(JOBS) $(TESTS)

test-fast: $(VENV)/.dev  ## the tests of the pure rooms: no broker, no daemon, no terminal; the last line says how long it took
	$(BIN)/python -m pytest -n $(JOBS) $(FAST)

test-devices: $(VENV)/.dev mosquitto debootstrap qemu container ssh  ## bundles on systems like those of the devices (root; minutes, more the first time)
	EDGED_DEVICES=1 $(BIN)/python -m pytest -n $(JOBS) --dist=loadfile --durations=10 $(or $(TESTS),tests/devices)

test-peers: $(VENV)/.dev mosquitto debootstrap qemu peers  ## other people's programs as they are: brokers, browsers, servers of models, a container (they install themselves; minutes the first time)
	EDGED_PEERS=1 $(BIN)/python -m pytest --capture=no $(or $(TESTS),tests/peers)

soak: $(VENV)/.dev mosquitto libfaketime  ## the long forms of the tests
	EDGED_SOAK=1 $(BIN)/python -m pytest $(TESTS)

check: $(VENV)/.dev  ## formatting, lint, types, import rules; writes nothing
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	@$(BIN)/python -m tests.support.sizes

fmt: $(VENV)/.dev  ## format and sort imports
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

bench: $(VENV)/.dev mosquitto  ## race the daemon against bare loops, compare with the last release (five minutes; ROUNDS=7 JSON=FILE RACES=raw,serial TABLES=1)
	@$(MAKE) --silent --no-print-directory floors 2>&1 | grep -v ^make || :  # without them it races against plain scripts alone
	@$(BIN)/python -m tests.bench.race $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(JSON),--json "$(JSON)") $(if $(RACES),--jobs $(RACES)) $(if $(TABLES),--tables)

many: $(VENV)/.dev mosquitto  ## many of everything: 300 serial ports, 500 pipelines, 200 subscriptions, 5,000 keys (four minutes; ROUNDS=1 JSON=FILE)
	@$(BIN)/python -m tests.bench.many $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(JSON),--json "$(JSON)")

overload: $(VENV)/.dev mosquitto  ## up to ten times what a slow model can take: results, their age, memory (two minutes)
	$(BIN)/python -m tests.bench.overload

wear: $(VENV)/.dev  ## what an outage writes to the disk, for each byte that is kept (root, a minute)
	$(BIN)/python -m tests.bench.wear

package: $(VENV)/.dev  ## the wheel and the sdist, in dist/, as PyPI would take them
	rm -rf dist build/lib build/bdist.* && mkdir dist
	$(BIN)/python -c 'from setuptools.build_meta import build_sdist, build_wheel; build_sdist("dist"); build_wheel("dist")' >/dev/null
	$(BIN)/twine check --strict dist/*

bundle: $(VENV)/.run  ## all that a device needs in one file (TARGET=pi5 CONFIG=edged.toml SYSTEM= WHEELS= SIGN=); see cross/README.md
	@$(BIN)/python -m cross.bundle "$(TARGET)" --system "$(SYSTEM)" $(if $(CONFIG),--config "$(CONFIG)") --wheels "$(WHEELS)" --sign "$(SIGN)"

# What is done to a device over ssh. SSH_OPTS are options for ssh; what stands in ~/.ssh/config holds as well.
REMOTE = $(BIN)/python -m cross.deploy
DEVICE = "$(HOST)" --ssh "$(SSH_OPTS)" $(if $(WATCH),--watch $(WATCH)) $(if $(READY),--ready $(READY)) $(if $(CONFIG),--config "$(CONFIG)")

deploy: $(VENV)/.run ssh  ## put edged on a device and run it (HOST=user@device CONFIG=edged.toml TARGET= SSH_OPTS= WATCH=25 READY=60)
	@$(REMOTE) deploy $(DEVICE) --target "$(TARGET)" --bundle "$(BUNDLE)" --wheels "$(WHEELS)" --sign "$(SIGN)"

rollback: $(VENV)/.run ssh  ## back to the release before (HOST=user@device CONFIG=before: to the configuration before, too)
	@$(REMOTE) rollback $(DEVICE)

status: $(VENV)/.run ssh  ## what runs on a device, and how it does (HOST=user@device)
	@$(REMOTE) status $(DEVICE)

logs: $(VENV)/.run ssh  ## the log of a device (HOST=user@device LINES=100 FOLLOW=1)
	@$(REMOTE) logs $(DEVICE) $(if $(LINES),--lines $(LINES)) $(if $(FOLLOW),--follow)

undeploy: $(VENV)/.run ssh  ## take edged off a device; configuration and state stay (HOST=user@device PURGE=1: they go too)
	@$(REMOTE) undeploy $(DEVICE) $(if $(PURGE),--purge)

models: $(VENV)/.dev  ## train models/ again, from its seed (minutes)
	$(BIN)/python models/build.py

pictures: $(VENV)/.dev mosquitto chromium  ## the pictures of the README, of real runs (half a minute; ONLY=terminal)
	$(BIN)/python -m tests.support.screenshots $(ONLY)

reference: $(VENV)/.dev  ## write edged/config/REFERENCE.md from the schema
	$(BIN)/python -m edged.config.reference > edged/config/REFERENCE.md.new && mv edged/config/REFERENCE.md.new edged/config/REFERENCE.md

COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.10 --generate-hashes --no-header --no-annotate --no-emit-index-url pyproject.toml
requirements: $(VENV)/.dev  ## pin the newest versions of all packages, with their hashes
	$(PIP) install uv
	$(COMPILE) --upgrade --extra cbor --extra image --extra http -o requirements/run.txt
	$(COMPILE) --upgrade --extra cbor --extra image --extra http --extra demo -o requirements/demo.txt
	$(COMPILE) --upgrade --extra cbor --extra image --extra http --extra demo --extra top --extra learn --extra test --extra check -o requirements/dev.txt
	printf 'pip\nsetuptools\n' | $(subst pyproject.toml,-,$(COMPILE)) --upgrade -o requirements/bundle.txt

clean:  ## remove what the targets made
	rm -rf $(VENV) build dist .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info

# What Debian has to give: installed where this needs no password, else asked for.
define debian
	@$(1) >/dev/null 2>&1 || { \
		if [ "$$(id -u)" = 0 ]; then as=; else as="sudo -n"; fi; \
		command -v apt-get >/dev/null && $$as true 2>/dev/null && echo "installing $(2)" && \
		$$as apt-get update -qq && $$as env DEBIAN_FRONTEND=noninteractive apt-get install -qqy --no-install-recommends $(2) >/dev/null && $(1) >/dev/null; \
	} || { echo "$(2) is missing, $(3): sudo apt install $(2), then try again" >&2; exit 1; }
endef

# The environment: made once, and again when the pins change. A stamp is written when its step is complete, so that what
# was interrupted is done again.
$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "edged needs Python 3.10 or newer: make $(MAKECMDGOALS) PYTHON=/path/to/python3" >&2; exit 1; }
	$(call debian,$(PYTHON) -c "import venv; import ensurepip",python3-venv,which makes the environment)
	@echo "making the environment in $(VENV), once"
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.run: requirements/run.txt pyproject.toml | $(VENV)/.made
	@echo "installing what edged needs (onnxruntime, numpy and a few smaller ones) into $(VENV): a minute or two"
	@$(PIP) install --require-hashes -r requirements/run.txt
	@$(PIP) install --no-deps --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.run requirements/dev.txt
	@echo "installing what the tests and checks need into $(VENV)"
	@$(PIP) install --require-hashes -r requirements/dev.txt
	@touch $@

# The demo's broker: mosquitto where it is installed, else one from the package index.
broker: | $(VENV)/.run
	@command -v mosquitto >/dev/null || [ -x $(BIN)/amqtt ] || { \
		echo "installing a broker, amqtt, into $(VENV), since mosquitto is not here" && $(PIP) install --require-hashes -r requirements/demo.txt; }

mosquitto:
	$(call debian,command -v mosquitto,mosquitto,the broker of the tests)

libfaketime:
	$(call debian,ls /usr/lib/*/faketime/libfaketime.so.1,libfaketime,with which the tests set the clock of a process)

chromium:
	$(call debian,command -v chromedriver,chromium-driver,which shows the page)

floors:
	$(call debian,ls /usr/include/mosquitto.h "$$(command -v cc)",gcc libc6-dev libmosquitto-dev,with which the floors of the bench are built)

filesystems:
	$(call debian,command -v mkfs.ext4,e2fsprogs,which makes the small disks of the tests)

shells:
	$(call debian,ls "$$(command -v zsh)" "$$(command -v fish)",zsh fish,whose completions the tests read)

systemd:
	$(call debian,command -v systemd-analyze,systemd,which verifies the unit)

debootstrap:
	$(call debian,command -v debootstrap,debootstrap,which makes the Debians of the tests)

container:
	$(call debian,command -v systemd-nspawn,systemd-container,which boots the device of the tests)

PEERS = rabbitmq-server chromium chromium-driver prometheus buildah
peers:
	$(call debian,command -v npm,nodejs npm,with which aedes comes)
	$(call debian,dpkg -s $(PEERS),$(PEERS),which are the peers that Debian has)

ssh:
	$(call debian,command -v ssh-keygen,openssh-client,the way to a device)

qemu:
	$(call debian,command -v qemu-aarch64-static,qemu-user-static,which runs programs for Arm)
