# Everything a developer runs. `make help` lists it; nothing but Python 3.11 or newer and make is needed beforehand.

PYTHON ?= $(shell for candidate in python3 python3.11 python3.12 python3.13 python3.14; do \
	"$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$candidate"; break; }; \
	done)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
ARGS ?=
NO_TESTS := --quiet -DskipTests -Dmaven.javadoc.skip=true -Ddokka.skip=true

.DEFAULT_GOAL := help
.PHONY: help setup test unit lint format types proto proto-check ts java reproducible kotlin demo conformance bench bench-peers bench-check docs-check lock ci clean

help: ## list what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(READY) ## create .venv with everything pinned by requirements.lock
	@:

$(READY): requirements.lock pyproject.toml sdk-python/pyproject.toml sdk-python/amx/wire.py
	@if [ -z "$(PYTHON)" ]; then \
		echo "No Python 3.11 or newer was found. Install one, or name it: make setup PYTHON=/path/to/python3" >&2; exit 1; \
	fi
	@echo "setup 1/4: environment in $(VENV) ($$($(PYTHON) --version))"
	@[ -x $(BIN)/python ] || $(PYTHON) -m venv $(VENV) || { \
		echo "Creating $(VENV) failed; on Debian and Ubuntu it needs the package python3-venv." >&2; rm -rf $(VENV); exit 1; }
	@echo "setup 2/4: packages from requirements.lock"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@echo "setup 3/4: the SDK and the engine, editable"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e sdk-python -e .
	@echo "setup 4/4: the frame codec, compiled if there is a C compiler"
	@$(BIN)/python sdk-python/compile_wire.py
	@touch $@

test: setup ## every test: unit, process and fault
	@$(BIN)/python -m pytest $(ARGS)

unit: setup ## the quick tests: no processes, no faults
	@$(BIN)/python -m pytest -m "not process and not fault and not slow" $(ARGS)

lint: setup ## style and likely mistakes
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check

format: setup ## put every file into the project's format
	@$(BIN)/ruff check --fix-only --quiet
	@$(BIN)/ruff format

types: setup ## mypy --strict
	@$(BIN)/mypy

proto: ## generate the stubs in sdk-python/amx from proto/, and in sdk-ts/src/gen where there is Node
	@$(PYTHON) scripts/generate_stubs.py
	@if [ -d sdk-ts/node_modules ]; then npm --prefix sdk-ts run --silent stubs; fi

proto-check: setup ## contracts: stubs current, lint, format, nothing broken since the last commit on main
	@$(PYTHON) scripts/generate_stubs.py --check
	@$(BIN)/python scripts/check_protos.py

ts: setup sdk-ts/node_modules/.ready ## the TypeScript SDK: build, stubs current, lint, types, tests (QUICK=1: build)
	@npm --prefix sdk-ts run --silent build
ifndef QUICK
	@npm --prefix sdk-ts run --silent stubs:check
	@npm --prefix sdk-ts run --silent lint
	@npm --prefix sdk-ts run --silent types
	@npm --prefix sdk-ts test --silent
endif

sdk-ts/node_modules/.ready: sdk-ts/package.json sdk-ts/package-lock.json
	@command -v npm >/dev/null || { echo "The TypeScript SDK needs Node 20 or newer, with npm." >&2; exit 1; }
	@npm --prefix sdk-ts ci --no-audit --no-fund --loglevel=error
	@touch $@

java: setup ## the Java SDK: build with every warning an error, tests, documentation (QUICK=1: build)
	@command -v mvn >/dev/null || { echo "The Java SDK needs a JDK 17 or newer, and Maven." >&2; exit 1; }
	@AMX_COMMAND=$${AMX_COMMAND:-$(CURDIR)/$(BIN)/amx} \
		mvn --batch-mode --no-transfer-progress --file sdk-java/pom.xml $(if $(QUICK),package $(NO_TESTS),verify)

reproducible: setup ## builds the Java SDK (SDK=sdk-kotlin: Kotlin's) once more, elsewhere: the archives must be the same, byte for byte
	@$(BIN)/python scripts/check_reproducible.py $(SDK)

kotlin: setup ## the Kotlin SDK, with the Java SDK that it stands on: build with every warning an error, tests (QUICK=1: build)
	@command -v mvn >/dev/null || { echo "The Kotlin SDK needs a JDK 17 or newer, and Maven." >&2; exit 1; }
	@AMX_COMMAND=$${AMX_COMMAND:-$(CURDIR)/$(BIN)/amx} \
		AMX_AIRPORTS=$$($(BIN)/python -c 'import airportsdata; print(airportsdata.__path__[0])')/airports.csv \
		mvn --batch-mode --no-transfer-progress --file sdk-kotlin/pom.xml package -Djava.skipTests=true $(if $(QUICK),$(NO_TESTS))

demo: setup ## two agents and a pipeline on real data, with the engine killed in the middle
	@$(BIN)/python -m examples.demo $(ARGS)

conformance: setup ## the conformance suite: the engine, and every SDK whose toolchain is here
	@$(BIN)/python -m conformance run $(ARGS)
	@$(BIN)/python -m conformance matrix --no-build

bench: setup ## measure; results in benchmarks/results
	@$(BIN)/python -m benchmarks $(ARGS)

bench-peers: setup ## install the systems that benchmarks compare with into benchmarks/.peers
	@$(BIN)/python -m benchmarks peers-install $(ARGS)

bench-check: setup ## print the measured rows that miss their bound
	@$(BIN)/python -m benchmarks check $(ARGS)

docs-check: setup ## links resolve, code in the documents compiles
	@$(BIN)/python scripts/check_docs.py

lock: ## resolve the dependencies again (UPGRADE=1: newest releases within the bounds)
	@$(PYTHON) scripts/lock.py $(if $(UPGRADE),--upgrade)

ci: ## what runs for every change
	@.ci/run

clean: ## remove environments, caches and build outputs
	rm -rf sdk-ts/node_modules sdk-ts/dist sdk-java/*/target sdk-kotlin/*/target examples/*/target .venv .venv-proto .venv-lock .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist .amx
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
