// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The boot protocol with any numbers and any setup header. Beyond what the sanitizers see: where an initrd
 * is placed, it can be booted with; and nothing but the boot data's own places is written.
 */
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "x86/boot.h"
#include "x86/layout.h"

enum {
	MEMORY = 2 << 20,
	UNTOUCHED = 0xa5,
};

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	static _Alignas(4096) u8 ram[MEMORY]; // the fuzzer runs one input at a time
	struct guest_memory m = { .base = ram, .size = MEMORY, .region_count = 2 };
	struct reader r = reader_init(data, size);
	struct boot_options o = { .cmdline = "quiet" };
	u64 split = MIB(1) + (1 + reader_get_u8(&r) % 16) * KIB(32);

	m.regions[0] = (struct guest_region){ 0, split, ram };
	m.regions[1] = (struct guest_region){ LAYOUT_HOLE_END, MEMORY - split, ram + split };
	o.kernel.load_gpa = reader_get_u64(&r);
	o.kernel.span = reader_get_u64(&r);
	o.kernel.entry_gpa = reader_get_u64(&r);
	o.initrd_size = reader_get_u64(&r);
	o.initrd_gpa = reader_get_u64(&r);
	o.kaslr = reader_get_u8(&r) & 1;
	o.kernel.setup_header_size = reader_left(&r);
	o.kernel.setup_header = reader_left(&r) ? reader_take(&r, reader_left(&r)) : NULL;

	struct error *err = boot_place_initrd(&m, &o.kernel, o.initrd_size, &o.initrd_gpa);
	bool placed = !err;

	error_destroy(err);
	memset(ram, UNTOUCHED, sizeof(ram));
	err = boot_write(&m, &o);
	if (err && placed && !o.kernel.setup_header)
		abort();
	error_destroy(err);

	// Every byte is as the one before it, back to the first.
	const u8 *rest = ram + LAYOUT_CMDLINE_GPA + 4096, *end = ram + MEMORY;

	if (*rest != UNTOUCHED || memcmp(rest, rest + 1, (size_t)(end - rest) - 1))
		abort();
	return 0;
}
