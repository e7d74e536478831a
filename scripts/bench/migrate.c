// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * How long QEMU takes to save a guest to a file by a migration, and to go on from there.
 *
 * usage: migrate save FILE FORM READY QEMU [ARGUMENT]...
 *        migrate restore FILE FORM INPUT ANSWER RUNS QEMU [ARGUMENT]...
 *
 * FORM is `stream` or a capability of QEMU's: `mapped-ram`. QEMU is started with the arguments given and a QMP
 * socket; the guest's port is its standard input and output.
 *
 * save: once the guest sent READY. Prints, separated by a tab: microseconds from the command until the migration is
 * complete; bytes that the file takes on disk.
 * restore: QEMU's arguments hold `-incoming defer`. A line a run, in microseconds: from the command that names the
 * file until the vCPUs are let go; until the guest's ANSWER to what the file INPUT holds.
 */
#include <sys/stat.h>

#include "qmp.h"

enum {
	READY_SECONDS = 300,
	ANSWER_SECONDS = 60,
	INPUT_MAX = 4096,
};

static void set_form(struct peer *peer, const char *form)
{
	char arguments[256];
	int size = snprintf(arguments, sizeof(arguments),
			    "{\"capabilities\":[{\"capability\":\"events\",\"state\":true}");

	peer_command(peer, "qmp_capabilities", "{}");
	if (strcmp(form, "stream"))
		size += snprintf(arguments + size, sizeof(arguments) - (size_t)size,
				 ",{\"capability\":\"%s\",\"state\":true}", form);
	snprintf(arguments + size, sizeof(arguments) - (size_t)size, "]}");
	peer_command(peer, "migrate-set-capabilities", arguments);
}

static void send_file(struct peer *peer, const char *command, const char *path)
{
	char arguments[4096];

	snprintf(arguments, sizeof(arguments), "{\"uri\":\"file:%s\"}", path);
	peer_send(peer, command, arguments);
}

static void save(const char *path, const char *form, const char *ready, char **command)
{
	static struct peer peer;
	struct stat st;

	unlink(path);
	peer_spawn(&peer, command);
	set_form(&peer, form);
	if (!peer_wait_output(&peer, ready, READY_SECONDS))
		die("QEMU's guest did not get ready");

	u64 start = clock_now_ns();

	send_file(&peer, "migrate", path);
	peer_wait(&peer, "\"completed\"");

	u64 took = clock_now_ns() - start;

	peer_end(&peer);
	if (stat(path, &st))
		die("%s: %s", path, strerror(errno));
	printf("%.1f\t%lld\n", (double)took / 1000, (long long)st.st_blocks * 512);
}

static size_t read_input(const char *path, char *ret)
{
	FILE *f = fopen(path, "re");
	size_t size = f ? fread(ret, 1, INPUT_MAX, f) : 0;

	if (!size)
		die("%s: nothing to send to the guest", path);
	fclose(f);
	return size;
}

static void restore(const char *path, const char *form, const char *input, const char *answer, char **command)
{
	static struct peer peer;
	char data[INPUT_MAX];
	ssize_t size = (ssize_t)read_input(input, data);

	peer_spawn(&peer, command);
	set_form(&peer, form);
	if (write(peer.input, data, (size_t)size) != size)
		die("QEMU's standard input: %s", strerror(errno));

	u64 start = clock_now_ns();

	send_file(&peer, "migrate-incoming", path);
	peer_wait(&peer, "\"RESUME\"");

	u64 resumed = clock_now_ns() - start;

	if (!peer_wait_output(&peer, answer, ANSWER_SECONDS))
		die("QEMU's guest did not answer");
	printf("%.1f\t%.1f\n", (double)resumed / 1000, (double)(clock_now_ns() - start) / 1000);
	fflush(stdout);
	peer_end(&peer);
}

int main(int argc, char **argv)
{
	if (argc > 5 && strcmp(argv[1], "save") == 0) {
		save(argv[2], argv[3], argv[4], argv + 5);
		return 0;
	}
	if (argc > 7 && strcmp(argv[1], "restore") == 0) {
		for (int i = atoi(argv[6]); i > 0; i--)
			restore(argv[2], argv[3], argv[4], argv[5], argv + 7);
		return 0;
	}
	fprintf(stderr, "usage: migrate save FILE FORM READY QEMU [ARGUMENT]...\n"
			"       migrate restore FILE FORM INPUT ANSWER RUNS QEMU [ARGUMENT]...\n");
	return 2;
}
