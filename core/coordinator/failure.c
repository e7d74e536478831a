// SPDX-License-Identifier: GPL-2.0-or-later
#include "coordinator/failure.h"

static const char tag[] = "failure";

void failure_take_text(struct coordinator *c, const void *text, size_t size)
{
	// A line that is found is not written again.
	if (__atomic_load_n(&c->failure_found, __ATOMIC_RELAXED) ||
	    !kernel_failure_put(&c->failure_scan, text, size))
		return;
	__atomic_store_n(&c->failure_found, true, __ATOMIC_RELEASE);
	coordinator_post(c, 0);
}

void failure_serve(struct coordinator *c)
{
	struct error *err;

	if (!__atomic_load_n(&c->failure_found, __ATOMIC_ACQUIRE) || !freeze_state_take_late(&c->dump_state))
		return;
	coordinator_warn(c, "the guest's kernel, %s: %s", kernel_failure_name(c->failure_scan.found),
			 c->failure_scan.line);
	err = captures_record(c, FREEZE_FAILURE, tag);
	// One that timed out has left its placeholder.
	if (err && error_code(err) != ERROR_TIMEOUT)
		captures_keep_placeholder(c, FREEZE_FAILURE, tag, error_message(err));
	error_destroy(err);
}

struct error *failure_take_early(struct coordinator *c, u32 *taken)
{
	struct error *err;

	*taken = freeze_state_take_early(&c->dump_state, true);
	if (!*taken)
		return NULL;
	err = captures_record(c, FREEZE_FAILURE, "early");
	// Another one may be tried, unless the failure itself has come meanwhile.
	if (err && c->dump_state == FREEZE_TOOK_EARLY)
		c->dump_state = FREEZE_IDLE;
	return err;
}

void failure_forget(struct coordinator *c)
{
	c->failure_scan = (struct kernel_failure_scan){ 0 };
	c->dump_state = FREEZE_IDLE;
	__atomic_store_n(&c->failure_found, false, __ATOMIC_RELEASE);
}
