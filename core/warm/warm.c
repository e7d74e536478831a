// SPDX-License-Identifier: GPL-2.0-or-later
#include "warm/warm.h"

#include <unistd.h>

#include "machine/frozen.h"
#include "machine/saved.h"
#include "warm/touched.h"

struct save_visit {
	const char *dir;
	struct buf parts[IMAGE_SECTIONS];
	struct image **ret;
};

static struct error *save(struct coordinator *c, void *arg)
{
	struct save_visit *v = arg;
	struct machine *m = coordinator_machine(c);
	struct error *err = machine_save(m, &v->parts[IMAGE_MACHINE]);

	coordinator_save(c, &v->parts[IMAGE_CHANNEL]);
	if (!err)
		err = buf_check(&v->parts[IMAGE_CHANNEL]);
	return err ? err : image_create(v->dir, v->parts, machine_memory(m), v->ret);
}

struct error *warm_save(struct coordinator *c, const char *dir, const struct buf *identity, const struct buf *script,
			struct image **ret)
{
	struct save_visit visit = {
		.dir = dir,
		.parts = { [IMAGE_IDENTITY] = *identity, [IMAGE_SCRIPT] = *script },
		.ret = ret,
	};
	struct error *err = coordinator_visit(c, save, &visit);

	buf_deinit(&visit.parts[IMAGE_MACHINE]);
	buf_deinit(&visit.parts[IMAGE_CHANNEL]);
	return err;
}

static struct saved_machine saved_machine(const struct image *image)
{
	struct saved_machine saved = { .memory_fd = image_memory_fd(image) };

	saved.state = image_section(image, IMAGE_MACHINE, &saved.size);
	return saved;
}

static struct error *load_channel(struct coordinator *c, const struct image *image)
{
	size_t size;
	const void *data = image_section(image, IMAGE_CHANNEL, &size);
	struct reader in = reader_init(data, size);

	return coordinator_load(c, &in);
}

struct error *warm_restore(const struct image *image, u64 timeout_ns, struct machine **machine,
			   struct coordinator **coordinator)
{
	struct saved_machine saved = saved_machine(image);
	struct coordinator *c = NULL;
	struct machine *m;
	struct error *err = machine_create_saved(&saved, &m);
	size_t size;
	const void *touched = image_touched(image, &size);

	if (err)
		return err;
	touched_fetch(machine_memory(m), touched, size);
	err = coordinator_create(m, timeout_ns, &c);
	if (!err)
		err = load_channel(c, image);
	if (err) {
		coordinator_destroy(c);
		machine_destroy(m);
		return err;
	}
	*machine = m;
	*coordinator = c;
	return NULL;
}

void warm_note_touched(struct coordinator *c, int directory)
{
	struct buf touched = BUF_INIT;
	struct error *err = touched_record(machine_memory(coordinator_machine(c)), &touched);

	// A hint: what cannot be noted costs some faults the next time.
	if (!err)
		image_write_touched(directory, touched.data, touched.size);
	error_destroy(err);
	buf_deinit(&touched);
	close(directory);
}

static struct error *rewind_to(struct coordinator *c, void *arg)
{
	const struct image *image = arg;
	struct saved_machine saved = saved_machine(image);
	struct machine *m = coordinator_machine(c);
	struct error *err = machine_rewind(m, &saved);

	if (!err)
		err = load_channel(c, image);
	if (err && error_code(err) != ERROR_INVALID) {
		machine_set_detail(m, "it could not be taken back: %s", error_message(err));
		machine_stop(m, EXIT_FATAL);
	}
	return err;
}

struct error *warm_rewind(struct coordinator *c, const struct image *image)
{
	return coordinator_visit(c, rewind_to, (void *)image);
}
