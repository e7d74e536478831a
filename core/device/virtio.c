// SPDX-License-Identifier: GPL-2.0-or-later
#include "device/virtio.h"

#include <linux/pci_regs.h>
#include <linux/virtio_config.h>
#include <linux/virtio_pci.h>
#include <string.h>
#include <sys/eventfd.h>

#include "base/cleanup.h"
#include "device/virtio_internal.h"

enum {
	VENDOR = 0x1af4,
	DEVICE_BASE = 0x1040, // plus the type: a modern device
	STATUS_KNOWN = VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_DRIVER_OK |
		       VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_NEEDS_RESET | VIRTIO_CONFIG_S_FAILED,
	ISR_KNOWN = 3,
};

u64 virtio_offered_features(const struct virtio *virtio)
{
	return virtio->config.features | 1ULL << VIRTIO_F_VERSION_1 | 1ULL << VIRTIO_RING_F_INDIRECT_DESC |
	       1ULL << VIRTIO_RING_F_EVENT_IDX;
}

// --- set-up ---

static struct error *add_region(struct virtio *virtio, u8 type, u32 offset, u32 length)
{
	struct virtio_pci_cap cap = {
		.cap_vndr = PCI_CAP_ID_VNDR,
		.cap_len = sizeof(cap),
		.cfg_type = type,
		.bar = VIRTIO_BAR,
		.offset = offset,
		.length = length,
	};
	u32 ignored;

	return pci_add_capability(&virtio->pci, &cap, sizeof(cap), NULL, &ignored);
}

static struct error *add_notify_region(struct virtio *virtio)
{
	struct virtio_pci_notify_cap cap = {
		.cap = {
			.cap_vndr = PCI_CAP_ID_VNDR,
			.cap_len = sizeof(cap),
			.cfg_type = VIRTIO_PCI_CAP_NOTIFY_CFG,
			.bar = VIRTIO_BAR,
			.offset = VIRTIO_NOTIFY_OFFSET,
			.length = VIRTIO_NOTIFY_MULTIPLIER * virtio->config.queues,
		},
		.notify_off_multiplier = VIRTIO_NOTIFY_MULTIPLIER,
	};
	u32 ignored;

	return pci_add_capability(&virtio->pci, &cap, sizeof(cap), NULL, &ignored);
}

// The window through which configuration space alone reaches the BAR.
static struct error *add_config_window(struct virtio *virtio)
{
	struct virtio_pci_cfg_cap cap = {
		.cap = {
			.cap_vndr = PCI_CAP_ID_VNDR,
			.cap_len = sizeof(cap),
			.cfg_type = VIRTIO_PCI_CAP_PCI_CFG,
		},
	};
	struct virtio_pci_cfg_cap writable = { .cap = { .bar = 0xff, .offset = ~0u, .length = ~0u } };

	memset(writable.pci_cfg_data, 0xff, sizeof(writable.pci_cfg_data));
	return pci_add_capability(&virtio->pci, &cap, sizeof(cap), &writable, &virtio->pci_cfg_capability);
}

static struct error *add_capabilities(struct virtio *virtio)
{
	const struct virtio_config *config = &virtio->config;
	struct error *err = pci_add_bar(&virtio->pci, VIRTIO_BAR, VIRTIO_BAR_SIZE);

	if (!err)
		err = add_region(virtio, VIRTIO_PCI_CAP_COMMON_CFG, VIRTIO_COMMON_OFFSET,
				 sizeof(struct virtio_pci_common_cfg));
	if (!err)
		err = add_region(virtio, VIRTIO_PCI_CAP_ISR_CFG, VIRTIO_ISR_OFFSET, 1);
	if (!err)
		err = add_region(virtio, VIRTIO_PCI_CAP_DEVICE_CFG, VIRTIO_CONFIG_OFFSET, config->config_size);
	if (!err)
		err = add_notify_region(virtio);
	if (!err)
		err = add_config_window(virtio);
	if (!err)
		err = pci_add_msix(&virtio->pci, &virtio->msix, VIRTIO_BAR, VIRTIO_MSIX_TABLE_OFFSET,
				   VIRTIO_MSIX_PENDING_OFFSET);
	return err;
}

static struct error *init_queues(struct virtio *virtio)
{
	const struct virtio_config *config = &virtio->config;

	for (u32 i = 0; i < config->queues; i++) {
		struct virtio_queue *q = &virtio->queues[i];

		virtqueue_init(&q->ring, config->memory, config->queue_size);
		q->vector = VIRTIO_MSI_NO_VECTOR;
		q->kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (q->kick_fd < 0)
			return error_create_errno("cannot create an eventfd for queue %u of %s", i,
						  config->ops->name);
	}
	return NULL;
}

struct error *virtio_init(struct virtio *virtio, const struct virtio_config *config)
{
	const struct pci_ids ids = {
		.vendor = VENDOR,
		.device = DEVICE_BASE + config->type,
		.subsystem_vendor = VENDOR,
		.subsystem = DEVICE_BASE,
		.revision = 1,
		.class = config->class,
		.subclass = config->subclass,
	};

	*virtio = (struct virtio){ .config = *config, .config_vector = VIRTIO_MSI_NO_VECTOR };
	for (u32 i = 0; i < VIRTIO_MAX_QUEUES; i++)
		virtio->queues[i].kick_fd = -1;
	if (!config->queues || config->queues > VIRTIO_MAX_QUEUES)
		return error_create(ERROR_INVALID, "%s cannot have %u queues, only 1 to %u", config->ops->name,
				    config->queues, VIRTIO_MAX_QUEUES);
	pci_device_init(&virtio->pci, &virtio_pci_ops, virtio, &ids);

	struct error *err = msix_init(&virtio->msix, config->queues + 1, config->irq);

	if (err)
		return err;

	int e = pthread_mutex_init(&virtio->lock, NULL);

	if (e) {
		msix_deinit(&virtio->msix);
		return error_create(ERROR_OS, "cannot create a device's lock: %s", strerror(e));
	}
	err = init_queues(virtio);
	if (!err)
		err = add_capabilities(virtio);
	if (err)
		virtio_deinit(virtio);
	return err;
}

void virtio_deinit(struct virtio *virtio)
{
	for (u32 i = 0; i < VIRTIO_MAX_QUEUES; i++)
		if (virtio->queues[i].kick_fd >= 0)
			close(virtio->queues[i].kick_fd);
	pthread_mutex_destroy(&virtio->lock);
	msix_deinit(&virtio->msix);
}

// --- running ---

void virtio_update_doorbells(struct virtio *virtio)
{
	const struct doorbell_sink *doorbell = &virtio->config.doorbell;

	if (!doorbell->ops)
		return;
	for (u32 i = 0; i < virtio->config.queues; i++) {
		struct virtio_queue *q = &virtio->queues[i];
		bool wanted = virtio->bar_address && q->ring.ready;
		u64 address = wanted ? virtio->bar_address + VIRTIO_NOTIFY_OFFSET + VIRTIO_NOTIFY_MULTIPLIER * i :
				       0;

		if (address == q->doorbell_address)
			continue;
		if (q->doorbell_address)
			doorbell->ops->remove(doorbell->ctx, q->doorbell_address, sizeof(u16), q->kick_fd);
		q->doorbell_address = 0;
		if (!address)
			continue;

		struct error *err = doorbell->ops->add(doorbell->ctx, address, sizeof(u16), q->kick_fd);

		// Without it the same write arrives through the bus: slower, and just as good.
		if (!err)
			q->doorbell_address = address;
		error_destroy(err);
	}
}

void virtio_reset(struct virtio *virtio)
{
	for (u32 i = 0; i < virtio->config.queues; i++) {
		virtqueue_reset(&virtio->queues[i].ring);
		virtio->queues[i].vector = VIRTIO_MSI_NO_VECTOR;
	}
	virtio_update_doorbells(virtio);
	virtio->status = virtio->isr = 0;
	virtio->device_feature_select = virtio->driver_feature_select = 0;
	virtio->driver_features = 0;
	virtio->config_vector = VIRTIO_MSI_NO_VECTOR;
	virtio->queue_select = 0;
	virtio->resets++;
	virtio->reset_wanted = false;
	virtio->config.ops->reset(virtio->config.device);
}

void virtio_finish_reset(struct virtio *virtio)
{
	if (virtio->reset_wanted && !virtio->config.ops->busy(virtio->config.device))
		virtio_reset(virtio);
}

bool virtio_is_live(const struct virtio *virtio)
{
	return (virtio->status & (VIRTIO_CONFIG_S_DRIVER_OK | VIRTIO_CONFIG_S_NEEDS_RESET)) ==
	       VIRTIO_CONFIG_S_DRIVER_OK;
}

bool virtio_has_feature(const struct virtio *virtio, u32 bit)
{
	return virtio->driver_features & 1ULL << bit;
}

void virtio_fault(struct virtio *virtio, u32 queue, enum virtqueue_fault fault)
{
	virtio->faults[fault]++;
	virtio->last_fault = fault;
	virtio->last_fault_queue = queue;
	virtio->status |= VIRTIO_CONFIG_S_NEEDS_RESET;
	if (!(virtio->status & VIRTIO_CONFIG_S_DRIVER_OK))
		return;
	virtio->isr |= VIRTIO_PCI_ISR_CONFIG;
	msix_raise(&virtio->msix, virtio->config_vector);
}

static void interrupt_queue_always(struct virtio *virtio, u32 queue)
{
	virtio->isr |= 1;
	msix_raise(&virtio->msix, virtio->queues[queue].vector); // NO_VECTOR is none that exists
}

void virtio_interrupt_queue(struct virtio *virtio, u32 queue)
{
	if (virtio_is_live(virtio) && virtqueue_should_interrupt(&virtio->queues[queue].ring))
		interrupt_queue_always(virtio, queue);
}

void virtio_kick(struct virtio *virtio, u32 queue)
{
	u64 one = 1;
	// It fails only with the counter full, when it is readable anyway.
	ssize_t n = write(virtio->queues[queue].kick_fd, &one, sizeof(one));

	(void)n;
}

void virtio_clear_kick(struct virtio *virtio, u32 queue)
{
	u64 count;
	// It fails only when there was no kick.
	ssize_t n = read(virtio->queues[queue].kick_fd, &count, sizeof(count));

	(void)n;
}

void virtio_replay(struct virtio *virtio)
{
	pthread_mutex_lock(&virtio->lock);
	for (u32 i = 0; i < virtio->config.queues; i++) {
		virtio_kick(virtio, i);
		if (virtio_is_live(virtio) && virtio->queues[i].ring.ready)
			interrupt_queue_always(virtio, i);
	}
	pthread_mutex_unlock(&virtio->lock);
}

// --- state ---

void virtio_save(struct virtio *virtio, struct buf *out)
{
	buf_put_u8(out, virtio->status);
	buf_put_u8(out, virtio->isr);
	buf_put_u8(out, virtio->reset_wanted);
	buf_put_u32(out, virtio->device_feature_select);
	buf_put_u32(out, virtio->driver_feature_select);
	buf_put_u64(out, virtio->driver_features);
	buf_put_u16(out, virtio->config_vector);
	buf_put_u16(out, virtio->queue_select);
	for (u32 i = 0; i < virtio->config.queues; i++) {
		virtqueue_save(&virtio->queues[i].ring, out);
		buf_put_u16(out, virtio->queues[i].vector);
	}
	msix_save(&virtio->msix, out);
}

static bool vector_can_be(const struct virtio *virtio, u16 vector)
{
	return vector < virtio->msix.count || vector == VIRTIO_MSI_NO_VECTOR;
}

static struct error *parse_queue(const struct virtio *virtio, struct reader *in, struct virtio_state *state,
				 u32 queue)
{
	struct virtqueue *ring = &state->rings[queue];

	virtqueue_init(ring, virtio->config.memory, virtio->config.queue_size);

	bool ok = true;
	bool started = virtqueue_parse(ring, in, &ok);

	state->vectors[queue] = reader_get_u16(in);
	if (!ok || !vector_can_be(virtio, state->vectors[queue]))
		return error_create(ERROR_FORMAT, "saved %s: queue %u is in no possible state",
				    virtio->config.ops->name, queue);
	if (!started)
		return NULL;
	if (!(state->status & VIRTIO_CONFIG_S_FEATURES_OK))
		return error_create(ERROR_FORMAT, "saved %s: queue %u runs without features",
				    virtio->config.ops->name, queue);

	enum virtqueue_fault fault =
		virtqueue_start(ring, state->driver_features & 1ULL << VIRTIO_RING_F_EVENT_IDX,
				state->driver_features & 1ULL << VIRTIO_RING_F_INDIRECT_DESC);

	return fault ? error_create(ERROR_FORMAT, "saved %s: queue %u: %s", virtio->config.ops->name, queue,
				    virtqueue_fault_name(fault)) :
		       NULL;
}

static bool status_can_be(const struct virtio *virtio, const struct virtio_state *state)
{
	if (state->status & ~STATUS_KNOWN || state->isr & ~ISR_KNOWN || state->reset_wanted > 1)
		return false;
	if (state->reset_wanted && !(virtio->config.ops->busy && state->status & VIRTIO_CONFIG_S_DRIVER_OK))
		return false;
	if (state->status & VIRTIO_CONFIG_S_FEATURES_OK)
		return !(state->driver_features & ~virtio_offered_features(virtio)) &&
		       state->driver_features & 1ULL << VIRTIO_F_VERSION_1;
	return !(state->status & VIRTIO_CONFIG_S_DRIVER_OK);
}

struct error *virtio_parse(const struct virtio *virtio, struct reader *in, struct virtio_state *ret)
{
	*ret = (struct virtio_state){ .status = reader_get_u8(in) };
	ret->isr = reader_get_u8(in);
	ret->reset_wanted = reader_get_u8(in);
	ret->device_feature_select = reader_get_u32(in);
	ret->driver_feature_select = reader_get_u32(in);
	ret->driver_features = reader_get_u64(in);
	ret->config_vector = reader_get_u16(in);
	ret->queue_select = reader_get_u16(in);
	if (!status_can_be(virtio, ret) || !vector_can_be(virtio, ret->config_vector))
		return error_create(ERROR_FORMAT, "saved %s has a status that no guest can bring about",
				    virtio->config.ops->name);
	for (u32 i = 0; i < virtio->config.queues; i++) {
		struct error *err = parse_queue(virtio, in, ret, i);

		if (err)
			return err;
	}
	return msix_parse(&virtio->msix, in, &ret->msix);
}

void virtio_apply(struct virtio *virtio, const struct virtio_state *state)
{
	virtio->status = state->status;
	virtio->isr = state->isr;
	virtio->reset_wanted = state->reset_wanted;
	virtio->device_feature_select = state->device_feature_select;
	virtio->driver_feature_select = state->driver_feature_select;
	virtio->driver_features = state->driver_features;
	virtio->config_vector = state->config_vector;
	virtio->queue_select = state->queue_select;
	virtio->resets++;
	for (u32 i = 0; i < virtio->config.queues; i++) {
		virtio->queues[i].ring = state->rings[i];
		virtio->queues[i].vector = state->vectors[i];
	}
	virtio_update_doorbells(virtio);
	msix_apply(&virtio->msix, &state->msix);
}
