/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is in the fixture's maps: layouts of keys and values, and what makes each value.
 * Depends on __u8 to __u64 (vmlinux.h or <linux/types.h>), for its programs and for their loader.
 * README.md has the values as a table, tests/vm/bpf_fixture.lua as data: the three agree.
 */
#ifndef SCX_FIXTURE_H
#define SCX_FIXTURE_H

enum fx_color {
	FX_RED = 1,
	FX_GREEN = 20,
	FX_BLUE = 300,
};

/* BTF has a kind of its own for those that need more than 32 bits. */
enum fx_huge {
	FX_SMALL = 5,
	FX_HUGE = 0x123456789abcdef0,
};

struct fx_point {
	__s32 x;
	__s32 y;
};

/* 40 bytes: scalars of each size, an enum, a struct, text, bit-fields. */
struct fx_value {
	__u64 id;
	__u32 index;
	enum fx_color color;
	struct fx_point at;
	char name[12];
	__u32 low : 3;
	__u32 middle : 10;
	__u32 high : 19;
};

/* 9 bytes and 3 of padding: a hash table's values begin at the next multiple of 8. */
struct fx_key {
	__u32 number;
	char tag[5];
};

/* A record of the ring buffer: as many bytes of text as its number says, and the NUL. */
struct fx_record {
	__u64 id;
	__u32 number;
	__u32 length;
	char text[];
};

/* The first byte of each id: which map it is in. */
enum fx_kind {
	FX_ARRAY = 0xa1,
	FX_PERCPU_ARRAY = 0xa2,
	FX_HASH = 0xa3,
	FX_HASH_LAZY = 0xa4,
	FX_PERCPU_HASH = 0xa5,
	FX_LRU = 0xa6,
	FX_TASK = 0xa7,
	FX_RINGBUF = 0xa8,
	FX_ARENA = 0xa9,
	FX_BSS = 0xb1,
	FX_DATA = 0xb2,
	FX_RODATA = 0xb3,
};

/* How many elements are filled in, and how many there could be. */
enum fx_count {
	FX_ARRAY_COUNT = 5,
	FX_PERCPU_ARRAY_COUNT = 3,
	FX_HASH_COUNT = 7,
	FX_HASH_MAX = 16,
	FX_HASH_LAZY_COUNT = 5,
	FX_HASH_LAZY_MAX = 64,
	FX_PERCPU_HASH_COUNT = 4,
	FX_PERCPU_HASH_MAX = 8,
	FX_LRU_COUNT = 6,
	FX_LRU_MAX = 64,
	FX_TASK_COUNT = 3, /* the loader and two children */
	FX_RINGBUF_COUNT = 5,
	FX_RINGBUF_DISCARDED = 2,
	FX_RINGBUF_BYTES = 4096,
	FX_ARENA_COUNT = 10,
	FX_ARENA_STRIDE = 512, /* nodes on two pages */
	FX_ARENA_PAGES = 2,
	FX_ARENA_MAX_PAGES = 8,
	FX_CALLS = 7, /* of getpgid by the loader before it is ready */
};

static const __u64 FX_ARENA_ADDRESS = 1ULL << 44;

/* The id of element i, in hexadecimal: KK000000CCCCIIII with the kind, the CPU of a per-CPU value, and i. */
static __always_inline __u64 fx_id(enum fx_kind kind, __u32 cpu, __u32 i)
{
	return (__u64)kind << 56 | (__u64)cpu << 16 | i;
}

static __always_inline enum fx_color fx_color(__u32 i)
{
	static const enum fx_color colors[] = { FX_RED, FX_GREEN, FX_BLUE };

	return colors[i % 3];
}

/* Its name is "element-I": i is a digit. */
static __always_inline void fx_make_value(struct fx_value *ret, enum fx_kind kind, __u32 i)
{
	*ret = (struct fx_value){
		.id = fx_id(kind, 0, i),
		.index = i,
		.color = fx_color(i),
		.at = { .x = (__s32)i * 10, .y = -(__s32)i * 10 - 1 },
		.name = "element-",
		.low = i,
		.middle = 1000 + i,
		.high = 500000 - i,
	};
	ret->name[8] = (char)('0' + i);
}

#endif
