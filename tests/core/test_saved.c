// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Bytes of saved machines that no checksum has vouched for: whatever they are, there is an error or a machine. None
 * of those is started; what is left of one that was taken back to all of them is.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <libgen.h>
#include <limits.h>
#include <sys/mman.h>

#include "base/clock.h"
#include "coordinator/coordinator.h"
#include "core/kvm_fixture.h"
#include "image/kernel.h"
#include "machine/frozen.h"
#include "machine/saved.h"
#include "warm/image.h"
#include "warm/warm.h"

enum {
	CPUS = 2,
	MEMORY = 32 << 20,
	PATIENCE_S = 60,
	CREATE_STRIDE = 61, /* a machine made of each byte would take minutes */
};

struct rig {
	struct image *image;
	struct buf machine, channel; /* copies of its sections */
};

/* --- a machine that is saved --- */

static void tiny_path(char path[static PATH_MAX])
{
	char self[PATH_MAX] = "";

	assert_true(readlink("/proc/self/exe", self, sizeof(self) - 1) > 0);
	snprintf(path, PATH_MAX, "%s/../../guest/tiny", dirname(self));
}

static struct machine *create_machine(void)
{
	struct machine_config config = {
		.cmdline = "tiny.run=warm",
		.topology = {
			.nodes = 1,
			.cores = CPUS,
			.threads = 1,
			.node_llcs = { 1 },
			.node_memory = { MEMORY },
			.distance = { { 10 } },
		},
	};
	char path[PATH_MAX];
	struct kernel_image *kernel;
	struct machine *m;

	tiny_path(path);
	assert_no_error(kernel_image_open(path, &kernel));
	config.kernel = kernel;
	assert_no_error(machine_create(&config, &m));
	kernel_image_close(kernel);
	return m;
}

/* The payload's first eight bytes, of the next frame of that type. */
static void receive(struct coordinator *c, u32 type, u32 ret[2])
{
	struct mail *mail = NULL;
	u32 found = 0;

	while (found != type) {
		enum coordinator_event event;

		assert_no_error(coordinator_recv(c, PATIENCE_S * NSEC_PER_SEC, &event, &mail));
		assert_int_equal(event, COORDINATOR_FRAME);
		found = mail->type;
		if (found == type && mail->size >= 8)
			memcpy(ret, mail->payload, 8);
		free(mail);
	}
}

static void ping(struct coordinator *c)
{
	static u32 id = 1000;
	const struct wire_op_request request = { .request_id = ++id, .op = OP_PING };
	u32 reply[2] = { 0 };

	assert_no_error(coordinator_send(c, MSG_OP_REQUEST, &request, sizeof(request), UINT64_MAX));
	while (reply[0] != id)
		receive(c, MSG_OP_REPLY, reply);
	assert_int_equal(reply[1], 0);
}

static void copy_section(const struct image *image, enum image_section section, struct buf *out)
{
	size_t size;
	const void *data = image_section(image, section, &size);

	buf_put(out, data, size);
	assert_no_error(buf_check(out));
}

static int setup(void **state)
{
	struct rig *r = calloc(1, sizeof(*r));
	struct coordinator *c;
	u32 ignored[2];

	*state = r;
	if (access("/dev/kvm", R_OK | W_OK))
		return 0;

	struct machine *m = create_machine();

	assert_no_error(coordinator_create(m, PATIENCE_S * NSEC_PER_SEC, &c));
	assert_no_error(coordinator_start(c));
	receive(c, MSG_SYS_RDY, ignored);
	ping(c);
	assert_no_error(coordinator_freeze(c, UINT64_MAX));
	assert_no_error(warm_save(c, NULL, &BUF_INIT, &BUF_INIT, &r->image));
	coordinator_destroy(c);
	machine_destroy(m);
	copy_section(r->image, IMAGE_MACHINE, &r->machine);
	copy_section(r->image, IMAGE_CHANNEL, &r->channel);
	return 0;
}

static int teardown(void **state)
{
	struct rig *r = *state;

	image_close(r->image);
	buf_deinit(&r->machine);
	buf_deinit(&r->channel);
	free(r);
	return 0;
}

/* --- its bytes, damaged --- */

/* In memory of their own size, so that a sanitizer sees a read behind them. */
static u8 *copy_of(const struct buf *bytes, size_t size)
{
	u8 *copy = malloc(size ? size : 1);

	assert_non_null(copy);
	memcpy(copy, bytes->data, size);
	return copy;
}

static struct saved_machine saved_of(const struct rig *r, const void *state, size_t size)
{
	return (struct saved_machine){ .state = state, .size = size, .memory_fd = image_memory_fd(r->image) };
}

static struct machine *create_good(const struct rig *r)
{
	struct saved_machine saved = saved_of(r, r->machine.data, r->machine.size);
	struct machine *m;

	assert_no_error(machine_create_saved(&saved, &m));
	return m;
}

/* True: they made a machine. */
static bool try_create(const struct rig *r, const u8 *state, size_t size)
{
	struct saved_machine saved = saved_of(r, state, size);
	struct machine *m = NULL;
	struct error *err = machine_create_saved(&saved, &m);

	if (!err)
		machine_destroy(m);
	error_destroy(err);
	return !err;
}

/* What it is taken back to in the end is what it goes on from. */
static void rewind_and_run(const struct rig *r, struct machine *m)
{
	struct saved_machine saved = saved_of(r, r->machine.data, r->machine.size);
	struct reader channel = reader_init(r->channel.data, r->channel.size);
	struct coordinator *c;

	assert_no_error(machine_rewind(m, &saved));
	assert_no_error(coordinator_create(m, PATIENCE_S * NSEC_PER_SEC, &c));
	assert_no_error(coordinator_load(c, &channel));
	assert_no_error(coordinator_start(c));
	for (u32 i = 0; i < 10; i++)
		ping(c);
	coordinator_destroy(c);
}

static void cut_short_no_machine_is_made(void **state)
{
	struct rig *r = *state;

	SKIP_WITHOUT_KVM();
	for (size_t size = 0; size < r->machine.size; size += size < 64 ? 1 : CREATE_STRIDE) {
		u8 *copy = copy_of(&r->machine, size);

		assert_false(try_create(r, copy, size));
		free(copy);
	}

	u8 *copy = copy_of(&r->machine, r->machine.size - 1);

	assert_false(try_create(r, copy, r->machine.size - 1));
	free(copy);
}

static void with_any_byte_changed_there_is_an_error_or_a_machine(void **state)
{
	struct rig *r = *state;
	u32 made = 0, tried = 0;

	SKIP_WITHOUT_KVM();
	// The first bytes say what kind of machine it is, and how much of everything there has to be.
	for (size_t at = 0; at < r->machine.size; at += at < 64 ? 1 : CREATE_STRIDE) {
		u8 *copy = copy_of(&r->machine, r->machine.size);

		copy[at] ^= 0xff;
		made += try_create(r, copy, r->machine.size);
		tried++;
		free(copy);
	}
	// Registers may hold almost anything, headers may not.
	assert_in_range(made, 1, tried - 60);
}

static void taken_back_to_bytes_cut_short_it_can_be_taken_back(void **state)
{
	struct rig *r = *state;

	SKIP_WITHOUT_KVM();

	struct machine *m = create_good(r);

	for (size_t size = 0; size < r->machine.size; size++) {
		u8 *copy = copy_of(&r->machine, size);
		struct saved_machine saved = saved_of(r, copy, size);
		struct error *err = machine_rewind(m, &saved);

		assert_non_null(err);
		error_destroy(err);
		free(copy);
	}
	rewind_and_run(r, m);
	machine_destroy(m);
}

static void taken_back_to_each_byte_changed_it_can_be_taken_back(void **state)
{
	struct rig *r = *state;

	SKIP_WITHOUT_KVM();

	struct machine *m = create_good(r);

	for (size_t at = 0; at < r->machine.size; at++) {
		u8 *copy = copy_of(&r->machine, r->machine.size);
		struct saved_machine saved = saved_of(r, copy, r->machine.size);

		copy[at] ^= 1 << at % 8;
		error_destroy(machine_rewind(m, &saved));
		free(copy);
	}
	rewind_and_run(r, m);
	machine_destroy(m);
}

static void check_log(struct textlog *log, const char *expected)
{
	struct buf text = BUF_INIT;

	textlog_read(log, 0, &text);
	assert_int_equal(text.size, strlen(expected));
	assert_memory_equal(text.data ? text.data : (const u8 *)"", expected, text.size);
	buf_deinit(&text);
}

static void its_last_words_go_with_a_rewind_and_its_console_stays(void **state)
{
	static const char console[] = "tiny: up\r\n", more[] = "tiny: up\r\nmore\n", words[] = "KTSTR_EXIT:0\n";
	struct rig *r = *state;

	SKIP_WITHOUT_KVM();

	struct machine *m = create_good(r);
	struct saved_machine saved = saved_of(r, r->machine.data, r->machine.size);

	check_log(machine_console_log(m), console);
	textlog_append(machine_console_log(m), "more\n", 5);
	textlog_append(machine_last_words(m), words, strlen(words));
	check_log(machine_last_words(m), words);
	assert_no_error(machine_rewind(m, &saved));
	check_log(machine_console_log(m), more);
	check_log(machine_last_words(m), "");
	machine_destroy(m);
}

static void without_its_memory_no_machine_is_made(void **state)
{
	struct rig *r = *state;
	struct saved_machine saved = saved_of(r, r->machine.data, r->machine.size);
	struct machine *m;

	SKIP_WITHOUT_KVM();
	saved.memory_fd = memfd_create("short", MFD_CLOEXEC);
	assert_true(saved.memory_fd >= 0);
	assert_error(machine_create_saved(&saved, &m), ERROR_FORMAT, "the file with the guest's memory has 0 bytes");
	assert_int_equal(ftruncate(saved.memory_fd, MEMORY - 4096), 0);
	assert_error(machine_create_saved(&saved, &m), ERROR_FORMAT, "it should be 33554432");
	close(saved.memory_fd);
}

/* --- where its kernel is --- */

/* The place in the bytes: what there is of it follows one another. */
static u8 *find_kernel(u8 *state, size_t size, const struct placed_kernel *k)
{
	const u64 wanted[] = { k->place.phys, k->place.virt_slide, k->link_virt, k->span };

	return memmem(state, size, wanted, sizeof(wanted));
}

static void it_knows_where_its_kernel_is(void **state)
{
	struct rig *r = *state;

	SKIP_WITHOUT_KVM();

	struct machine *booted = create_machine(), *m = create_good(r);

	assert_memory_equal(machine_kernel(m), machine_kernel(booted), sizeof(struct placed_kernel));
	assert_int_equal(machine_kernel(m)->place.phys, 16 << 20);
	assert_int_equal(machine_kernel(m)->levels, 4);
	machine_destroy(booted);
	machine_destroy(m);
}

static void with_its_kernel_outside_of_its_memory_no_machine_is_made(void **state)
{
	static const u64 outside[][2] = {
		{ 0, MEMORY },
		{ 3, MEMORY + 1 },
		{ 0, UINT64_MAX },
		{ 2, UINT64_MAX },
		{ 1, UINT64_MAX - 4096 },
	};
	struct rig *r = *state;

	SKIP_WITHOUT_KVM();

	struct machine *m = create_good(r);

	for (u32 i = 0; i < ARRAY_SIZE(outside); i++) {
		u8 *copy = copy_of(&r->machine, r->machine.size);
		u8 *kernel = find_kernel(copy, r->machine.size, machine_kernel(m));
		struct saved_machine saved = saved_of(r, copy, r->machine.size);
		struct machine *other;

		assert_non_null(kernel);
		memcpy(kernel + outside[i][0] * 8, &outside[i][1], 8);
		assert_error(machine_create_saved(&saved, &other), ERROR_FORMAT, "kernel is not in its memory");
		free(copy);
	}
	machine_destroy(m);
}

static void it_is_not_taken_back_to_where_its_kernel_was_elsewhere(void **state)
{
	struct rig *r = *state;

	SKIP_WITHOUT_KVM();

	struct machine *m = create_good(r);

	for (u32 i = 0; i < 4; i++) {
		u8 *copy = copy_of(&r->machine, r->machine.size);
		u8 *kernel = find_kernel(copy, r->machine.size, machine_kernel(m));
		struct saved_machine saved = saved_of(r, copy, r->machine.size);

		assert_non_null(kernel);
		kernel[8 * i + 2] ^= 0x20;
		assert_error(machine_rewind(m, &saved), ERROR_INVALID, "with its kernel elsewhere, or another");
		free(copy);
	}
	rewind_and_run(r, m);
	machine_destroy(m);
}

/* --- the conversation --- */

static struct error *load_channel(struct coordinator *c, const u8 *data, size_t size)
{
	struct reader in = reader_init(data, size);

	return coordinator_load(c, &in);
}

static struct coordinator *create_coordinator(const struct rig *r, struct machine **m)
{
	struct coordinator *c;

	*m = create_good(r);
	assert_no_error(coordinator_create(*m, 0, &c));
	return c;
}

static void a_conversation_that_is_loaded_is_saved_the_same(void **state)
{
	struct rig *r = *state;
	struct buf first = BUF_INIT, again = BUF_INIT;
	const struct wire_op_request request = { .request_id = 1, .op = OP_PING };
	struct machine *m, *m2;

	SKIP_WITHOUT_KVM();

	struct coordinator *c = create_coordinator(r, &m), *c2 = create_coordinator(r, &m2);

	// Frames that have not been taken in.
	for (u32 i = 0; i < 1000; i++)
		assert_no_error(coordinator_send(c, MSG_OP_REQUEST, &request, sizeof(request), 0));
	coordinator_save(c, &first);
	assert_no_error(load_channel(c2, first.data, first.size));
	coordinator_save(c2, &again);
	assert_int_equal(first.size, again.size);
	assert_memory_equal(first.data, again.data, first.size);
	assert_true(first.size > 1000 * sizeof(request));
	buf_deinit(&first);
	buf_deinit(&again);
	coordinator_destroy(c);
	coordinator_destroy(c2);
	machine_destroy(m);
	machine_destroy(m2);
}

static void a_conversation_cut_short_or_changed_is_refused_or_taken(void **state)
{
	struct rig *r = *state;
	struct machine *m;

	SKIP_WITHOUT_KVM();

	struct coordinator *c = create_coordinator(r, &m);

	for (size_t size = 0; size < r->channel.size; size++) {
		u8 *copy = copy_of(&r->channel, size);

		assert_error(load_channel(c, copy, size), ERROR_FORMAT, "a saved conversation");
		free(copy);
	}
	for (size_t at = 0; at < r->channel.size; at++) {
		for (u32 value = 0; value < 256; value += 5) {
			u8 *copy = copy_of(&r->channel, r->channel.size);

			copy[at] = (u8)value;
			error_destroy(load_channel(c, copy, r->channel.size));
			free(copy);
		}
	}
	assert_no_error(load_channel(c, r->channel.data, r->channel.size));
	assert_no_error(coordinator_start(c));
	ping(c);
	coordinator_destroy(c);
	machine_destroy(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(cut_short_no_machine_is_made),
		cmocka_unit_test(with_any_byte_changed_there_is_an_error_or_a_machine),
		cmocka_unit_test(taken_back_to_bytes_cut_short_it_can_be_taken_back),
		cmocka_unit_test(taken_back_to_each_byte_changed_it_can_be_taken_back),
		cmocka_unit_test(its_last_words_go_with_a_rewind_and_its_console_stays),
		cmocka_unit_test(without_its_memory_no_machine_is_made),
		cmocka_unit_test(it_knows_where_its_kernel_is),
		cmocka_unit_test(with_its_kernel_outside_of_its_memory_no_machine_is_made),
		cmocka_unit_test(it_is_not_taken_back_to_where_its_kernel_was_elsewhere),
		cmocka_unit_test(a_conversation_that_is_loaded_is_saved_the_same),
		cmocka_unit_test(a_conversation_cut_short_or_changed_is_refused_or_taken),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
