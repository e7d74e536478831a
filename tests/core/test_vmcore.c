// SPDX-License-Identifier: GPL-2.0-or-later
/* Core files of a machine, read back with libelf: notes, registers, all memory, holes; and what goes wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>
#include <gelf.h>
#include <libelf.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/procfs.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "core/image_files.h"
#include "core/kvm_fixture.h"
#include "kernel/vmcore.h"

#define MIB (1ULL << 20)
#define PAGE_OFFSET 0xffff9a1a40000000ULL
#define HOLE_END (4ULL << 30)
#define IMAGE 0xffffffff8b800000ULL
#define IMAGE_GPA (3 * MIB) /* what is written below lies in it, too */

enum { CPUS = 3,
       PAGE = 4096 };

static const char info[] = "OSRELEASE=7.3.4\nPAGESIZE=4096\nKERNELOFFSET=12000000\n";

struct rig {
	struct test_dir *dir;
	struct guest_memory memory;
	struct vmcore_cpu cpus[CPUS];
	struct vmcore core;
	u64 asked, last_done; /* of progress */
	u64 stop_at;
};

static struct vmcore_cpu make_cpu(u32 i)
{
	const u64 n = 0x1000ULL * (i + 1);

	struct vmcore_cpu cpu = {
		.sregs.cs = { .selector = 0x10, .type = 11, .s = 1, .present = 1, .l = 1, .g = 1 },
		.sregs.ss.selector = 0x18,
		.sregs.gs.base = 0xffff888000000000ULL + n,
		.sregs.fs.base = 0x7f0000000000ULL + n,
		.sregs.idt = { .base = 0xfffffe0000000000ULL, .limit = 0xfff },
		.sregs.cr2 = n,
		.sregs.cr3 = 0x2000 + n,
		.kernel_gs_base = n,
		.pid = 100 + i,
	};
	u64 words[sizeof(cpu.regs) / 8];

	/* Each register another value. */
	for (size_t w = 0; w < ARRAY_SIZE(words); w++)
		words[w] = n + w;
	memcpy(&cpu.regs, words, sizeof(words));
	return cpu;
}

static struct error *progress(u64 done, u64 total, void *arg)
{
	struct rig *r = arg;

	assert_true(done >= r->last_done && done <= total);
	r->last_done = done;
	r->asked++;
	if (r->stop_at && done >= r->stop_at)
		return error_create(ERROR_FREEZE_LIMIT, "stopped");
	return NULL;
}

static int setup(void **state)
{
	struct rig *r = calloc(1, sizeof(*r));

	if (test_dir_setup((void **)&r->dir))
		return -1;
	/* Two regions round a hole, so that the memory is larger than what is written. */
	assert_no_error(guest_memory_init(&r->memory, 24 * MIB, 16 * MIB, HOLE_END));
	assert_int_equal(r->memory.region_count, 2);
	for (u32 i = 0; i < CPUS; i++)
		r->cpus[i] = make_cpu(i);
	r->core = (struct vmcore){
		.memory = &r->memory,
		.page_offset = PAGE_OFFSET,
		.image_start = IMAGE,
		.image_gpa = IMAGE_GPA,
		.image_size = 2 * MIB,
		.info = info,
		.info_size = sizeof(info) - 1,
		.cpus = r->cpus,
		.cpu_count = CPUS,
		.progress = progress,
		.arg = r,
	};
	*state = r;
	return 0;
}

static int teardown(void **state)
{
	struct rig *r = *state;
	int failed = test_dir_teardown((void **)&r->dir);

	guest_memory_deinit(&r->memory);
	free(r);
	return failed;
}

static void put(struct rig *r, u64 gpa, u8 value, size_t size)
{
	void *at = guest_memory_at(&r->memory, gpa, size);

	assert_non_null(at);
	memset(at, value, size);
}

/* First and last bytes, lone pages, runs, one across the chunks that are written at once. */
static void fill_memory(struct rig *r)
{
	put(r, 0, 0x01, 1);
	put(r, 3 * PAGE, 0x02, 2 * PAGE);
	put(r, 4 * MIB - PAGE, 0x03, 3 * PAGE);
	put(r, 9 * MIB + 77, 0x04, 1);
	put(r, 16 * MIB - 1, 0x05, 1);
	put(r, HOLE_END, 0x06, 1);
	put(r, HOLE_END + 8 * MIB - PAGE, 0x07, PAGE);
}

struct core_file {
	int fd;
	Elf *elf;
	size_t headers;
};

static void open_core(struct core_file *c, const char *path)
{
	elf_version(EV_CURRENT);
	c->fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(c->fd >= 0);
	c->elf = elf_begin(c->fd, ELF_C_READ, NULL);
	assert_non_null(c->elf);
	assert_int_equal(elf_getphdrnum(c->elf, &c->headers), 0);
}

static void close_core(struct core_file *c)
{
	elf_end(c->elf);
	close(c->fd);
}

static void save_and_open(struct rig *r, struct core_file *c)
{
	const char *path = test_dir_file(r->dir, "core");

	assert_no_error(vmcore_save(&r->core, path));
	open_core(c, path);
}

static void close_and_remove(struct rig *r, struct core_file *c)
{
	close_core(c);
	test_dir_remove(r->dir, "core");
}

static void check_segment(const struct core_file *c, int index, u64 address, u64 gpa, const u8 *expected, size_t size)
{
	GElf_Phdr p;
	u8 *data = malloc(size);

	assert_non_null(gelf_getphdr(c->elf, index, &p));
	assert_int_equal(p.p_type, PT_LOAD);
	assert_int_equal(p.p_paddr, gpa);
	assert_int_equal(p.p_vaddr, address);
	assert_int_equal(p.p_filesz, size);
	assert_int_equal(p.p_memsz, size);
	assert_int_equal(p.p_align, 0); // by that crash knows the format
	assert_int_equal(p.p_offset % PAGE, 0);
	assert_int_equal(pread(c->fd, data, size, (off_t)p.p_offset), size);
	assert_memory_equal(data, expected, size);
	free(data);
}

static void it_is_an_elf_core_of_the_guests_memory(void **state)
{
	struct rig *r = *state;
	struct core_file c;
	GElf_Ehdr header;
	GElf_Phdr p;

	fill_memory(r);
	save_and_open(r, &c);
	assert_non_null(gelf_getehdr(c.elf, &header));
	assert_int_equal(header.e_ident[EI_CLASS], ELFCLASS64);
	assert_int_equal(header.e_ident[EI_DATA], ELFDATA2LSB);
	assert_int_equal(header.e_type, ET_CORE);
	assert_int_equal(header.e_machine, EM_X86_64);
	assert_int_equal(c.headers, 4);
	check_segment(&c, 1, IMAGE, IMAGE_GPA, guest_memory_at(&r->memory, IMAGE_GPA, 2 * MIB), 2 * MIB);
	for (int i = 0; i < 2; i++) {
		const struct guest_region *region = &r->memory.regions[i];

		check_segment(&c, i + 2, PAGE_OFFSET + region->gpa, region->gpa, region->hva, region->size);
	}
	assert_non_null(gelf_getphdr(c.elf, 3, &p));

	struct stat st;

	assert_int_equal(fstat(c.fd, &st), 0);
	assert_int_equal(st.st_size, p.p_offset + p.p_filesz);
	assert_int_equal(st.st_size, vmcore_size(&r->core));
	assert_int_equal(st.st_mode & 07777, 0600);
	close_and_remove(r, &c);
}

static void zeros_take_no_room(void **state)
{
	struct rig *r = *state;
	struct core_file c;
	struct stat st;

	fill_memory(r);
	save_and_open(r, &c);
	assert_int_equal(fstat(c.fd, &st), 0);
	assert_true(st.st_size > (off_t)(24 * MIB));
	/* Ten pages, the headers, and what the file system needs for itself. */
	assert_true(st.st_blocks * 512 < (off_t)(256 << 10));
	close_and_remove(r, &c);
}

static void check_registers(const struct elf_prstatus *status, const struct vmcore_cpu *cpu)
{
	const struct user_regs_struct *regs = (const void *)&status->pr_reg;

	assert_int_equal(status->pr_pid, cpu->pid);
	assert_int_equal(regs->rip, cpu->regs.rip);
	assert_int_equal(regs->rsp, cpu->regs.rsp);
	assert_int_equal(regs->rbp, cpu->regs.rbp);
	assert_int_equal(regs->rax, cpu->regs.rax);
	assert_int_equal(regs->rbx, cpu->regs.rbx);
	assert_int_equal(regs->rcx, cpu->regs.rcx);
	assert_int_equal(regs->rdx, cpu->regs.rdx);
	assert_int_equal(regs->rsi, cpu->regs.rsi);
	assert_int_equal(regs->rdi, cpu->regs.rdi);
	assert_int_equal(regs->r8, cpu->regs.r8);
	assert_int_equal(regs->r9, cpu->regs.r9);
	assert_int_equal(regs->r10, cpu->regs.r10);
	assert_int_equal(regs->r11, cpu->regs.r11);
	assert_int_equal(regs->r12, cpu->regs.r12);
	assert_int_equal(regs->r13, cpu->regs.r13);
	assert_int_equal(regs->r14, cpu->regs.r14);
	assert_int_equal(regs->r15, cpu->regs.r15);
	assert_int_equal(regs->eflags, cpu->regs.rflags);
	assert_int_equal(regs->cs, 0x10);
	assert_int_equal(regs->ss, 0x18);
	assert_int_equal(regs->gs_base, cpu->sregs.gs.base);
	assert_int_equal(regs->fs_base, cpu->sregs.fs.base);
}

static u64 word_at(const u8 *note, size_t offset)
{
	u64 value;

	memcpy(&value, note + offset, sizeof(value));
	return value;
}

/* Offsets as crash has them. */
static void check_qemu_note(const u8 *note, size_t size, const struct vmcore_cpu *cpu)
{
	enum { RAX = 8,
	       RBX = 16,
	       RIP = 136,
	       CS = 152,
	       CS_FLAGS = CS + 8,
	       IDT = CS + 9 * 24,
	       CR = CS + 10 * 24,
	       KERNEL_GS = CR + 40 };
	u32 head[2];

	memcpy(head, note, sizeof(head));
	assert_int_equal(head[0], 1);
	assert_int_equal(head[1], size);
	assert_int_equal(size, KERNEL_GS + 8);
	assert_int_equal(word_at(note, RAX), cpu->regs.rax);
	assert_int_equal(word_at(note, RBX), cpu->regs.rbx);
	assert_int_equal(word_at(note, RIP), cpu->regs.rip);
	assert_int_equal(word_at(note, CS) & UINT32_MAX, 0x10);
	assert_int_equal(word_at(note, CS_FLAGS) & UINT32_MAX, 0xa09b00);
	assert_int_equal(word_at(note, IDT + 16), cpu->sregs.idt.base);
	assert_int_equal(word_at(note, CR + 16), cpu->sregs.cr2);
	assert_int_equal(word_at(note, CR + 24), cpu->sregs.cr3);
	assert_int_equal(word_at(note, KERNEL_GS), cpu->kernel_gs_base);
}

static void every_cpu_and_vmcoreinfo_have_a_note(void **state)
{
	struct rig *r = *state;
	struct core_file c;
	GElf_Phdr p;
	GElf_Nhdr note;
	size_t name, desc, offset = 0;
	u32 statuses = 0, qemu = 0, infos = 0;

	save_and_open(r, &c);
	assert_non_null(gelf_getphdr(c.elf, 0, &p));
	assert_int_equal(p.p_type, PT_NOTE); // crash looks for it in the first place only

	Elf_Data *data = elf_getdata_rawchunk(c.elf, (int64_t)p.p_offset, p.p_filesz, ELF_T_NHDR);

	assert_non_null(data);
	while ((offset = gelf_getnote(data, offset, &note, &name, &desc))) {
		const char *text = (const char *)data->d_buf + name;
		const u8 *bytes = (const u8 *)data->d_buf + desc;

		if (!strcmp(text, "CORE")) {
			struct elf_prstatus status;

			assert_int_equal(note.n_type, NT_PRSTATUS);
			assert_int_equal(note.n_descsz, sizeof(status));
			memcpy(&status, bytes, sizeof(status));
			check_registers(&status, &r->cpus[statuses++]);
		} else if (!strcmp(text, "QEMU")) {
			check_qemu_note(bytes, note.n_descsz, &r->cpus[qemu++]);
		} else {
			assert_string_equal(text, "VMCOREINFO");
			assert_int_equal(note.n_descsz, sizeof(info) - 1);
			assert_memory_equal(bytes, info, sizeof(info) - 1);
			infos++;
		}
	}
	assert_int_equal(statuses, CPUS);
	assert_int_equal(qemu, CPUS);
	assert_int_equal(infos, 1);
	close_and_remove(r, &c);
}

static void progress_is_told_and_may_end_it(void **state)
{
	struct rig *r = *state;
	const char *path = test_dir_file(r->dir, "core");

	fill_memory(r);
	assert_no_error(vmcore_save(&r->core, path));
	assert_true(r->asked >= 4);
	assert_int_equal(r->last_done, 24 * MIB);
	test_dir_remove(r->dir, "core");

	r->last_done = 0;
	r->stop_at = 8 * MIB;
	assert_error(vmcore_save(&r->core, path), ERROR_FREEZE_LIMIT, "stopped");
	assert_true(r->last_done < 16 * MIB);
	assert_int_equal(access(path, F_OK), -1);
}

static void an_old_file_is_replaced_or_kept_whole(void **state)
{
	struct rig *r = *state;
	const char *path = test_dir_write(r->dir, "core", "old", 3);
	char text[4] = "";

	r->stop_at = MIB;
	assert_error(vmcore_save(&r->core, path), ERROR_FREEZE_LIMIT, path);

	int fd = open(path, O_RDONLY | O_CLOEXEC);

	assert_int_equal(read(fd, text, sizeof(text)), 3);
	assert_string_equal(text, "old");
	close(fd);

	r->stop_at = r->last_done = 0;
	assert_no_error(vmcore_save(&r->core, path));

	struct core_file c;

	open_core(&c, path);
	assert_int_equal(c.headers, 4);
	close_and_remove(r, &c);
}

static void what_no_tool_could_open_is_refused(void **state)
{
	struct rig *r = *state;
	const char *path = test_dir_file(r->dir, "core");

	r->core.cpu_count = 0;
	assert_error(vmcore_save(&r->core, path), ERROR_INVALID, "CPUs");
	r->core.cpu_count = CPUS;
	r->core.info_size = 0;
	assert_error(vmcore_save(&r->core, path), ERROR_INVALID, "VMCOREINFO");
	r->core.info_size = 4;
	r->core.image_gpa = 15 * MIB;
	assert_error(vmcore_save(&r->core, path), ERROR_INVALID, "0xf00000");
	r->core.image_gpa = IMAGE_GPA;
	assert_error(vmcore_save(&r->core, test_dir_file(r->dir, "none/core")), ERROR_OS, "none/core");
}

static void a_file_that_may_not_grow_is_an_error_and_not_there(void **state)
{
	struct rig *r = *state;
	const char *path = test_dir_file(r->dir, "core");
	struct rlimit before, tight;
	void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);

	getrlimit(RLIMIT_FSIZE, &before);
	tight = before;
	tight.rlim_cur = 1 << 20;
	setrlimit(RLIMIT_FSIZE, &tight);

	struct error *err = vmcore_save(&r->core, path);

	setrlimit(RLIMIT_FSIZE, &before);
	signal(SIGXFSZ, handler);
	assert_error(err, ERROR_OS, path);
	assert_int_equal(access(path, F_OK), -1);
}

enum { CANNOT_MOUNT = 77 };

/* In a child, on a file system of 512 KiB. Guest memory is not inherited. */
static void save_to_small_disk(struct rig *r)
{
	const char *path = test_dir_file(r->dir, "core");

	if (unshare(CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount("tmpfs", r->dir->path, "tmpfs", 0, "size=512k"))
		_exit(CANNOT_MOUNT);
	if (guest_memory_init(&r->memory, 24 * MIB, 16 * MIB, HOLE_END))
		_exit(10);
	memset(guest_memory_at(&r->memory, 0, 2 * MIB), 0xaa, 2 * MIB);

	struct error *err = vmcore_save(&r->core, path);

	if (!err || error_code(err) != ERROR_OS || !strstr(error_message(err), strerror(ENOSPC)))
		_exit(11);
	error_destroy(err);
	_exit(access(path, F_OK) ? 0 : 12);
}

static void a_full_disk_is_an_error_and_leaves_nothing(void **state)
{
	pid_t pid = fork();
	int status;

	if (!pid)
		save_to_small_disk(*state);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == CANNOT_MOUNT) {
		print_message("this user cannot mount a small file system\n");
		skip();
	}
	assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(it_is_an_elf_core_of_the_guests_memory),
		TEST(zeros_take_no_room),
		TEST(every_cpu_and_vmcoreinfo_have_a_note),
		TEST(progress_is_told_and_may_end_it),
		TEST(an_old_file_is_replaced_or_kept_whole),
		TEST(what_no_tool_could_open_is_refused),
		TEST(a_file_that_may_not_grow_is_an_error_and_not_there),
		TEST(a_full_disk_is_an_error_and_leaves_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
