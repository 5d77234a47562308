# The kit in a few commands. `make` alone lists them.
# Needs: Python >= 3.11 with venv and pip. Another interpreter: make tour PYTHON=python3.12

PYTHON ?= python3
VENV ?= .venv
FREE_GB ?= 8
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed
WORKERS ?= 2
IP ?= 127.0.0.1
AS_ROOT := $(shell [ "$$(id -u)" = 0 ] && echo --allow-root)
FORMATTED := reidkit tests data_scripts notebooks/*.py notebooks/*/*.py
CORE := tests/test_losses.py tests/models tests/priors tests/evaluation tests/data/test_sampler.py \
  $(patsubst %,tests/training/test_%.py,training loop step watch memory compiled)

.DEFAULT_GOAL := help
.PHONY: help check setup venv tour lab test coverage mutants fuzz notebooks dashboard rendered heroes lint clean

help:  ## list the commands
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /make \1\t/' | expand -t 18

check:  ## can this machine set the kit up? one line if not
	@command -v $(PYTHON) >/dev/null 2>&1 || { echo "make: no $(PYTHON) here: install Python 3.11 or newer, or name one: make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "make: $(PYTHON) is $$($(PYTHON) -V 2>&1), the kit needs Python 3.11 or newer: make PYTHON=/path/to/python3.12"; exit 1; }
	@$(PYTHON) -c 'import venv' 2>/dev/null || { echo "make: $(PYTHON) has no venv module: install it (Debian, Ubuntu: apt install python3-venv)"; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || $(PYTHON) -c 'import pip' 2>/dev/null || { echo "make: $(PYTHON) has no pip: install it (Debian, Ubuntu: apt install python3-pip python3-venv)"; exit 1; }
	@$(PYTHON) -c 'import shutil, sys; sys.exit(shutil.disk_usage(".").free < $(FREE_GB) * 10**9)' || { echo "make: less than $(FREE_GB) GB free here, which torch and its libraries need: free some, or clone the kit elsewhere"; exit 1; }

setup: $(STAMP)  ## create .venv and install the kit into it

venv: setup

$(STAMP): pyproject.toml
	@$(MAKE) --no-print-directory check
	@test -x $(PY) || $(PYTHON) -m venv $(VENV) 2>/dev/null || { rm -rf $(VENV); $(PYTHON) -m venv --without-pip $(VENV) && $(PYTHON) -m pip --python $(PY) install --quiet pip; } || { rm -rf $(VENV); echo "make: $(PYTHON) cannot create $(VENV) (Debian, Ubuntu: apt install python3-venv)"; exit 1; }
	@echo "make: installing into $(VENV) (several GB, a few minutes)"
	$(PY) -m pip install --quiet --disable-pip-version-check -e ".[all]"
	@touch $@

tour: setup  ## train, evaluate, execute the notebooks: build/tour/index.html
	$(PY) -m reidkit.tour

lab: setup  ## open JupyterLab at notebook 00; its root is this folder
	@test -z "$(AS_ROOT)" || echo "make: you are root, and JupyterLab is started with $(AS_ROOT): who has its token may do anything on this machine"
	@test "$(IP)" = 127.0.0.1 || echo "make: open to every computer that reaches $(IP), if it has the token in the address below"
	@test "$(IP)" != 127.0.0.1 || echo "make: open to this machine only (127.0.0.1), with the token in the address below. From another computer: ssh -L 8888:127.0.0.1:8888 USER@THIS_MACHINE, then open that address there. Container with a published port: make lab IP=0.0.0.0"
	@exec $(PY) -m jupyterlab --ip=$(IP) --ServerApp.root_dir="$(CURDIR)" $(AS_ROOT) $(LAB) notebooks/00_start_here.ipynb

test: setup  ## run every test (notebooks and browser included)
	$(PY) -m pytest -n $(WORKERS) --dist loadgroup

coverage: setup  ## branches that the core rooms' own tests take
	$(PY) -m pytest -n $(WORKERS) --dist loadgroup -m "not slow" -k "not overfit and not eager_one" --cov --cov-report=json:build/coverage.json $(CORE)
	$(PY) tests/helpers/covered.py build/coverage.json

mutants: setup  ## change the core rooms' code: do their tests notice?
	$(PY) tests/helpers/mutation.py

fuzz: setup  ## damage every kind of file many times: docs/reliability.md
	$(PY) tests/helpers/fuzz.py

notebooks: setup  ## execute the notebooks and write their outputs
	$(PY) notebooks/run.py

dashboard: setup rendered  ## open the panels as a web page
	@# panels appear one by one; Voila answers no ping before the last cell has run, and waits 4 s for an output otherwise
	$(PY) -m voila --VoilaConfiguration.extension_denylist=jupyterlab-jupytext --progressive_rendering=True --VoilaExecutor.iopub_timeout=600 "--Voila.tornado_settings={'ws_ping_interval':0}" notebooks/12_dashboard.ipynb

rendered: setup  ## render the images that the dashboard opens
	$(PY) -m reidkit.cli sidewalk render --size medium

heroes: setup  ## train and ship the networks that notebooks and panels open (an hour)
	$(PY) data_scripts/heroes.py

lint: setup  ## lint, format and types
	$(PY) -m ruff check .
	$(PY) -m ruff format --check $(FORMATTED)
	$(PY) -m pyright --pythonpath $(PY)

clean:  ## remove build/ (data, runs and .venv stay)
	rm -rf build .pytest_cache .ruff_cache .hypothesis
