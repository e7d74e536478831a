/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A small "kernel" for tests of source lines: its tree is written, compiled and linked at a kernel's addresses.
 * Depends on cmocka, gcc, libelf and base/buf.h; included after cmocka.h.
 * The paths that functions return are good until the next call; the tree goes with tree_teardown().
 */
#ifndef TESTS_CORE_LINES_FILES_H
#define TESTS_CORE_LINES_FILES_H

#include <fcntl.h>
#include <gelf.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"

#define CODE_START 0xffffffff81000000ULL

enum {
	LINE_INNER = 3,
	LINE_MIDDLE = 4,
	LINE_OUTER = 9,
	LINE_PLAIN = 14,
	LINE_INIT = 4,
	LINE_ASSEMBLER = 2,
	LINE_BARE = 77,
	MANY = 40, /* source files, more than are kept */
	DAMAGES = 1500,
	COMMAND_MAX = 4096,
};

struct tree {
	char path[64];
	char out[96];
};

static const char *const tree_sources[][2] = {
	{ "include/made.h", "static inline __attribute__((always_inline)) int inner(int x)\n"
			    "{\n"
			    "	asm volatile(\".globl in_inner\\nin_inner: nop\");\n"
			    "	return x;\n"
			    "}\n" },
	{ "kernel/sched/made.c", "#include \"../../include/made.h\"\n"
				 "static inline __attribute__((always_inline)) int middle(int x)\n"
				 "{\n"
				 "	return inner(x) + 1;\n"
				 "}\n"
				 "int outer(int x);\n"
				 "int outer(int x)\n"
				 "{\n"
				 "	return middle(x) * 3;\n"
				 "}\n"
				 "int plain(int x);\n"
				 "int plain(int x)\n"
				 "{\n"
				 "	asm volatile(\".globl in_plain\\nin_plain: nop\");\n"
				 "	return x;\n"
				 "}\n" },
	{ "init/main.c", "void start_kernel(void);\n"
			 "void start_kernel(void)\n"
			 "{\n"
			 "	asm volatile(\".globl in_init\\nin_init: nop\");\n"
			 "}\n" },
	// Code with a line, but of no function that its debugging information tells of.
	{ "kernel/bare.c", "int before(int x);\n"
			   "int before(int x)\n"
			   "{\n"
			   "	return x;\n"
			   "}\n"
			   "asm(\".globl in_gap, in_bare\\n\"\n"
			   "    \"nop; in_gap: nop; in_bare: .loc 1 77 2; nop; nop\");\n"
			   "int after(int x);\n"
			   "int after(int x)\n"
			   "{\n"
			   "	return x + 1;\n"
			   "}\n" },
	{ "lib/bare.S", ".globl in_assembler\n"
			"in_assembler: nop\n"
			".section .note.GNU-stack,\"\",@progbits\n" },
};

static inline void write_all(const char *path, const void *data, size_t size)
{
	int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, data, size), size);
	close(fd);
}

static inline struct buf read_all(const char *path)
{
	struct buf b = BUF_INIT;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	buf_put_zero(&b, (size_t)lseek(fd, 0, SEEK_END));
	assert_false(b.failed);
	assert_int_equal(pread(fd, b.data, b.size, 0), b.size);
	close(fd);
	return b;
}

static inline void run_command(const char *command)
{
	// The compiler is one that the test needs, and the command is all ours.
	int status = system(command); // NOLINT(cert-env33-c)

	if (status)
		print_error("failed: %s\n", command);
	assert_int_equal(status, 0);
}

#define CODE_FLAGS "-O1 -w -ffreestanding -fno-pie -mcmodel=kernel -fno-asynchronous-unwind-tables -fcf-protection=none"
#define LINK_FLAGS "-nostdlib -static -no-pie -Wl,-Ttext=0xffffffff81000000 -Wl,-e,0"

static inline int tree_setup(void **state)
{
	static const char *const directories[] = { "include", "kernel", "kernel/sched", "init",
						   "lib", "build", "build/deep", "many" };
	struct tree *t = calloc(1, sizeof(*t));
	char text[COMMAND_MAX];

	strcpy(t->path, "/tmp/ktstr-lines-XXXXXX");
	if (!mkdtemp(t->path))
		return -1;
	for (u32 i = 0; i < ARRAY_SIZE(directories); i++) {
		snprintf(text, sizeof(text), "%s/%s", t->path, directories[i]);
		if (mkdir(text, 0755))
			return -1;
	}
	for (u32 i = 0; i < ARRAY_SIZE(tree_sources); i++) {
		snprintf(text, sizeof(text), "%s/%s", t->path, tree_sources[i][0]);
		write_all(text, tree_sources[i][1], strlen(tree_sources[i][1]));
	}
	snprintf(text, sizeof(text), "gcc -g0 -c %s/lib/bare.S -o %s/lib/bare.o", t->path, t->path);
	run_command(text);
	*state = t;
	return 0;
}

static inline int tree_teardown(void **state)
{
	struct tree *t = *state;
	char text[COMMAND_MAX];

	snprintf(text, sizeof(text), "rm -rf %s", t->path);
	run_command(text);
	free(t);
	return 0;
}

/* Compiled in a directory of the tree, from where the sources are prefix/init/main.c and so on. */
static inline const char *compile_from(struct tree *t, const char *directory, const char *prefix, const char *flags)
{
	char text[COMMAND_MAX];

	snprintf(t->out, sizeof(t->out), "%s/vmlinux", t->path);
	snprintf(text, sizeof(text),
		 "cd %s/%s && gcc " CODE_FLAGS " " LINK_FLAGS
		 " %s %skernel/sched/made.c %sinit/main.c %s/lib/bare.o -o %s",
		 t->path, directory, flags, prefix, prefix, t->path, t->out);
	run_command(text);
	return t->out;
}

static inline const char *compile(struct tree *t, const char *flags)
{
	return compile_from(t, ".", "", flags);
}

/* Of C, not of assembly, names are relative to the tree. */
static inline const char *compile_mapped(struct tree *t)
{
	char text[COMMAND_MAX], flags[256];

	snprintf(text, sizeof(text), "cd %s/build/deep && gcc -g -c ../../lib/bare.S -o ../../lib/debug.o", t->path);
	run_command(text);
	snprintf(flags, sizeof(flags), "-gdwarf-5 -fdebug-prefix-map=%s/= ../../lib/debug.o -Wl,-z,muldefs", t->path);
	return compile_from(t, "build/deep", "../../", flags);
}

static inline const char *compile_object(struct tree *t)
{
	char text[COMMAND_MAX];

	snprintf(t->out, sizeof(t->out), "%s/made.o", t->path);
	snprintf(text, sizeof(text), "cd %s && gcc " CODE_FLAGS " -g -c kernel/sched/made.c -o %s", t->path, t->out);
	run_command(text);
	return t->out;
}

/* many_0.c to many_N.c: many_N() is in line N + 1. */
static inline const char *compile_many(struct tree *t, u32 count)
{
	char text[COMMAND_MAX], source[COMMAND_MAX];

	for (u32 i = 0; i < count; i++) {
		snprintf(text, sizeof(text), "%s/many/many_%u.c", t->path, i);
		memset(source, '\n', i);
		snprintf(source + i, sizeof(source) - i, "void many_%u(void) { asm volatile(\"nop\"); }\n", i);
		write_all(text, source, strlen(source));
	}
	snprintf(t->out, sizeof(t->out), "%s/vmlinux", t->path);
	snprintf(text, sizeof(text), "cd %s/many && gcc " CODE_FLAGS " " LINK_FLAGS " -g many_*.c -o %s", t->path,
		 t->out);
	run_command(text);
	return t->out;
}

/* A symbol's address. */
static inline u64 label(const char *path, const char *name)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	Elf *elf = (elf_version(EV_CURRENT), elf_begin(fd, ELF_C_READ, NULL));
	Elf_Scn *section = NULL;
	GElf_Shdr header;
	GElf_Sym symbol;
	u64 found = 0;

	assert_non_null(elf);
	while ((section = elf_nextscn(elf, section))) {
		if (!gelf_getshdr(section, &header) || header.sh_type != SHT_SYMTAB)
			continue;
		for (u32 i = 0; gelf_getsym(elf_getdata(section, NULL), (int)i, &symbol); i++)
			if (!strcmp(elf_strptr(elf, header.sh_link, symbol.st_name), name))
				found = symbol.st_value;
	}
	elf_end(elf);
	close(fd);
	assert_int_not_equal(found, 0);
	return found;
}

#endif
