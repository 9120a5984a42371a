# One verb each. Everything runs in .venv, which `make` creates: Python 3.10+ and make are all that is needed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test test-all bench bench-convert bench-download fault-table kill-table engine-matrix fuzz lint wheel clients clean

demo: $(STAMP)
	$(BIN)/internlm-zoo demo --report-dir demo-report

test: $(STAMP) clients
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow"

test-all: $(STAMP) clients
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: bench-convert bench-download
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

fault-table: $(STAMP)
	$(BIN)/python tools/fault_table.py

kill-table: $(STAMP)
	$(BIN)/python tools/kill_table.py

# FUZZ: options and names of readers, see tests/fuzz/__main__.py
fuzz: $(STAMP)
	$(BIN)/python -m tests.fuzz $(FUZZ)

engine-matrix: $(STAMP)
	$(BIN)/python tools/engine_matrix.py

wheel: $(STAMP)
	rm -rf dist
	$(BIN)/python -m build --wheel --outdir dist .

clients: $(STAMP)
	$(BIN)/python tools/client_venv.py openxlab
	$(BIN)/python tools/client_venv.py modelers || echo "no openmind-hub for this Python: its tests will be skipped"

clean:
	rm -rf $(VENV) .cache dist build demo-report .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 10) else "internlm-zoo needs Python 3.10 or newer; try: make PYTHON=python3.11 ...")'
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --upgrade pip
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[torch,chart,gguf,dev]'
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[ray]' || echo "no ray for this Python: its tests will be skipped"
	touch $(STAMP)
