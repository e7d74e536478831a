# SPDX-License-Identifier: GPL-2.0-or-later
# `make` builds build/ktstr and the guest programs. `make help` lists the rest.

BUILD   ?= build
PREFIX  ?= /usr/local
CC      ?= gcc
MUSL_CC ?= musl-gcc
PKGS    := luajit libbpf libdw libelf libzstd liblz4 liblzma zlib libxxhash libedit

VERSION := 0.1.0

# Where `make install` puts things; DESTDIR is for packagers.
BINDIR  ?= $(PREFIX)/bin
DATADIR ?= $(PREFIX)/share/ktstr
LIBDIR  ?= $(PREFIX)/lib/ktstr
DOCDIR  ?= $(PREFIX)/share/doc/ktstr

# The kernel of `make demo` and `make check`, and all that `make check-all` boots.
DEMO_KERNEL ?= 7.3
ALL_KERNELS ?= 6.1 6.12 7.2 7.3
# Whose source and types the BPF programs are built with that tests load; they run on the others, too.
BPF_KERNEL ?= 7.3
FUZZ_SECONDS ?= 60

# A folder of core/ includes only from folders before it in this list.
FOLDERS := base tlv kvm x86 image device kernel freeze capture machine coordinator warm lua

WARN    := -Wall -Wextra -Wshadow -Wvla -Wmissing-prototypes -Wstrict-prototypes -Wpointer-arith \
           -Wno-unused-parameter -Werror
CFLAGS  ?= -O2 -g
# Asked for when the first file is compiled, and once: `make setup` may have to install the answer.
PKG_CFLAGS = $(eval PKG_CFLAGS := $(or $(shell pkg-config --cflags $(PKGS)),$(error \
             libraries are missing: run scripts/setup)))$(PKG_CFLAGS)
# The archive of a library where there is one: a program without libraries to load starts a millisecond
# earlier, and its LuaJIT is the one that made its bytecode.
archive    = $(or $(filter /%,$(shell $(CC) -print-file-name=lib$1.a)),-l$1)
# The shared libedit brings along what its archive needs.
EDIT       = edit $(if $(filter /%,$(call archive,edit)),tinfo bsd md)
# All of Lua's API: modules written in C (lua-posix, busted's) find it in the program itself.
PKG_LIBS   = $(eval PKG_LIBS := -Wl,--whole-archive $(call archive,luajit-5.1) -Wl,--no-whole-archive \
             $(foreach l,bpf dw elf zstd lz4 lzma z xxhash $(EDIT),$(call archive,$l)))$(PKG_LIBS)
CFLAGS_ALL = -std=gnu11 -D_GNU_SOURCE -fexceptions -pthread $(WARN) -Icore -Iguest \
           -DKTSTR_VERSION='"$(VERSION)"' \
           $(PKG_CFLAGS) $(CFLAGS) $(SANITIZE)
LDLIBS  = $(PKG_LIBS) -pthread -ldl -lm

# What is being done; V=1 shows the whole command.
say     = $(if $(V),,@printf '  %-6s %s\n' $1 $2;)

SRCS    := $(foreach d,$(FOLDERS),$(wildcard core/$(d)/*.c))
OBJS    := $(SRCS:%.c=$(BUILD)/%.o)
LIBCORE := $(BUILD)/libcore.a

## all (default): the program and the guest programs
all: $(BUILD)/ktstr guest

$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	$(call say,CC,$@)$(CC) $(CFLAGS_ALL) -MMD -MP -c $< -o $@

# What the program is made of: a source that is gone must not stay in it.
$(BUILD)/sources: force
	@mkdir -p $(@D)
	@printf '%s\n' $(SRCS) $(LUA_SRCS) | cmp -s - $@ || printf '%s\n' $(SRCS) $(LUA_SRCS) >$@

force:

# Made anew each time, with the same in mind.
$(LIBCORE): $(OBJS) $(BUILD)/sources
	@rm -f $@
	$(call say,AR,$@)ar rcs $@ $(OBJS)

# The Lua library is in the program, as bytecode: reading and parsing it would be most of the time that a machine
# takes to start. LuaJIT's require finds a module by the name of its symbol.
LUA_SRCS := $(shell find lua/ktstr -name '*.lua' -not -path '*/meta/*')
LUA_OBJS := $(LUA_SRCS:%.lua=$(BUILD)/%.o)
lua_module = $(subst /,.,$(patsubst lua/%,%,$(patsubst %/init,%,$1)))

$(BUILD)/lua/%.o: lua/%.lua
	@mkdir -p $(@D)
	$(call say,LUA,$@)luajit -bg -t o -n $(call lua_module,lua/$*) $< $@

$(BUILD)/ktstr: $(BUILD)/core/main.o $(LIBCORE) $(LUA_OBJS) $(BUILD)/sources
	$(call say,LD,$@)$(CC) $(CFLAGS_ALL) -rdynamic -Wl,--build-id $< $(LUA_OBJS) -Wl,--whole-archive $(LIBCORE) \
		-Wl,--no-whole-archive -o $@ $(LDLIBS)

# --- guest programs: static, small, no libraries of the host ---

GUEST_CFLAGS := -std=gnu11 -D_GNU_SOURCE -Os -g $(WARN) -Icore -Iguest

AGENT_SRCS := $(wildcard guest/agent/*.c guest/work/*.c) core/tlv/crc32.c core/tlv/codec.c
AGENT_OBJS := $(AGENT_SRCS:%.c=$(BUILD)/agent/%.o)

$(BUILD)/agent/%.o: %.c
	@mkdir -p $(@D)
	$(call say,CC,$@)$(MUSL_CC) $(GUEST_CFLAGS) -ffunction-sections -fdata-sections -pthread -MMD -MP -c $< -o $@

$(BUILD)/guest/agent: $(AGENT_OBJS)
	@mkdir -p $(@D)
	$(call say,LD,$@)$(MUSL_CC) -static -pthread -Wl,--gc-sections -s -o $@ $^

CAPTURE_SRCS := $(wildcard guest/capture/*.c guest/local/*.c)
CAPTURE_OBJS := $(CAPTURE_SRCS:%.c=$(BUILD)/agent/%.o)

$(BUILD)/guest/ktstr-capture: $(CAPTURE_OBJS)
	@mkdir -p $(@D)
	$(call say,LD,$@)$(MUSL_CC) -static -Wl,--gc-sections -s -o $@ $^

KERNEL_OP_SRCS := $(wildcard guest/kernel_op/*.c guest/local/*.c) core/tlv/crc32.c core/tlv/codec.c
KERNEL_OP_OBJS := $(KERNEL_OP_SRCS:%.c=$(BUILD)/agent/%.o)

$(BUILD)/guest/ktstr-kernel: $(KERNEL_OP_OBJS)
	@mkdir -p $(@D)
	$(call say,LD,$@)$(MUSL_CC) -static -Wl,--gc-sections -s -o $@ $^

$(BUILD)/guest/busybox: /bin/busybox
	@mkdir -p $(@D)
	cp $< $@

# The tiny guest runs on hosts that interpret kernel-mode code: plain integer instructions only.
TINY_CFLAGS := -std=gnu11 -Os -g -ffreestanding -fno-stack-protector -fno-pic -fno-pie -mno-red-zone \
               -mgeneral-regs-only -fno-asynchronous-unwind-tables -ffunction-sections -fdata-sections \
               -fno-tree-loop-distribute-patterns $(WARN) -Icore -Iguest
TINY_SRCS := $(wildcard guest/tiny/*.c guest/tiny/*.S) core/tlv/crc32.c core/tlv/codec.c
TINY_OBJS := $(patsubst %,$(BUILD)/tiny/%.o,$(basename $(TINY_SRCS)))

$(BUILD)/tiny/%.o: %.c
	@mkdir -p $(@D)
	$(call say,CC,$@)$(CC) $(TINY_CFLAGS) -MMD -MP -c $< -o $@

$(BUILD)/tiny/%.o: %.S
	@mkdir -p $(@D)
	$(call say,CC,$@)$(CC) $(TINY_CFLAGS) -MMD -MP -c $< -o $@

$(BUILD)/guest/tiny: $(TINY_OBJS) guest/tiny/tiny.lds
	@mkdir -p $(@D)
	$(call say,LD,$@)$(CC) -nostdlib -static -no-pie -Wl,-T,guest/tiny/tiny.lds -Wl,--build-id=none \
	      -Wl,-z,max-page-size=4096 -Wl,--gc-sections -o $@ $(TINY_OBJS)

guest: $(addprefix $(BUILD)/guest/,agent ktstr-capture ktstr-kernel tiny busybox)

# --- tests that need no machine ---

TEST_SRCS := $(wildcard tests/core/test_*.c)
TESTS     := $(TEST_SRCS:%.c=$(BUILD)/%)

$(BUILD)/tests/core/%: tests/core/%.c $(LIBCORE)
	@mkdir -p $(@D)
	$(call say,LD,$@)$(CC) $(CFLAGS_ALL) -Itests -MMD -MP $< $(LIBCORE) -o $@ -lcmocka $(LDLIBS)

# It boots the tiny guest, and knows its addresses.
$(BUILD)/tests/core/test_tiny: private CFLAGS_ALL += -Iguest
$(BUILD)/tests/core/test_tiny: | $(BUILD)/guest/tiny
$(BUILD)/tests/core/test_lua_memory $(BUILD)/tests/core/test_saved $(BUILD)/tests/core/test_kernel_op: | $(BUILD)/guest/tiny

# These start the agent, which is built without the host's libraries and sanitizers.
$(filter $(BUILD)/tests/core/test_agent_%,$(TESTS)): | $(BUILD)/guest/agent
$(filter $(BUILD)/tests/core/test_agent_capture%,$(TESTS)): | $(BUILD)/guest/ktstr-capture
$(filter $(BUILD)/tests/core/test_agent_kernel%,$(TESTS)): | $(BUILD)/guest/ktstr-kernel

tests: $(TESTS)

# --- what people type; each line with two hashes is shown by `make help` ---

KTSTR := $(BUILD)/ktstr
# As many jobs as processors, unless make was told itself.
JOBS   = $(if $(filter -j% --jobserver%,$(MAKEFLAGS)),,-j$(shell nproc))
AGAIN  = $(MAKE) --no-print-directory $(JOBS)

help:
	@sed -n 's/^## //p' $(firstword $(MAKEFILE_LIST))

## setup: install the packages that building and testing need, where they are missing
setup:
	@scripts/setup build test

kernels: all
	@for v in $(KERNELS); do \
		$(KTSTR) kernel path $$v >/dev/null 2>&1 || $(KTSTR) kernel get debian:$$v || exit; \
	done

## bpf: build the BPF programs that tests load, with a scheduler of the kernel's own
bpf:
	@scripts/setup bpf
	@$(AGAIN) kernels KERNELS=$(BPF_KERNEL)
	@linux=$$(scripts/linux-source $(BPF_KERNEL)) && vmlinux=$$($(KTSTR) kernel path $(BPF_KERNEL) vmlinux) && \
		$(AGAIN) -f guest/scx/Makefile BUILD=$(BUILD) LINUX=$$linux VMLINUX=$$vmlinux

# Other distributions may lack the compiler: the specs that need one of these programs are pending there.
bpf-if-possible:
	@if scripts/setup bpf; then $(AGAIN) bpf; fi

## demo: set up, build, fetch a kernel, boot it and judge its scheduler from a Lua script
demo: setup
	@$(AGAIN) all
	@$(AGAIN) kernels KERNELS=$(DEMO_KERNEL)
	KTSTR_KERNEL=$${KTSTR_KERNEL:-$(DEMO_KERNEL)} scripts/with-kvm $(KTSTR) script docs/examples/first.lua

## check: set up, build, and run a representative slice of the tests (under 15 minutes)
check: setup
	@$(AGAIN) all tests
	@$(AGAIN) kernels KERNELS=$(DEMO_KERNEL)
	@$(AGAIN) bpf-if-possible
	@BUILD=$(BUILD) KTSTR_KERNEL=$${KTSTR_KERNEL:-$(DEMO_KERNEL)} scripts/run-tests core lua tiny stock

## check-all: everything: all kernels, the long tests, sanitizers, fuzzing, lint
check-all: setup
	@scripts/setup lint
	@$(AGAIN) all tests asan ubsan tsan fuzzers
	@$(AGAIN) kernels KERNELS="$(ALL_KERNELS)"
	@$(AGAIN) bpf-if-possible
	@BUILD=$(BUILD) ALL_KERNELS="$(ALL_KERNELS)" FUZZ_SECONDS=$(FUZZ_SECONDS) scripts/run-tests lint core \
		asan ubsan tsan tiny-asan tiny-ubsan tiny-tsan fuzz lua lua-collect tiny tiny-long helper stock-all stock-long stock-execs \
		dump

## check-core: the tests that need neither a machine nor Lua
check-core:
	@$(AGAIN) tests
	@BUILD=$(BUILD) scripts/run-tests core

## asan, ubsan, tsan: build the program and its core tests with that sanitizer, in build-asan, ...
SANITIZE_asan  := -fsanitize=address -fno-omit-frame-pointer
SANITIZE_ubsan := -fsanitize=undefined -fno-sanitize-recover=all
SANITIZE_tsan  := -fsanitize=thread
asan ubsan tsan:
	@$(AGAIN) all tests BUILD=build-$@ SANITIZE="$(SANITIZE_$@)"

## fuzz: fuzz every parser for FUZZ_SECONDS each
FUZZ_BUILD := build-fuzz
FUZZERS    := $(patsubst tests/fuzz/%.c,$(BUILD)/tests/fuzz/%,$(wildcard tests/fuzz/fuzz_*.c))
fuzz: fuzzers
	@FUZZ_SECONDS=$(FUZZ_SECONDS) scripts/run-tests fuzz

fuzzers:
	@$(AGAIN) fuzz-programs BUILD=$(FUZZ_BUILD) CC=clang CFLAGS="-O1 -g" \
		SANITIZE="-fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all"

fuzz-programs: $(FUZZERS)

$(BUILD)/tests/fuzz/%: tests/fuzz/%.c $(LIBCORE)
	@mkdir -p $(@D)
	$(call say,LD,$@)$(CC) $(CFLAGS_ALL) -Wno-missing-prototypes -fsanitize=fuzzer -MMD -MP $< $(LIBCORE) -o $@ $(LDLIBS)

C_FILES := $(shell git ls-files '*.c' '*.h' 2>/dev/null)

## lint: luacheck, clang-tidy, clang-format and shellcheck; a warning is an error
lint: lint-lua lint-format lint-shell lint-c

lint-lua:
	@luacheck -q lua tests docs/examples scripts

lint-format:
	@clang-format --dry-run -Werror $(C_FILES)
	@expand -t 8 $(C_FILES) | awk 'length > 120 { bad = 1; print "longer than 120 columns: " $$0 } END { exit bad }'

lint-shell:
	@shellcheck -x $(shell git ls-files scripts .ci | xargs grep -lE '^#!.*(bash|/sh)')

lint-c:
	@$(AGAIN) $(SRCS:%=$(BUILD)/tidy/%) $(BUILD)/tidy/core/main.c

$(BUILD)/tidy/%.c: %.c .clang-tidy
	@mkdir -p $(@D)
	$(call say,TIDY,$<)clang-tidy --quiet --warnings-as-errors='*' $< -- $(CFLAGS_ALL) 2>/dev/null
	@touch $@

## format: put the C sources in shape
format:
	@clang-format -i $(C_FILES)

BENCH := $(addprefix $(BUILD)/bench/,floor measure load freeze migrate ticks kvm_trace.so)

$(BUILD)/bench/%: scripts/bench/%.c $(LIBCORE)
	@mkdir -p $(@D)
	$(call say,LD,$@)$(CC) $(CFLAGS_ALL) -MMD -MP $< $(LIBCORE) -o $@ $(LDLIBS)

# No library of ours: it has to be loaded as fast as can be.
$(BUILD)/bench/floor: scripts/bench/floor.c
	@mkdir -p $(@D)
	$(call say,LD,$@)$(CC) $(CFLAGS_ALL) -static $< -o $@

$(BUILD)/bench/%.so: scripts/bench/%.c
	@mkdir -p $(@D)
	$(call say,LD,$@)$(CC) $(CFLAGS_ALL) -shared -fPIC $< -o $@ -ldl

bench-programs: $(BENCH)

## bench: print each figure that docs/performance.md promises, beside its promise and its peer
bench: setup
	@scripts/setup helper
	@$(AGAIN) all bench-programs
	@$(AGAIN) kernels KERNELS=$(DEMO_KERNEL)
	@BUILD=$(BUILD) scripts/bench/run

## install, uninstall: under PREFIX (/usr/local), below DESTDIR
install: all
	install -d $(DESTDIR)$(BINDIR) $(DESTDIR)$(LIBDIR)/guest $(DESTDIR)$(DOCDIR)/docs/examples
	install -m 755 $(BUILD)/ktstr $(DESTDIR)$(BINDIR)/ktstr
	install -m 755 $(addprefix $(BUILD)/guest/,agent ktstr-capture ktstr-kernel tiny busybox) $(DESTDIR)$(LIBDIR)/guest
	for f in $(shell find lua/ktstr -name '*.lua'); do install -D -m 644 $$f $(DESTDIR)$(DATADIR)/$$f || exit; done
	install -m 644 README.md LICENSE CONTRIBUTING.md $(DESTDIR)$(DOCDIR)
	install -m 644 $(wildcard docs/*.md docs/*.json) $(DESTDIR)$(DOCDIR)/docs
	install -m 644 $(wildcard docs/examples/*.lua) $(DESTDIR)$(DOCDIR)/docs/examples

uninstall:
	rm -f $(DESTDIR)$(BINDIR)/ktstr
	rm -rf $(DESTDIR)$(DATADIR) $(DESTDIR)$(LIBDIR) $(DESTDIR)$(DOCDIR)

## clean: remove what was built
## variables: BUILD, DEMO_KERNEL, ALL_KERNELS, BPF_KERNEL, FUZZ_SECONDS; V=1 shows whole commands
clean:
	rm -rf $(BUILD) build-*

-include $(OBJS:.o=.d) $(FUZZERS:=.d) $(AGENT_OBJS:.o=.d) $(CAPTURE_OBJS:.o=.d) $(KERNEL_OP_OBJS:.o=.d) $(TINY_OBJS:.o=.d) $(TESTS:=.d) $(BUILD)/core/main.d

.PHONY: force all guest tests help setup kernels bpf bpf-if-possible demo check check-all check-core asan ubsan tsan \
        fuzz fuzzers fuzz-programs lint lint-lua lint-format lint-shell lint-c format bench bench-programs install uninstall clean
.DELETE_ON_ERROR:
