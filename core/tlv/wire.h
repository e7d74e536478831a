/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What travels between host and guest on virtio-console port 1: frames, message types, attributes.
 * Depends on base/types.h alone; host, agent and tiny guest share it. Little-endian throughout.
 * The host believes nothing in a frame until both CRCs and every length have been checked.
 *
 * A frame is a header and a payload. Types spell their tag in hex. Payloads that have structure are
 * a fixed struct (named below) followed by attributes in netlink's manner: u16 length (of the four
 * bytes here and the value, padding not counted), u16 type, value, zeros to a multiple of 4.
 * A value with an unknown attribute type is skipped.
 */
#ifndef TLV_WIRE_H
#define TLV_WIRE_H

#include "base/types.h"

enum {
	WIRE_VERSION = 1,
	WIRE_HEADER_SIZE = 16,
	WIRE_PAYLOAD_MAX = 1 << 20,
	WIRE_ATTR_HEADER_SIZE = 4,
	WIRE_ATTR_VALUE_MAX = 0xffff - 4,
	/* Data in one READ reply, WRITE or STDIN request, STDOUT or STDERR frame; those carry it bare,
	 * after their fixed struct, since an attribute cannot hold more than 64 KiB. */
	WIRE_DATA_MAX = 256 << 10,
	WIRE_TAG_SIZE = 64,
};

/* The port's name: what the guest finds below /sys/class/virtio-ports. */
#define WIRE_PORT_NAME "ktstr.tlv"

struct wire_header {
	u32 type; /* enum wire_type */
	u32 length; /* of the payload, at most WIRE_PAYLOAD_MAX */
	u32 payload_crc; /* CRC-32 (IEEE) of the payload */
	u32 header_crc; /* CRC-32 of the twelve bytes before */
};

enum wire_type {
	/* Guest to host. */
	MSG_SYS_RDY = 0x53524459, /* "SRDY": attributes VERSION, RELEASE, PID, after a restore RUN_ID (answers ops) */
	MSG_LIFECYCLE = 0x4c494645, /* "LIFE": struct wire_lifecycle, then REASON if there is one */
	MSG_SCENARIO_START = 0x53435354, /* "SCST" */
	MSG_SCENARIO_END = 0x5343454e, /* "SCEN" */
	MSG_SCENARIO_PAUSE = 0x53435041, /* "SCPA" */
	MSG_SCENARIO_RESUME = 0x53435245, /* "SCRE" */
	MSG_STIMULUS = 0x5354494d, /* "STIM" */
	MSG_STDOUT = 0x53544f55, /* "STOU": struct wire_output, then bytes */
	MSG_STDERR = 0x53544552, /* "STER": struct wire_output, then bytes */
	MSG_SCHED_LOG = 0x53434c47, /* "SCLG" */
	MSG_DMESG = 0x444d5347, /* "DMSG" */
	MSG_WORKER_REPORT = 0x57524b52, /* "WRKR": struct wire_worker_report, then attributes */
	MSG_PAYLOAD_METRICS = 0x504d4554, /* "PMET" */
	MSG_PROBE_OUTPUT = 0x50524f42, /* "PROB" */
	MSG_SCHED_EXIT = 0x53434558, /* "SCEX" */
	MSG_TEST_RESULT = 0x54455354, /* "TEST" */
	MSG_EXIT = 0x45584954, /* "EXIT": struct wire_exit; the run's end, once, last */
	MSG_SNAPSHOT_REQUEST = 0x534e5251, /* "SNRQ": struct wire_snapshot_request */
	MSG_KERNEL_OP_REQUEST = 0x4b4f5251, /* "KORQ": struct wire_kernel_op_request, then entries */
	MSG_OP_REPLY = 0x4f505250, /* "OPRP": struct wire_op_reply, then attributes or data */
	/* Host to guest. */
	MSG_OP_REQUEST = 0x4f505251, /* "OPRQ": struct wire_op_request, then attributes or data */
	MSG_SNAPSHOT_REPLY = 0x534e5250, /* "SNRP": struct wire_snapshot_reply, then REASON if there is one */
	MSG_KERNEL_OP_REPLY = 0x4b4f5250, /* "KORP": struct wire_kernel_op_reply, then what came of the entries */
};

/* Internal ones never count as a test's output. */
static inline bool wire_type_is_internal(u32 type)
{
	switch (type) {
	case MSG_SYS_RDY:
	case MSG_SNAPSHOT_REQUEST:
	case MSG_KERNEL_OP_REQUEST:
	case MSG_OP_REPLY:
	case MSG_OP_REQUEST:
	case MSG_SNAPSHOT_REPLY:
	case MSG_KERNEL_OP_REPLY:
		return true;
	default:
		return false;
	}
}

enum wire_lifecycle_phase {
	LIFECYCLE_INIT_STARTED = 1,
	LIFECYCLE_PAYLOAD_STARTING = 2,
	LIFECYCLE_SCHEDULER_ATTACHED = 3,
	LIFECYCLE_SCHEDULER_NOT_ATTACHED = 4, /* with REASON */
	LIFECYCLE_SCHEDULER_DIED = 5,
};

struct wire_lifecycle {
	u32 phase;
};

struct wire_exit {
	s32 code;
};

/* The program is the id of the request that started it. */
struct wire_output {
	u32 program;
};

enum wire_snapshot_kind {
	SNAPSHOT_CAPTURE = 1,
	SNAPSHOT_WATCH = 2,
};

struct wire_snapshot_request {
	u32 request_id;
	u32 kind;
	char tag[WIRE_TAG_SIZE]; /* NUL-padded; what names the capture, or the symbol to watch */
};

enum wire_snapshot_status {
	SNAPSHOT_DONE = 0,
	SNAPSHOT_BUSY = 1, /* somebody else holds the freeze: ask again if it still matters */
	SNAPSHOT_TIMEOUT = 2, /* a vCPU did not stop in time */
	SNAPSHOT_FAILED = 3,
};

/* Each request gets exactly one reply, with its id, unless the machine ends first. */
struct wire_snapshot_reply {
	u32 request_id;
	u32 status; /* enum wire_snapshot_status; REASON tells more when it is not DONE */
};

enum {
	KERNEL_OP_REQUEST_MAX = 64 << 10, /* bytes of a request's payload */
	KERNEL_OP_ENTRIES_MAX = 1024,
	KERNEL_OP_BYTES_MAX = 32 << 10, /* that all entries together read, or write, as bytes */
	/* Characters of names. */
	KERNEL_OP_SYMBOL_MAX = 511,
	KERNEL_OP_FIELD_MAX = 255,
	KERNEL_OP_STRUCT_MAX = 127,
	KERNEL_OP_TYPE_MAX = 7,
};

enum wire_kernel_op_flag {
	KERNEL_OP_COLD = 1 << 0, /* in one freeze; else one by one while the machine runs */
};

/*
 * Reads and writes of the kernel's memory, in order. Behind it: entries, each of which begins with KERNEL_OP and says
 *   where: SYMBOL, ADDRESS, or TASK (its pid); then perhaps FIELD, a path from there ("cfs.nr_queued", "curr.pid":
 *          pointers are followed; "a|b": the first that the kernel has), for which STRUCT says what is at a symbol
 *          or an address ("struct rq") where the kernel's own types do not; and CPU, where the symbol or a pointer
 *          on the way is per-CPU;
 *   what:  TYPE ("u8" to "u64", "s8" to "s64", "bytes"), which may be left out where the kernel's types say it; for
 *          "bytes" read the LENGTH, likewise; VALUE to write or to set (OR: "u32" only), DATA for "bytes" written.
 */
struct wire_kernel_op_request {
	u32 request_id;
	u32 flags; /* enum wire_kernel_op_flag */
};

enum wire_kernel_op {
	KERNEL_OP_READ = 1,
	KERNEL_OP_WRITE = 2,
	KERNEL_OP_OR = 3, /* sets the bits of VALUE, at once also while the guest runs */
};

enum wire_kernel_op_status {
	KERNEL_OP_DONE = 0,
	KERNEL_OP_BUSY = 1, /* cold, and somebody else holds the freeze: nothing was done, ask again */
	KERNEL_OP_TIMEOUT = 2, /* nobody came to serve it, or a vCPU did not stop in time: nothing was done */
	KERNEL_OP_FAILED = 3, /* entry number `done`, or the request as it is: REASON says why */
};

/*
 * Each request gets exactly one reply, with its id, unless the machine ends first. Behind it: for each entry that was
 * carried out, in order, one of VALUE, SIGNED (a VALUE in two's complement), DATA, WRITTEN; an OR's is the VALUE
 * before. Then REASON, unless all went well.
 */
struct wire_kernel_op_reply {
	u32 request_id;
	u32 status; /* enum wire_kernel_op_status */
	u32 done; /* entries carried out: those before the first that failed, which stay so */
};

struct wire_op_request {
	u32 request_id; /* the host's choice, never 0, not in use */
	u32 op; /* enum wire_op */
};

struct wire_op_reply {
	u32 request_id;
	u32 error; /* 0, or the guest's errno; then MESSAGE may say more */
};

enum wire_op {
	/*
	 * Start a program: ARG (1 to 1024, first is looked up in PATH), ENV ("NAME=value", added to the
	 * agent's own), CWD, CGROUP (path below /sys/fs/cgroup, must exist), CPUS (a cpulist such as
	 * "0-3,8"), POLICY and PRIORITY, HAS_STDIN (else stdin is /dev/null). It runs in a session of
	 * its own; the program's id is this request's id.
	 * SPAWN replies when it runs (PID), or failed to start (errno of exec, cgroup, ... with MESSAGE).
	 * EXEC replies like WAIT.
	 */
	OP_SPAWN = 1,
	OP_EXEC = 2,
	/* PROGRAM. Replies when the program has ended and all its output frames were sent: PID, STATUS (exit
	 * status) or SIGNAL, STDOUT_BYTES and STDERR_BYTES (sent). Once for a program; forgets it. */
	OP_WAIT = 3,
	/* PROGRAM, SIGNAL: to the program's process group. ESRCH when it has ended. */
	OP_KILL = 4,
	/* struct wire_output, then bytes; no bytes close the program's stdin. Replies when the bytes were
	 * taken in (back-pressure); EPIPE when the program no longer reads. */
	OP_STDIN = 5,
	/* PATH, OFFSET, LENGTH (at most WIRE_DATA_MAX). The reply is struct wire_op_reply, then bytes; fewer
	 * than LENGTH only at the end of the file. */
	OP_READ = 6,
	/* struct wire_write, path, bytes. */
	OP_WRITE = 7,
	/* PATH (repeated, in load order): finit_module; one already loaded is fine. MESSAGE names the culprit. */
	OP_LOAD_MODULES = 8,
	/*
	 * CGROUP (path below /sys/fs/cgroup): creates it with its parents, controllers enabled above it;
	 * then each CONTROL ("cpuset.cpus=0-3") is written, in order, and must read back (numbers and
	 * cpulists compare by meaning).
	 */
	OP_CGROUP_CREATE = 9,
	/* CGROUP: kills what runs in it (cgroup.kill) and removes it and those below. */
	OP_CGROUP_REMOVE = 10,
	/*
	 * Fork workers that wait at the start line: CGROUP (optional), WORK (name), COUNT, PARAM
	 * (u64 index, u64 value: struct wire_param, repeated), CPUS, POLICY, PRIORITY, NICE. Replies
	 * with GROUP (an id) when all stand at the line.
	 */
	OP_WORKERS_CREATE = 11,
	/* Lets all groups at the line run at once. */
	OP_WORKERS_START = 12,
	/* Stops all groups, waits until each worker has written its report, sends one WORKER_REPORT a
	 * worker, then replies with COUNT (reports sent). A worker that does not end within TIMEOUT_MS is
	 * killed and reported with REPORT_KILLED. */
	OP_WORKERS_STOP = 13,
	/* CODE: kill all programs and workers, flush, send EXIT, power off. The reply comes before EXIT. */
	OP_SHUTDOWN = 14,
	/* COUNT open descriptors, COUNT2 children, RSS bytes (LENGTH), CPU_NS of the I/O thread: for leak tests. */
	OP_SELF = 15,
	/* Replies at once, with nothing: a round trip. */
	OP_PING = 16,
	/*
	 * The machine goes on from a saved one: RUN_ID (its name, new), REALTIME_NS (the host's clock now), ENTROPY
	 * (64 bytes or more). The agent feeds the random pool and reseeds it, sets the clock, and only then sends
	 * SYS_RDY, with RUN_ID; then it replies. Frames before that SYS_RDY belong to the earlier run.
	 */
	OP_RESTORED = 17,
};

struct wire_write {
	u64 offset;
	u32 mode; /* permission bits for a new file; 0: the file must exist */
	u16 flags; /* enum wire_write_flag */
	u16 path_length; /* bytes of path that follow, no NUL; the data is the rest of the payload */
};

enum wire_write_flag {
	WRITE_TRUNCATE = 1 << 0, /* cut the file to nothing first */
	WRITE_APPEND = 1 << 1, /* offset is not used */
	WRITE_MKDIR = 1 << 2, /* make the directories above it */
	WRITE_REPLACE = 1 << 3, /* whatever is there (a link to something else) is removed first, not written into */
};

struct wire_param {
	u64 index; /* of the parameter in the work type's table */
	u64 value;
};

enum wire_attr {
	ATTR_VERSION = 1, /* u32 WIRE_VERSION */
	ATTR_RELEASE = 2, /* string: uname -r */
	ATTR_REASON = 3, /* string */
	ATTR_MESSAGE = 4, /* string */
	ATTR_PID = 5, /* u32 */
	ATTR_PROGRAM = 6, /* u32 */
	ATTR_ARG = 7, /* string */
	ATTR_ENV = 8, /* string */
	ATTR_CWD = 9, /* string */
	ATTR_CGROUP = 10, /* string */
	ATTR_CPUS = 11, /* string */
	ATTR_POLICY = 12, /* u32: SCHED_NORMAL 0, FIFO 1, RR 2, BATCH 3, IDLE 5, DEADLINE 6, EXT 7 */
	ATTR_PRIORITY = 13, /* u32 */
	ATTR_NICE = 14, /* s32 */
	ATTR_HAS_STDIN = 15, /* flag: no value */
	ATTR_STATUS = 16, /* u32 */
	ATTR_SIGNAL = 17, /* u32 */
	ATTR_STDOUT_BYTES = 18, /* u64 */
	ATTR_STDERR_BYTES = 19, /* u64 */
	ATTR_PATH = 20, /* string */
	ATTR_OFFSET = 21, /* u64 */
	ATTR_LENGTH = 22, /* u64 */
	ATTR_CONTROL = 23, /* string */
	ATTR_WORK = 24, /* string */
	ATTR_COUNT = 25, /* u32 */
	ATTR_COUNT2 = 26, /* u32 */
	ATTR_PARAM = 27, /* struct wire_param */
	ATTR_GROUP = 28, /* u32 */
	ATTR_TIMEOUT_MS = 29, /* u32 */
	ATTR_CODE = 30, /* s32 */
	ATTR_CPU_NS = 31, /* u64 */
	ATTR_CPU_USED = 32, /* string: cpulist of the CPUs a worker ran on */
	ATTR_WAKE_SAMPLES = 33, /* u64 array: reservoir sample of wake latencies, ns */
	ATTR_RUNTIME_NS = 34, /* u64: these three go with POLICY 6 (DEADLINE), which needs them */
	ATTR_DEADLINE_NS = 35, /* u64 */
	ATTR_PERIOD_NS = 36, /* u64 */
	ATTR_RUN_ID = 37, /* string: 32 hexadecimal digits */
	ATTR_REALTIME_NS = 38, /* u64: CLOCK_REALTIME */
	ATTR_ENTROPY = 39, /* u64 array: random bytes */
	ATTR_KERNEL_OP = 40, /* u32: enum wire_kernel_op */
	ATTR_SYMBOL = 41, /* string */
	ATTR_ADDRESS = 42, /* u64 */
	ATTR_TASK = 43, /* u32: a pid, as the first pid namespace counts */
	ATTR_CPU = 44, /* u32 */
	ATTR_FIELD = 45, /* string */
	ATTR_STRUCT = 46, /* string */
	ATTR_TYPE = 47, /* string */
	ATTR_VALUE = 48, /* u64 */
	ATTR_SIGNED = 49, /* u64 */
	ATTR_DATA = 50, /* any bytes */
	ATTR_WRITTEN = 51, /* flag: no value */
};

/* All times in nanoseconds; what could not be measured is WIRE_UNKNOWN. */
#define WIRE_UNKNOWN UINT64_MAX

enum wire_report_flag {
	REPORT_KILLED = 1 << 0, /* did not end when asked; the figures are its last ones in shared memory */
	REPORT_FAILED = 1 << 1, /* could not run: REASON says why */
};

struct wire_worker_report {
	u32 group; /* GROUP of WORKERS_CREATE's reply */
	u32 index; /* within the group, from 0 */
	u32 pid;
	u32 flags; /* enum wire_report_flag */
	u64 work_units;
	u64 iterations;
	u64 wall_ns; /* from the start signal to its last iteration */
	u64 cpu_ns; /* CLOCK_THREAD_CPUTIME_ID over the same time */
	u64 run_delay_ns; /* /proc/self/schedstat: runnable and waiting, over the same time */
	u64 blocked_ns; /* asleep by its own choice: sum over its waits, as the worker saw them, wake latency not in */
	u64 migrations; /* times two iterations ran on different CPUs */
	u64 max_gap_ns; /* longest time between two iterations, net of its own sleeps */
	u64 max_gap_at_ns; /* when it ended, since the start signal */
	u32 max_gap_cpu; /* the CPU it ended on */
	u32 wake_count_low; /* wakes seen, low and high half (the sample holds fewer) */
	u32 wake_count_high;
	u32 pad;
};

#endif
