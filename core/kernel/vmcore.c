// SPDX-License-Identifier: GPL-2.0-or-later
#include "kernel/vmcore.h"

#include <elf.h>
#include <errno.h>
#include <string.h>
#include <sys/procfs.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/interrupt.h"
#include "image/store.h"
#include "kernel/vmcore_notes.h"

enum {
	PAGE = 4096,
	CHUNK = 4 << 20, /* between two looks at whether to go on */
	NOTE_ALIGN = 4,
	FIRST_REGION = 2, /* of the program headers, behind notes and image */
	FILE_MODE = 0600, /* all that the guest knows is in it */
};

static void put_note(struct buf *b, const char *name, u32 type, const void *data, size_t size)
{
	Elf64_Nhdr header = { .n_namesz = (u32)strlen(name) + 1, .n_descsz = (u32)size, .n_type = type };

	buf_put(b, &header, sizeof(header));
	buf_put(b, name, header.n_namesz);
	buf_align(b, NOTE_ALIGN);
	buf_put(b, data, size);
	buf_align(b, NOTE_ALIGN);
}

static void put_prstatus(struct buf *b, const struct vmcore_cpu *cpu)
{
	const struct kvm_regs *r = &cpu->regs;
	const struct kvm_sregs *s = &cpu->sregs;
	/* struct user_regs_struct. orig_rax is no system call's number: they were stopped, and are in none of ours. */
	const u64 regs[] = { r->r15, r->r14, r->r13, r->r12, r->rbp, r->rbx, r->r11, r->r10, r->r9,
			     r->r8, r->rax, r->rcx, r->rdx, r->rsi, r->rdi, UINT64_MAX, r->rip, s->cs.selector,
			     r->rflags, r->rsp, s->ss.selector, s->fs.base, s->gs.base, s->ds.selector,
			     s->es.selector, s->fs.selector, s->gs.selector };
	struct elf_prstatus status = { .pr_pid = (pid_t)cpu->pid };

	_Static_assert(sizeof(regs) == sizeof(status.pr_reg), "the general registers of a core file");
	memcpy(&status.pr_reg, regs, sizeof(regs));
	put_note(b, "CORE", NT_PRSTATUS, &status, sizeof(status));
}

static struct qemu_segment qemu_segment(const struct kvm_segment *s)
{
	return (struct qemu_segment){
		.selector = s->selector,
		.limit = s->limit,
		.flags = (u32)s->type << SEGMENT_TYPE_SHIFT | (u32)s->s << SEGMENT_S_SHIFT |
			 (u32)s->dpl << SEGMENT_DPL_SHIFT | (u32)s->present << SEGMENT_PRESENT_SHIFT |
			 (u32)s->avl << SEGMENT_AVL_SHIFT | (u32)s->l << SEGMENT_L_SHIFT |
			 (u32)s->db << SEGMENT_DB_SHIFT | (u32)s->g << SEGMENT_G_SHIFT,
		.base = s->base,
	};
}

static void put_qemu_cpu(struct buf *b, const struct vmcore_cpu *cpu)
{
	const struct kvm_regs *r = &cpu->regs;
	const struct kvm_sregs *s = &cpu->sregs;
	const struct qemu_cpu q = {
		.version = QEMU_CPU_VERSION,
		.size = sizeof(q),
		.rax = r->rax,
		.rbx = r->rbx,
		.rcx = r->rcx,
		.rdx = r->rdx,
		.rsi = r->rsi,
		.rdi = r->rdi,
		.rsp = r->rsp,
		.rbp = r->rbp,
		.r8 = r->r8,
		.r9 = r->r9,
		.r10 = r->r10,
		.r11 = r->r11,
		.r12 = r->r12,
		.r13 = r->r13,
		.r14 = r->r14,
		.r15 = r->r15,
		.rip = r->rip,
		.rflags = r->rflags,
		.cs = qemu_segment(&s->cs),
		.ds = qemu_segment(&s->ds),
		.es = qemu_segment(&s->es),
		.fs = qemu_segment(&s->fs),
		.gs = qemu_segment(&s->gs),
		.ss = qemu_segment(&s->ss),
		.ldt = qemu_segment(&s->ldt),
		.tr = qemu_segment(&s->tr),
		.gdt = { .limit = s->gdt.limit, .base = s->gdt.base },
		.idt = { .limit = s->idt.limit, .base = s->idt.base },
		.cr = { s->cr0, 0, s->cr2, s->cr3, s->cr4 },
		.kernel_gs_base = cpu->kernel_gs_base,
	};

	put_note(b, "QEMU", 0, &q, sizeof(q));
}

static void put_notes(struct buf *b, const struct vmcore *v)
{
	for (u32 i = 0; i < v->cpu_count; i++)
		put_prstatus(b, &v->cpus[i]);
	for (u32 i = 0; i < v->cpu_count; i++)
		put_qemu_cpu(b, &v->cpus[i]);
	put_note(b, "VMCOREINFO", 0, v->info, v->info_size);
}

static void put_file_header(struct buf *b, const struct vmcore *v)
{
	const Elf64_Ehdr header = {
		.e_ident = { ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB, EV_CURRENT },
		.e_type = ET_CORE,
		.e_machine = EM_X86_64,
		.e_version = EV_CURRENT,
		.e_phoff = sizeof(header),
		.e_ehsize = sizeof(header),
		.e_phentsize = sizeof(Elf64_Phdr),
		.e_phnum = (u16)(FIRST_REGION + v->memory->region_count),
	};

	buf_put(b, &header, sizeof(header));
}

/*
 * The segments' own alignment is said to be 0, although they lie on pages: by that crash tells a kernel's memory from
 * the format that came before it.
 */
static void put_load(struct buf *b, u64 offset, u64 address, u64 gpa, u64 size)
{
	const Elf64_Phdr load = {
		.p_type = PT_LOAD,
		.p_flags = PF_R | PF_W | PF_X,
		.p_offset = offset,
		.p_vaddr = address,
		.p_paddr = gpa,
		.p_filesz = size,
		.p_memsz = size,
	};

	buf_put(b, &load, sizeof(load));
}

/* Where guest-physical memory lies, from the file's first byte of memory on. */
static u64 offset_of(const struct vmcore *v, u64 gpa)
{
	u64 offset = 0;

	for (u32 i = 0; i < v->memory->region_count; i++) {
		const struct guest_region *r = &v->memory->regions[i];

		if (gpa - r->gpa < r->size)
			return offset + gpa - r->gpa;
		offset += r->size;
	}
	return 0;
}

/* The image by its own addresses comes first, as in a kernel's own: translating any other begins with its tables. */
static void put_segments(struct buf *b, const struct vmcore *v, u64 notes_at, u64 notes_size, u64 memory_at)
{
	const Elf64_Phdr notes = {
		.p_type = PT_NOTE, .p_offset = notes_at, .p_filesz = notes_size, .p_memsz = notes_size
	};

	buf_put(b, &notes, sizeof(notes));
	put_load(b, memory_at + offset_of(v, v->image_gpa), v->image_start, v->image_gpa, v->image_size);
	for (u32 i = 0; i < v->memory->region_count; i++) {
		const struct guest_region *r = &v->memory->regions[i];

		put_load(b, memory_at + offset_of(v, r->gpa), v->page_offset + r->gpa, r->gpa, r->size);
	}
}

static u64 memory_size(const struct vmcore *v)
{
	u64 size = 0;

	for (u32 i = 0; i < v->memory->region_count; i++)
		size += v->memory->regions[i].size;
	return size;
}

/* All that comes before the memory, filled up to a page. */
static struct error *make_head(const struct vmcore *v, struct buf *b)
{
	u64 notes_at = sizeof(Elf64_Ehdr) + (FIRST_REGION + (u64)v->memory->region_count) * sizeof(Elf64_Phdr);
	struct buf notes = BUF_INIT;

	put_notes(&notes, v);
	put_file_header(b, v);
	put_segments(b, v, notes_at, notes.size, ALIGN_UP(notes_at + notes.size, PAGE));
	buf_put(b, notes.data, notes.size);
	buf_align(b, PAGE);

	struct error *err = buf_check(&notes);

	buf_deinit(&notes);
	return err ? err : buf_check(b);
}

u64 vmcore_size(const struct vmcore *v)
{
	struct buf head = BUF_INIT;
	struct error *err = make_head(v, &head);
	u64 size = err ? 0 : head.size + memory_size(v);

	error_destroy(err);
	buf_deinit(&head);
	return size;
}

static struct error *write_all(int fd, const u8 *data, size_t size, u64 offset)
{
	for (size_t done = 0; done < size;) {
		ssize_t n = pwrite(fd, data + done, size - done, (off_t)(offset + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return error_create_errno("cannot write %zu bytes", size - done);
		done += (size_t)n;
	}
	return NULL;
}

static bool is_zero(const u8 *page)
{
	static const u8 zero[PAGE];

	return !memcmp(page, zero, PAGE);
}

/* Runs of pages that are not zero. */
static struct error *write_chunk(int fd, const u8 *data, size_t size, u64 offset)
{
	for (size_t at = 0, start = 0; at < size; start = at) {
		while (at < size && !is_zero(data + at))
			at += PAGE;

		struct error *err = write_all(fd, data + start, at - start, offset + start);

		if (err)
			return err;
		while (at < size && is_zero(data + at))
			at += PAGE;
	}
	return NULL;
}

static struct error *check_going_on(const struct vmcore *v, u64 done, u64 total)
{
	if (interrupt_signal())
		return interrupt_error();
	return v->progress ? v->progress(done, total, v->arg) : NULL;
}

static struct error *write_memory(const struct vmcore *v, int fd, u64 offset)
{
	u64 done = 0, total = memory_size(v);

	for (u32 i = 0; i < v->memory->region_count; i++) {
		const struct guest_region *r = &v->memory->regions[i];

		for (u64 at = 0; at < r->size; at += CHUNK) {
			u64 size = r->size - at < CHUNK ? r->size - at : CHUNK;
			struct error *err = check_going_on(v, done, total);

			if (!err)
				err = write_chunk(fd, r->hva + at, size, offset + done);
			if (err)
				return err;
			done += size;
		}
	}
	return check_going_on(v, done, total);
}

struct error *vmcore_write(const struct vmcore *v, int fd)
{
	struct buf CLEANUP(buf_deinit) head = BUF_INIT;

	if (!v->cpu_count || !v->info_size)
		return error_create(ERROR_INVALID, "a core file without %s is of no use",
				    v->cpu_count ? "VMCOREINFO" : "CPUs");
	if (!guest_memory_at(v->memory, v->image_gpa, v->image_size))
		return error_create(ERROR_INVALID, "a kernel of 0x%llx bytes at 0x%llx is not in the memory",
				    (unsigned long long)v->image_size, (unsigned long long)v->image_gpa);

	struct error *err = make_head(v, &head);

	if (err)
		return err;

	u64 size = head.size + memory_size(v);

	if (ftruncate(fd, (off_t)size) < 0)
		return error_create_errno("cannot make it %llu bytes long", (unsigned long long)size);
	err = write_all(fd, head.data, head.size, 0);
	return err ? err : write_memory(v, fd, head.size);
}

static struct error *fill(int fd, const void *arg)
{
	return vmcore_write(arg, fd);
}

struct error *vmcore_save(const struct vmcore *v, const char *path)
{
	return store_written(path, FILE_MODE, fill, v);
}
