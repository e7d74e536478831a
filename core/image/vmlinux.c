// SPDX-License-Identifier: GPL-2.0-or-later
#include "image/vmlinux.h"

#include <elf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cleanup.h"

enum {
	MAX_PROGRAM_HEADERS = 64,
	BANNER_WINDOW = 64 << 10, /* linux_banner is one of the first objects of .rodata */
	PAGE_SIZE = 4096,
};

static const char banner[] = "Linux version ";

static struct error *damaged(const char *why)
{
	return error_with_hint(error_create(ERROR_FORMAT, "its ELF headers are damaged (%s)", why),
			       "fetch or build it again");
}

static struct error *not_a_kernel(const char *why)
{
	return error_create(ERROR_FORMAT, "it is an ELF file that is no kernel (%s)", why);
}

struct error *vmlinux_read(int fd, void *data, size_t size, u64 offset)
{
	for (size_t done = 0; done < size;) {
		ssize_t n = pread(fd, (u8 *)data + done, size - done, offset + done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return error_create_errno("cannot read it");
		if (!n)
			return error_with_hint(error_create(ERROR_FORMAT,
							    "it is cut short at %llu bytes",
							    (unsigned long long)offset + done),
					       "fetch or build it again");
		done += n;
	}
	return NULL;
}

bool vmlinux_detect(const u8 *data, size_t size)
{
	return size >= SELFMAG && !memcmp(data, ELFMAG, SELFMAG);
}

static const char *machine_name(u16 machine)
{
	switch (machine) {
	case EM_386:
		return "32-bit x86";
	case EM_AARCH64:
		return "arm64";
	case EM_ARM:
		return "arm";
	case EM_RISCV:
		return "RISC-V";
	case EM_PPC64:
		return "powerpc";
	case EM_S390:
		return "s390";
	case EM_LOONGARCH:
		return "LoongArch";
	default:
		return "another architecture";
	}
}

/* e: at least EI_NIDENT bytes and e_machine, whatever its class. */
static struct error *check_machine(const Elf64_Ehdr *e)
{
	if (e->e_ident[EI_DATA] != ELFDATA2LSB)
		return error_create(ERROR_UNSUPPORTED,
				    "it is big-endian; ktstr boots x86-64 kernels");
	if (e->e_machine != EM_X86_64)
		return error_create(ERROR_UNSUPPORTED, "it is for %s; ktstr boots x86-64 kernels",
				    machine_name(e->e_machine));
	if (e->e_ident[EI_CLASS] != ELFCLASS64)
		return error_create(ERROR_UNSUPPORTED, "it is 32-bit; ktstr boots x86-64 kernels");
	return NULL;
}

static struct error *check_header(const Elf64_Ehdr *e)
{
	struct error *err = check_machine(e);

	if (err)
		return err;
	if (e->e_type == ET_REL)
		return not_a_kernel("an object file or module");
	if (e->e_type != ET_EXEC && e->e_type != ET_DYN)
		return not_a_kernel("not an executable");
	if (e->e_ehsize != sizeof(*e) || !e->e_phnum || e->e_phentsize != sizeof(Elf64_Phdr) ||
	    (e->e_shnum && e->e_shentsize != sizeof(Elf64_Shdr)))
		return damaged("sizes of headers");
	if (e->e_phnum > MAX_PROGRAM_HEADERS)
		return damaged("too many program headers");
	return NULL;
}

/*
 * A kernel is linked into the top 2 GiB; a bare-metal program that is not may be one too, as long
 * as it has nothing that only a process would use.
 */
static struct error *check_kernel(const Elf64_Phdr *ph, size_t n)
{
	bool process = false;

	for (size_t i = 0; i < n; i++) {
		u32 type = ph[i].p_type;

		if (type == PT_LOAD && ph[i].p_vaddr >= VMLINUX_KERNEL_MAP)
			return NULL;
		process |= type == PT_INTERP || type == PT_DYNAMIC || type == PT_TLS ||
			   type == PT_GNU_RELRO;
	}
	return process ? not_a_kernel("a program for user space") : NULL;
}

static int compare_segments(const void *a, const void *b)
{
	const Elf64_Phdr *x = a, *y = b;

	return x->p_paddr < y->p_paddr ? -1 : x->p_paddr > y->p_paddr;
}

static struct error *check_segment(const Elf64_Phdr *p, u64 file_size)
{
	if (p->p_filesz > p->p_memsz)
		return damaged("a segment is larger in the file than in memory");
	if (p->p_memsz > VMLINUX_MAX_SPAN || p->p_paddr > UINT32_MAX)
		return damaged("a segment lies outside the first 4 GiB");
	if (p->p_offset > file_size || p->p_filesz > file_size - p->p_offset)
		return error_with_hint(error_create(ERROR_FORMAT,
						    "it is cut short (%llu bytes of %llu)",
						    (unsigned long long)file_size,
						    (unsigned long long)p->p_offset + p->p_filesz),
				       "fetch or build it again");
	return NULL;
}

/* Sorts ph; fills in segments, link_phys, link_virt and span. */
static struct error *take_segments(struct vmlinux *v, Elf64_Phdr *ph, size_t n)
{
	struct error *err;
	u64 end = 0;

	qsort(ph, n, sizeof(*ph), compare_segments);
	for (size_t i = 0; i < n; i++) {
		const Elf64_Phdr *p = &ph[i];

		if (p->p_type != PT_LOAD || !p->p_memsz)
			continue;
		err = check_segment(p, v->stat.st_size);
		if (err)
			return err;
		if (v->segment_count == VMLINUX_MAX_SEGMENTS)
			return damaged("too many segments");
		if (!v->segment_count)
			v->link_phys = p->p_paddr;
		else if (p->p_paddr < end)
			return damaged("segments overlap");
		// Per-CPU data is linked at address 0 in kernels before 6.15.
		if (!v->link_virt && p->p_vaddr)
			v->link_virt = p->p_vaddr - (p->p_paddr - v->link_phys);
		end = p->p_paddr + p->p_memsz;
		v->segments[v->segment_count++] = (struct vmlinux_segment){
			.offset = p->p_offset,
			.file_size = p->p_filesz,
			.memory_size = p->p_memsz,
			.image_offset = p->p_paddr - v->link_phys,
		};
	}
	if (!v->segment_count)
		return damaged("nothing to load");
	v->span = end - v->link_phys;
	if (v->span > VMLINUX_MAX_SPAN)
		return damaged("larger than a kernel can be");
	return NULL;
}

/* Kernels give the physical address; a virtual one is taken too. */
static struct error *take_entry(struct vmlinux *v, u64 entry)
{
	if (entry - v->link_virt < v->span)
		entry = entry - v->link_virt + v->link_phys;
	if (entry - v->link_phys >= v->span)
		return damaged("the entry point is outside the image");
	v->entry = entry;
	return NULL;
}

static u64 max_u64(u64 a, u64 b)
{
	return a > b ? a : b;
}

/* The image's bytes in [from, from + size) of the file, searched for the banner. */
static struct error *find_banner(struct vmlinux *v, u64 from, u64 size)
{
	u8 CLEANUP_FREE *text = malloc(size);

	if (!text)
		return error_no_memory();

	struct error *err = vmlinux_read(v->fd, text, size, from);

	if (err)
		return err;

	for (u8 *p = text; (p = memmem(p, text + size - p, banner, sizeof(banner) - 1)); p++) {
		const u8 *s = p + sizeof(banner) - 1;
		size_t n = 0;

		while (s + n < text + size && n < KERNEL_RELEASE_MAX && s[n] > ' ' && s[n] <= '~')
			n++;
		// "Linux version %s" is a format that some function prints.
		if (!n || n >= KERNEL_RELEASE_MAX || *s < '0' || *s > '9')
			continue;
		memcpy(v->release, s, n);
		v->release[n] = '\0';
		return NULL;
	}
	return NULL;
}

/* Looks where the kernel's linker script puts it. */
static struct error *find_release(struct vmlinux *v, const Elf64_Ehdr *e, const Elf64_Shdr *sh)
{
	char name[sizeof(".rodata")];

	for (size_t i = 0; i < e->e_shnum && e->e_shstrndx < e->e_shnum; i++) {
		u64 at = sh[e->e_shstrndx].sh_offset + sh[i].sh_name;

		if (sh[i].sh_type != SHT_PROGBITS || !(sh[i].sh_flags & SHF_ALLOC) ||
		    at > (u64)v->stat.st_size || v->stat.st_size - at < sizeof(name))
			continue;

		struct error *err = vmlinux_read(v->fd, name, sizeof(name), at);

		if (err)
			return err;
		if (memcmp(name, ".rodata", sizeof(name)) != 0)
			continue;
		return find_banner(v, sh[i].sh_offset,
				   sh[i].sh_size < BANNER_WINDOW ? sh[i].sh_size : BANNER_WINDOW);
	}
	return NULL;
}

/* Where the ELF file ends, by all that its headers speak of: the tables stand behind. */
static struct error *find_elf_end(struct vmlinux *v, const Elf64_Ehdr *e, const Elf64_Shdr *sh,
				  u64 *ret)
{
	u64 end = max_u64(sizeof(*e), e->e_phoff + (u64)e->e_phnum * sizeof(Elf64_Phdr));

	if (e->e_shnum)
		end = max_u64(end, e->e_shoff + (u64)e->e_shnum * sizeof(Elf64_Shdr));
	for (size_t i = 0; i < v->segment_count; i++)
		end = max_u64(end, v->segments[i].offset + v->segments[i].file_size);
	for (size_t i = 0; i < e->e_shnum; i++) {
		if (sh[i].sh_type == SHT_NOBITS || sh[i].sh_type == SHT_NULL)
			continue;
		if (sh[i].sh_offset > UINT32_MAX || sh[i].sh_size > UINT32_MAX)
			return damaged("a section outside the file");
		end = max_u64(end, sh[i].sh_offset + sh[i].sh_size);
	}
	if (end > (u64)v->stat.st_size)
		return error_with_hint(
			error_create(ERROR_FORMAT, "it is cut short (%llu bytes of %llu)",
				     (unsigned long long)v->stat.st_size, (unsigned long long)end),
			"fetch or build it again");
	*ret = end;
	return NULL;
}

/* The file's last size bytes: mapped where the file stays as it is, else a copy. */
static struct error *read_tail(struct vmlinux *v, u64 offset, size_t size)
{
	v->tail_size = size;
	if (!v->immutable) {
		v->tail = malloc(size);
		if (!v->tail)
			return error_no_memory();
		return vmlinux_read(v->fd, v->tail, size, offset);
	}

	u64 start = ALIGN_DOWN(offset, (u64)PAGE_SIZE);

	v->tail_mapping_size = size + (offset - start);

	void *p = mmap(NULL, v->tail_mapping_size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, v->fd,
		       start);

	if (p == MAP_FAILED)
		return error_create_errno("cannot map it");
	v->tail_mapping = p;
	v->tail = (u8 *)p + (offset - start);
	return NULL;
}

static struct error *take_tables(struct vmlinux *v, u64 elf_end)
{
	size_t size = v->stat.st_size - elf_end;
	size_t pages = (v->span + PAGE_SIZE - 1) / PAGE_SIZE;
	struct error *err;

	if (!size)
		return NULL;
	if (size > VMLINUX_MAX_SPAN)
		return damaged("too much behind its end");
	err = read_tail(v, elf_end, size);
	if (err)
		return err;
	err = relocation_tables_parse(v->tail, size, v->link_virt, v->span, &v->tables);
	if (err)
		return err;
	v->relocated_pages = calloc((pages + 63) / 64, sizeof(u64));
	if (!v->relocated_pages)
		return error_no_memory();
	relocation_tables_pages(&v->tables, v->relocated_pages);
	v->relocatable = true;
	return NULL;
}

static struct error *read_headers(struct vmlinux *v, Elf64_Ehdr *e, Elf64_Phdr *ph, Elf64_Shdr **sh)
{
	struct error *err;

	memset(e, 0, sizeof(*e));
	if (v->stat.st_size < (off_t)sizeof(*e))
		return error_create(ERROR_FORMAT, "it is cut short at %llu bytes",
				    (unsigned long long)v->stat.st_size);
	err = vmlinux_read(v->fd, e, sizeof(*e), 0);
	if (err)
		return err;
	err = check_header(e);
	if (err)
		return err;
	if (e->e_phoff > UINT32_MAX || e->e_shoff > UINT32_MAX)
		return damaged("header tables outside the file");
	err = vmlinux_read(v->fd, ph, e->e_phnum * sizeof(*ph), e->e_phoff);
	if (err)
		return err;
	err = check_kernel(ph, e->e_phnum);
	if (err || !e->e_shnum)
		return err;
	*sh = calloc(e->e_shnum, sizeof(**sh));
	if (!*sh)
		return error_no_memory();
	return vmlinux_read(v->fd, *sh, e->e_shnum * sizeof(**sh), e->e_shoff);
}

static struct error *parse(struct vmlinux *v)
{
	Elf64_Ehdr e;
	Elf64_Phdr ph[MAX_PROGRAM_HEADERS] = { 0 };
	Elf64_Shdr CLEANUP_FREE *sh = NULL;
	u64 elf_end = 0;
	struct error *err;

	err = read_headers(v, &e, ph, &sh);
	if (err)
		return err;
	err = take_segments(v, ph, e.e_phnum);
	if (err)
		return err;
	err = take_entry(v, e.e_entry);
	if (err)
		return err;
	err = find_elf_end(v, &e, sh, &elf_end);
	if (err)
		return err;
	err = take_tables(v, elf_end);
	if (err)
		return err;
	return find_release(v, &e, sh);
}

struct error *vmlinux_open(int fd, bool sealed, struct vmlinux *ret)
{
	struct vmlinux v = { .fd = fd };
	struct error *err;

	if (fstat(fd, &v.stat) < 0) {
		err = error_create_errno("cannot examine it");
	} else {
		v.immutable = sealed || (S_ISREG(v.stat.st_mode) && !(v.stat.st_mode & 0222));
		err = parse(&v);
	}
	if (err) {
		vmlinux_close(&v);
		return err;
	}
	*ret = v;
	return NULL;
}

void vmlinux_close(struct vmlinux *v)
{
	if (v->tail_mapping)
		munmap(v->tail_mapping, v->tail_mapping_size);
	else
		free(v->tail);
	free(v->relocated_pages);
	if (v->fd >= 0)
		close(v->fd);
	*v = (struct vmlinux){ .fd = -1 };
}
