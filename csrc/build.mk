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
CORE_CFLAGS := -std=c11 -D_GNU_SOURCE -ffp-contract=off -Wall -Wextra -Werror -pthread -I$(CSRC) -MMD -MP
CORE_LIBS := -pthread -lm

CORE_SOURCES := $(wildcard $(CSRC)/*.c) $(wildcard $(CSRC)/kernels/*.c)
TEST_SOURCES := $(addprefix $(CSRC)/tests/,test_core.c support.c cases_elements.c cases_rows.c cases_int8.c \
    drivers_arrays.c drivers_linear.c drivers_model.c test_qparams.c test_threads.c)
objects = $(patsubst $(CSRC)/%.c,$(BUILD)/%.o,$(1))

.PHONY: core test
core: $(BUILD)/libqlm.a

test: $(BUILD)/test_core
	$(RUN) $(BUILD)/test_core $(TEST_ARGS)

$(BUILD)/libqlm.a: $(call objects,$(CORE_SOURCES))
	rm -f $@
	$(AR) rcs $@ $^

$(BUILD)/test_core: $(call objects,$(TEST_SOURCES)) $(BUILD)/libqlm.a
	$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(CORE_LIBS)

$(BUILD)/%.o: $(CSRC)/%.c
	@mkdir -p $(@D)
	$(CC) $(CORE_CFLAGS) $(CFLAGS) -c -o $@ $<

-include $(patsubst %.o,%.d,$(call objects,$(CORE_SOURCES) $(TEST_SOURCES)))
