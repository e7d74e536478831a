// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * How long the host takes to put a kernel into a guest's memory, relocated: usage: load IMAGE [RUNS].
 * Prints a line a run, in microseconds: opening the image, placing and loading it, the sum.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/error.h"
#include "image/kernel.h"
#include "kvm/memory.h"
#include "x86/layout.h"

enum {
	RUNS = 20,
	GUEST_MIB = 512,
};

static double now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec * 1e6 + (double)ts.tv_nsec / 1e3;
}

static struct error *load(const struct kernel_image *image, struct guest_memory *memory, u64 entropy)
{
	struct kernel_room room = { .low_ram = memory->size };
	struct kernel_place place;
	struct error *err;

	err = kernel_image_place(image, &room, &entropy, &place);
	if (err)
		return err;
	return kernel_image_load(image, memory, &place);
}

static struct error *measure(const char *path, u64 entropy)
{
	struct kernel_image *image;
	struct guest_memory memory;
	double start, opened, loaded;
	struct error *err;

	err = guest_memory_init(&memory, MIB(GUEST_MIB), GIB(3), GIB(4));
	if (err)
		return err;
	start = now_us();
	err = kernel_image_open(path, &image);
	opened = now_us();
	if (!err) {
		err = load(image, &memory, entropy);
		loaded = now_us();
		kernel_image_close(image);
	}
	if (!err)
		printf("%.0f\t%.0f\t%.0f\n", opened - start, loaded - opened, loaded - start);
	guest_memory_deinit(&memory);
	return err;
}

int main(int argc, char **argv)
{
	int runs = argc > 2 ? atoi(argv[2]) : RUNS;

	if (argc < 2) {
		fprintf(stderr, "usage: load IMAGE [RUNS]\n");
		return 2;
	}
	// A different place each time, as boots have.
	for (int i = 0; i < runs; i++) {
		struct error *err = measure(argv[1], (u64)(i + 1) * 0x9e3779b97f4a7c15);

		if (err) {
			fprintf(stderr, "load: %s\n", error_message(err));
			error_destroy(err);
			return 1;
		}
	}
	return 0;
}
