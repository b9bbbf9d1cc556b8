# The C core alone: a static library and its tests, without Python.
#
#   make -f csrc/build.mk test
#   make -f csrc/build.mk test CC=clang BUILD=build/clang
#   make -f csrc/build.mk test BUILD=build/asan \
#       CFLAGS='-g -O1 -fsanitize=address,undefined,float-cast-overflow -fno-sanitize-recover=all'
#   make -f csrc/build.mk test CC=aarch64-linux-gnu-gcc LDFLAGS=-static RUN=qemu-aarch64 BUILD=build/aarch64

CSRC := $(patsubst %/,%,$(dir $(lastword $(MAKEFILE_LIST))))
BUILD ?= build/core
CFLAGS ?= -O3
RUN ?=
TEST_ARGS ?=

# What every build needs: without -ffp-contract=off compilers fuse a * b + c and results differ between CPUs.
# The last two: kernels also make a shared object that needs no libc.
CORE_CFLAGS := -std=c11 -D_GNU_SOURCE -ffp-contract=off -fPIC -fno-stack-protector -Wall -Wextra -Werror -pthread -I$(CSRC) -MMD -MP
CORE_LIBS := -pthread -lm

# What takes longest first: several are compiled at a time, and it should not be left alone in the end.
CORE_SOURCES := $(wildcard $(CSRC)/kernels/gemm_*.c)
CORE_SOURCES += $(filter-out $(CORE_SOURCES),$(wildcard $(CSRC)/kernels/*.c)) $(wildcard $(CSRC)/*.c)
TEST_SOURCES := $(addprefix $(CSRC)/tests/,test_core.c support.c cases_elements.c cases_rows.c cases_int8.c \
    cases_groups.c drivers_arrays.c drivers_linear.c drivers_model.c test_qparams.c memory.c test_memory.c test_threads.c \
    test_peaks.c)
# What tests/memory.c watches, and test_threads.c.
WATCHED := malloc calloc realloc aligned_alloc posix_memalign free pthread_create clock_gettime
objects = $(patsubst $(CSRC)/%.c,$(BUILD)/%.o,$(1))

.PHONY: core test
core: $(BUILD)/libqlm.a

test: $(BUILD)/test_core
	$(if $(RUN),QLM_TEST_EMULATED=1) $(RUN) $(BUILD)/test_core $(TEST_ARGS)

$(BUILD)/libqlm.a: $(call objects,$(CORE_SOURCES))
	rm -f $@
	$(AR) rcs $@ $^

$(BUILD)/test_core: $(BUILD)/libqlm.a $(call objects,$(TEST_SOURCES))
	$(CC) $(CFLAGS) $(LDFLAGS) $(WATCHED:%=-Wl,--wrap=%) -o $@ $(filter %.o,$^) $< $(CORE_LIBS)

# What tests/kernels runs: kernels on an emulated CPU, without a libc, and as a program under qemu-user.
KERNEL_OBJECTS := $(call objects,$(wildcard $(CSRC)/kernels/*.c) $(CSRC)/dispatch.c)
$(BUILD)/kernels.so: $(KERNEL_OBJECTS)
	$(CC) -shared -nostdlib -o $@ $^

$(BUILD)/kernel_server: $(call objects,$(CSRC)/tests/kernel_server.c $(CSRC)/cpu.c) $(KERNEL_OBJECTS)
	$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(CORE_LIBS)

$(BUILD)/%.o: $(CSRC)/%.c
	@mkdir -p $(@D)
	$(CC) $(CORE_CFLAGS) $(CFLAGS) -c -o $@ $<

-include $(wildcard $(BUILD)/*.d $(BUILD)/*/*.d)

# ---- what CI runs ------------------------------------------------------------------------------------------------

# Line tables alone: following variables through unrolled tiles takes gcc as long as all else.  Checks of addresses as
# calls: inline, gemm_avx512.c takes 79 s to compile instead of 44, and the tests run no faster.
SANITIZE := -g1 -O1 -fPIC -fsanitize=address,undefined,float-cast-overflow -fno-sanitize-recover=all \
    --param asan-instrumentation-with-call-threshold=0
PYTHON ?= python3
# One object a file: as many at a time as there are cores, of all builds together where `ci` runs them.
JOBS ?= $(shell nproc)
SELF = $(MAKE) -s $(if $(filter --jobserver%,$(MAKEFLAGS)),,-j$(JOBS)) -f $(CSRC)/build.mk

.PHONY: gcc asan tsan asan-python clang neon ci all-builds lint
asan:
	+$(SELF) test BUILD=build/asan CFLAGS='$(SANITIZE)' TEST_ARGS='$(or $(TEST_ARGS),60)'

tsan:
	+$(SELF) test BUILD=build/tsan CFLAGS='-g1 -O1 -fsanitize=thread' \
	    TEST_ARGS='$(or $(TEST_ARGS),5)'

# The binding under the sanitizers, by the tests of arrays and models; Python's own leaks are not ours to judge.  The
# core is asan's: to compile it once more would take as long as all the tests.
SANITIZED := build/asan-python
PRELOADED = $(shell gcc -print-file-name=libasan.so) $(shell gcc -print-file-name=libubsan.so)
BINDING := $(wildcard $(CSRC)/python/*.c)
PY_INCLUDES = $(shell $(PYTHON) -c 'import numpy, sysconfig; print("-I" + sysconfig.get_paths()["include"], "-I" + numpy.get_include())')
PY_CFLAGS = -DNPY_NO_DEPRECATED_API=NPY_2_0_API_VERSION $(PY_INCLUDES)
asan-python:
	+$(SELF) binding BUILD=build/asan CFLAGS='$(SANITIZE) $(PY_CFLAGS)' PYTHON=$(PYTHON)
	rm -rf $(SANITIZED)
	mkdir -p $(SANITIZED)
	cp -r qlm $(SANITIZED)/qlm
	rm -f $(SANITIZED)/qlm/_core.*.so
	cp build/asan/_core.so $(SANITIZED)/qlm/_core.so
	cd $(SANITIZED) && LD_PRELOAD='$(PRELOADED)' PYTHONMALLOC=malloc ASAN_OPTIONS=detect_leaks=0 \
	    QLM_TEST_EXAMPLES=10 $(PYTHON) -m pytest -q -p no:cacheprovider \
	    $(addprefix $(CURDIR)/tests/,arrays safety models/test_bert.py models/test_pooling.py)

.PHONY: binding
binding: $(BUILD)/_core.so
$(BUILD)/_core.so: $(call objects,$(BINDING)) $(BUILD)/libqlm.a
	$(CC) $(CFLAGS) -shared -o $@ $^ $(CORE_LIBS)

clang:
	+$(SELF) test CC=clang BUILD=build/clang

# NEON with dot product, on any machine: statically linked and run by qemu-user.
neon:
	+$(SELF) test CC=aarch64-linux-gnu-gcc LDFLAGS=-static RUN=qemu-aarch64 BUILD=build/aarch64 \
	    TEST_ARGS='$(or $(TEST_ARGS),60)'

gcc:
	+$(SELF) test

# Side by side: the tests of one build run while the next one compiles.
ci:
	+$(SELF) --output-sync all-builds
all-builds: asan gcc clang tsan neon

# Every C file, the binding too, compiles without a warning.
warnings = $(1) $(CORE_CFLAGS) -O2 -fsyntax-only $(PY_CFLAGS) $(CORE_SOURCES) $(BINDING)

lint:
	$(filter-out -MMD -MP,$(call warnings,gcc))
	@if command -v clang >/dev/null; then set -x; $(filter-out -MMD -MP,$(call warnings,clang)); \
	elif [ -n "$$REQUIRE_CLANG" ]; then echo "clang is not installed" >&2; exit 1; \
	else echo "clang is not installed: its warnings were not checked"; fi
