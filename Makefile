# Each verb sets up what it needs in $(VENV) from nothing but Python, make and a package index.
#
#   make test                                        the Python that `python3` names
#   make test PYTHON=python3.13 VENV=.venv-3.13      another one beside it
#   make test JOBS=1                                 without parallel processes; most tests wait rather than compute

PYTHON ?= python3
VENV   ?= .venv
JOBS   ?= 4
CORE   := tests/ul tests/dimse
RUN    := $(VENV)/bin/python -m

.PHONY: help demo test test-slow lint format bench docs clean
.NOTPARALLEL: # two pips in one environment would collide

help:
	@echo 'make demo       an SCP and an SCU move real files; prints who called what'
	@echo 'make test       the tests, with the coverage gate for ul/ and dimse/'
	@echo 'make test-slow  the tests that take minutes'
	@echo 'make lint       format, lint and type checks'
	@echo 'make format     rewrite the sources as lint wants them'
	@echo 'make bench      the benchmarks, into benchmarks/results (QUICK=1: a short run)'
	@echo 'make docs       the manual in docs/_build/html, pages for man in docs/_build/man; a warning is an error'
	@echo 'make clean      remove what was built; the environment $(VENV) stays'

demo: $(VENV)/.with-cli
	$(VENV)/bin/dicomnet demo

# The gate is for ul/ and dimse/, which their own tests reach down to the last branch; to trace all others, too, would
# take as long again.
test: $(VENV)/.with-test
	$(RUN) pytest -n $(JOBS) $(CORE) --cov $(ARGS)
	$(RUN) pytest -n $(JOBS) $(CORE:%=--ignore=%) $(ARGS)

test-slow: $(VENV)/.with-test
	$(RUN) pytest -m slow $(ARGS)

lint: $(VENV)/.with-lint
	$(RUN) ruff format --check .
	$(RUN) ruff check .
	$(RUN) mypy

format: $(VENV)/.with-lint
	$(RUN) ruff format .
	$(RUN) ruff check --fix .

bench: $(VENV)/.with-test
	$(RUN) benchmarks $(ARGS)

docs: $(VENV)/.with-docs
	$(VENV)/bin/python docs/commands.py
	$(RUN) sphinx --fail-on-warning --keep-going --quiet -b html -d docs/_build/doctrees docs docs/_build/html
	$(RUN) sphinx --fail-on-warning --keep-going --quiet -b man -d docs/_build/doctrees docs docs/_build/man
	@echo 'docs/_build/html/index.html and, for man -l, docs/_build/man/*'

clean:
	rm -rf build dist docs/_build htmlcov .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find src tests benchmarks docs -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

# A stamp for each extra: installed once, and again when pyproject.toml changes.
$(VENV)/.with-%: pyproject.toml $(VENV)/.made
	$(RUN) pip install --quiet --disable-pip-version-check --no-input --editable '.[$*]'
	@touch $@

$(VENV)/.made:
	@command -v $(PYTHON) >/dev/null || \
	    { echo "dicomnet needs Python 3.11 or newer, and '$(PYTHON)' was not found: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "dicomnet needs Python 3.11 or newer, and '$(PYTHON)' is not: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@
