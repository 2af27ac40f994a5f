# Two commands matter: `make run` and `make test`. All they need is installed into .venv, once.

# The newest of these that can make a virtual environment is used; `make PYTHON=... test` overrules.
PYTHONS := $(or $(PYTHON),python3.14 python3.13 python3.12 python3.11 python3)
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo 'sudo ')
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run run-distributed test lint format bench bench-real examples pins clean wrk rabbitmq

help: ## Say what can be made
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 26

run: .venv/.runtime ## Start the platform on http://127.0.0.1:8000; Ctrl-C stops it
	@exec $(BIN)/paceline run

run-distributed: .venv/.dev rabbitmq ## Start it on a RabbitMQ and a MongoDB of its own, to try that
	@exec $(BIN)/python -m tests.servers

# Two at a time, because much of a test is waiting; each has servers of its own.
test: lint rabbitmq ## Check style and types, then run every test
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

examples: .venv/.made ## Test each example plug-in with the platform, in an environment of its own
	@for example in examples/*/; do [ -d "$$example" ] || continue; echo "Testing $$example"; \
	    tools=$$(mktemp -d) && $(BIN)/python -m venv "$$tools" \
	    && "$$tools/bin/pip" install --disable-pip-version-check --quiet --require-hashes \
	        -r requirements/runtime.txt \
	    && rm -rf build && "$$tools/bin/pip" install --disable-pip-version-check --quiet --no-deps . \
	    && "$$tools/bin/pip" install --disable-pip-version-check --quiet "./$$example[test]" \
	    && "$$tools/bin/pytest" --quiet "$$example"; code=$$?; rm -rf "$$tools"; \
	    [ $$code = 0 ] || exit $$code; \
	done

lint: .venv/.dev ## Check style and types only
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/.dev ## Bring the code into shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: .venv/.dev wrk rabbitmq ## Measure, and compare with the bare server
	$(BIN)/python -m tests.bench

bench-real: .venv/.dev rabbitmq ## Measure on a RabbitMQ and a MongoDB, and compare with bare clients
	$(BIN)/python -m tests.bench.real

# On the oldest Python that is supported: what only that one needs must be pinned too.
pins: ## Pin the newest versions of all requirements, with hashes
	@set -e; tools=$$(mktemp -d); trap 'rm -rf "$$tools"' EXIT; \
	$(or $(PYTHON),python3.11) -m venv "$$tools"; "$$tools/bin/pip" install --quiet pip-tools; \
	for name in runtime dev; do \
	    (cd requirements && CUSTOM_COMPILE_COMMAND='make pins' "$$tools/bin/pip-compile" --quiet \
	        --upgrade --generate-hashes --allow-unsafe --strip-extras --no-emit-index-url \
	        --no-emit-trusted-host --no-emit-find-links --output-file $$name.txt $$name.in); \
	done

clean: ## Remove the environment and all caches
	rm -rf .venv build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamps say what .venv holds. They are older than what they were made from only when that has
# changed, so a second `make test` installs nothing.
.venv/.made:
	@old=; bare=; \
	for python in $(PYTHONS); do \
	    version=$$($$python -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue; \
	    $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { old=$$version; continue; }; \
	    $$python -c 'import ensurepip, venv' 2>/dev/null || { bare=$${bare:-$$version}; continue; }; \
	    echo "Making .venv with Python $$version (a minute, once)"; \
	    $$python -m venv --clear .venv && touch $@; exit; \
	done; \
	if [ "$$bare" ]; then \
	    echo "Python $$bare cannot make a virtual environment here: $(SUDO)apt-get install python$$bare-venv"; \
	elif [ "$$old" ]; then \
	    echo "Python 3.11 or newer is needed, here is $$old: $(SUDO)apt-get install python3.11-venv, or make PYTHON=/path/to/python3"; \
	else \
	    echo "Python 3.11 or newer is needed: $(SUDO)apt-get install python3-venv"; \
	fi >&2; exit 1

.venv/.runtime: .venv/.made requirements/runtime.txt setup.cfg pyproject.toml
	@$(PIP) install --require-hashes -r requirements/runtime.txt
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

.venv/.dev: .venv/.made requirements/dev.txt setup.cfg pyproject.toml
	@$(PIP) install --require-hashes -r requirements/dev.txt
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch .venv/.runtime $@

# Whoever has no right to install it may run every other test.
rabbitmq:
	@[ -x /usr/lib/rabbitmq/bin/rabbitmq-server ] || command -v rabbitmq-server >/dev/null \
	    || { echo "Installing RabbitMQ's server for the tests"; \
	         $(SUDO)apt-get -qq update && $(SUDO)env DEBIAN_FRONTEND=noninteractive \
	             apt-get -qq install --yes rabbitmq-server >/dev/null; } \
	    || echo "RabbitMQ's server is missing: $(SUDO)apt-get install rabbitmq-server" >&2

wrk:
	@command -v wrk >/dev/null || { $(SUDO)apt-get -qq update && $(SUDO)apt-get -qq install --yes wrk >/dev/null; } \
	    || { echo "wrk is needed to measure: $(SUDO)apt-get install wrk" >&2; exit 1; }
