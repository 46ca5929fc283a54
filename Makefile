# make setup   a virtual environment in .venv with everything; done once, repeated when pins change
# make demo    molecular dynamics, a relaxation and phonons of silicon; pictures in demo/
# make test    the test-suite            make test-ase   ASE's own test-suite on pet-emt.pt
# make test-ecosystem   the tests that need other host programs, in .venv-ecosystem
# make lint    style, types, layers      make bench      benchmarks, 2 hours; benchmarks/results/REPORT.md
# make docs    the pages of docs/ in docs/_build/html
# make clean   remove the environment and everything generated
#
# PYTHON=python3.12     the interpreter to build .venv from (3.10 or newer)
# CLUSTER=1             build torch-cluster although no GPU is visible
# WHEELS=folder         one more place where pip may find ready wheels
# QUICK=1               benchmarks in ten minutes, for a look, into benchmarks/results/quick/
# EXECUTE=demo          draw the pictures of this program of the gallery anew before; 1: of all
# LONG=1                benchmarks and the studies that take hours
# PEERS=folder          environments of the codes to compare with, benchmarks/peers/README.md

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ECOSYSTEM := .venv-ecosystem
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
WHEELS ?=
FIND := $(if $(wildcard $(WHEELS)),--find-links $(abspath $(WHEELS)))
MAX_JOBS ?= 2
PEERS ?= /tmp/peers
QUICK ?= 0
EXECUTE ?= 0

TORCH := $(shell grep '^torch==' constraints.txt)
CPU_INDEX := https://download.pytorch.org/whl/cpu
GPU := $(shell nvidia-smi -L 2>/dev/null | grep -m1 -o '^GPU')
CLUSTER ?= $(if $(GPU),1,0)

comma := ,
say = printf '%s\n' "$(1)"
fail = { printf 'make: %s\n' "$(1)" >&2; exit 1; }

.PHONY: setup demo test test-ase test-ecosystem lint bench docs clean
.DELETE_ON_ERROR:

setup: $(VENV)/.installed $(if $(filter 1,$(CLUSTER)),$(VENV)/.cluster)

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || $(call fail,no interpreter '$(PYTHON)' found; install Python 3.10 or newer or name one with PYTHON=/path/to/python3)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || $(call fail,Python 3.10 or newer is needed but '$(PYTHON)' is older; name another with PYTHON=/path/to/python3)
	@$(PYTHON) -m venv $(VENV) || $(call fail,'$(PYTHON) -m venv' failed; on Debian and Ubuntu install the package python3-venv)

# The CPU build is a tenth of the CUDA build; the registry's own Linux wheel is the CUDA build.
$(VENV)/.torch: constraints.txt | $(BIN)/python
	@$(call say,Installing $(TORCH) $(if $(GPU),with CUDA,for CPUs) ...)
ifeq ($(GPU),)
	@$(PIP) install --no-deps --retries 1 --timeout 30 --index-url $(CPU_INDEX) $(TORCH) 2>/dev/null \
	  || $(call say,PyTorch's CPU index did not answer: taking $(TORCH) from pip's own places.)
endif
	@$(PIP) install -c constraints.txt $(TORCH) || $(call fail,$(TORCH) could not be installed; see pip's message above)
	@touch $@

$(VENV)/.installed: pyproject.toml constraints.txt $(VENV)/.torch
	@$(call say,Installing ase-pet and what it needs ...)
	@$(PIP) install -c constraints.txt -e '.[dev]' || $(call fail,the packages of pyproject.toml could not be installed; see pip's message above)
	@touch $@

$(VENV)/.cluster: $(VENV)/.installed
	@$(call say,Installing torch-cluster$(comma) from source if no ready wheel is found: 12 to 20 minutes ...)
	@MAX_JOBS=$(MAX_JOBS) $(PIP) install --no-deps --no-build-isolation --use-pep517 -c constraints.txt $(FIND) torch-cluster \
	  || $(call fail,torch-cluster could not be built; it needs a C++ compiler. Everything but this one neighbour search works without: run make with CLUSTER=0)
	@touch $@

demo: setup
	@$(BIN)/python examples/demo.py

test: setup
	@$(BIN)/python -m pytest

test-ase: setup
	@$(BIN)/python -m tests.ase_suite

# On top of .venv, whose packages a .pth file shows: torch and the like are not installed twice.
$(ECOSYSTEM)/.installed: pyproject.toml $(VENV)/.installed
	@$(call say,Installing other host programs into $(ECOSYSTEM) ...)
	@$(BIN)/python -m venv $(ECOSYSTEM)
	@$(ECOSYSTEM)/bin/python -c 'import site, sys; sys.stdout.write(site.getsitepackages()[0])' > $@.site
	@$(BIN)/python -c 'import site; print(site.getsitepackages()[0])' > "$$(cat $@.site)/base.pth"
	@grep '^torch==' constraints.txt > $@.constraints
	@$(ECOSYSTEM)/bin/python -m pip --disable-pip-version-check --quiet install -c $@.constraints -e '.[ecosystem]' \
	  || $(call fail,the extra 'ecosystem' could not be installed; see pip's message above)
	@touch $@

test-ecosystem: setup $(ECOSYSTEM)/.installed
	@ASE_PET_ECOSYSTEM=1 $(ECOSYSTEM)/bin/python -m pytest tests/unit/interfaces tests/examples/test_ecosystem.py

lint: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

bench: setup
	@$(if $(filter 1,$(QUICK)),BENCH_RESULTS=benchmarks/results/quick) \
	  $(BIN)/python benchmarks/run_all.py --peers $(PEERS) $(if $(filter 1,$(QUICK)),--quick) \
	  $(if $(filter 1,$(LONG)),--long)

$(VENV)/.docs: $(VENV)/.installed
	@$(call say,Installing Sphinx ...)
	@$(PIP) install -c constraints.txt -e '.[docs]' || $(call fail,Sphinx could not be installed; see pip's message above)
	@touch $@

docs: setup $(VENV)/.docs
	@$(if $(filter-out 0,$(EXECUTE)),$(BIN)/python docs/extensions/gallery.py $(filter-out 1,$(EXECUTE)))
	@$(BIN)/python -m sphinx --quiet --fail-on-warning docs docs/_build/html
	@$(call say,Open docs/_build/html/index.html)

clean:
	rm -rf $(VENV) $(ECOSYSTEM) demo build dist docs/_build docs/gallery docs/reference/commands.md .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
