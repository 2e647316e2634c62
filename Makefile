# Everything a newcomer needs: `make study`, `make test`. Other targets: `make help`.
VENV ?= .venv
PY := $(VENV)/bin/python
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$p" && break; done)

.DEFAULT_GOAL := help
.PHONY: help study limits harness test lint bench fuzz conformance clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

study: $(VENV)/.model ## ten checks on a real embedded model, in a few minutes
	$(PY) -m pytest example_suites/edge_study --agent-model=smollm2 --agent-gate=off --tb=no -rN -p no:randomly

limits: $(VENV)/.model ## eight ladders: the embedded model, two scripted ones, and the null models
	$(PY) -m pytest example_suites/limits --agent-model=smollm2 --agent-gate=off --tb=no -rN -p no:randomly
	$(PY) -m pytest_agentlimit.example_suites.limits.scripted 3 12
	$(PY) -m pytest example_suites/limits --agent-audit --tb=no -rN -p no:randomly

harness: $(VENV)/.tools $(VENV)/.harness ## the harness suite through four real agent programs (installs 1 GB, once)
	PATH="$(abspath $(VENV))/harness/bin:$$PATH" $(PY) -m pytest_agentlimit.example_suites.harness.scripted pi mini-swe-agent claude-code opencode

# Three workers fill two cores, as many tests wait; compiled once, not in each of a thousand runs.
test: $(VENV)/.model $(VENV)/.tools lint ## style, types and the whole test suite (offline once installed)
	PYTHONDONTWRITEBYTECODE= $(PY) -m pytest -n 3

lint: $(VENV)/.tools ## ruff and mypy
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

bench: $(VENV)/.tools $(VENV)/.peers ## speed against the budgets of the design, in about eight minutes
	$(PY) -m pytest benchmarks -q -p no:randomly -p no:xdist -p no:asyncio --benchmark-only --benchmark-disable-gc --benchmark-quiet

fuzz: $(VENV)/.tools ## ten thousand broken streams through the bridge, in a few minutes
	AGENTLIMIT_FUZZ=10000 $(PY) -m pytest tests/bridge/test_bridge_fuzz.py -q -p no:randomly

conformance: $(VENV)/.tools ## the anthropic SDK's own tests of messages, against the bridge
	$(PY) tests/bridge/conformance.py $(VENV)/anthropic-suite

clean: ## remove the virtual environment and everything generated
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks .agentlimit

$(PY):
	@test -n "$(PYTHON)" || { echo "error: Python 3.11 or newer is needed and was not found; install it, or name it: make PYTHON=/path/to/python $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "error: $(PYTHON) cannot make a virtual environment; on Debian and Ubuntu install python3-venv" >&2; exit 1; }

$(VENV)/.package: pyproject.toml | $(PY)
	@$(PY) -m pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1" \
		&& $(PY) -m pip install --quiet --disable-pip-version-check --editable ".[embedded]" \
		|| { echo "error: the package could not be installed (pip says why above); this step needs a package index, once. Run 'make $(MAKECMDGOALS)' again when it can be reached" >&2; exit 1; }
	@touch $@

$(VENV)/.tools: $(VENV)/.package
	@$(PY) -m pip install --quiet --disable-pip-version-check --group test \
		|| { echo "error: the test tools could not be installed (pip says why above); this step needs a package index, once" >&2; exit 1; }
	@touch $@

$(VENV)/.peers: | $(PY) # what `bench` compares with; without it that row says so
	@{ $(PY) -m venv $(VENV)/peers \
		&& $(VENV)/peers/bin/python -m pip install --quiet --disable-pip-version-check "litellm[proxy]==1.106.2" \
		&& touch $@; } || echo "note: LiteLLM's proxy could not be installed (why stands above) and will not be measured" >&2

$(VENV)/.harness: tests/harness/install_programs.sh | $(PY)
	@sh tests/harness/install_programs.sh $(VENV)/harness $(PY)
	@touch $@

$(VENV)/.model: $(VENV)/.package
	@$(VENV)/bin/agentlimit pull smollm2
	@touch $@
