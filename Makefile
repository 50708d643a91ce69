# Every target creates .venv and builds the extension when they are missing or out of date.
#   make demo        distil, evaluate and report Table 1 at scale smoke
#   make test        all but the campaigns   make test-fast   without those marked slow
#   make campaign    damaged files, killed runs, mutated kernels, sanitizers: nothing goes unnoticed
#   make bench       every benchmark (results/benchmarks/bench.json); `pytest --benchmark-only` a quick part
#   make bench-quick the headline ratios within 3 minutes (results/benchmarks/headline.json)
#   make pages       fill the marked blocks of the pages with the numbers of the records
#   make docs        the API reference and the pages as HTML, in build/docs
#   make dist        the source distribution, and the wheel that is built from it, in dist
#   make cuda-check  compile and link the CUDA code, list its resources, fail on spills (needs nvcc)
#   make lint        style, format and types   make clean

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip
ENVIRONMENT := $(VENV)/.environment
BUILT := $(VENV)/.built
NATIVE := setup.py CMakeLists.txt $(shell find csrc -type f 2>/dev/null)
TEST_JOBS ?= 2
DEMO_JOBS ?= $(shell $(PYTHON) -c 'import os; print(min(2, len(os.sched_getaffinity(0))))')

# One thread a process: the tests run in parallel, and sums must not depend on the machine.
TEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(TEST_JOBS)

.PHONY: all env demo test test-fast campaign bench bench-quick pages docs dist cuda-check lint clean
all: $(BUILT)
env: $(BUILT)

$(ENVIRONMENT): pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "nsdbench: Python 3.11 or later is needed (set PYTHON)"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --constraint constraints.txt setuptools wheel cmake ninja pybind11 torch
	@touch $@

$(BUILT): $(ENVIRONMENT) $(NATIVE)
	$(PIP) install --quiet --constraint constraints.txt --no-build-isolation --editable '.[test]'
	@touch $@

demo: $(BUILT)
	$(BIN)/python -m nsdbench run table1 --jobs $(DEMO_JOBS)
	$(BIN)/python -m nsdbench report table1 --markdown

test: $(BUILT)
	$(TEST) -m 'not campaign'

test-fast: $(BUILT)
	$(TEST) -m 'not slow'

campaign: $(BUILT)
	$(TEST) -m campaign tests

bench: $(BUILT)
	@mkdir -p results/benchmarks
	$(BIN)/python -m pytest --benchmark-only --all-sizes \
	  --benchmark-json=results/benchmarks/bench.json

bench-quick: $(BUILT)
	$(BIN)/python -m benchmarks.headline

pages: $(BUILT)
	$(BIN)/python -m nsdbench report --fill README.md --fill results/README.md --fill docs/fashion-mnist.md --fill docs/cifar10-jpeg.md --fill docs/nsd-choices.md

docs: $(BUILT)
	$(BIN)/python docs/build.py build/docs

dist: $(ENVIRONMENT)
	rm -rf dist
	$(BIN)/python setup.py -q sdist
	$(PIP) wheel --quiet --no-deps --no-build-isolation --wheel-dir dist dist/*.tar.gz

cuda-check: $(ENVIRONMENT)
	NSDBENCH_CUDA=1 $(PIP) install --quiet --constraint constraints.txt --no-build-isolation --editable '.[test]'
	@touch $(BUILT)
	$(BIN)/cmake --build build/editable --target cuda_check

lint: $(BUILT)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf build nsdbench/*.so nsdbench.egg-info .pytest_cache .ruff_cache .mypy_cache .benchmarks
	rm -f $(BUILT)
