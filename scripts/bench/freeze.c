// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * How long freezing a machine and letting it go takes, beside QEMU's pausing the same guest.
 *
 * usage: freeze GUEST CMDLINE VCPUS MIB ROUNDS RUN_MS QEMU [ARGUMENT]...
 *
 * GUEST is the tiny guest; its first frame says that its load is at work. QEMU is started with the arguments
 * given and a QMP socket; what the guest sends on port 1 has to come out of its standard output. Between being
 * let go and being stopped a guest runs for RUN_MS, ktstr's longer if need be: until every vCPU has.
 *
 * A line a round, in microseconds: ktstr's freeze, call to return (all parked); its thaw, call to return; from
 * that call until the first vCPU left its park; until the last one did; QEMU's `stop`, command sent to its return
 * read (all paused); its `cont`, likewise. In a round both have their turn, and each stands still, as it does in
 * its own pause, while it is the other's: so the host's noise hits both, and neither competes with the other.
 */
#include "qmp.h"

#include "base/error.h"
#include "coordinator/coordinator.h"
#include "image/kernel.h"
#include "machine/frozen.h"
#include "machine/machine.h"
#include "tlv/wire.h"
#include "x86/layout.h"

enum {
	READY_SECONDS = 60,
	LEAVE_SECONDS = 10, /* for every vCPU to be let run by a host that has fewer processors */
	STAND_MS = 1, /* between being stopped and being let go */
};

struct options {
	const char *guest, *cmdline;
	u32 vcpus, memory_mib, rounds;
	u32 run_ms;
	char **command;
};

struct own {
	struct machine *machine;
	struct coordinator *coordinator;
};

struct round {
	u64 freeze, thaw, first, last, stop, cont; /* ns */
};

static void check(struct error *err, const char *what)
{
	if (err)
		die("%s: %s", what, error_message(err));
}

static void sleep_ms(u32 ms)
{
	struct timespec ts = { .tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000 * NSEC_PER_MSEC) };

	nanosleep(&ts, NULL);
}

/* --- ktstr --- */

static void own_create(struct own *own, const struct options *o)
{
	struct machine_config config = {
		.cmdline = o->cmdline,
		.topology = { .nodes = 1, .cores = o->vcpus, .threads = 1 },
	};
	struct kernel_image *image;

	config.topology.node_llcs[0] = 1;
	config.topology.node_memory[0] = MIB(o->memory_mib);
	config.topology.distance[0][0] = 10;
	check(kernel_image_open(o->guest, &image), o->guest);
	config.kernel = image;
	check(machine_create(&config, &own->machine), "creating the machine");
	kernel_image_close(image);
	check(coordinator_create(own->machine, 0, &own->coordinator), "creating the coordinator");
}

static void own_start(struct own *own, const struct options *o)
{
	enum coordinator_event event;
	struct mail *mail = NULL;

	own_create(own, o);
	check(coordinator_start(own->coordinator), "starting the machine");
	check(coordinator_recv(own->coordinator, READY_SECONDS * NSEC_PER_SEC, &event, &mail), "the guest");
	if (event != COORDINATOR_FRAME || mail->type != MSG_SYS_RDY)
		die("ktstr's guest did not get to work");
	free(mail);
}

static void own_end(struct own *own)
{
	coordinator_destroy(own->coordinator);
	machine_destroy(own->machine);
}

/* Waits until every vCPU has left its park since the thaw, which was asked for at `since`. */
static void own_wait_left(const struct own *own, u64 since, struct round *round)
{
	const struct rendezvous *r = machine_rendezvous(own->machine);
	u64 end = since + LEAVE_SECONDS * NSEC_PER_SEC;

	round->first = UINT64_MAX;
	round->last = 0;
	for (u32 i = 0; i < r->count; i++) {
		u64 left;

		while ((left = __atomic_load_n(&r->slots[i].left_ns, __ATOMIC_ACQUIRE)) < since) {
			if (clock_now_ns() > end)
				die("vCPU %u did not run within %d s of a thaw", i, LEAVE_SECONDS);
			sleep_ms(1);
		}
		left -= since;
		round->first = left < round->first ? left : round->first;
		round->last = left > round->last ? left : round->last;
	}
}

static void own_freeze(const struct own *own, struct round *round)
{
	u64 start = clock_now_ns();
	struct error *err = coordinator_freeze(own->coordinator, UINT64_MAX);

	round->freeze = clock_now_ns() - start;
	check(err, "freezing");
}

static u64 own_thaw(const struct own *own, struct round *round)
{
	u64 start = clock_now_ns();
	struct error *err = coordinator_thaw(own->coordinator);

	round->thaw = clock_now_ns() - start;
	check(err, "thawing");
	return start;
}

/* --- QEMU --- */

static void peer_start(struct peer *peer, const struct options *o)
{
	peer_spawn(peer, o->command);
	peer_command(peer, "qmp_capabilities", "{}");
	if (!peer_wait_output(peer, "YDRS", READY_SECONDS)) // MSG_SYS_RDY begins a frame
		die("QEMU's guest did not get to work");
}

/* --- both --- */

/* Begins and ends with both standing still. */
static void measure(const struct own *own, struct peer *peer, u32 run_ms, struct round *round)
{
	u64 thawed = own_thaw(own, round);

	sleep_ms(run_ms);
	own_wait_left(own, thawed, round);
	own_freeze(own, round);
	sleep_ms(STAND_MS);
	round->cont = peer_command(peer, "cont", "{}");
	sleep_ms(run_ms);
	round->stop = peer_command(peer, "stop", "{}");
	sleep_ms(STAND_MS);
}

static double us(u64 ns)
{
	return (double)ns / 1000;
}

static struct options parse(int argc, char **argv)
{
	if (argc < 8) {
		fprintf(stderr, "usage: freeze GUEST CMDLINE VCPUS MIB ROUNDS RUN_MS QEMU [ARGUMENT]...\n");
		exit(2);
	}
	return (struct options){
		.guest = argv[1],
		.cmdline = argv[2],
		.vcpus = (u32)atoi(argv[3]),
		.memory_mib = (u32)atoi(argv[4]),
		.rounds = (u32)atoi(argv[5]),
		.run_ms = (u32)atoi(argv[6]),
		.command = argv + 7,
	};
}

int main(int argc, char **argv)
{
	struct options o = parse(argc, argv);
	struct own own = { 0 };
	struct peer peer = { 0 };
	struct round round;

	own_start(&own, &o);
	own_freeze(&own, &round);
	peer_start(&peer, &o);
	peer_command(&peer, "stop", "{}");
	for (u32 i = 0; i < o.rounds; i++) {
		measure(&own, &peer, o.run_ms, &round);
		printf("%.1f\t%.1f\t%.1f\t%.1f\t%.1f\t%.1f\n", us(round.freeze), us(round.thaw), us(round.first),
		       us(round.last), us(round.stop), us(round.cont));
	}
	peer_end(&peer);
	own_end(&own);
	return 0;
}
