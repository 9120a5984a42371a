# One verb each. Everything runs in .venv, which `make` creates: Python 3.10+ and make are all that is needed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Whole files each, in the order that tests/conftest.py gives them.
WORKERS := -n 2 --dist loadfile --no-loadscope-reorder
# The site needs little of that, and is built in an environment of its own.
DOCS := .cache/docs
DOCS_STAMP := $(DOCS)/.installed

needs_python = $(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, $(1)) else "this needs Python 3.$(1) or newer; try: make PYTHON=python3.$(1) ...")'

.PHONY: demo test test-all test-loaded bench bench-convert bench-download bench-load fault-table kill-table fit-table share-table mutation-score engine-matrix fuzz lint coverage docs wheel clients clean

demo: $(STAMP)
	$(BIN)/internlm-zoo demo --report-dir demo-report

test: $(STAMP) clients
	$(BIN)/python -m pytest $(WORKERS) -m "not slow"

test-all: $(STAMP) clients
	$(BIN)/python -m pytest $(WORKERS)

# Every test with the machine loaded eight times over: nothing in them depends on how quick it is.
test-loaded: $(STAMP) clients
	$(BIN)/python -m pytest -n $$((8 * $$(getconf _NPROCESSORS_ONLN))) --dist loadfile

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache --no-logo
	$(BIN)/python tools/architecture.py --check

bench: bench-convert bench-download bench-load
	$(BIN)/python benchmarks/startup.py

bench-convert: $(STAMP)
	$(BIN)/python benchmarks/convert.py
	$(BIN)/python benchmarks/convert_memory.py
	$(BIN)/python benchmarks/convert_reading.py

bench-download: $(STAMP)
	@command -v aria2c >/dev/null && PATH=$$PATH:/usr/sbin command -v nginx >/dev/null || { \
		echo "the peers of this benchmark are missing; try: apt-get install nginx aria2 curl"; exit 1; }
	$(BIN)/python benchmarks/download.py
	$(BIN)/python benchmarks/download_latency.py
	$(BIN)/python benchmarks/download_counts.py

# DEVICE: cpu or cuda:0
bench-load: $(STAMP)
	$(BIN)/python benchmarks/load.py --gb 1 --runs 3 --device $(or $(DEVICE),cpu)
	$(BIN)/python benchmarks/load.py --gb 0.5 --runs 2 --device $(or $(DEVICE),cpu) --cold

fault-table: $(STAMP)
	$(BIN)/python tools/fault_table.py

kill-table: $(STAMP)
	$(BIN)/python tools/kill_table.py

# DEVICE: cpu or cuda:0
fit-table: $(STAMP)
	$(BIN)/python tools/fit_table.py $(if $(DEVICE),--device $(DEVICE))

share-table: $(STAMP)
	$(BIN)/python tools/share_table.py

# MODEL: the directory of a model besides those of the demo; AS: what it is, where its files leave that open
mutation-score: $(STAMP)
	$(BIN)/python -m tools.mutation_score $(if $(MODEL),--model $(MODEL)) $(if $(AS),--as $(AS))

# FUZZ: options and names of readers, see tests/fuzz/__main__.py
fuzz: $(STAMP)
	$(BIN)/python -m tests.fuzz $(FUZZ)

engine-matrix: $(STAMP)
	$(BIN)/python tools/engine_matrix.py

# Of this process's own lines; what the commands run in processes of their own does not count.
coverage: $(STAMP) clients
	$(BIN)/python -m pytest $(WORKERS) -m "not slow" --cov --cov-report=
	$(BIN)/coverage report

docs: $(DOCS_STAMP)
	$(DOCS)/bin/python tools/docs build/docs
	NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/mkdocs build --strict

wheel: $(STAMP)
	rm -rf dist
	$(BIN)/python -m build --wheel --outdir dist .

clients: $(STAMP)
	$(BIN)/python tools/client_venv.py openxlab
	$(BIN)/python tools/client_venv.py modelers || echo "no openmind-hub for this Python: its tests will be skipped"

clean:
	rm -rf $(VENV) .cache dist build demo-report .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage

$(STAMP): pyproject.toml constraints.txt
	$(call needs_python,10)
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --upgrade pip
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[torch,chart,gguf,dev]'
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[ray]' || echo "no ray for this Python: its tests will be skipped"
	touch $(STAMP)

$(DOCS_STAMP): pyproject.toml constraints.txt
	$(call needs_python,11)
	test -d $(DOCS) || $(PYTHON) -m venv $(DOCS)
	$(DOCS)/bin/python -m pip install -q --upgrade pip
	$(DOCS)/bin/python -m pip install -q -c constraints.txt -e '.[docs]'
	touch $(DOCS_STAMP)
