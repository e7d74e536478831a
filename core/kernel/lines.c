// SPDX-License-Identifier: GPL-2.0-or-later
#include "kernel/lines.h"

#include <dwarf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "kernel/lines_parts.h"

/* libdw never gives back what it has read of a unit, so it is opened anew after so many. */
enum { UNITS_KEPT = 32 };

/* A file that every kernel has; its path says where the tree is. */
static const char LANDMARK[] = "init/main.c";

struct lines {
	int fd;
	Elf *elf;
	Dwarf *dwarf;
	u64 lowest; /* address of its code */
	char root[LINE_PATH]; /* of the kernel's tree, with the last slash; or "" */
	char directory[LINE_PATH]; /* it was built in, where names were made relative */
	struct span_table units; /* all of them */
	struct line_unit *kept[UNITS_KEPT];
	u32 kept_count;
	char files[LINE_PLACES][LINE_PATH]; /* of the last answer */
};

/* --- paths --- */

/* Takes the last component away. False: there is none that can be taken. */
static bool drop_component(char *path, size_t *length)
{
	size_t at = *length;

	while (at && path[at - 1] != '/')
		at--;
	if (at == *length || !strcmp(path + at, ".."))
		return false;
	*length = at > 1 ? at - 1 : at;
	path[*length] = 0;
	return true;
}

/* Appends components to a path that is in shape. */
static void put_components(const char *from, char *out, size_t *length)
{
	while (*from) {
		size_t size = strcspn(from, "/");
		bool is_parent = size == 2 && !memcmp(from, "..", 2);
		bool is_nothing = !size || (size == 1 && from[0] == '.') || (is_parent && drop_component(out, length));

		if (!is_nothing && *length + size + 2 <= LINE_PATH) {
			if (*length && out[*length - 1] != '/')
				out[(*length)++] = '/';
			memcpy(out + *length, from, size);
			*length += size;
			out[*length] = 0;
		}
		from += size;
		from += *from == '/';
	}
}

void line_path_put(const char *directory, const char *name, char *out)
{
	size_t length = 0;

	out[0] = 0;
	if (name[0] == '/')
		directory = NULL;
	if ((directory ?: name)[0] == '/') {
		out[length++] = '/';
		out[length] = 0;
	}
	if (directory)
		put_components(directory, out, &length);
	put_components(name, out, &length);
}

/* Where the tree is, if this is the unit that tells. */
static void find_root(struct lines *l, Dwarf_Die *unit)
{
	const char *name = dwarf_diename(unit);
	size_t length = name ? strlen(name) : 0;

	if (length < sizeof(LANDMARK) - 1 || strcmp(name + length - (sizeof(LANDMARK) - 1), LANDMARK) != 0)
		return;

	const char *directory = line_unit_directory(unit);

	line_path_put(directory, name, l->root);
	if (directory && directory[0] != '/')
		line_path_put(NULL, directory, l->directory);
	length = strlen(l->root);
	if (length < sizeof(LANDMARK) - 1)
		return;
	l->root[length - (sizeof(LANDMARK) - 1)] = 0;
}

/* libdw has put the directory in front of some names, and of others not. */
static bool is_below(const char *file, const char *directory)
{
	size_t length = strlen(directory);

	return !strncmp(file, directory, length) && file[length] == '/';
}

/* Some assemblers were not told so: the length of what compilers have left out of names in this unit's directory. */
static size_t left_out(const struct lines *l, const char *directory)
{
	size_t whole = strlen(directory), part = strlen(l->directory);

	if (!part || whole <= part || directory[whole - part - 1] != '/')
		return 0;
	return strcmp(directory + whole - part, l->directory) ? 0 : whole - part;
}

static const char *put_file(const struct lines *l, const char *directory, const char *file, char out[LINE_PATH])
{
	size_t root = strlen(l->root), prefix = directory ? left_out(l, directory) : 0;

	if (!file)
		return "?";
	line_path_put(directory && is_below(file, directory) ? NULL : directory, file, out);
	if (root && !strncmp(out, l->root, root))
		return out + root;
	return prefix && !strncmp(out, directory, prefix) ? out + prefix : out;
}

/* --- opening --- */

static struct error *read_units(struct lines *l)
{
	Dwarf_CU *unit = NULL;
	Dwarf_Die die;
	int left;

	while (!(left = dwarf_get_units(l->dwarf, unit, &unit, NULL, NULL, &die, NULL))) {
		// Type units have no code, and a damaged one no DIE.
		if (dwarf_tag(&die) != DW_TAG_compile_unit && dwarf_tag(&die) != DW_TAG_skeleton_unit)
			continue;

		struct error *err = span_table_add(&l->units, &die, l->lowest);

		if (err)
			return err;
		if (!l->root[0])
			find_root(l, &die);
	}
	if (left < 0)
		return line_damage();
	span_table_sort(&l->units);
	return NULL;
}

static void forget_units(struct lines *l)
{
	for (u32 i = 0; i < l->kept_count; i++)
		line_unit_destroy(l->kept[i]);
	l->kept_count = 0;
	dwarf_end(l->dwarf);
	l->dwarf = NULL;
}

static struct error *begin(struct lines *l)
{
	l->dwarf = dwarf_begin_elf(l->elf, DWARF_C_READ, NULL);
	return l->dwarf ? NULL : line_damage();
}

void lines_close(struct lines *l)
{
	if (!l)
		return;
	forget_units(l);
	span_table_deinit(&l->units);
	elf_end(l->elf);
	if (l->fd >= 0)
		close(l->fd);
	free(l);
}

static void lines_cleanup(struct lines **l)
{
	lines_close(*l);
}

static struct error *open_file(struct lines *l, const char *path, u64 *size)
{
	struct stat status;

	// A pipe is no file, and opening it would wait for somebody to write.
	l->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (l->fd < 0 && (errno == ENOENT || errno == ENOTDIR))
		return error_create(ERROR_NOT_FOUND, "there is no such file");
	if (l->fd < 0 || fstat(l->fd, &status))
		return error_create_errno("it cannot be opened");
	if (!S_ISREG(status.st_mode))
		return error_create(ERROR_FORMAT, "it is no regular file");
	*size = (u64)status.st_size;
	elf_version(EV_CURRENT);
	l->elf = elf_begin(l->fd, ELF_C_READ_MMAP, NULL);
	return l->elf ? NULL : error_create(ERROR_FORMAT, "it is no ELF file (%s)", elf_errmsg(-1));
}

static struct error *prepare(struct lines *l, const char *path, const void *build_id, size_t build_id_size)
{
	u64 size = 0;
	struct error *err = open_file(l, path, &size);

	if (!err)
		err = line_file_check(l->elf, size, build_id, build_id_size);
	if (err)
		return err;
	l->lowest = line_file_lowest(l->elf);
	err = begin(l);
	return err ? err : read_units(l);
}

struct error *lines_open(const char *path, const void *build_id, size_t build_id_size, struct lines **ret)
{
	CLEANUP(lines_cleanup)
	struct lines *l = calloc(1, sizeof(*l));

	if (!l)
		return error_no_memory();
	l->fd = -1;

	struct error *err = prepare(l, path, build_id, build_id_size);

	if (err)
		return error_with_context(err, "%s", path);
	*ret = no_free(l);
	return NULL;
}

/* --- looking up --- */

static struct error *unit_at(struct lines *l, u64 offset, struct line_unit **ret)
{
	for (u32 i = 0; i < l->kept_count; i++)
		if (l->kept[i]->offset == offset) {
			*ret = l->kept[i];
			return NULL;
		}
	if (l->kept_count == UNITS_KEPT)
		forget_units(l);

	struct error *err = l->dwarf ? NULL : begin(l);

	if (!err)
		err = line_unit_create(l->dwarf, offset, l->lowest, ret);
	if (!err)
		l->kept[l->kept_count++] = *ret;
	return err;
}

struct error *lines_find(struct lines *l, u64 address, struct line_place *places, u32 *count)
{
	const struct span *span = span_table_find(&l->units, address);
	struct raw_place raw[LINE_PLACES];
	struct line_unit *unit;

	*count = 0;
	if (!span)
		return NULL;

	struct error *err = unit_at(l, span->die, &unit);

	if (!err)
		err = line_unit_find(unit, l->dwarf, address, raw, count);
	if (err)
		return err;
	for (u32 i = 0; i < *count; i++)
		places[i] = (struct line_place){
			.function = raw[i].function ?: "",
			.file = put_file(l, unit->directory, raw[i].file, l->files[i]),
			.line = (u32)raw[i].line,
			.column = (u32)raw[i].column,
		};
	return NULL;
}
