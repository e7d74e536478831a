// SPDX-License-Identifier: GPL-2.0-or-later
#include "capture/capture.h"

#include <stdlib.h>
#include <string.h>

static size_t capture_size(u32 cpus)
{
	return sizeof(struct capture) + cpus * sizeof(struct capture_cpu);
}

struct error *capture_create(const char *tag, enum freeze_source source, u32 cpus, struct capture **ret)
{
	struct capture *c = calloc(1, capture_size(cpus));

	if (!c)
		return error_no_memory();
	strncpy(c->tag, tag, sizeof(c->tag) - 1);
	c->source = source;
	c->workload_ns = CAPTURE_NO_WORKLOAD;
	c->cpus = cpus;
	*ret = c;
	return NULL;
}

void capture_destroy(struct capture *c)
{
	if (!c)
		return;
	record_put(c->record);
	free(c);
}

static void empty(struct capture_store *store)
{
	store->first = NULL;
	store->last = &store->first;
	store->count = 0;
	store->bytes = 0;
}

void capture_store_init(struct capture_store *store)
{
	pthread_mutex_init(&store->lock, NULL);
	store->taken = 0;
	empty(store);
}

void capture_store_clear(struct capture_store *store)
{
	pthread_mutex_lock(&store->lock);

	struct capture *c = store->first;

	empty(store);
	pthread_mutex_unlock(&store->lock);
	while (c) {
		struct capture *next = c->next;

		capture_destroy(c);
		c = next;
	}
}

void capture_store_deinit(struct capture_store *store)
{
	capture_store_clear(store);
	pthread_mutex_destroy(&store->lock);
}

static u64 record_bytes(const struct capture *c)
{
	return c->record ? c->record->size : 0;
}

static void append(struct capture_store *store, struct capture *c)
{
	c->next = NULL;
	*store->last = c;
	store->last = &c->next;
	store->count++;
	store->bytes += record_bytes(c);
}

/* Takes the one of that name out; NULL when there is none. Under the lock. */
static struct capture *take_out(struct capture_store *store, const char *tag)
{
	for (struct capture **at = &store->first; *at; at = &(*at)->next) {
		struct capture *c = *at;

		if (strcmp(c->tag, tag) != 0)
			continue;
		*at = c->next;
		if (!c->next)
			store->last = at;
		store->count--;
		store->bytes -= record_bytes(c);
		return c;
	}
	return NULL;
}

struct error *capture_store_put(struct capture_store *store, struct capture *c, u32 *times)
{
	struct error *err = NULL;

	pthread_mutex_lock(&store->lock);

	struct capture *old = take_out(store, c->tag);

	*times = c->times = old ? old->times + 1 : 1;
	c->number = ++store->taken;
	if (store->bytes + record_bytes(c) > (u64)CAPTURES_MIB_MAX << 20)
		err = error_create(ERROR_UNSUPPORTED,
				   "the captures' records take %d MiB already, which is all a run keeps",
				   CAPTURES_MIB_MAX);
	else if (store->count < CAPTURES_MAX)
		append(store, c);
	else
		err = error_create(ERROR_UNSUPPORTED, "there are %d captures already, which is all a run keeps",
				   CAPTURES_MAX);
	if (err && old) {
		append(store, old); // what there was is better than nothing
		old = NULL;
	}
	pthread_mutex_unlock(&store->lock);
	capture_destroy(old);
	return err;
}

static struct error *copy(const struct capture *c, struct capture_store *to)
{
	struct capture *own = malloc(capture_size(c->cpus));

	if (!own)
		return error_no_memory();
	memcpy(own, c, capture_size(c->cpus));
	record_get(own->record);
	append(to, own);
	return NULL;
}

struct error *capture_store_copy(struct capture_store *from, struct capture_store *to)
{
	struct error *err = NULL;

	pthread_mutex_lock(&from->lock);
	for (const struct capture *c = from->first; !err && c; c = c->next)
		err = copy(c, to);
	pthread_mutex_unlock(&from->lock);
	return err;
}

void capture_store_move(struct capture_store *from, struct capture_store *to)
{
	pthread_mutex_lock(&from->lock);
	if (from->first) {
		to->first = from->first;
		to->last = from->last;
		to->count = from->count;
		to->bytes = from->bytes;
	}
	empty(from);
	pthread_mutex_unlock(&from->lock);
}
