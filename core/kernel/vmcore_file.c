// SPDX-License-Identifier: GPL-2.0-or-later
#include "kernel/vmcore_file.h"

#include <ctype.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "kernel/vmcore_notes.h"

enum {
	PAGE = 4096,
	SEGMENTS_MAX = 64, /* more than any tool writes for memory in two pieces */
	NOTES_MAX = 16 << 20,
	INFO_MAX = 64 << 10,
	CPUS_MAX = 8192,
	NOTE_ALIGN = 4,
	ADDRESS_BITS = 52, /* physical ones */
};

/* Where Linux has physical address 0 mapped for its image. */
static const u64 image_map = 0xffffffff80000000;

struct vmcore_file {
	struct guest_memory memory;
	struct view view;
	char *info;
	struct vmcore_cpu *cpus;
	u32 cpu_count, qemu_count;
};

/* A file while it is opened. */
struct source {
	int fd;
	u64 size;
	u32 segment_count;
	Elf64_Phdr segments[SEGMENTS_MAX]; /* of all kinds; then those of memory, by their physical addresses */
	Elf64_Phdr image, notes;
};

static struct error *damaged(const char *why)
{
	return error_create(ERROR_FORMAT, "the core file is damaged (%s)", why);
}

static bool is_within(const struct source *s, u64 offset, u64 size)
{
	return offset <= s->size && size <= s->size - offset;
}

static struct error *read_at(const struct source *s, void *data, size_t size, u64 offset)
{
	for (size_t done = 0; done < size;) {
		ssize_t n = pread(s->fd, (u8 *)data + done, size - done, (off_t)(offset + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return error_create_errno("cannot read %zu bytes", size - done);
		if (!n)
			return damaged("cut short");
		done += (size_t)n;
	}
	return NULL;
}

/* --- headers --- */

static struct error *read_headers(struct source *s)
{
	Elf64_Ehdr h;

	if (s->size < sizeof(h))
		return error_create(ERROR_FORMAT, "it is no core file");

	struct error *err = read_at(s, &h, sizeof(h), 0);

	if (err)
		return err;
	if (memcmp(h.e_ident, ELFMAG, SELFMAG) != 0 || h.e_type != ET_CORE)
		return error_create(ERROR_FORMAT, "it is no core file");
	if (h.e_ident[EI_CLASS] != ELFCLASS64 || h.e_ident[EI_DATA] != ELFDATA2LSB || h.e_machine != EM_X86_64)
		return error_create(ERROR_UNSUPPORTED, "it is a core file of another architecture");
	if (h.e_phentsize != sizeof(Elf64_Phdr) || !is_within(s, h.e_phoff, (u64)h.e_phnum * sizeof(Elf64_Phdr)))
		return damaged("its program headers");
	if (h.e_phnum > SEGMENTS_MAX)
		return error_create(ERROR_UNSUPPORTED, "a core file of %u segments", h.e_phnum);
	s->segment_count = h.e_phnum;
	return read_at(s, s->segments, h.e_phnum * sizeof(*s->segments), h.e_phoff);
}

static struct error *check_load(const struct source *s, const Elf64_Phdr *p)
{
	if (p->p_filesz != p->p_memsz)
		return error_create(ERROR_UNSUPPORTED, "a core file that has not all of the memory");
	if (!p->p_filesz || (p->p_offset | p->p_paddr | p->p_filesz) % PAGE)
		return damaged("a segment that is not whole pages");
	if (!is_within(s, p->p_offset, p->p_filesz))
		return damaged("cut short");
	if (p->p_paddr >> ADDRESS_BITS || p->p_filesz > (1ULL << ADDRESS_BITS) - p->p_paddr)
		return damaged("a segment beyond physical memory");
	return NULL;
}

static int compare_loads(const void *a, const void *b)
{
	const Elf64_Phdr *p = a, *q = b;

	return (p->p_paddr > q->p_paddr) - (p->p_paddr < q->p_paddr);
}

/* The image is there twice: by its own addresses, and in the memory. */
static struct error *sort_segments(struct source *s)
{
	u32 count = 0;

	for (u32 i = 0; i < s->segment_count; i++) {
		const Elf64_Phdr p = s->segments[i];

		if (p.p_type == PT_NOTE && !s->notes.p_filesz)
			s->notes = p;
		if (p.p_type != PT_LOAD)
			continue;

		struct error *err = check_load(s, &p);

		if (err)
			return err;
		if (p.p_vaddr < image_map)
			s->segments[count++] = p;
		else if (!s->image.p_filesz)
			s->image = p;
	}
	s->segment_count = count;
	qsort(s->segments, count, sizeof(*s->segments), compare_loads);
	if (!s->notes.p_filesz)
		return damaged("without notes");
	if (!s->image.p_filesz)
		return error_create(ERROR_UNSUPPORTED, "a core file without the kernel's image by its own addresses");
	if (!count)
		return damaged("without memory");
	return NULL;
}

/* --- memory --- */

/* What follows one another is one region. */
static struct error *plan_regions(const struct source *s, struct guest_memory *m)
{
	for (u32 i = 0; i < s->segment_count; i++) {
		const Elf64_Phdr *p = &s->segments[i];
		struct guest_region *last = m->region_count ? &m->regions[m->region_count - 1] : NULL;
		u64 end = last ? last->gpa + last->size : 0;

		if (last && p->p_paddr < end)
			return damaged("segments that overlap");
		if (last && p->p_paddr == end) {
			last->size += p->p_filesz;
		} else {
			if (m->region_count == GUEST_MEMORY_MAX_REGIONS)
				return error_create(ERROR_UNSUPPORTED,
						    "a core file with memory in more than %u pieces",
						    GUEST_MEMORY_MAX_REGIONS);
			m->regions[m->region_count++] = (struct guest_region){ .gpa = p->p_paddr, .size = p->p_filesz };
		}
		m->size += p->p_filesz;
	}
	return NULL;
}

static struct error *map_segments(const struct source *s, const struct guest_memory *m)
{
	u8 *at = m->base;

	for (u32 i = 0; i < s->segment_count; i++) {
		const Elf64_Phdr *p = &s->segments[i];

		if (mmap(at, p->p_filesz, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE, s->fd,
			 (off_t)p->p_offset) == MAP_FAILED)
			return error_create_errno("mmap of the core file");
		at += p->p_filesz;
	}
	return NULL;
}

static struct error *map_memory(const struct source *s, struct guest_memory *m)
{
	struct error *err = plan_regions(s, m);

	if (err)
		return err;

	void *base = mmap(NULL, m->size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (base == MAP_FAILED)
		return error_create(ERROR_NO_MEMORY, "there are no %llu MiB of addresses for the core file's memory",
				    (unsigned long long)(m->size >> 20));
	m->base = base;

	u64 done = 0;

	for (u32 i = 0; i < m->region_count; i++) {
		m->regions[i].hva = m->base + done;
		done += m->regions[i].size;
	}
	return map_segments(s, m);
}

/* --- notes --- */

static struct error *take_info(struct vmcore_file *f, const void *text, size_t size)
{
	if (f->info)
		return NULL;
	if (size > INFO_MAX)
		return damaged("its VMCOREINFO is too long");
	f->info = strndup(text, size);
	return f->info ? NULL : error_no_memory();
}

static struct error *take_note(struct vmcore_file *f, const char *name, u32 type, const void *desc, size_t size)
{
	if (!strcmp(name, "VMCOREINFO"))
		return take_info(f, desc, size);
	if (!strcmp(name, "CORE") && type == NT_PRSTATUS && size == sizeof(struct elf_prstatus)) {
		struct elf_prstatus status;

		if (f->cpu_count == CPUS_MAX)
			return damaged("too many CPUs");
		memcpy(&status, desc, sizeof(status));
		take_prstatus(&f->cpus[f->cpu_count++], &status);
	}
	if (!strcmp(name, "QEMU") && size >= sizeof(struct qemu_cpu) && f->qemu_count < f->cpu_count) {
		struct qemu_cpu q;

		memcpy(&q, desc, sizeof(q));
		if (q.version == QEMU_CPU_VERSION)
			take_qemu_cpu(&f->cpus[f->qemu_count++], &q);
	}
	return NULL;
}

/* The next size bytes, and the padding behind them; NULL where there are not that many. */
static const void *take_padded(struct reader *r, size_t size)
{
	const void *bytes = reader_take(r, size);
	size_t padding = -size % NOTE_ALIGN;

	// The last one's may be left out.
	if (bytes && padding <= reader_left(r))
		reader_take(r, padding);
	return bytes;
}

static struct error *take_notes(struct vmcore_file *f, const void *data, size_t size)
{
	struct reader r = reader_init(data, size);
	struct error *err = NULL;

	while (!err && reader_left(&r) >= sizeof(Elf64_Nhdr)) {
		Elf64_Nhdr h;

		reader_get(&r, &h, sizeof(h));

		const char *name = take_padded(&r, h.n_namesz);
		const void *desc = name ? take_padded(&r, h.n_descsz) : NULL;

		if (!desc || !h.n_namesz || name[h.n_namesz - 1])
			return damaged("its notes");
		err = take_note(f, name, h.n_type, desc, h.n_descsz);
	}
	return err;
}

static struct error *read_notes(struct vmcore_file *f, const struct source *s)
{
	u64 size = s->notes.p_filesz;

	if (size > NOTES_MAX || !is_within(s, s->notes.p_offset, size))
		return damaged("its notes");

	CLEANUP_FREE u8 *data = malloc(size);

	f->cpus = calloc(CPUS_MAX, sizeof(*f->cpus));
	if (!data || !f->cpus)
		return error_no_memory();

	struct error *err = read_at(s, data, size, s->notes.p_offset);

	if (!err)
		err = take_notes(f, data, size);
	if (!err && !f->info)
		err = error_create(ERROR_UNSUPPORTED, "a core file without VMCOREINFO: that is not one of a kernel");
	return err;
}

/* --- the kernel in it --- */

/* The value of a line NAME=value, a number in that base. */
static bool find_number(const char *info, const char *name, int base, u64 *ret)
{
	size_t length = strlen(name);

	for (const char *line = info; line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL) {
		char *end;

		if (strncmp(line, name, length) != 0 || line[length] != '=')
			continue;
		line += length + 1;
		if (isspace((unsigned char)*line))
			return false;
		errno = 0;
		// strtoull knows of a minus sign, too: phys_base may be below 0.
		*ret = strtoull(line, &end, base);
		return end != line && !errno && (!*end || *end == '\n');
	}
	return false;
}

static struct error *open_view(struct vmcore_file *f, const struct source *s)
{
	u64 slide, phys_base, five = 0;
	u64 start = s->image.p_vaddr, gpa = s->image.p_paddr;

	if (!find_number(f->info, "KERNELOFFSET", 16, &slide))
		return error_create(ERROR_UNSUPPORTED, "its VMCOREINFO does not say KERNELOFFSET");
	if (!find_number(f->info, "NUMBER(phys_base)", 10, &phys_base))
		return error_create(ERROR_UNSUPPORTED, "its VMCOREINFO does not say phys_base");
	// Kernels of before 5.4 with four levels do not say it.
	find_number(f->info, "NUMBER(pgtable_l5_enabled)", 10, &five);
	if (start - image_map + phys_base != gpa || slide > start)
		return damaged("its image is not where its VMCOREINFO says");

	const struct placed_kernel kernel = {
		.place = { .phys = gpa, .virt_slide = slide },
		.link_virt = start - slide,
		.span = s->image.p_filesz,
		.levels = five ? 5 : 4,
	};
	struct error *err = view_init(&f->view, &f->memory, &kernel);

	if (err) {
		error_destroy(err);
		return damaged("its image is not in its memory");
	}
	view_freeze(&f->view, 0);
	return NULL;
}

static struct error *open_source(const char *path, struct source *s)
{
	struct stat st;

	s->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (s->fd < 0 && errno == ENOENT)
		return error_create(ERROR_NOT_FOUND, "there is no such file");
	if (s->fd < 0 || fstat(s->fd, &st) < 0)
		return error_create_errno("cannot open it");
	if (!S_ISREG(st.st_mode))
		return error_create(ERROR_FORMAT, "it is no file");
	s->size = (u64)st.st_size;
	return NULL;
}

static struct error *open_file(const char *path, struct source *s, struct vmcore_file *f)
{
	struct error *err = open_source(path, s);

	if (!err)
		err = read_headers(s);
	if (!err)
		err = sort_segments(s);
	if (!err)
		err = read_notes(f, s);
	if (!err)
		err = map_memory(s, &f->memory);
	return err ? err : open_view(f, s);
}

struct error *vmcore_open(const char *path, struct vmcore_file **ret)
{
	struct vmcore_file *f = calloc(1, sizeof(*f));
	CLEANUP_FREE struct source *s = calloc(1, sizeof(*s));

	if (!f || !s) {
		free(f);
		return error_no_memory();
	}
	s->fd = -1;

	struct error *err = open_file(path, s, f);

	cleanup_close_(&s->fd);
	if (err) {
		vmcore_close(f);
		return error_with_context(err, "%s", path);
	}
	*ret = f;
	return NULL;
}

void vmcore_end(struct vmcore_file *f)
{
	if (f->view.memory)
		view_end(&f->view);
	guest_memory_deinit(&f->memory);
}

void vmcore_close(struct vmcore_file *f)
{
	if (!f)
		return;
	vmcore_end(f);
	free(f->info);
	free(f->cpus);
	free(f);
}

struct view *vmcore_view(struct vmcore_file *f)
{
	return &f->view;
}

const char *vmcore_info(const struct vmcore_file *f)
{
	return f->info;
}

u32 vmcore_cpu_count(const struct vmcore_file *f)
{
	return f->cpu_count;
}

const struct kvm_regs *vmcore_regs(const struct vmcore_file *f, u32 cpu)
{
	return cpu < f->cpu_count ? &f->cpus[cpu].regs : NULL;
}

const struct kvm_sregs *vmcore_sregs(const struct vmcore_file *f, u32 cpu)
{
	return cpu < f->cpu_count ? &f->cpus[cpu].sregs : NULL;
}
