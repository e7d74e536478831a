# SPDX-License-Identifier: GPL-2.0-or-later
# `make` builds build/ktstr and the guest programs. `make help` lists the rest.

BUILD   ?= build
PREFIX  ?= /usr/local
CC      ?= gcc
MUSL_CC ?= musl-gcc
LUA_PC  := luajit
PKGS    := $(LUA_PC) libelf libzstd liblz4 liblzma zlib

VERSION := 0.1.0

# A folder of core/ includes only from folders before it in this list.
FOLDERS := base tlv kvm x86 image device kernel freeze capture machine coordinator warm lua

WARN    := -Wall -Wextra -Wshadow -Wvla -Wmissing-prototypes -Wstrict-prototypes -Wpointer-arith \
           -Wno-unused-parameter -Werror
CFLAGS  ?= -O2 -g
CFLAGS_ALL = -std=gnu11 -D_GNU_SOURCE -fexceptions -pthread $(WARN) -Icore \
           -DKTSTR_VERSION='"$(VERSION)"' \
           $(shell pkg-config --cflags $(PKGS) 2>/dev/null) $(CFLAGS) $(SANITIZE)
LDLIBS  = $(shell pkg-config --libs $(PKGS) 2>/dev/null) -pthread -ldl -lm

SRCS    := $(foreach d,$(FOLDERS),$(wildcard core/$(d)/*.c))
OBJS    := $(SRCS:%.c=$(BUILD)/%.o)
LIBCORE := $(BUILD)/libcore.a

all: $(BUILD)/ktstr guest

$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(CFLAGS_ALL) -MMD -MP -c $< -o $@

# Made anew each time: a member whose source is gone must not stay.
$(LIBCORE): $(OBJS)
	@rm -f $@
	ar rcs $@ $(OBJS)

# Lua modules written in C (lua-posix, busted's) resolve the Lua API in the program itself.
$(BUILD)/ktstr: $(BUILD)/core/main.o $(LIBCORE)
	$(CC) $(CFLAGS_ALL) -rdynamic $< -Wl,--whole-archive $(LIBCORE) -Wl,--no-whole-archive -o $@ $(LDLIBS)

# --- guest programs: static, small, no libraries of the host ---

GUEST_CFLAGS := -std=gnu11 -D_GNU_SOURCE -Os -g $(WARN) -Icore -Iguest

AGENT_SRCS := $(wildcard guest/agent/*.c guest/work/*.c) core/tlv/crc32.c core/tlv/codec.c
AGENT_OBJS := $(AGENT_SRCS:%.c=$(BUILD)/agent/%.o)

$(BUILD)/agent/%.o: %.c
	@mkdir -p $(@D)
	$(MUSL_CC) $(GUEST_CFLAGS) -ffunction-sections -fdata-sections -pthread -MMD -MP -c $< -o $@

$(BUILD)/guest/agent: $(AGENT_OBJS)
	@mkdir -p $(@D)
	$(MUSL_CC) -static -pthread -Wl,--gc-sections -s -o $@ $^

$(BUILD)/guest/busybox: /bin/busybox
	@mkdir -p $(@D)
	cp $< $@

# The tiny guest runs on hosts that interpret kernel-mode code: plain integer instructions only.
TINY_CFLAGS := -std=gnu11 -Os -g -ffreestanding -fno-stack-protector -fno-pic -fno-pie -mno-red-zone \
               -mgeneral-regs-only -mcmodel=kernel -fno-asynchronous-unwind-tables $(WARN) -Icore -Iguest
TINY_SRCS := $(wildcard guest/tiny/*.c guest/tiny/*.S) core/tlv/crc32.c
TINY_OBJS := $(patsubst %,$(BUILD)/tiny/%.o,$(basename $(TINY_SRCS)))

$(BUILD)/tiny/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(TINY_CFLAGS) -MMD -MP -c $< -o $@

$(BUILD)/tiny/%.o: %.S
	@mkdir -p $(@D)
	$(CC) $(TINY_CFLAGS) -MMD -MP -c $< -o $@

$(BUILD)/guest/tiny: $(TINY_OBJS) guest/tiny/tiny.lds
	@mkdir -p $(@D)
	$(CC) -nostdlib -static -no-pie -Wl,-T,guest/tiny/tiny.lds -Wl,--build-id=none -Wl,-z,max-page-size=4096 -o $@ $(TINY_OBJS)

guest: $(BUILD)/guest/agent $(BUILD)/guest/tiny $(BUILD)/guest/busybox

# --- tests that need no machine ---

TEST_SRCS := $(wildcard tests/core/test_*.c)
TESTS     := $(TEST_SRCS:%.c=$(BUILD)/%)

$(BUILD)/tests/core/%: tests/core/%.c $(LIBCORE)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS_ALL) -Itests -MMD -MP $< $(LIBCORE) -o $@ -lcmocka $(LDLIBS)

check-core: $(TESTS)
	@set -e; for t in $(TESTS); do echo "== $$t"; $$t; done

clean:
	rm -rf $(BUILD) build-*

-include $(OBJS:.o=.d) $(AGENT_OBJS:.o=.d) $(TINY_OBJS:.o=.d) $(TESTS:=.d) $(BUILD)/core/main.d

.PHONY: all guest check-core clean
.DELETE_ON_ERROR:
