// SPDX-License-Identifier: GPL-2.0-or-later
/* Any bytes in front of any rip: what is found lies there, and having found that, it makes the same write. */
#include <stdlib.h>
#include <string.h>

#include "machine/watch_decode.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct watch_write w = { 0 };
	struct watch_atomic all[WATCH_READINGS_MAX];
	u32 count;
	struct kvm_regs regs;

	if (size < sizeof(regs) + 26)
		return 0;
	memcpy(&regs, data, sizeof(regs));
	data += sizeof(regs);
	w.size = 1U << (data[0] & 3);
	memcpy(&w.data, data + 1, w.size);
	memcpy(&w.gs_base, data + 9, 2);
	w.code_size = data[11] % (WATCH_CODE_MAX + 1);
	memcpy(w.code, data + 11, WATCH_CODE_MAX);
	// Mostly where its usual address is, or nothing would ever be found.
	w.gpa = data[0] & 4 ? regs.rdi : regs.rax;
	w.regs = &regs;
	count = watch_decode(&w, all);
	for (u32 i = 0; i < count; i++) {
		const struct watch_atomic *a = &all[i];

		if (!watch_may_be_atomic(w.code, w.code_size) || regs.rip - a->before.rip < 2 ||
		    regs.rip - a->before.rip > w.code_size || (a->address ^ w.gpa) & 0xfff)
			abort();
		if (i && all[i - 1].before.rip >= a->before.rip && regs.rip > 16)
			abort();
		if (a->kind <= WATCH_ATOMIC_CARRY && a->kind != WATCH_ATOMIC_OR && a->kind != WATCH_ATOMIC_AND &&
		    !watch_atomic_fits(a, &w, a->expected))
			abort();
	}
	return 0;
}
