// SPDX-License-Identifier: GPL-2.0-or-later
#include "image/dynamic.h"

#include <errno.h>
#include <fcntl.h>
#include <gelf.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"

enum { STRING_MAX = 16 << 10 }; /* bytes of a name or a list of directories */

static void end_elf(Elf **elf)
{
	elf_end(*elf);
}

static struct error *damaged(const char *why)
{
	return error_create(ERROR_FORMAT, "damaged ELF file (%s)", why);
}

static struct error *open_regular(const char *path, int *ret)
{
	// Not blocking: opening a FIFO must not wait for its other end.
	int CLEANUP_CLOSE fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct stat st;

	if (fd < 0 && (errno == ENOENT || errno == ENOTDIR))
		return error_create(ERROR_NOT_FOUND, "there is no file '%s'", path);
	if (fd < 0)
		return error_create_errno("cannot open '%s'", path);
	if (fstat(fd, &st) < 0)
		return error_create_errno("cannot examine '%s'", path);
	if (!S_ISREG(st.st_mode))
		return error_create(ERROR_INVALID, "'%s' is %s", path,
				    S_ISDIR(st.st_mode) ? "a directory" : "not a regular file");
	*ret = no_close(fd);
	return NULL;
}

/* A string that ends within max bytes from offset of the file on. */
static struct error *copy_string(int fd, u64 offset, u64 max, const char *what, char **ret)
{
	char text[STRING_MAX];
	size_t want = max < sizeof(text) ? max : sizeof(text);
	ssize_t got = offset > INT64_MAX ? 0 : pread(fd, text, want, offset);

	if (got < 0)
		return error_create_errno("cannot read it");

	size_t n = strnlen(text, got);

	if (n == (size_t)got)
		return damaged(what);
	free(*ret);
	*ret = strndup(text, n);
	return *ret ? NULL : error_no_memory();
}

/* Where a virtual address lies in the file. */
static bool file_offset(Elf *elf, size_t headers, u64 address, u64 *ret)
{
	for (size_t i = 0; i < headers; i++) {
		GElf_Phdr p;

		if (!gelf_getphdr(elf, i, &p) || p.p_type != PT_LOAD || address < p.p_vaddr ||
		    address - p.p_vaddr >= p.p_filesz ||
		    p.p_offset > UINT64_MAX - (address - p.p_vaddr))
			continue;
		*ret = p.p_offset + (address - p.p_vaddr);
		return true;
	}
	return false;
}

static struct error *add_needed(struct dynamic *d, char *name)
{
	if (d->needed_count == d->needed_capacity) {
		size_t capacity = d->needed_capacity ? d->needed_capacity * 2 : 8;
		char **needed = reallocarray(d->needed, capacity, sizeof(*needed));

		if (!needed) {
			free(name);
			return error_no_memory();
		}
		d->needed = needed;
		d->needed_capacity = capacity;
	}
	d->needed[d->needed_count++] = name;
	return NULL;
}

/* The dynamic section's string table, as a part of the file. */
struct strings {
	u64 offset, size;
};

static struct error *find_strings(Elf *elf, size_t headers, Elf_Data *data, struct strings *ret)
{
	u64 address = 0;
	GElf_Dyn dyn;

	for (int i = 0; gelf_getdyn(data, i, &dyn) && dyn.d_tag != DT_NULL; i++) {
		if (dyn.d_tag == DT_STRTAB)
			address = dyn.d_un.d_ptr;
		else if (dyn.d_tag == DT_STRSZ)
			ret->size = dyn.d_un.d_val;
	}
	if (!address || !file_offset(elf, headers, address, &ret->offset))
		return damaged("no string table");
	return NULL;
}

static struct error *take_entry(int fd, const struct strings *strings, const GElf_Dyn *dyn,
				struct dynamic *d)
{
	u64 at = dyn->d_un.d_val;
	char CLEANUP_FREE *name = NULL;
	char **where;

	switch (dyn->d_tag) {
	case DT_NEEDED:
		where = &name;
		break;
	case DT_SONAME:
		where = &d->soname;
		break;
	case DT_RPATH:
		where = &d->rpath;
		break;
	case DT_RUNPATH:
		where = &d->runpath;
		break;
	case DT_FLAGS_1:
		d->no_default_dirs = at & DF_1_NODEFLIB;
		return NULL;
	default:
		return NULL;
	}
	if (at >= strings->size || strings->offset > UINT64_MAX - at)
		return damaged("a name outside the string table");

	struct error *err = copy_string(fd, strings->offset + at, strings->size - at,
					"a name without an end", where);

	if (err || !name)
		return err;
	return add_needed(d, no_free(name));
}

static struct error *read_dynamic(Elf *elf, int fd, size_t headers, const GElf_Phdr *p,
				  struct dynamic *d)
{
	struct strings strings = { 0 };
	Elf_Data *data = elf_getdata_rawchunk(elf, p->p_offset, p->p_filesz, ELF_T_DYN);
	struct error *err;
	GElf_Dyn dyn;

	if (!data)
		return damaged("its dynamic section is outside the file");
	err = find_strings(elf, headers, data, &strings);
	for (int i = 0; !err && gelf_getdyn(data, i, &dyn) && dyn.d_tag != DT_NULL; i++)
		err = take_entry(fd, &strings, &dyn, d);
	return err;
}

/* The headers and what is to be loaded must be inside the file: libelf leaves out what is not. */
static struct error *check_size(Elf *elf, int fd, size_t headers)
{
	struct stat st;
	GElf_Ehdr e;
	GElf_Phdr p;

	if (fstat(fd, &st) < 0)
		return error_create_errno("cannot examine it");
	if (!gelf_getehdr(elf, &e) || (e.e_phnum != PN_XNUM && e.e_phnum != headers))
		return damaged("it is cut short");
	for (size_t i = 0; i < headers; i++) {
		if (!gelf_getphdr(elf, i, &p))
			return damaged(elf_errmsg(-1));
		if (p.p_type == PT_LOAD &&
		    (p.p_offset > (u64)st.st_size || p.p_filesz > st.st_size - p.p_offset))
			return damaged("it is cut short");
	}
	return NULL;
}

static struct error *check_machine(Elf *elf)
{
	GElf_Ehdr e;

	if (!gelf_getehdr(elf, &e))
		return damaged(elf_errmsg(-1));
	if (e.e_machine != EM_X86_64 || gelf_getclass(elf) != ELFCLASS64 ||
	    e.e_ident[EI_DATA] != ELFDATA2LSB)
		return error_create(ERROR_UNSUPPORTED, "an ELF file that is not for x86-64");
	if (e.e_type != ET_EXEC && e.e_type != ET_DYN)
		return error_create(ERROR_UNSUPPORTED, "neither a program nor a shared library");
	return NULL;
}

/* What is linked by somebody else, for whatever machine: a BPF program, a kernel module. To a loader it is data. */
static bool is_object(Elf *elf)
{
	GElf_Ehdr e;

	return gelf_getehdr(elf, &e) && e.e_type == ET_REL;
}

static struct error *read_elf(Elf *elf, int fd, struct dynamic *d)
{
	size_t headers;
	struct error *err = check_machine(elf);

	if (err)
		return err;
	if (elf_getphdrnum(elf, &headers) < 0)
		return damaged(elf_errmsg(-1));
	err = check_size(elf, fd, headers);
	if (err)
		return err;
	for (size_t i = 0; i < headers && !err; i++) {
		GElf_Phdr p;

		if (!gelf_getphdr(elf, i, &p))
			return damaged(elf_errmsg(-1));
		if (p.p_type == PT_INTERP)
			err = copy_string(fd, p.p_offset, p.p_filesz, "its interpreter's name",
					  &d->interpreter);
		else if (p.p_type == PT_DYNAMIC && p.p_filesz)
			err = read_dynamic(elf, fd, headers, &p, d);
	}
	return err;
}

struct error *dynamic_read(const char *path, struct dynamic *ret)
{
	int CLEANUP_CLOSE fd = -1;
	struct error *err;

	*ret = (struct dynamic){ 0 };
	err = open_regular(path, &fd);
	if (err)
		return err;
	if (elf_version(EV_CURRENT) == EV_NONE)
		return error_create(ERROR_UNSUPPORTED, "libelf is of another age than its headers");

	// Read, not mapped: the file may be written to meanwhile.
	Elf CLEANUP(end_elf) *elf = elf_begin(fd, ELF_C_READ, NULL);

	if (!elf)
		return error_create(ERROR_FORMAT, "'%s': %s", path, elf_errmsg(-1));
	if (elf_kind(elf) != ELF_K_ELF || is_object(elf))
		return NULL;
	ret->is_elf = true;
	err = read_elf(elf, fd, ret);
	if (err)
		dynamic_deinit(ret);
	return error_with_context(err, "'%s'", path);
}

void dynamic_deinit(struct dynamic *d)
{
	for (size_t i = 0; i < d->needed_count; i++)
		free(d->needed[i]);
	free(d->needed);
	free(d->interpreter);
	free(d->soname);
	free(d->rpath);
	free(d->runpath);
	*d = (struct dynamic){ 0 };
}
