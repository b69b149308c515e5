# make demo    install what is needed and play a whole tournament
#   TORCH=cpu      with PyTorch for machines without a GPU, which lacks CUDA's 4 GB
#   INSTALLER=pip  what installs Python's packages; uv [default] takes a third of its processor time,
#                  and where it cannot, pip does
#   SANDBOX=none   where there is no bubblewrap and nobody may install it: the demo's entries, which
#                  are advcomp's own, run without walls
# make test    install what the tests need and run all checks; tests of container engines that are
#              not there are skipped, visibly (.ci/run installs and starts them all)
#   UNDER=.ci/twice  pytest is called by this program
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
TORCH ?= cuda
INSTALLER ?= uv
SANDBOX ?=
UNDER ?=
BIN := .venv/bin
# pip may know of indexes that uv does not.
UV := UV_SYSTEM_CERTS=1 $(BIN)/uv pip install --python $(BIN)/python --compile-bytecode
PIP := $(BIN)/python -m pip install --disable-pip-version-check
INSTALL_uv := with() { $(UV) "$$@" || { echo "uv could not install this; pip tries." >&2; $(PIP) "$$@"; }; }; with
INSTALL_pip := $(PIP)
INSTALL = $(or $(INSTALL_$(INSTALLER)),$(error INSTALLER must be uv or pip; got $(INSTALLER))) -c constraints.txt
# Two workers; tests/support/parts.py says which tests share one, and which begin first.
PYTEST := $(UNDER) $(BIN)/pytest -n 2 --durations=30
CHECKED := $(wildcard advcomp tests attacks defenses benchmarks tournament)

MINUTES ?= 13

.PHONY: demo play unwalled test test-all mutate fuzz docs check clean bubblewrap chromium compiled

FROM_PYTORCH := --no-deps --index-url https://download.pytorch.org/whl/cpu
DOWNLOADS_cuda := 3.3 GB of Python packages (PyTorch with CUDA), 6.5 GB on disk in .venv
DOWNLOADS_cpu := PyTorch without CUDA and what else is needed into .venv
DOWNLOADS = $(or $(DOWNLOADS_$(TORCH)),$(error TORCH must be cuda or cpu; got $(TORCH)))
WALLED := $(filter-out none,$(or $(SANDBOX),bubblewrap))

demo:
	@test -e .venv/installed-all || echo "make demo downloads $(DOWNLOADS), which takes minutes."
	@echo "It plays 8 attacks against 5 defenses: one to three minutes on two processors."
	@$(MAKE) --no-print-directory play

play: $(filter bubblewrap,$(WALLED)) $(if $(WALLED),,unwalled) .venv/installed-all compiled
	$(BIN)/advcomp run tournament/digits/digits.toml $(if $(SANDBOX),--sandbox $(SANDBOX)) \
	  $(if $(WALLED),,--i-trust-these-submissions)

# Only for entries that are advcomp's own.
unwalled:
	@test ! -e tournament/digits/entries || { \
	  echo "make demo SANDBOX=none plays advcomp's own entries only, and others were submitted:" \
	    "take tournament/digits/entries away, or leave SANDBOX=none out" >&2; exit 1; }
	@echo "WITHOUT WALLS: the demo's entries run with all your rights; results are unofficial." >&2

test: bubblewrap chromium check compiled
	$(PYTEST)

test-all: bubblewrap chromium check compiled
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

# PyTorch's own index has what is built for the processor alone; both packages must come from there,
# at the versions of constraints.txt, and all others from the usual one.
.venv/installed-all: pyproject.toml constraints.txt | $(BIN)/pip $(if $(filter uv,$(INSTALLER)),$(BIN)/uv)
	@echo "Downloading $(DOWNLOADS)."
	$(if $(filter cpu,$(TORCH)),$(INSTALL) $(FROM_PYTORCH) torch torchvision)
	$(INSTALL) --editable '.[all]'
	@touch $@

.venv/installed-test: .venv/installed-all
	$(INSTALL) --editable '.[all,test]'
	@touch $@

.venv/installed-mutation: .venv/installed-test
	$(INSTALL) --editable '.[all,mutation]'
	@touch $@

.venv/installed-fuzz: .venv/installed-test
	$(INSTALL) --editable '.[all,fuzz]'
	@touch $@

.venv/installed-docs: .venv/installed-all
	$(INSTALL) --editable '.[all,docs]'
	@touch $@

# Where PYTHONDONTWRITEBYTECODE is set, every process would compile all that it imports.
compiled: .venv/installed-all
	@$(BIN)/python -m compileall -q advcomp

$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "advcomp needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1)." \
	    "Name another one: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "$(PYTHON) cannot make virtual environments. Type: sudo apt-get install python3-venv" >&2; \
	  exit 1; }
	$(PYTHON) -m venv .venv

# Where there is no uv for a machine, pip installs everything.
$(BIN)/uv: | $(BIN)/pip
	-$(PIP) --quiet --only-binary :all: -c constraints.txt uv

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
	  echo "The sandbox needs bubblewrap. Type: sudo apt-get install bubblewrap" >&2; \
	  echo "Who may not install it can play the demo, whose entries are advcomp's own, without" \
	    "walls: make demo SANDBOX=none" >&2; exit 1; }

chromium:
	@command -v chromium >/dev/null || $(call try_to_install,chromium fonts-liberation) || \
	  echo "No chromium: the tests of the report's looks will be skipped." >&2
