# Everything here sets itself up: a virtual environment in .venv, with the pinned dependencies.

VENV := .venv
BIN := $(VENV)/bin
# the first Python of 3.11 or newer that runs; the order is that of what the pins were tried on
PYTHON := $(shell for name in python3.11 python3.12 python3.13 python3; do \
	$$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$name && break; done)
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --no-compile
# reads the packages' long lists of files in a third of the time that Python 3.11's own takes
NEWER_PIP := pip==26.3
# bytecode of what is imported alone, and once: the many processes of a system find it made, also where Python may write none
unexport PYTHONDONTWRITEBYTECODE
PYTEST := $(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder
COMPILE := $(BIN)/python -c 'import serving.cli.main, serving.worker.worker, serving.api.app, serving.dashboard.mount, streams.training.trainer, streams.training.training_job'

.DEFAULT_GOAL := help
.PHONY: help demo test test-kafka system-packages pytest lint types fuzz schemas clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.compiled ## run the whole system on one machine and watch it learn
	$(BIN)/millstream demo

test: ## lint, types and every test
	@$(MAKE) --no-print-directory $(VENV)/.installed
	@$(MAKE) --no-print-directory --jobs 2 $(VENV)/.compiled $(VENV)/.installed-dev system-packages
	@$(MAKE) --no-print-directory lint
	@$(MAKE) --no-print-directory --jobs 2 types pytest

system-packages:
	@deploy/system_packages.sh chromium:chromium prometheus:prometheus prometheus:promtool

pytest: $(VENV)/.installed-dev
	$(PYTEST)

test-kafka: $(VENV)/.compiled $(VENV)/.installed-dev ## run the tests that use a broker on Apache Kafka: KAFKA_HOME=DIR
	@test -n "$(KAFKA_HOME)" || { echo "make test-kafka KAFKA_HOME=DIR: DIR is a folder with Kafka's libs/"; exit 1; }
	MILLSTREAM_TEST_KAFKA_HOME="$(KAFKA_HOME)" $(PYTEST) -m broker

lint: $(VENV)/.installed-dev ## check style and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed-dev ## check types
	$(BIN)/mypy

fuzz: $(VENV)/.installed-dev ## ask the HTTP API all that its OpenAPI document allows, and much that it does not
	$(PIP) --no-deps --target $(VENV)/fuzz -r requirements-fuzz.txt
	PYTHONPATH=$(VENV)/fuzz $(BIN)/python -m benchmarks.fuzz

schemas: $(VENV)/.installed ## write docs/schemas, asyncapi.json, openapi.json, settings.md and the boards anew
	$(BIN)/python -m streams.contract.schemas
	$(BIN)/python -m serving.api.document
	$(BIN)/python -m deploy.grafana.boards

clean: ## remove the virtual environment, caches and the default data folder
	rm -rf $(VENV) .millstream .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.installed: requirements.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo "millstream needs Python 3.11 or newer, found on PATH as python3.11 or python3"; exit 1; }
	@echo "Setting up $(VENV) with $(PYTHON); the first time this brings PyTorch and takes some minutes"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) $(NEWER_PIP)
	$(PIP) -r requirements.txt
	@# as the build of an editable installation warns at length of what is meant so
	PYTHONWARNINGS=ignore $(PIP) --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.compiled: $(VENV)/.installed
	@$(COMPILE)
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed requirements-dev.txt
	$(PIP) -r requirements-dev.txt
	@touch $@
