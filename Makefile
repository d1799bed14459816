# Needs Python 3.11 and make; everything else comes from the Python registry. `make` shows the targets.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
PY := $(BIN)/python
INSTALLED := $(VENV)/.installed
GENERATED := $(VENV)/.protos
REQUIREMENTS := requirements/base.txt requirements/local.txt requirements/dev.txt
PROTOS := $(shell find protos -name '*.proto' 2>/dev/null)

.PHONY: help install protos lint format test test-parts test-whole demo up down stress bench clean

help: ## Show the targets
	@echo "make <target> [ARGS=...]"
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  \1\t\2/' | expand -t 14

install: $(INSTALLED) ## Virtual environment with all pinned packages (hashes checked) and the rondo command

$(INSTALLED): $(REQUIREMENTS) tools/link_venv.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11) and "Python 3.11 is needed, this is " + sys.version)'
	@test -x $(PY) || $(PYTHON) -m venv $(VENV)
	@echo "installing $(words $(REQUIREMENTS)) lists of pinned packages"
	@$(PY) -m pip install --quiet --disable-pip-version-check --no-compile --no-deps --require-hashes $(addprefix -r ,$(REQUIREMENTS))
	@$(PY) tools/link_venv.py
	@touch $@

protos: $(GENERATED) ## Generate the gRPC code from protos/

$(GENERATED): $(PROTOS) $(INSTALLED)
	@test -z "$(PROTOS)" || $(PY) -m grpc_tools.protoc -Iprotos --python_out=protos --grpc_python_out=protos --pyi_out=protos $(PROTOS)
	@touch $@

lint: install protos ## Style, import law, protos: style and promise
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo
	$(BIN)/buf lint protos
	$(BIN)/buf breaking protos --against protos/baseline.binpb

format: install ## Put all files into the one style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Two sessions side by side: the first mostly waits (for time-outs, elections, polls), the second runs the
# whole stack and kills processes. Each has servers of its own. Their output comes when each has ended.
# On a machine that is slow (a shared one) JOBS=1 runs them one after the other.
JOBS ?= 2
PARTS := tests/unit tests/contract tests/architecture tests/guide tests/integration
WHOLE := tests/e2e tests/conformance tests/browser

test: lint ## Everything CI runs (ARGS="tests/unit/rhythm -x": only these)
ifdef ARGS
	$(PY) -m pytest $(ARGS)
else
	@$(MAKE) --no-print-directory -j$(JOBS) -k -Otarget test-parts test-whole
endif

test-parts: protos
	$(PY) -m pytest --durations=10 $(PARTS)

# the chaos tests in a session of their own: the stack that the others share has ended by then
test-whole: protos
	$(PY) -m pytest --durations=10 $(WHOLE); whole=$$?; $(PY) -m pytest --durations=10 tests/chaos && exit $$whole

demo: install protos ## The main job on real data, end to end (ARGS=--once: exit after the summary)
	@$(PY) -m examples.demo $(ARGS)

up: install protos ## Start the whole stack in the foreground (ARGS="--detach --scale profiles=2 ...")
	@$(BIN)/rondo up $(ARGS)

down: install ## Stop the stack
	@$(BIN)/rondo down $(ARGS)

stress: install protos ## Faults at size: a line each (ARGS="4 18 --events 20000": only these, smaller)
	$(PY) -m tests.stress $(ARGS)

bench: install protos ## Measure beside the numbers of the design (prints ratios)
	@$(BIN)/rondo bench $(ARGS)

clean: ## Remove generated code, caches and the local stack's folder (keeps the virtual environment)
	@if [ -x $(BIN)/rondo ] && [ -e .rondo/state.json ]; then $(BIN)/rondo down || true; fi
	rm -rf .rondo .ruff_cache .mypy_cache .pytest_cache .hypothesis .import_linter_cache $(GENERATED)
	find protos \( -name '*_pb2.py' -o -name '*_pb2.pyi' -o -name '*_pb2_grpc.py' \) -delete
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
