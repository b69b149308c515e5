# make demo    install what is needed and play a whole tournament
# make test    install what the tests need and run all checks; tests of container engines that are
#              not there are skipped, visibly (.ci/run installs and starts them all)
# make test-all  the same and the long set: further products of cases that `make test` proves
# make docs    build the site in build/site, with warnings as errors
# make mutate  plant bugs where a mistake is dear, and see which the tests find (docs/mutation.md)
# make fuzz MINUTES=13  try readers of what strangers write on millions of inputs (docs/fuzzing.md)
# make check   style and types alone
# make clean   take away what was installed and built; results in runs/ stay
#
# Python packages go into .venv, in the exact versions of constraints.txt. The package itself is
# linked, not copied, so that only a new pyproject.toml or constraints.txt installs again.

PYTHON ?= python3
BIN := .venv/bin
PIP_INSTALL := $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt
# Two workers; tests/support/parts.py says which tests share one, and which begin first.
PYTEST := $(BIN)/pytest -n 2 --durations=30
CHECKED := $(wildcard advcomp tests attacks defenses benchmarks tournament)

MINUTES ?= 13

.PHONY: demo test test-all mutate fuzz docs check clean bubblewrap chromium

demo: bubblewrap .venv/installed-all
	$(BIN)/advcomp run tournament/digits/digits.toml

test: bubblewrap chromium check
	$(PYTEST)

test-all: bubblewrap chromium check
	$(PYTEST) --long

mutate: bubblewrap .venv/installed-mutation
	PYTHONPATH=tests nice -n 15 $(BIN)/python -P -m mutation.mutate

fuzz: .venv/installed-fuzz
	PYTHONPATH=tests nice -n 15 $(BIN)/python -P -m fuzz.campaign --minutes $(MINUTES)

check: .venv/installed-test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy $(CHECKED)

docs: .venv/installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

clean:
	rm -rf .venv build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis

.venv/installed-all: pyproject.toml constraints.txt | $(BIN)/pip
	@echo "Installing advcomp and PyTorch into .venv: several GB, so it takes a while."
	$(PIP_INSTALL) --editable '.[all]'
	@touch $@

.venv/installed-test: .venv/installed-all
	$(PIP_INSTALL) --editable '.[all,test]'
	@touch $@

.venv/installed-mutation: .venv/installed-test
	$(PIP_INSTALL) --editable '.[all,mutation]'
	@touch $@

.venv/installed-fuzz: .venv/installed-test
	$(PIP_INSTALL) --editable '.[all,fuzz]'
	@touch $@

.venv/installed-docs: .venv/installed-all
	$(PIP_INSTALL) --editable '.[all,docs]'
	@touch $@

$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "advcomp needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1)." \
	    "Name another one: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "$(PYTHON) cannot make virtual environments. Type: sudo apt-get install python3-venv" >&2; \
	  exit 1; }
	$(PYTHON) -m venv .venv

# Debian's package $(1) is installed where that needs no password.
define try_to_install
	{ as_root=; [ "$$(id -u)" = 0 ] || as_root="sudo -n"; \
	  command -v apt-get >/dev/null && $$as_root true 2>/dev/null && \
	  $$as_root apt-get update -q && \
	  $$as_root env DEBIAN_FRONTEND=noninteractive \
	    apt-get install -q -y --no-install-recommends $(1); }
endef

bubblewrap:
	@command -v bwrap >/dev/null || $(call try_to_install,bubblewrap) || { \
	  echo "The sandbox needs bubblewrap. Type: sudo apt-get install bubblewrap" >&2; exit 1; }

chromium:
	@command -v chromium >/dev/null || $(call try_to_install,chromium fonts-liberation) || \
	  echo "No chromium: the tests of the report's looks will be skipped." >&2
