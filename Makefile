# Requires git, make and Python 3.11 or later; everything else is installed into build/.
# PYTHON=/path/to/python selects an interpreter other than python3.

PYTHON ?= python3
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

BUILD := $(CURDIR)/build
UV := $(BUILD)/tools/bin/uv
DEMO := $(BUILD)/demo

# RESOLUTION: highest, or lowest-direct for the oldest versions that projects allow.
# EXTRAS: --all-extras includes their extras. Each combination has its own environment.
RESOLUTION := highest
EXTRAS :=
ENV := $(BUILD)/env$(patsubst %,-%,$(filter-out highest,$(RESOLUTION)))$(EXTRAS:--%=-%)

# The Python of this machine, even if a project's .python-version names another version.
export UV_PYTHON := $(shell $(PYTHON) -c 'import sys; print(sys.executable)')
export UV_PYTHON_DOWNLOADS := never
# Ignore any active environment.
unexport VIRTUAL_ENV PYTHONPATH PYTHONHOME UV_PROJECT_ENVIRONMENT

# The name changes with the dependencies, because modification times are meaningless after a clone.
DEPENDENCIES := $(shell cat pyproject.toml *cookiecutter*/pyproject.toml cookiecutter.json | cksum | cut -d ' ' -f 1)
READY := $(ENV)/.ready-$(DEPENDENCIES)
PYTHON_VERSION := $(shell $(PYTHON) -c 'import sys; v = "%d.%d" % sys.version_info[:2]; print(v if v in ("3.11", "3.12", "3.13") else "3.12")')

.PHONY: help demo test test-all test-gpu lint audit bench schemas site clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' Makefile

demo: $(UV) ## generate a project in build/demo, install it and train it on digits
	rm -rf $(DEMO)
	$(UV) tool run --from 'cookiecutter>=2.7' cookiecutter . --default-config --no-input --output-dir $(DEMO) git=no python_version=$(PYTHON_VERSION)
	cd $(DEMO)/my-project && $(UV) sync && $(UV) run train.py
	@echo && echo "Plots of this run:"
	@find $(DEMO)/my-project/logs -name '*.png' | sort

test: $(READY) ## run the fast tests
	$(ENV)/bin/python -m pytest -n 2 --dist worksteal -m 'not slow and not gpu'

test-all: $(READY) ## run all tests, except those for a GPU
	$(ENV)/bin/python -m pytest -n 2 --dist worksteal -m 'not gpu'

test-gpu: $(READY) ## run the tests for a GPU, if there is one; the results are in build/gpu
	@PYTHON=$(ENV)/bin/python bash scripts/gpu.sh

lint: $(READY) ## check the code of the template, the hooks, the tests and the benchmarks
	$(ENV)/bin/ruff check --config pyproject.toml .
	$(ENV)/bin/ruff format --config pyproject.toml --check .
	$(ENV)/bin/mypy
	$(ENV)/bin/bandit --quiet --recursive --configfile pyproject.toml benchmarks hooks *cookiecutter*/workbench *cookiecutter*/*cookiecutter.package_name*

audit: $(READY) ## check the dependencies for known vulnerabilities
	$(ENV)/bin/pip-audit

bench: $(READY) ## time epochs, startup, sweeps, generation; SUBJECTS=aids or sweeps:pruning for more
	LCBENCH="$(LCBENCH)" $(ENV)/bin/python -m benchmarks $(SUBJECTS)

schemas: $(READY) ## write the template's schemas of config files anew
	$(ENV)/bin/python scripts/schemas.py

site: $(UV) ## build the website of the documentation in build/site/html
	$(UV) run --no-project --isolated --with-requirements docs/requirements.txt scripts/site.py

clean: ## remove all generated files
	rm -rf build .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -prune -exec rm -rf {} +

$(UV):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed; name one with make PYTHON=...")'
	$(PYTHON) -m venv $(BUILD)/tools
	$(BUILD)/tools/bin/pip install --quiet uv

# One environment for all tests. The tools of this repository and the dependencies of a new project are
# resolved together; otherwise lowest-direct would keep versions already installed for the tools.
$(READY): $(UV)
	rm -rf $(ENV) $(BUILD)/dependencies
	$(UV) venv --quiet $(ENV)
	$(UV) tool run --from 'cookiecutter>=2.7' cookiecutter . --default-config --no-input --output-dir $(BUILD)/dependencies git=no
	cd $(BUILD)/dependencies/my-project && $(UV) pip install --python $(ENV) --resolution $(RESOLUTION) \
		--requirements pyproject.toml $(EXTRAS) --group dev --group $(CURDIR)/pyproject.toml:dev
	touch $@
