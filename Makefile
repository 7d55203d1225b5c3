# Makes the environment from the hash-pinned locks, then hands over to `jixie` and to poe's tasks.

VENV ?= .venv
BIN := $(VENV)/bin
NEWEST := import sys; sys.exit(sys.version_info < (3, 11))
SUITABLE = $(foreach name,python3 python3.14 python3.13 python3.12 python3.11,\
	$(shell $(name) -c '$(NEWEST)' 2>/dev/null && echo $(name)))
PYTHON ?= $(firstword $(SUITABLE))
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input
INSTALL := $(PIP) install --quiet --require-hashes --only-binary :all: --requirement

.DEFAULT_GOAL := help
.PHONY: help run test check clean

help: ## Say what can be made
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-6s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(VENV)/.run ## Start PostgreSQL and the service on 127.0.0.1:8000, with the demo when new
	@exec $(BIN)/jixie serve

test: $(VENV)/.dev ## Run the whole suite on an embedded PostgreSQL
	@$(BIN)/poe test

check: $(VENV)/.dev ## Run linters, types, the floor plan, the OpenAPI document
	@$(BIN)/poe check

clean: ## Remove the environment and caches; the data in .jixie stays
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage

$(BIN)/jixie:
	$(if $(PYTHON),,$(error Python 3.11 or newer is needed, as python3 or by PYTHON=/path/to/it))
	@$(PYTHON) -m venv $(VENV)
	@printf '#!/bin/sh\nPYTHONPATH="%s" exec "%s/python" -P -m app "$$@"\n' \
		'$(CURDIR)' '$(abspath $(BIN))' > $@ && chmod +x $@

$(VENV)/.run: requirements.lock | $(BIN)/jixie
	@echo "Installing what requirements.lock pins ..."
	@$(INSTALL) $< && touch $@

$(VENV)/.dev: requirements-dev.lock | $(BIN)/jixie
	@echo "Installing what requirements-dev.lock pins ..."
	@$(INSTALL) $< && touch $@ $(VENV)/.run
