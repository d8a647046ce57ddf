# `make help` lists the targets. Everything runs in .venv, which the first target makes.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
# The marker files are named after the folder: a moved or copied environment would still use the old one.
INSTALLED := $(VENV)/.installed.$(firstword $(shell pwd | cksum))
INSTALLED_DEV := $(INSTALLED).dev
export PATH := $(CURDIR)/$(BIN):$(PATH)

.DEFAULT_GOAL := help
.PHONY: help setup setup-dev repro check lint test test-all readme case-study bench bench-scaling \
	bench-verdicts bench-champion bench-ablation \
	faults audit ui notebook screenshots pages clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "bikefit needs Python 3.11 or newer, $(PYTHON) is $$($(PYTHON) -V): make PYTHON=python3.12 …"; exit 1; }
	@[ -e $@ ] || rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV)
	$(PIP) -e .
	@touch $@

$(INSTALLED_DEV): $(INSTALLED)
	$(PIP) -e ".[dev]"
	@touch $@

setup: $(INSTALLED) ## make .venv with exactly pinned packages for running
	@# DVC refuses to work outside git unless `no_scm` is set (an unpacked archive).
	@if [ -e .git ]; then rm -f .dvc/config.local; \
	else printf '[core]\n    no_scm = true\n' > .dvc/config.local; fi

setup-dev: setup $(INSTALLED_DEV) ## add the packages for tests, clusters and servers

repro: setup ## run the whole pipeline: download, clean, featurize, sweep, compare, refit
	dvc repro

check: setup-dev ## the quick tests: no process, no server
	pytest -n auto --dist loadfile -m "not slow and not process"

lint: setup-dev ## linters and types
	ruff check .
	ruff format --check .
	lint-imports --no-logo
	mypy

test: lint ## lint, and all tests except the long ones
	pytest -n auto --dist loadfile --no-loadscope-reorder -m "not long"

test-all: lint ## lint, and all tests (clusters, browsers, faults, the whole pipeline), as CI does
	pytest -n auto --dist loadfile --no-loadscope-reorder

readme: setup ## renew the result tables in README.md from the last `make repro`
	python -m bikefit.compare --record data/sweep.json --document README.md
	python -m bikefit.refit --document README.md

case-study: setup ## train the lecture's case study and renew its tables in docs/case_study.md
	dvc repro featurize
	for name in lecture lecture_sweep; do \
		python -m bikefit.train -m +experiment=$$name tracking.record=data/$$name.json && \
		python -m bikefit.compare --record data/$$name.json --document docs/case_study.md \
			--section $$name || exit 1; \
	done

bench: setup ## the reference sweep against its peers, start-up
	$(PIP) -e ".[bench]"
	dvc repro featurize
	python -m benchmarks race --write
	python -m benchmarks start_up --write

bench-scaling: setup ## how time and memory grow with members
	dvc repro featurize
	python -m benchmarks scaling --write

bench-verdicts: setup ## are verdicts right? 120 synthetic sweeps whose truth is known
	python -m benchmarks verdicts --write

bench-champion: setup ## is our model better than boosted trees? on 15 random splits
	$(PIP) -e ".[bench]"
	dvc repro clean
	python -m benchmarks champion --write

bench-ablation: setup ## what is each part of our model worth? on validation rows of 5 splits
	dvc repro clean
	python -m benchmarks ablation --write

faults: setup-dev ## inject every fault many times and count what is lost (must be nothing)
	python -m benchmarks faults

audit: setup-dev ## look the pinned packages up among known vulnerabilities
	.ci/audit

ui: setup ## look at the runs in MLflow, opened on the comparison, on http://127.0.0.1:5000
	python -m bikefit.ui

notebook: setup-dev ## make docs/notebook.ipynb from docs/notebook.md
	jupytext --quiet --update --to ipynb --set-kernel python3 docs/notebook.md

screenshots: setup-dev ## renew docs/pictures: the explorer, MLflow's views (needs chromium)
	python -m benchmarks screenshots

pages: ## docs, explorer and report of the last commit as a site in build/site
	@[ -e $(BIN)/python ] || $(PYTHON) -m venv $(VENV)
	$(PIP) mkdocs
	@# The folders of the repository stay as they are, so that relative links hold.
	rm -rf build/pages && mkdir -p build/pages
	git archive HEAD README.md CHANGELOG.md CONTRIBUTING.md CITATION.cff LICENSE benchmarks conf docs reports | \
		tar -x -C build/pages
	mkdocs build --strict --quiet

clean: ## remove .venv and caches; data, runs and reports stay
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
