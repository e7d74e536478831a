// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A map of each kind, globals of many types, programs of several types: something to read from outside.
 * README.md says what is in them.
 */
#define BPF_NO_KFUNC_PROTOTYPES // those in vmlinux.h lack the address space
#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "fixture.h"

#define __arena __attribute__((address_space(1)))

char LICENSE[] SEC("license") = "GPL";

void __arena *bpf_arena_alloc_pages(void *map, void __arena *address, __u32 pages, int node,
				    __u64 flags) __ksym __weak;

/* ----- maps ----- */

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, FX_ARRAY_COUNT);
	__type(key, __u32);
	__type(value, struct fx_value);
} fx_array SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, FX_PERCPU_ARRAY_COUNT);
	__type(key, __u32);
	__type(value, __u64);
} fx_percpu_array SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, FX_HASH_MAX);
	__type(key, struct fx_key);
	__type(value, struct fx_value);
} fx_hash SEC(".maps");

/* Its elements are allocated when they are inserted, the other's beforehand. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, FX_HASH_LAZY_MAX);
	__type(key, __u32);
	__type(value, __u64);
} fx_hash_lazy SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, FX_PERCPU_HASH_MAX);
	__type(key, __u32);
	__type(value, __u32);
} fx_percpu_hash SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, FX_LRU_MAX);
	__type(key, __u64);
	__type(value, struct fx_point);
} fx_lru SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct fx_value);
} fx_task SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, FX_RINGBUF_BYTES);
} fx_ringbuf SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARENA);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, FX_ARENA_MAX_PAGES);
	__ulong(map_extra, 1ULL << 44); // FX_ARENA_ADDRESS
} fx_arena SEC(".maps");

struct fx_node {
	struct fx_node __arena *next;
	__u64 id;
	__u32 index;
};

/* ----- globals: .bss, of which fx_fill sets those that the programs do not count in ----- */

__u32 fx_pid; // of the loader: whose calls are counted
__u64 fx_counted;
__u64 fx_switches;
__u32 fx_bss_u32;
__u64 fx_bss_u64;
__s32 fx_bss_matrix[2][3];
struct fx_value fx_bss_value;
struct fx_node __arena *fx_arena_head;

/* ----- .data ----- */

bool fx_data_bool = true;
__u8 fx_data_u8 = 0xab;
__s16 fx_data_s16 = -12345;
__u32 fx_data_u32 = 0x11223344;
__s64 fx_data_s64 = -1234567890123456789;
__u64 fx_data_u64 = 0xfedcba9876543210;
char fx_data_text[16] = "data of fixture";
__u16 fx_data_array[5] = { 1, 10, 100, 1000, 10000 };
enum fx_color fx_data_color = FX_BLUE;
enum fx_huge fx_data_huge = FX_HUGE;
struct fx_point fx_data_points[3] = { { 1, -1 }, { 2, -2 }, { 3, -3 } };

/* ----- .rodata: set by the loader before it loads, or here ----- */

const volatile __u32 fx_ro_u32;
const volatile struct fx_point fx_ro_point;
const volatile __u64 fx_ro_array[3] = { 7, 77, 0x7777777777777777 };
const volatile enum fx_color fx_ro_color = FX_GREEN;
const char fx_ro_text[] = "read-only text";

/* ----- programs ----- */

/* A function of its own in the loaded program, not only in the source. */
__noinline int fx_count_step(__u64 step)
{
	__sync_fetch_and_add(&fx_counted, step);
	return 0;
}

SEC("fentry/__x64_sys_getpgid")
int BPF_PROG(fx_count)
{
	if (bpf_get_current_pid_tgid() >> 32 == fx_pid)
		fx_count_step(1);
	return 0;
}

SEC("raw_tp/sched_switch")
int BPF_PROG(fx_switch)
{
	__sync_fetch_and_add(&fx_switches, 1);
	return 0;
}

/* Reserving takes a size that the verifier knows. */
#define RECORD_TEXT_MAX 32

static __always_inline int write_record(__u32 i)
{
	struct fx_record *record;
	const __u32 length = 3 * i + 1; // known: i is, in each copy
	__u32 at;

	record = bpf_ringbuf_reserve(&fx_ringbuf, sizeof(*record) + length + 1, 0);
	if (!record)
		return 1;
	record->id = fx_id(FX_RINGBUF, 0, i);
	record->number = i;
	record->length = length;
#pragma unroll
	for (at = 0; at < length && at < RECORD_TEXT_MAX; at++)
		record->text[at] = (char)('a' + i);
	record->text[at] = '\0';
	if (i == FX_RINGBUF_DISCARDED)
		bpf_ringbuf_discard(record, BPF_RB_NO_WAKEUP);
	else
		bpf_ringbuf_submit(record, BPF_RB_NO_WAKEUP);
	return 0;
}

/* Run by BPF_PROG_TEST_RUN: what only a program can write. Returns how much went wrong. */
SEC("syscall")
int fx_fill(void *context)
{
	int failures = 0;

	fx_bss_u32 = 0xb55b55;
	fx_bss_u64 = fx_id(FX_BSS, 0, 64);
	for (int row = 0; row < 2; row++) {
		for (int column = 0; column < 3; column++)
			fx_bss_matrix[row][column] = row * 100 - column;
	}
	fx_make_value(&fx_bss_value, FX_BSS, 4);
#pragma unroll
	for (__u32 i = 0; i < FX_RINGBUF_COUNT; i++)
		failures += write_record(i);
	return failures;
}

/* The same for the arena, which kernels before 6.9 do not have. A list, the last node first. */
SEC("syscall")
int fx_fill_arena(void *context)
{
	struct fx_node __arena *next = NULL;
	char __arena *pages;

	pages = bpf_arena_alloc_pages(&fx_arena, NULL, FX_ARENA_PAGES, -1, 0);
	if (!pages)
		return 1;
	for (int i = FX_ARENA_COUNT - 1; i >= 0; i--) {
		struct fx_node __arena *node = (struct fx_node __arena *)(pages + i * FX_ARENA_STRIDE);

		node->next = next;
		node->id = fx_id(FX_ARENA, 0, i);
		node->index = i;
		next = node;
	}
	fx_arena_head = next;
	return 0;
}
