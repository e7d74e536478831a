// SPDX-License-Identifier: GPL-2.0-or-later
#include "kernel/types.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/cleanup.h"
#include "kernel/types_internal.h"

const struct btf_type *types_at(const struct types *t, u32 id)
{
	if (id < DERIVED_FIRST)
		return btf_bytes_type(&t->bytes, id);
	id -= DERIVED_FIRST;
	return &t->derived[id / DERIVED_CHUNK][id % DERIVED_CHUNK].type;
}

u32 types_kind(const struct types *t, u32 id)
{
	return btf_type_kind(types_at(t, id));
}

bool types_has(const struct types *t, u32 id)
{
	if (id < DERIVED_FIRST)
		return id < t->bytes.end;
	return id - DERIVED_FIRST < __atomic_load_n(&t->derived_count, __ATOMIC_ACQUIRE);
}

struct error *types_check_id(const struct types *t, u32 id)
{
	if (types_has(t, id))
		return NULL;
	return error_create(ERROR_INVALID, "there is no type %u; ids go to %u", id, t->bytes.end - 1);
}

const char *types_string(const struct types *t, u32 offset)
{
	return btf_bytes_name(&t->bytes, offset);
}

const char *types_own_name(const struct types *t, u32 id)
{
	return id ? types_string(t, types_at(t, id)->name_off) : "void";
}

bool types_is_composite(u32 kind)
{
	return kind == BTF_KIND_STRUCT || kind == BTF_KIND_UNION || kind == BTF_KIND_DATASEC;
}

u32 types_resolve(const struct types *t, u32 id)
{
	return id < DERIVED_FIRST ? btf_bytes_resolve(&t->bytes, id) : id;
}

u64 types_size(const struct types *t, u32 id)
{
	u64 count = 1;

	for (;;) {
		id = types_resolve(t, id);

		const struct btf_type *type = types_at(t, id);

		switch (types_kind(t, id)) {
		case BTF_KIND_ARRAY:
			count *= ((const struct btf_array *)btf_type_extra(type))->nelems;
			id = ((const struct btf_array *)btf_type_extra(type))->type;
			break;
		case BTF_KIND_PTR:
			return count * BTF_POINTER_SIZE;
		case BTF_KIND_INT:
		case BTF_KIND_FLOAT:
		case BTF_KIND_ENUM:
		case BTF_KIND_ENUM64:
		case BTF_KIND_STRUCT:
		case BTF_KIND_UNION:
		case BTF_KIND_DATASEC:
			return count * type->size;
		default:
			return 0;
		}
	}
}

/* --- made and unmade --- */

/* By a file without a name: before 1.4, libbpf reads a split from a path alone. */
static struct btf *read_split(const struct btf_bytes *b, struct btf *base)
{
	CLEANUP_CLOSE int fd = memfd_create("btf", MFD_CLOEXEC);
	char path[32];

	if (fd < 0)
		return NULL;
	for (u32 done = 0; done < b->size;) {
		ssize_t n = write(fd, (const u8 *)b->data + done, b->size - done);

		if (n < 0)
			return NULL;
		done += n;
	}
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return btf__parse_raw_split(path, base);
}

/*
 * libbpf reads each blob as well, once it is known to be sound, and has to find the same types at the same places:
 * two readers that disagree are an error, not a wrong number later.
 */
static struct error *parse_by_libbpf(struct types *t, struct btf *base, struct btf **ret)
{
	struct btf *btf = base ? read_split(&t->bytes, base) : btf__new(t->bytes.data, t->bytes.size);
	u32 size;

	if (!btf)
		return error_with_context(error_create_errno("BTF"), "libbpf cannot read it");

	const struct btf_header *h = btf__raw_data(btf, &size);
	const u8 *types = h ? (const u8 *)h + h->hdr_len + h->type_off : NULL;
	bool same = h && size == t->bytes.size && btf__type_cnt(btf) == t->bytes.end;

	for (u32 id = t->bytes.first; id < t->bytes.end && same; id++)
		same = (const u8 *)btf__type_by_id(btf, id) == types + t->bytes.offsets[id - t->bytes.first];
	if (!same) {
		btf__free(btf);
		return error_create(ERROR_FORMAT, "libbpf finds other types in the BTF than ktstr");
	}
	*ret = btf;
	return NULL;
}

/* The base's, for libbpf to put a split upon: a set that was mapped from a file has none so far. */
static struct error *libbpf_of(const struct types *base, struct btf **ret)
{
	struct types *t = (struct types *)base;
	struct error *err = NULL;

	*ret = NULL;
	if (!t)
		return NULL;
	pthread_mutex_lock(&t->lock);
	if (!t->btf)
		err = parse_by_libbpf(t, NULL, &t->btf);
	*ret = t->btf;
	pthread_mutex_unlock(&t->lock);
	return err;
}

/* libbpf has made a copy of the blob: that one is kept. */
static void move_bytes(struct btf_bytes *b, const struct btf *btf)
{
	u32 size;
	const u8 *data = btf__raw_data(btf, &size), *old = b->data;

	b->types = data + (b->types - old);
	b->strings = (const char *)data + ((const u8 *)b->strings - old);
	b->data = data;
}

static void cleanup_types(struct types **t)
{
	types_destroy(*t);
}

struct error *types_create_private(const void *blob, size_t size, const struct types *base, struct types **ret)
{
	CLEANUP(cleanup_types)
	struct types *t = calloc(1, sizeof(*t));
	struct btf *base_btf = NULL;

	if (base && base->base)
		return error_create(ERROR_INVALID,
				    "a split goes on with a whole set of types, not with another split");
	if (!t)
		return error_no_memory();
	pthread_mutex_init(&t->lock, NULL);
	t->base = base;

	struct error *err = btf_check(blob, size, base ? &base->bytes : NULL, &t->bytes, &t->offsets);

	if (!err)
		err = libbpf_of(base, &base_btf);
	if (!err)
		err = parse_by_libbpf(t, base_btf, &t->btf);
	if (err)
		return err;
	move_bytes(&t->bytes, t->btf);
	t->tell_signs = (base && base->tell_signs) || types_tell_signs(&t->bytes);
	err = types_index_build(&t->bytes, &t->index, &t->entries);
	if (!err)
		*ret = no_free(t);
	return err;
}

struct error *types_create(const void *blob, size_t size, const struct types *base, struct types **ret)
{
	if (size > BTF_MAX_SIZE)
		return error_create(ERROR_UNSUPPORTED, "BTF of %zu bytes; at most %u are read", size, BTF_MAX_SIZE);

	CLEANUP_FREE void *copy = malloc(size ?: 1);

	if (!copy)
		return error_no_memory();
	if (size)
		memcpy(copy, blob, size);
	return types_create_private(copy, size, base, ret);
}

void types_destroy(struct types *t)
{
	if (!t)
		return;
	types_derive_deinit(t);
	btf__free(t->btf);
	free(t->offsets);
	free(t->entries);
	if (t->mapping)
		munmap(t->mapping, t->mapping_size);
	pthread_mutex_destroy(&t->lock);
	free(t);
}

u32 types_first(const struct types *t)
{
	return t->bytes.first;
}

u32 types_end(const struct types *t)
{
	return t->bytes.end;
}
