# Two commands do everything: `make demo` and `make test`.

VENV   ?= .venv
PYTHON ?= python3
BIN    := $(VENV)/bin
# What builds the package is pinned as well: the first variable does it for pip before 25.3, the second one since.
PIP    := PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt $(BIN)/pip
ARGS   ?=
JOBS   ?= 3
DIST   ?= dist
FAULTS_TIMES ?= 100

# What the tests are run against, beside what PyPI has.
DEBIAN_PACKAGES := prosody curl openssl procps espeak-ng uwsgi-core uwsgi-plugin-python3 uwsgi-plugin-alarm-curl libfaketime \
    gcc libc6-dev libpcre3 libpcre2-8-0 logcheck-database prometheus prometheus-alertmanager chromium buildah systemd \
    systemd-journal-remote redis-server redis-sentinel

# What covers engine, config and delivery to the last branch; the other tests are faster without being measured.
COVERED := tests/engine tests/patterns tests/config tests/delivery tests/model tests/master/worker tests/master/runtime

# What is measured. BENCHES="stream latency" is a part of it.
BENCHES := stream fields incidents delivery latency footprint handler middleware flood page_attack throughput growth fleet replay endurance

# Tests start hundreds of Python programs. With this variable in the environment, each would compile the package again.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo test tests covered lint docs wheel services bench bench-quick faults faults-fleet clean

help:
	@echo "make demo         install into $(VENV) and show alarms, from the printed line to the webhook"
	@echo "make test         install what the tests need and run lint, types, import contract and all tests"
	@echo "make docs         build the documentation into docs/_build"
	@echo "make wheel        build a wheel into $(DIST), for another machine"
	@echo "make faults       inject faults into real servers under load and report every alarm (ten minutes)"
	@echo "make faults-fleet inject faults into fleets of ten and a hundred masters (half an hour)"
	@echo "make bench        run all benchmarks, with the installed peers, into bench/results (half an hour)"
	@echo "make bench-quick  run all benchmarks briefly (two minutes)"
	@echo "make clean        remove everything that make has built"

demo: $(VENV)/.demo
	@$(BIN)/python examples/flask_app/demo.py $(ARGS)

# What runs beside the tests prints at its end, whole; the tests as they go, for which make wants a `+`.
test: $(VENV)/bin/python
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target services $(VENV)/.test
	@$(MAKE) --no-print-directory --jobs=3 --output-sync=target tests covered lint

# Most of them wait for servers: more at a time than there are processors. What failed beside the others is run once more,
# alone; what then passes is named at the end as FLAKY.
tests: $(VENV)/.test
	+@$(BIN)/pytest --numprocesses=$(JOBS) --dist=worksteal $(addprefix --ignore=,$(COVERED)) $(ARGS) || \
	    { echo "Once more, alone:"; $(BIN)/pytest --last-failed --last-failed-no-failures=none tests; }

covered: $(VENV)/.test
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest --quiet -p no:cacheprovider $(COVERED)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --include='alarm_mw/engine/*,alarm_mw/patterns/*,alarm_mw/config/*,alarm_mw/delivery/*' --fail-under=100

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/vulture

# The long form of tests/faults, of which the tests run a short one. ARGS=--monkey=1800 combines random faults for 1800
# seconds instead; FAULTS_SEED repeats a run.
faults: services $(VENV)/.test
	@PYTHONPATH=tests/faults:tests/services $(BIN)/python -m faults --times $(FAULTS_TIMES) $(ARGS)

# The long form of tests/faults/test_fleet_faults.py. ARGS=--chaos=1800 injects random faults for 1800 seconds instead.
faults-fleet: services $(VENV)/.test
	@PYTHONPATH=tests/faults:tests/services $(BIN)/python -m faults.fleet $(ARGS)

docs: $(VENV)/.test
	$(BIN)/sphinx-build -q -W --keep-going -b html docs docs/_build

wheel: $(VENV)/bin/python
	$(BIN)/pip wheel -q --disable-pip-version-check --no-deps --wheel-dir $(DIST) .

# One after the other: they would measure each other.
bench: $(VENV)/.test
	@for name in $(BENCHES); do $(BIN)/python bench/$$name.py $(ARGS) || exit 1; done
	@$(BIN)/python bench/goals.py

bench-quick: ARGS += --quick --rounds 1
bench-quick: BENCHES := $(filter-out endurance,$(BENCHES))
bench-quick: bench

# As root the Debian packages are installed; otherwise they must be there.
services:
	@missing=$$(dpkg-query -W -f='$${db:Status-Status} $${Package}\n' $(DEBIAN_PACKAGES) 2>/dev/null | \
	    awk '$$1 == "installed" {print $$2}' | sort | comm -13 - <(printf '%s\n' $(DEBIAN_PACKAGES) | sort)); \
	if [ -n "$$missing" ] && [ "$$(id -u)" = 0 ]; then \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing; \
	elif [ -n "$$missing" ]; then \
	    echo "please install: apt-get install $$missing"; exit 1; \
	fi
services: SHELL := /bin/bash

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "alarm_mw needs Python 3.11 or later; say which: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || [ "$$(id -u)" != 0 ] || \
	    { apt-get update -qq && apt-get install -y -qq python3-venv; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: $(VENV)/bin/python pyproject.toml constraints.txt
	@echo "Installing into $(VENV); this takes half a minute."
	@$(PIP) install -q --disable-pip-version-check -e '.[examples]'
	@touch $@

$(VENV)/.test: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) install -q --disable-pip-version-check -e '.[test]'
	@touch $@

clean:
	rm -rf $(VENV) $(DIST) docs/_build .coverage* .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
