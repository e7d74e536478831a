---@meta ktstr.core
-- What C gives Lua. `require "ktstr.core"` finds it preloaded by the program; this file is only
-- for editors and people. The library in lua/ktstr/ is the public face; tests use that.
-- Every function raises a table { code=, message=, hint= } (see ktstr.errors) when it fails.

local core = {}

---@type string
core.version = ""

---@class ktstr.core.paths
---@field guest string the directory that holds agent, tiny and busybox
---@type ktstr.core.paths
core.paths = {}

--- The metatable of every error that C raises: ktstr.errors puts __tostring in it and uses it for its own,
--- so errors from C and from Lua are of one type.
---@type table
core.error_metatable = {}

--- The work types of guest/work, in the agent's own table.
---@return { name: string, params: { name: string, default: number, min: number, max: number, unit: string }[],
---  group: integer, group_param: string|nil }[] the number of workers must be a multiple of group (plus the
---  value of the parameter group_param)
function core.work_types() end

-- Constants of wire.h by their names there: core.wire.MSG_EXIT, OP_EXEC, LIFECYCLE_..., WIRE_DATA_MAX,
-- WRITE_TRUNCATE, REPORT_KILLED ...
core.wire = {}

--- Attributes as a byte string. Values are checked against the type that wire.h gives the attribute.
---@param list { [1]: string, [2]: string|number|boolean|table }[] name without ATTR_ ("ARG") and value;
---  a PARAM's value is { index, value }, an array's a string of 8 bytes an element
---@return string
function core.wire.pack(list) end

--- The attributes in bytes, in order; unknown types are left out.
---@param bytes string
---@return { [1]: string, [2]: string|number|boolean|table }[]
function core.wire.unpack(bytes) end

--- Payload of an OP_REQUEST.
---@param id integer
---@param op integer
---@param body string attributes or data
---@return string
function core.wire.op_request(id, op, body) end

--- Fixed struct and path of an OP_WRITE body (the data follows it).
---@param path string
---@param offset number
---@param mode integer
---@param flags integer
---@return string
function core.wire.write_head(path, offset, mode, flags) end

--- Fixed struct of an OP_STDIN body (the data follows it).
---@param program integer
---@return string
function core.wire.output_head(program) end

--- What a frame's payload says, by its type; nil and a reason when it is malformed. OP_REPLY: { id=, error=
--- (0 or errno), strerror=, body= }   EXIT: { code= }   LIFECYCLE: { phase=, reason= } STDOUT, STDERR: {
--- program=, data= }   SYS_RDY: { version=, release=, pid=, run_id= } WORKER_REPORT: every field of struct
--- wire_worker_report by its name (unknown ones nil, wakes joined as
---   `wakes`), killed=, failed=, reason=, cpus_used= (cpulist), wake_samples= (array of ns)
--- SNAPSHOT_REQUEST: { id=, kind=, tag= }
---@param type integer
---@param payload string
---@return table|nil, string?
function core.wire.decode(type, payload) end

---@class ktstr.core.machine
local machine = {}

--- Puts a machine together; nothing runs yet.
---@param options { kernel: string, initrd: userdata|nil, cmdline: string, topology: table, kaslr: boolean,
---  la57: boolean, timeout: number|nil, steal_time: boolean|nil, invariant_tsc: boolean|nil }
---  kernel: path of a bzImage or vmlinux.
---  topology: { nodes = { { llcs = 2, memory = bytes }, ... }, cores = 4, threads = 2, distances = {{10,20},{20,10}} }
---  timeout: seconds of wall time from start() before the run is killed; nil: none.
---  invariant_tsc: shown (true), hidden (false), or as the host has it (nil).
---@return ktstr.core.machine
function core.machine(options) end

function machine:start() end

--- Sends a frame on port 1. Blocks while the guest does not take it in.
---@param type integer
---@param payload string
---@param timeout number|nil seconds; raises code "timeout"
function machine:send(type, payload, timeout) end

--- The next frame from the guest (good CRCs, type known). Returns nil, "timeout" or nil, "ended"
--- (the machine is no longer running and nothing is left to read) or nil, "console" when
--- console output came in and wake_on_console was set. Raises code "interrupted" on SIGINT or SIGTERM.
---@param timeout number|nil seconds; nil: for ever
---@return integer|nil type, string payload_or_reason
function machine:recv(timeout) end

--- recv also returns for console output.
---@param on boolean
function machine:wake_on_console(on) end

--- Console text (COM1) from an absolute byte offset on. Old text is dropped beyond 4 MiB: then the text
--- starts later than asked.
---@param from number|nil default 0
---@return string text, number next_offset
function machine:console(from) end

--- Stops every vCPU; returns when all are parked. Then devices and the guest's clocks stand still too.
--- Raises "busy" (somebody else holds the freeze; nothing was queued), "frozen" (it is frozen by an earlier
--- call), "timeout" (a vCPU did not park: which, and where it was; the machine goes on), "ended",
--- "interrupted".
---@param limit number|nil seconds after which it is thawed by itself; nil: none
function machine:freeze(limit) end

--- Lets the vCPUs go on. Raises "running" when it was not frozen, "freeze-limit" when the limit has thawed it
--- since, "ended".
function machine:thaw() end

--- True from the end of freeze() until thaw(), the limit, or the machine's end.
---@return boolean
function machine:is_frozen() end

--- Freezes, calls fn(...), thaws: also when it raises. Returns what fn returns. When the limit passes first,
--- the machine is thawed then and there, and fn is ended by an error "freeze-limit" at its next Lua
--- instruction (compiled loops do not look: JIT is off for fn itself). Raises as freeze().
---@param limit number|nil seconds
---@param fn function
---@return any ...
function machine:frozen(limit, fn, ...) end

--- Registers of a parked vCPU: the bytes of KVM's struct kvm_regs and struct kvm_sregs (x86-64). Raises
--- "running", "invalid" (no such CPU), "freeze-limit", "ended".
---@param cpu integer the guest's CPU number, from 0
---@return string regs, string sregs
function machine:regs(cpu) end

--- A model-specific register of a parked vCPU: 8 bytes, little-endian. Raises as regs(), and "unsupported"
--- where KVM does not tell it.
---@param cpu integer
---@param index integer
---@return string
function machine:msr(cpu, index) end

--- The struct view (core/kernel/view.h) of the machine's kernel, for LuaJIT's FFI to cast: there as long as
--- this object, also before the start and after the end, when every access says so.
---@return lightuserdata
function machine:view() end

--- Writes a frozen machine as an ELF core file for crash and drgn; path is there whole or not at all. Raises
--- "unsupported" (the view does not know the kernel's direct map yet), "os" (disk full), "interrupted", and as
--- regs().
---@param path string
---@param info string the text of the kernel's VMCOREINFO
---@param pids integer[] of the task that each CPU runs
function machine:dump(path, info, pids) end

---@class ktstr.core.monitor
local monitor = {}

--- Samples the memory of a machine that runs, now and at an interval: struct monitor_program, monitor_cell[] and
--- monitor_step[] (core/coordinator/monitor.h) as bytes. Raises "invalid", "ended".
---@param program string
---@param cells string
---@param steps string
---@param interval number seconds
---@param samples integer that are kept: the newest
---@return ktstr.core.monitor
function machine:monitor(program, cells, steps, interval, samples) end

--- Samples from a number on, as bytes: a struct monitor_sample and what is behind it, for each. Not all at once:
--- to be called until it is "". Also after the machine's end.
---@param from number
---@return string
function monitor:read(from) end

--- longest: seconds that a sample took; early and frozen were left out.
---@return { taken: number, dropped: number, early: number, frozen: number, longest: number }
function monitor:counts() end

--- No more samples; those that there are stay.
function monitor:stop() end

--- Executes up to n instructions on one vCPU of a frozen machine; interrupts are held back meanwhile, and the
--- others stay parked. Returns how many were executed: fewer when the vCPU halted or waits for its start.
--- Raises as regs(), and "timeout" when one of them did not end within the limit.
---@param cpu integer
---@param n integer 1 to 1000000
---@param limit number|nil seconds of wall time; nil: 5
---@return integer executed
function machine:step(cpu, n, limit) end

--- Bytes of guest-physical memory, frozen only. Raises "invalid" for what is not RAM, and as regs().
---@param address number guest-physical
---@param size number at most 16 MiB
---@return string
function machine:read_physical(address, size) end

--- CRC-32 of all of the guest's RAM, frozen only. Raises as regs().
---@return number
function machine:memory_crc() end

--- Freezes, records, thaws. Raises as freeze().
---@param tag string 1 to 64 bytes of printable text
function machine:capture(tag) end

--- What captures record from now on: a plan's program (core/capture/plan.h) as bytes, which finds the kernel's
--- memory as view() does now; or nil, and why there is none. Raises "format", "invalid" (for another number of
--- CPUs), "ended".
---@param bytes string|nil
---@param reason string|nil
---@param log string|nil where the kernel's log is: a struct printk_layout (core/kernel/printk.h) as bytes
function machine:set_plan(bytes, reason, log) end

--- In which phase of its scenario captures are from now on. Raises "invalid", "ended".
---@param phase string|nil 1 to 64 printable characters; nil: in none
function machine:set_phase(phase) end

--- Whether the first capture that the guest asks for waits until set_plan() has been called: recv() returns nil,
--- "plan" then. For 3 s at most where it does not, for 30 s more where it does. Likewise the capture of a
--- failure, with the machine frozen meanwhile, as long as there is no plan.
---@param on boolean
function machine:wake_on_plan(on) end

---@class ktstr.core.capture
---@field tag string
---@field source string
---@field number number of this machine's captures, from 1 on: this one's alone
---@field elapsed number seconds since start() that the machine was not frozen
---@field clock number the guest's kvmclock, seconds
---@field workload number|nil seconds since the workload's start, freezes and its pauses taken out; nil: none
---  has started
---@field phase string|nil set_phase()'s
---@field epoch integer another one once the machine was taken back
---@field frozen number seconds that the machine stood still for it
---@field cpus { regs: string, sregs: string }[] none in a placeholder
---@field record userdata|nil holds a struct record *, which the FFI finds there
---@field missed boolean a placeholder: it timed out
---@field reason string why, or why there is no record

--- What was recorded so far, in order: by main, by the guest, by timers. Also after the end.
---@return ktstr.core.capture[]
function machine:captures() end

--- A capture "early" of a machine that seems to be about to fail. Raises as capture().
---@return boolean taken false: there has been one, or the failure itself has been recorded
function machine:capture_early() end

--- Captures at moments of the workload's time, by a thread of their own: whatever this one does, and in steps of
--- the guest's running time. What cannot be taken is a placeholder among captures(). Raises "busy" (some are going
--- on), "ended".
---@param plan { tag: string, moment: number, latest: number }[] in order; 1 to 64; seconds
---@param waits boolean the guest says when its workload starts; else it is now
function machine:start_periodic(plan, waits) end

--- Raises "invalid" when there have been none; "ended".
---@param control "look"|"start"|"pause"|"resume"|"finish"|nil nil: look. What makes no sense changes nothing
---@return "waiting"|"running"|"paused"|"over"|"given up" state
---@return integer taken
---@return integer missed placeholders so far; after "finish" of all that was not taken
function machine:periodic(control) end

--- Watches a place in the guest's memory; recv() returns nil, "watch" when there are fires to take. Freezes, unless
--- main has. Raises "invalid", "unsupported", "busy", as freeze().
---@param words string twelve numbers of 64 bits: address, guest-physical address, size, signed, counts only,
---  backend (0 any, 1 register, 2 page), condition (enum watch_op), its value, ns that the guest may wait for
---  a function, writes that are recorded in a second (0: 1000), 1 for code (fires in front of the instruction
---  at the address; size, condition and value say nothing), 1 for returns of the function there, too
---@param name string as warnings say it
---@return integer id
function machine:watch(words, name) end

--- Harmless when there is no such watch.
---@param id integer
function machine:unwatch(id) end

---@param id integer
---@return { hits: number, dropped: number, raced: number, backend: string } zeros where there is no such watch
function machine:watch_counts(id) end

--- What has been fired and recorded since, in order.
---@return { tag: string, words: string }[] words: watch, cpu, number, rip, before, after, size, raced,
---  hold_ns, elapsed_ns, kind (0 a write, 1 a call, 2 a return, whose value is `after`)
---@return boolean is_frozen the machine waits for it: it is the caller's freeze now, for frozen(true, fn)
function machine:take_fires() end

--- Saves a frozen machine, which stays so. identity and script are kept with it, and nothing here looks into
--- them. directory: a place on disk for its memory; nil, or where there can be no file without a name: in
--- memory. Raises "unsupported" (this KVM keeps some state to itself), "os" (disk full), and as regs().
---@param identity string lines "name value\n"
---@param script string
---@param directory string|nil
---@return ktstr.core.image
function machine:save(identity, script, directory) end

--- Takes a frozen machine back to where it stood when the image was saved from it; it stays frozen. Frames
--- that came since, in either direction, are dropped. Raises "invalid" (the image is another kind of
--- machine's; this one is as it was), and as regs(); after any other error the machine has ended.
---@param image ktstr.core.image
function machine:rewind(image) end

--- Of a machine made by machine_saved(): notes in the image's directory which pages it has touched, for the
--- next one. Once; nothing where that is known already, or the image has no directory.
function machine:note_touched() end

--- For tests: makes happen what no healthy machine does, or what later parts of ktstr will do.
---   "periodic", seconds: a capture from a timer again and again; 0 ends it. Counts are in freeze_counts()
---   "deaf", cpu, seconds: that vCPU does not look at a freeze for so long
---   "rendezvous_timeout", seconds: instead of 30
---   "kernel_op_timeout", seconds: how long a guest's kernel operations wait for this process, instead of 10
---   "late_failure": a failure of the guest's kernel is looked at when the machine has ended
---   "capture", source, tag: a capture by that source ("periodic", "watch", "kernel-op"); raises as capture()
---@param name string
---@param ... number|string
function machine:test_hook(name, ...) end

--- How the captures of each source went.
---@return table<string, { done: number, busy: number, timeout: number, failed: number }> by source
function machine:freeze_counts() end

--- Operations on the kernel's memory, in order, as bytes of the structs in core/kernel/ops.h; the first that
--- fails is the last. Raises "invalid" for what makes no sense; as capture() when cold: then nothing was done.
---@param layout string struct op_layout
---@param ops string struct op, repeated
---@param steps string struct op_step, repeated
---@param data string where reads of bytes go, and writes of bytes come from
---@param cold boolean in one freeze of its own
---@return string values a u64 for each operation that was carried out
---@return string data
---@return ktstr.Error|nil err why the next one was not
function machine:run_ops(layout, ops, steps, data, cold) end

--- A guest's request for kernel operations is this process's now: false, it has been answered that nobody came.
---@param token integer
---@return boolean
function machine:claim_kernel_op(token) end

---@param token integer
---@param answer string struct wire_kernel_op_reply and what is behind it; at most 64 KiB
function machine:answer_kernel_op(token, answer) end

--- Asks the machine to end; exit_reason ExternalKill. Does not wait. Also while it is frozen.
function machine:kill() end

--- Waits until it has ended (kills it first when it was never asked to end and `kill` is true) and frees
--- its memory. The same result each time.
---@return { exit_reason: string, exit_code: integer, timed_out: boolean, seconds: number, reported: boolean,
---  guest_exit: integer|nil, last_words: string, detail: string|nil, warnings: string (lines),
---  failure: { kind: string, line: string }|nil,
---  channel: { frames: number, bad_headers: number, bad_payloads: number, unknown: number, skipped_bytes: number } }
---  reported: an EXIT frame or the COM2 sentinel came. detail: what ended it, in words (a triple fault, ...).
function machine:join() end

---@class ktstr.core.image a saved machine; never changes
local image = {}

--- Raises "not-found", "format" (damaged: what is), "os".
---@param path string the directory
---@return ktstr.core.image
function core.image_open(path) end

--- Gives it a name: a directory, there completely or not at all. Raises "busy" (there is something), "os".
---@param path string
function image:publish(path) end

--- Compares the checksums of all of its memory. Raises "format".
function image:verify() end

---@return string as machine:save() was given it
function image:identity() end

---@return string as machine:save() was given it
function image:script() end

---@return number bytes on disk, or of memory
function image:disk_size() end

---@return number bytes of the guest's memory
function image:memory_size() end

--- Gives it back; it cannot be used any more. Machines made from it go on.
function image:close() end

--- A machine that goes on, once it is started, where the saved one stood. Raises "format", "unsupported"
--- (another host's CPU: the difference is named), "no-memory".
---@param from ktstr.core.image
---@param options { timeout: number|nil } seconds of wall time; nil: no limit
---@return ktstr.core.machine
function core.machine_saved(from, options) end

--- What a guest is shown as its CPU here: vendor, family, model, stepping, a hash of its CPUID.
---@param options { topology: table, la57: boolean|nil, steal_time: boolean|nil, invariant_tsc: boolean|nil } as
---  core.machine
---@return string
function core.host_cpu(options) end

--- XXH3-128 as 32 hexadecimal digits.
---@param bytes string
---@return string
function core.hash(bytes) end

--- Of a regular file's contents. Raises "not-found", "invalid", "os".
---@param path string
---@return string
function core.hash_file(path) end

--- The linker's hash of this program (hexadecimal); "" when it was linked without.
---@return string
function core.build_id() end

---@class ktstr.core.cpio
local cpio = {}

--- An initramfs in the making (newc). Directories above a path are added by themselves.
---@return ktstr.core.cpio
function core.cpio() end
---@param path string absolute path in the guest
---@param mode integer permission bits
---@param data string
function cpio:file(path, mode, data) end
---@param path string
---@param mode integer|nil nil: as on the host
---@param host string path on the host
function cpio:host_file(path, mode, host) end
---@param path string
---@param mode integer
function cpio:dir(path, mode) end
---@param path string
---@param target string
function cpio:symlink(path, target) end
---@param path string
---@param mode integer
---@param major integer
---@param minor integer
function cpio:char_device(path, mode, major, minor) end
---@return number bytes so far
function cpio:size() end

--- Shared libraries and interpreter that an ELF program needs, transitively, as the host's loader would
--- find them; empty for a static program or a script. Raises "format"/"not-found" naming the library.
---@param path string
---@return string[] paths
function core.elf_needed(path) end

--- What a kernel image is.
---@param path string
---@return { format: "bzImage"|"vmlinux", release: string, relocatable: boolean, compression: string|nil }
function core.kernel_info(path) end

--- Decompresses the vmlinux (with its relocation tables behind it) out of a bzImage into a new file.
--- Written under a temporary name, then renamed.
---@param bzimage string
---@param vmlinux string
function core.kernel_extract(bzimage, vmlinux) end

--- What this host can do, from a functional probe (micro guests). Never raises.
---@return { kvm: "ok"|"missing"|"permission"|"error", error: string|nil, api_version: integer|nil,
---  stock_kernel: boolean, paravirtual: boolean, int3: boolean, sse: boolean, syscall: boolean,
---  data_watchpoint: boolean, code_breakpoint: boolean, master_clock: boolean, tsc_deadline: boolean,
---  invariant_tsc: boolean, max_vcpus: integer|nil, memory_available: number }
function core.doctor() end

--- SIGINT or SIGTERM, once one has come; nil before.
---@return integer|nil
function core.interrupted() end

--- While on, SIGINT is raised nowhere but in a function under core.interruptible(), and waits for
--- editor:line() or that: for a prompt. SIGTERM is raised as ever.
---@param on boolean
function core.patient(on) end

--- pcall(fn, ...) for a patient program: SIGINT ends fn and is dealt with. The error is then one with code
--- "interrupted". Raises "interrupted" itself after SIGTERM. Patience is on afterwards.
---@param fn function
---@return boolean ok, any ... results or the error
function core.interruptible(fn, ...) end

---@class ktstr.core.editor
local editor = {}

--- Lines from the terminal of this process, edited by libedit. Raises "os".
---@param options { history: integer, complete: nil|fun(line: string): string|nil, string|nil }
---  history: lines that are kept. complete: what Tab does with the line up to the cursor: text to insert, and
---  text to show below the line
---@return ktstr.core.editor
function core.editor(options) end

--- One line, without its end. Raises "interrupted" on SIGTERM.
---@param prompt string
---@return string|nil line nil: see why
---@return nil|"eof"|"interrupt" why
function editor:line(prompt) end

--- Adds a line to the history, as the newest.
---@param line string
function editor:add(line) end

--- Gives the terminal back as it was.
function editor:close() end

return core
