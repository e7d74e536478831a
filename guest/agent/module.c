// SPDX-License-Identifier: GPL-2.0-or-later
#include "agent/module.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"

enum { MODULE_COMPRESSED = 4 }; /* MODULE_INIT_COMPRESSED_FILE */

static bool ends_with(const char *text, const char *end)
{
	size_t n = strlen(text), m = strlen(end);

	return n >= m && !strcmp(text + n - m, end);
}

int module_load(const char *path, struct fail *f)
{
	CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
	bool plain = ends_with(path, ".ko");

	if (fd < 0)
		return fail_errno(f, "cannot open module '%s'", path);
	if (!syscall(SYS_finit_module, fd, "", plain ? 0 : MODULE_COMPRESSED) || errno == EEXIST)
		return 0;
	/* The errno of an unknown symbol, whose text would say that the file is not there. */
	if (errno == ENOENT)
		return fail_with(f, ENOENT, "cannot load module '%s': it needs another one that is not loaded",
				 path);
	return fail_errno(f, "cannot load module '%s'", path);
}

int modules_load_listed(const char *list, struct fail *f)
{
	CLEANUP_FCLOSE FILE *file = fopen(list, "re");
	char path[PATH_MAX];
	int error = 0;

	if (!file)
		return errno == ENOENT ? 0 : fail_errno(f, "cannot open '%s'", list);
	while (!error && fgets(path, sizeof(path), file)) {
		path[strcspn(path, "\n")] = 0;
		if (*path)
			error = module_load(path, f);
	}
	return error;
}
