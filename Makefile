# Needs git, make and Python 3.11 or later; everything else goes into build/.
# PYTHON=/path/to/python chooses another interpreter than python3.

PYTHON ?= python3
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

BUILD := $(CURDIR)/build
UV := $(BUILD)/tools/bin/uv
DEMO := $(BUILD)/demo

# highest, or lowest-direct for the oldest packages that the projects allow; --all-extras for their
# extras too. Each choice has an environment of its own.
RESOLUTION := highest
EXTRAS :=
ENV := $(BUILD)/env$(patsubst %,-%,$(filter-out highest,$(RESOLUTION)))$(EXTRAS:--%=-%)

# The machine's own Python, also where a project's .python-version names another one.
export UV_PYTHON := $(shell $(PYTHON) -c 'import sys; print(sys.executable)')
export UV_PYTHON_DOWNLOADS := never
# An environment that happens to be active has no part in this.
unexport VIRTUAL_ENV PYTHONPATH PYTHONHOME UV_PROJECT_ENVIRONMENT

# A new name when what is to be installed changes: dates mean nothing after a clone.
DEPENDENCIES := $(shell cat pyproject.toml *cookiecutter*/pyproject.toml cookiecutter.json | cksum | cut -d ' ' -f 1)
READY := $(ENV)/.ready-$(DEPENDENCIES)
PYTHON_VERSION := $(shell $(PYTHON) -c 'import sys; v = "%d.%d" % sys.version_info[:2]; print(v if v in ("3.11", "3.12", "3.13") else "3.12")')

.PHONY: help demo test test-all lint audit bench clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' Makefile

demo: $(UV) ## make a project in build/demo, install it and train it on digits
	rm -rf $(DEMO)
	$(UV) tool run --from 'cookiecutter>=2.7' cookiecutter . --default-config --no-input --output-dir $(DEMO) git=no python_version=$(PYTHON_VERSION)
	cd $(DEMO)/my-project && $(UV) sync && $(UV) run train.py
	@echo && echo "The pictures of this run:"
	@find $(DEMO)/my-project/logs -name '*.png' | sort

test: $(READY) ## run the tests that take seconds
	$(ENV)/bin/python -m pytest -n 2 --dist worksteal -m 'not slow'

test-all: $(READY) ## run all tests
	$(ENV)/bin/python -m pytest -n 2 --dist worksteal

lint: $(READY) ## check the code of the template, the hooks, the tests and the benchmarks
	$(ENV)/bin/ruff check --config pyproject.toml .
	$(ENV)/bin/ruff format --config pyproject.toml --check .
	$(ENV)/bin/mypy
	$(ENV)/bin/bandit --quiet --recursive --configfile pyproject.toml benchmarks hooks *cookiecutter*/workbench *cookiecutter*/*cookiecutter.package_name*

audit: $(READY) ## ask for known weaknesses of all packages that are used
	$(ENV)/bin/pip-audit

bench: $(READY) ## measure epochs, starts, sweeps, bakes; SUBJECTS=aids or sweeps:pruning for more
	$(ENV)/bin/python -m benchmarks $(SUBJECTS)

clean: ## remove everything that was made here
	rm -rf build .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -prune -exec rm -rf {} +

$(UV):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed; name one with make PYTHON=...")'
	$(PYTHON) -m venv $(BUILD)/tools
	$(BUILD)/tools/bin/pip install --quiet uv

# One environment for all tests: the tools of this repository and what a new project depends on,
# resolved together: a tool that was there first would keep what it needs from being the lowest.
$(READY): $(UV)
	rm -rf $(ENV) $(BUILD)/dependencies
	$(UV) venv --quiet $(ENV)
	$(UV) tool run --from 'cookiecutter>=2.7' cookiecutter . --default-config --no-input --output-dir $(BUILD)/dependencies git=no
	cd $(BUILD)/dependencies/my-project && $(UV) pip install --python $(ENV) --resolution $(RESOLUTION) \
		--requirements pyproject.toml $(EXTRAS) --group dev --group $(CURDIR)/pyproject.toml:dev
	touch $@
