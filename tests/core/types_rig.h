/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The types of the blob with every kind and of a split upon it, as cmocka's setup and teardown.
 * Depends on cmocka, btf_builder.h and kernel/types.h; included after cmocka.h.
 * Nothing in them changes, so tests may share what they find.
 */
#ifndef TESTS_CORE_TYPES_RIG_H
#define TESTS_CORE_TYPES_RIG_H

#include <stdlib.h>
#include <string.h>

#include "core/btf_builder.h"
#include "core/kvm_fixture.h"
#include "kernel/types.h"

struct rig {
	struct every e;
	struct split s;
	struct types *t, *split;
};

static inline int setup(void **state)
{
	struct rig *r = calloc(1, sizeof(*r));
	struct buf blob = build_every_kind(&r->e), split_blob = build_split(&r->e, &r->s);

	assert_no_error(types_create(blob.data, blob.size, NULL, &r->t));
	assert_no_error(types_create(split_blob.data, split_blob.size, r->t, &r->split));
	buf_deinit(&blob);
	buf_deinit(&split_blob);
	*state = r;
	return 0;
}

static inline int teardown(void **state)
{
	struct rig *r = *state;

	types_destroy(r->split);
	types_destroy(r->t);
	free(r);
	return 0;
}

static inline struct type_info info_of(const struct types *t, u32 id)
{
	struct type_info info;

	assert_no_error(types_info(t, id, &info));
	return info;
}

static inline void expect_found(const struct types *t, const char *name, u32 id)
{
	u32 ids[2] = { 0 };

	assert_int_equal(types_find(t, name, ids, 2), 1);
	assert_int_equal(ids[0], id);
}

struct collected {
	struct buf text;
	u32 left;
};

static inline bool collect(const char *name, u32 id, void *arg)
{
	struct collected *c = arg;

	buf_put(&c->text, name, strlen(name));
	buf_put_u8(&c->text, ',');
	return --c->left;
}

static inline void expect_names(const struct types *t, const char *prefix, u32 most, const char *names)
{
	struct collected c = { .left = most };

	types_each_from(t, prefix, collect, &c);
	buf_put_u8(&c.text, 0);
	assert_string_equal((char *)c.text.data, names);
	buf_deinit(&c.text);
}

#endif
