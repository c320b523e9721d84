# The words of this project; `make help` lists them. CI calls the same ones.

VENV ?= .venv
BIN := $(VENV)/bin
PYTHON ?= python3
SECONDS ?= 600
MINUTES ?= 10
CPUS := $(shell nproc 2>/dev/null || getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1)
JOBS ?= $(shell expr $(CPUS) + 1)
STAMP := $(VENV)/.authproxy-installed

# What pytest makes of the asserts is kept: to make it again takes longer than most tests.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help run unit live test coverage fuzz soak mutants lint format types bench references pictures site dist image clean

help: ## list the words
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

run: $(STAMP) ## the proxy before its built-in demo APIs, ready for curl; ARGS='--listen 127.0.0.1:9090'
	@$(BIN)/authproxy demo $(ARGS)

# To tell of a test takes xdist as long as most of these do: so they run in parts that know nothing of each other.
PARTS := $(addprefix unit-,$(shell seq $(JOBS)))
.PHONY: $(PARTS)

unit: $(STAMP).dev ## the unit tests: no server, no browser, seconds
	@$(MAKE) --no-print-directory --jobs=$(JOBS) $(if $(filter output-sync,$(.FEATURES)),--output-sync) $(or $(PARTS),$(error JOBS should be a number from 1 on))

$(PARTS): unit-%:
	@$(BIN)/pytest --part=$*/$(JOBS) -o cache_dir=.pytest_cache/$@ --hypothesis-profile=quick $(ARGS) tests/unit

live: $(STAMP).dev ## the installed command, over the wire
	@$(BIN)/pytest --numprocesses=$(JOBS) --dist=loadfile $(ARGS) tests/live

test: $(STAMP).servers ## all tests
	@$(BIN)/pytest --numprocesses=$(JOBS) --dist=loadfile $(ARGS)

coverage: $(STAMP).dev ## the unit tests, and how much of the code they run
	@$(BIN)/pytest --numprocesses=$(JOBS) --dist=worksteal --cov --cov-report=term:skip-covered $(ARGS) tests/unit

fuzz: $(STAMP).servers ## requests made up by hypothesis, to us, nginx and HAProxy, for SECONDS (600)
	@AUTHPROXY_REQUIRE_ALL=1 AUTHPROXY_FUZZ_SECONDS=$(SECONDS) $(BIN)/pytest -s $(ARGS) \
	  tests/servers/test_differential.py

soak: $(STAMP).dev ## MINUTES (10) of load, with every fault that can be injected
	@$(BIN)/python -m tests.soak --minutes $(MINUTES)

mutants: $(STAMP).servers ## one guard of the data path removed at a time: does a test notice?
	@$(BIN)/python -m tests.mutants $(ARGS)

lint: $(STAMP).dev ## style, and imports that only go down
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports

format: $(STAMP).dev ## let ruff format the code
	@$(BIN)/ruff check --fix-only .
	@$(BIN)/ruff format .

types: $(STAMP).dev ## mypy: strict over authproxy, on every system, less so over the tests
	@$(BIN)/mypy
	@$(BIN)/mypy --platform darwin --cache-dir .mypy_cache/darwin authproxy
	@$(BIN)/mypy --platform win32 --cache-dir .mypy_cache/win32 authproxy

bench: $(STAMP).bench ## side by side with nginx, Envoy, Go and others; ARGS=--quick for a try
	@$(BIN)/python bench/compare.py $(ARGS)

references: $(STAMP).dev ## the pages on every key and every verb, made anew of the program itself
	@$(BIN)/python -m docs.tools.references

pictures: $(STAMP).servers ## the pictures of the README, taken of the demo
	@$(BIN)/python -m docs.tools.pictures

site: $(STAMP).docs ## the documentation as a web site, in build/site/
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict --config-file .github/mkdocs.yml

dist: $(STAMP).dev ## the sdist and the wheel, in dist/
	@$(BIN)/python -m build --outdir dist .

image: ## a container image, authproxy:latest
	docker build -t authproxy .

clean: ## forget the environment and every cache
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

# A virtual environment of our own, made anew when the dependencies change.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "authproxy needs Python 3.11 or newer; name one with make PYTHON=python3.12 …" >&2; exit 1; }
	@echo "making a Python environment in $(VENV), once" >&2
	@$(PYTHON) -m venv $(VENV) || { \
	  echo "python cannot make a virtual environment; on Debian: apt-get install python3-venv" >&2; \
	  rm -rf $(VENV); exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'

$(STAMP): $(BIN)/python pyproject.toml
	@echo "installing authproxy into $(VENV), once; this may take a minute" >&2
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(STAMP).dev: $(STAMP)
	@echo "installing what the tests need into $(VENV), once" >&2
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --group dev
	@touch $@

$(STAMP).servers: $(STAMP).dev
	@echo "installing the servers that the tests run against into $(VENV), once" >&2
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --group servers --group deploy
	@touch $@

$(STAMP).docs: $(STAMP)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --group docs
	@touch $@

# mitmproxy wants other versions of what we use, and no other peer needs it: it has an environment of its own.
$(STAMP).bench: $(STAMP)
	@echo "installing who is compared with into $(VENV), once" >&2
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --group bench
	@$(BIN)/python -m venv $(VENV)/mitmproxy
	@$(VENV)/mitmproxy/bin/python -m pip install --quiet --disable-pip-version-check mitmproxy || \
	  echo "going on without mitmproxy" >&2
	@touch $@
