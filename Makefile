# Each target does its own set-up on a fresh Debian 12, and none where it was done before.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
BUILDER := build/venv
IMAGE ?= docker-icc-exporter
# More workers than most machines have cores: half of the time a test waits. The order is that of tests/conftest.py.
PYTEST := $(BIN)/python -m pytest -n 5 --dist loadgroup --no-loadscope-reorder

.PHONY: run demo test lint format bench bench-front bench-hosts conformance soak docs image dist sbom lock clean help

run: $(VENV)/.installed ## start the exporter on the local engine; ARGS="--poll.interval=5s" are its arguments
	@exec $(BIN)/docker-icc-exporter $(ARGS)

demo: $(VENV)/.installed ## start a real engine with a few containers, and the exporter on it (without root: replay a recorded host)
	@exec $(BIN)/python -m tests.demo

test: lint lab ## ruff, mypy and all tests; those with real engines need root
	$(PYTEST) $(ARGS)

lint: $(VENV)/.developed ## ruff and mypy --strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.developed ## let ruff put the code in order
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: lab ## measure polls, scrapes, latency and memory on a real engine against their baselines
	$(BIN)/python -m tests.bench $(ARGS)

bench-front: $(VENV)/.developed ## measure what idle, slow and malformed clients cost a scrape, and the memory
	$(BIN)/python -m tests.bench.front

bench-hosts: $(VENV)/.developed ## measure parsing and evaluation on generated hosts of up to 10,000 containers
	$(BIN)/python -m tests.bench.hosts $(ARGS)

conformance: lab ## random topologies on three engines, every verdict against real packets, at length
	$(BIN)/python -m tests.conformance $(ARGS)

soak: lab ## a busy engine for 20 minutes, with a storm of events and an engine that hangs: memory and descriptors must stay flat
	$(BIN)/python -m tests.soak $(ARGS)

image: ## build the container image
	docker build -t $(IMAGE) .

docs: $(VENV)/.developed ## write docs/metrics.md from the code, deploy/grafana from the rules and the tests
	$(BIN)/python -m tests.docs
	$(BIN)/python -m tests.deploy

dist: $(BUILDER)/.installed ## write sdist and wheel to dist/: the same bytes wherever and whenever that is done
	rm -f dist/*.tar.gz dist/*.whl
	$(BUILDER)/bin/hatchling build --target sdist --target wheel

sbom: $(VENV)/.developed ## write to dist/sbom.cdx.json (CycloneDX) what is installed with the exporter
	$(BIN)/python -m tests.supply

# What pip and uv find is written down once; from then on only that is installed. requirements-dev.txt has no hashes,
# for an editable project has none.
LOCK = "$$folder/bin/uv" pip compile --quiet --upgrade --python-platform linux --python-version 3.11 --generate-hashes \
	--no-annotate --custom-compile-command "make lock" --constraint requirements-dev.txt

lock: ## write the newest versions that pyproject.toml allows to requirements*.txt, with hashes where they leave this machine
	folder=$$(mktemp -d); trap 'rm -rf "$$folder"' EXIT; \
	$(PYTHON) -m venv "$$folder"; \
	"$$folder/bin/pip" install --quiet --upgrade 'pip>=25.1'; \
	"$$folder/bin/pip" install --quiet --group dev .; \
	"$$folder/bin/pip" freeze --exclude docker-icc-exporter >requirements-dev.txt; \
	"$$folder/bin/pip" install --quiet uv; \
	$(LOCK) --output-file requirements.txt pyproject.toml; \
	$(LOCK) --output-file requirements-sbom.txt --group sbom; \
	"$$folder/bin/python" -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' \
	| $(LOCK) --output-file requirements-build.txt -

clean: ## remove the virtual environment and everything built or cached here
	rm -rf $(VENV) dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
	find exporter tests -name __pycache__ -type d -exec rm -rf {} +

help: ## show this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# Debian keeps venv apart from python3: install it where that is allowed, else say so.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo >&2 "Python 3.11 or newer is needed, $(PYTHON) is not: make PYTHON=python3.11 …"; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { [ "$$(id -u)" = 0 ] && apt-get -q update && apt-get -q -y install python3-venv; } || { echo >&2 "install python3-venv first"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml requirements-dev.txt | $(BIN)/python
	$(BIN)/pip install --quiet --constraint requirements-dev.txt --editable .
	@touch $@

$(VENV)/.developed: pyproject.toml requirements-dev.txt | $(BIN)/python
	$(BIN)/pip install --quiet --requirement requirements-dev.txt --editable .
	@touch $@ $(VENV)/.installed

$(BUILDER)/.installed: requirements-build.txt | $(BIN)/python
	$(BIN)/python -m venv --clear $(BUILDER)
	$(BUILDER)/bin/pip install --quiet --require-hashes --only-binary=:all: --requirement requirements-build.txt
	@touch $@

.PHONY: lab
lab: $(VENV)/.developed
	@if [ "$$(id -u)" = 0 ]; then $(BIN)/python -m tests.lab setup; fi
