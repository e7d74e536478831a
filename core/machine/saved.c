// SPDX-License-Identifier: GPL-2.0-or-later
#include "machine/saved.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "kvm/vcpu_state.h"
#include "machine/frozen.h"
#include "machine/internal.h"
#include "machine/watch.h"
#include "x86/cpuid_compare.h"

enum {
	SAVED_VERSION = 2,
	/* Of what was said on a serial port: for whoever looks at it after the restore. */
	SAVED_TEXT_MAX = 64 << 10,
	DEVICES_MAX = 10,
};

/* --- pieces, each behind its length --- */

static size_t begin_piece(struct buf *out)
{
	buf_put_u32(out, 0);
	return out->size;
}

static void end_piece(struct buf *out, size_t start)
{
	u32 size = (u32)(out->size - start);

	if (!out->failed)
		memcpy(out->data + start - sizeof(size), &size, sizeof(size));
}

static struct reader take_piece(struct reader *in)
{
	u32 size = reader_get_u32(in);
	const void *data = reader_take(in, size);

	return reader_init(data, data ? size : 0);
}

static MUST_CHECK struct error *check_end(const struct reader *in, const char *what)
{
	struct error *err = reader_check(in, what);

	if (!err && reader_left(in))
		err = error_create(ERROR_FORMAT, "%s has %zu bytes too many", what, reader_left(in));
	return err;
}

/* --- what kind of machine it is --- */

static void save_config(const struct machine *m, struct buf *out)
{
	const struct topology *t = &m->topology;

	buf_put_u32(out, t->nodes);
	buf_put_u32(out, t->cores);
	buf_put_u32(out, t->threads);
	for (u32 i = 0; i < t->nodes; i++) {
		buf_put_u32(out, t->node_llcs[i]);
		buf_put_u64(out, t->node_memory[i]);
		buf_put(out, t->distance[i], t->nodes);
	}
	buf_put_u8(out, m->cpuid_options.steal_time);
	buf_put_u8(out, m->cpuid_options.invariant_tsc);
	buf_put_u8(out, m->cpuid_options.la57);
	buf_put_u64(out, m->kernel.place.phys);
	buf_put_u64(out, m->kernel.place.virt_slide);
	buf_put_u64(out, m->kernel.link_virt);
	buf_put_u64(out, m->kernel.span);
	buf_put_u32(out, m->cpuid->nent);
	buf_put(out, m->cpuid->entries, m->cpuid->nent * sizeof(m->cpuid->entries[0]));
}

struct saved_config {
	struct topology topology;
	struct cpuid_options options;
	struct placed_kernel kernel;
	const void *cpuid; /* of CPU 0: entries, wherever they lie in the bytes */
	u32 cpuid_count;
};

static struct error *load_config(struct reader *in, struct saved_config *ret)
{
	struct topology *t = &ret->topology;

	*ret = (struct saved_config){ 0 };
	t->nodes = reader_get_u32(in);
	t->cores = reader_get_u32(in);
	t->threads = reader_get_u32(in);
	if (t->nodes > TOPOLOGY_MAX_NODES)
		return error_create(ERROR_FORMAT, "a saved machine with %u nodes", t->nodes);
	for (u32 i = 0; i < t->nodes; i++) {
		t->node_llcs[i] = reader_get_u32(in);
		t->node_memory[i] = reader_get_u64(in);
		reader_get(in, t->distance[i], t->nodes);
	}
	ret->options.steal_time = reader_get_u8(in) != 0;
	ret->options.invariant_tsc = (enum invariant_tsc)reader_get_u8(in);
	ret->options.la57 = reader_get_u8(in) != 0;
	ret->kernel.place.phys = reader_get_u64(in);
	ret->kernel.place.virt_slide = reader_get_u64(in);
	ret->kernel.link_virt = reader_get_u64(in);
	ret->kernel.span = reader_get_u64(in);
	ret->kernel.levels = ret->options.la57 ? 5 : 4;
	ret->cpuid_count = reader_get_u32(in);
	ret->cpuid = reader_take(in, ret->cpuid_count * sizeof(struct kvm_cpuid_entry2));

	struct error *err = check_end(in, "a saved machine's kind");

	if (!err && (!ret->cpuid || ret->options.invariant_tsc > INVARIANT_TSC_SHOWN))
		err = error_create(ERROR_FORMAT, "a saved machine's kind makes no sense");
	return err ? err : topology_check(t);
}

static bool is_same_kernel(const struct placed_kernel *a, const struct placed_kernel *b)
{
	return a->place.phys == b->place.phys && a->place.virt_slide == b->place.virt_slide &&
	       a->link_virt == b->link_virt && a->span == b->span && a->levels == b->levels;
}

/* The vCPUs are there, and were shown what this host has. */
static struct error *check_same_cpu(const struct machine *m, const struct saved_config *saved)
{
	size_t size = saved->cpuid_count * sizeof(struct kvm_cpuid_entry2);
	CLEANUP_FREE struct kvm_cpuid_entry2 *entries = malloc(size ? size : 1);
	char difference[256];

	if (!entries)
		return error_no_memory();
	if (size)
		memcpy(entries, saved->cpuid, size);
	if (cpuid_is_same(entries, saved->cpuid_count, m->cpuid->entries, m->cpuid->nent, difference,
			  sizeof(difference)))
		return NULL;
	return error_with_hint(error_create(ERROR_UNSUPPORTED, "the machine was saved on another CPU: %s", difference),
			       "boot it anew on this host");
}

/* --- vCPUs --- */

static struct error *save_vcpus(struct machine *m, struct buf *out)
{
	struct msr_list msrs;
	struct error *err = msr_list_init(&msrs, &m->kvm);

	for (u32 i = 0; !err && i < m->vcpu_count; i++) {
		size_t start = begin_piece(out);

		timer_note_save(&m->vcpus[i].timer, out);
		err = vcpu_save(&m->vcpus[i].vcpu, &msrs, out);
		if (err)
			err = error_with_context(err, "vCPU %u", i);
		end_piece(out, start);
	}
	msr_list_deinit(&msrs);
	return err;
}

static struct error *load_vcpus(struct machine *m, struct reader *in)
{
	struct error *err = NULL;

	for (u32 i = 0; !err && i < m->vcpu_count; i++) {
		struct reader piece = take_piece(in);

		timer_note_load(&m->vcpus[i].timer, &piece);
		err = vcpu_load(&m->vcpus[i].vcpu, &piece);
		if (!err)
			err = check_end(&piece, "a saved vCPU");
		if (err)
			err = error_with_context(err, "vCPU %u", i);
	}
	return err;
}

/* --- devices --- */

struct saved_device {
	const struct device_state_ops *ops;
	void *device;
};

/* In the order in which they have to be loaded: the bus before what is on it. */
static u32 list_devices(struct machine *m, struct saved_device ret[DEVICES_MAX])
{
	u32 count = 0;

	ret[count++] = (struct saved_device){ &uart_com1_state_ops, &m->com1 };
	ret[count++] = (struct saved_device){ &uart_com2_state_ops, &m->com2 };
	ret[count++] = (struct saved_device){ &i8042_state_ops, &m->i8042 };
	ret[count++] = (struct saved_device){ &pm_state_ops, &m->pm };
	if (m->split_irqchip) {
		ret[count++] = (struct saved_device){ &pic_state_ops, &m->pics[0] };
		ret[count++] = (struct saved_device){ &pic_state_ops, &m->pics[1] };
		ret[count++] = (struct saved_device){ &ioapic_state_ops, &m->ioapic };
	}
	ret[count++] = (struct saved_device){ &pci_state_ops, &m->pci };
	ret[count++] = (struct saved_device){ &virtio_console_state_ops, &m->console };
	return count;
}

static void save_devices(struct machine *m, struct buf *out)
{
	struct saved_device devices[DEVICES_MAX];
	u32 count = list_devices(m, devices);

	for (u32 i = 0; i < count; i++) {
		size_t start = begin_piece(out);

		devices[i].ops->save(devices[i].device, out);
		end_piece(out, start);
	}
}

static struct error *load_devices(struct machine *m, struct reader *in)
{
	struct saved_device devices[DEVICES_MAX];
	u32 count = list_devices(m, devices);
	struct error *err = NULL;

	m->is_loading = true;
	for (u32 i = 0; !err && i < count; i++) {
		struct reader piece = take_piece(in);

		err = devices[i].ops->load(devices[i].device, &piece);
	}
	m->is_loading = false;
	return err ? err : irq_routes_commit(&m->routes);
}

/* --- what was said on the serial ports --- */

static void save_text(struct textlog *log, struct buf *out)
{
	struct buf text = BUF_INIT;
	u64 end = textlog_read(log, 0, &text);
	size_t skip = text.size > SAVED_TEXT_MAX ? text.size - SAVED_TEXT_MAX : 0;

	buf_put_u64(out, end - (text.size - skip));
	buf_put_u32(out, (u32)(text.size - skip));
	if (text.size)
		buf_put(out, text.data + skip, text.size - skip);
	out->failed |= text.failed;
	buf_deinit(&text);
}

/* NULL: that log stays as it is. */
static struct error *load_text(struct textlog *log, struct reader *in)
{
	u64 start = reader_get_u64(in);
	u32 size = reader_get_u32(in);
	const void *data = reader_take(in, size);

	if ((!data && size) || start >> 48)
		return error_create(ERROR_FORMAT, "what the saved machine said on a serial port makes no sense");
	if (log)
		textlog_restore(log, start, data, size);
	return NULL;
}

/* --- the whole --- */

struct error *machine_save(struct machine *m, struct buf *out)
{
	size_t start;

	buf_put_u32(out, SAVED_VERSION);
	start = begin_piece(out);
	save_config(m, out);
	end_piece(out, start);
	start = begin_piece(out);

	struct error *err = clocks_save(&m->clocks, out);

	end_piece(out, start);
	if (!err)
		err = save_vcpus(m, out);
	start = begin_piece(out);
	if (!err)
		err = vm_save_irqchip(&m->vm, out);
	end_piece(out, start);
	save_devices(m, out);
	save_text(&m->console_log, out);
	save_text(&m->last_words, out);
	return err ? err : buf_check(out);
}

static struct error *load_version(struct reader *in)
{
	u32 version = reader_get_u32(in);

	if (version != SAVED_VERSION)
		return error_create(ERROR_FORMAT, "a saved machine of version %u, this ktstr reads %d", version,
				    SAVED_VERSION);
	return NULL;
}

static struct error *open_saved(const struct saved_machine *saved, struct reader *in, struct saved_config *config)
{
	*in = reader_init(saved->state, saved->size);

	struct error *err = load_version(in);
	struct reader piece = take_piece(in);

	return err ? err : load_config(&piece, config);
}

/*
 * Everything behind the kind. What devices and routes raise is replaced with the local APICs; what waits in the other
 * controllers goes to those.
 */
static struct error *load(struct machine *m, struct reader *in)
{
	struct reader clocks = take_piece(in);
	struct reader vcpus = *in;

	for (u32 i = 0; i < m->vcpu_count; i++)
		take_piece(in);

	struct reader irqchip = take_piece(in);
	struct error *err = load_devices(m, in);

	if (!err)
		err = load_vcpus(m, &vcpus);
	if (!err)
		err = vm_load_irqchip(&m->vm, &irqchip);
	if (!err)
		err = clocks_load(&m->clocks, &clocks);
	if (!err)
		err = reader_check(in, "a saved machine");
	m->replay_due = !err;
	return err;
}

struct error *machine_create_saved(const struct saved_machine *saved, struct machine **ret)
{
	struct saved_config config;
	struct reader in;
	struct machine *m = NULL;
	struct error *err = open_saved(saved, &in, &config);

	if (!err)
		err = machine_create_board(&config.topology, saved->memory_fd, &m);
	if (err)
		return err;
	m->cpuid_options = config.options;
	m->kernel = config.kernel;
	if (!placed_kernel_fits(&m->kernel, &m->memory))
		err = error_create(ERROR_FORMAT, "a saved machine's kernel is not in its memory");
	if (!err)
		err = machine_create_vcpus(m);
	if (!err)
		err = check_same_cpu(m, &config);
	if (!err)
		err = load(m, &in);
	if (!err)
		err = load_text(&m->console_log, &in);
	if (!err)
		err = load_text(&m->last_words, &in);
	if (!err)
		err = check_end(&in, "a saved machine");
	if (err)
		machine_destroy(m);
	else
		*ret = m;
	return err;
}

/* What the console said since is still known: it has been said. Last words would count as a report. */
struct error *machine_rewind(struct machine *m, const struct saved_machine *saved)
{
	struct saved_config config;
	struct reader in;
	struct error *err = open_saved(saved, &in, &config);

	if (!err && !topology_is_same(&config.topology, &m->topology))
		err = error_create(ERROR_INVALID, "the machine was saved with another topology");
	// Who looks into it knows where its kernel is.
	if (!err && !is_same_kernel(&config.kernel, &m->kernel))
		err = error_create(ERROR_INVALID, "the machine was saved with its kernel elsewhere, or another");
	if (!err)
		err = check_same_cpu(m, &config);
	if (!err)
		err = guest_memory_refill(&m->memory, saved->memory_fd);
	if (!err)
		err = machine_rewind_watches(m);
	for (u32 i = 0; !err && i < m->vcpu_count; i++)
		timer_disarm(&m->vcpus[i].vcpu);
	if (!err)
		err = load(m, &in);
	if (!err)
		err = load_text(NULL, &in);
	if (!err)
		err = load_text(&m->last_words, &in);
	return err ? err : check_end(&in, "a saved machine");
}
