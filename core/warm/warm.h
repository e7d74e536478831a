/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Whole runs as images: saving one that is frozen, starting others where it stood, taking it back there.
 * Depends on coordinator and warm/image.h.
 */
#ifndef WARM_WARM_H
#define WARM_WARM_H

#include "coordinator/coordinator.h"
#include "warm/image.h"

/*
 * Of a machine that main has frozen; it stays so. dir: where the image's memory takes its room (image_create).
 * Errors as coordinator_visit() and image_create(); ERROR_UNSUPPORTED where KVM keeps something to itself.
 */
MUST_CHECK struct error *warm_save(struct coordinator *c, const char *dir, const struct buf *identity,
				   const struct buf *script, struct image **ret);

/*
 * A machine that goes on from there with coordinator_start(). timeout_ns as coordinator_create(). Once they are made
 * the image may be closed. Errors as machine_create_saved().
 */
MUST_CHECK struct error *warm_restore(const struct image *image, u64 timeout_ns, struct machine **machine,
				      struct coordinator **coordinator);

/*
 * Notes which pages a restored machine has touched so far, for the next one of that image. directory is
 * image_touched_directory()'s, and is closed. Any thread, while the machine is there.
 */
void warm_note_touched(struct coordinator *c, int directory);

/*
 * Takes a machine that main has frozen, and that the image was made of, back to where it stood; it stays frozen.
 * Frames that main has not taken are dropped. An error other than ERROR_INVALID and coordinator_visit()'s has ended
 * the machine.
 */
MUST_CHECK struct error *warm_rewind(struct coordinator *c, const struct image *image);

#endif
