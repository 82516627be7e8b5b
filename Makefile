# Every goal sets up what it needs in .venv first, and only when pyproject.toml or the C sources have changed.
# `make help` lists the goals.  PYTHON=python3.12 picks the interpreter,  ARGS='...' is passed on to the goal's command.

PYTHON ?= python3
ARGS ?=

venv := .venv
python := $(venv)/bin/python
# Stamps. Those under build/ go with `make clean`, which takes the extensions away too.
environment := $(venv)/.lamplighter-dev
bench_environment := $(venv)/.lamplighter-bench
extensions := build/.extensions

packaging := pyproject.toml $(wildcard setup.py)
native := $(shell find native -type f \( -name '*.c' -o -name '*.h' -o -name '*.py' \) 2>/dev/null)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run test bench bench-compare bench-publish chaos wheel image layer lint types build check clean distclean

help: ## list the goals
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(extensions) ## take the tour: start the host, invoke every example, show what each start costs
	$(python) examples/tour.py $(ARGS)

test: $(extensions) ## run the tests (ARGS='tests/worker -k logs')
	$(python) -m pytest $(ARGS)

bench: $(bench_environment) $(extensions) ## run the benchmarks against their peers, into bench/results
	$(python) -m bench $(ARGS)

bench-compare: $(bench_environment) ## what got slower between two results (ARGS='old.json new.json'; else the newest two)
	@$(python) -m bench.compare $(ARGS)

bench-publish: $(bench_environment) ## the newest result where readers see it: docs/figures, README (ARGS=result.json for another)
	@$(python) -m bench.publish $(ARGS)

wheel: $(environment) ## build this machine's wheel, and try it in an empty environment
	$(python) tools/try_wheel.py $(ARGS)

image: ## build the container image (needs docker; CI does it with buildah)
	docker build -t lamplighter $(ARGS) .

chaos: $(bench_environment) $(extensions) ## everything goes wrong at once (ARGS='--invocations 20000 --killed-hosts 5')
	$(python) -m bench.havoc $(ARGS)

lint: $(environment) ## check style and formatting
	$(python) -m ruff check .
	$(python) -m ruff format --check .

types: $(environment) ## check types
	$(python) -m mypy
	$(python) -m mypy --explicit-package-bases examples tools

build: $(extensions) ## build the native extensions in place

layer: ## build the Lambda layers into dist/ (ARGS='--machine arm64 --python python3.12')
	$(PYTHON) tools/build_layer.py $(ARGS)

check: ## name any system package that is missing; silent when all is there
	@command -v $(PYTHON) >/dev/null || { \
	  echo "lamplighter: there is no $(PYTHON)." \
	    "Debian, Ubuntu: apt install python3 python3-venv python3-dev; Fedora: dnf install python3 python3-devel;" \
	    "or name another: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) tools/check_environment.py

clean: ## remove what was built and cached (not .venv, not bench/results)
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks
	find runtime native tests bench examples tools -type d -name __pycache__ -prune -exec rm -rf {} +
	find runtime -type f \( -name '*.so' -o -name _keeper \) -delete

distclean: clean ## the same, and .venv and the package's metadata
	rm -rf $(venv) runtime/*.egg-info

# --no-build-isolation: the build tools come from .venv, so that a later `make build` works without a network.
# pip builds the extensions too, hence the second stamp: their own rule then finds nothing left to do.
$(environment): $(packaging)
	@$(MAKE) --no-print-directory check
	test -x $(python) || $(PYTHON) -m venv $(venv)
	$(python) -m pip install --quiet --disable-pip-version-check --upgrade pip 'setuptools>=77' 'cffi>=1.17'
	$(python) -m pip install --quiet --disable-pip-version-check --no-build-isolation --editable '.[examples,dev]'
	@touch $@
	@mkdir -p $(dir $(extensions)) && touch $(extensions)

$(bench_environment): $(environment)
	$(python) -m pip install --quiet --disable-pip-version-check --no-build-isolation --editable '.[examples,dev,bench]'
	@touch $@

# By pip again, not `setup.py build_ext`: it also builds the keeper, and in a fresh directory, so that a changed header
# compiles the sources that include it.
$(extensions): $(environment) $(native)
	@test $@ -nt $(environment) && test -z "$$(find native -type f -newer $@)" || { set -x; \
	  $(python) -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps --editable .; }
	@mkdir -p $(dir $@) && touch $@
