// SPDX-License-Identifier: GPL-2.0-or-later
#include "kvm/vcpu.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cleanup.h"

struct error *vcpu_init(struct vcpu *vcpu, const struct vm *vm, u32 apic_id)
{
	CLEANUP_CLOSE int fd = -1;
	struct error *err;

	*vcpu = (struct vcpu){ .fd = -1, .id = apic_id };
	err = KVM_IOCTL_RET(vm->fd, KVM_CREATE_VCPU, apic_id, "a new vCPU", &fd);
	if (err)
		return error_with_context(err, "APIC id %u", apic_id);

	void *run = mmap(NULL, vm->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (run == MAP_FAILED)
		return error_create_errno("mmap of vCPU %u's run page", apic_id);
	vcpu->run = run;
	vcpu->run_size = vm->run_size;
	vcpu->vm_fd = vm->fd;
	vcpu->has_lapic = vm->irqchip != VM_IRQCHIP_NONE;
	// Every exit then leaves the registers in the run page, where others can look while the vCPU runs.
	if (ioctl(vm->fd, KVM_CHECK_EXTENSION, KVM_CAP_SYNC_REGS) & KVM_SYNC_X86_REGS)
		vcpu->run->kvm_valid_regs = KVM_SYNC_X86_REGS;
	vcpu->fd = no_close(fd);
	return NULL;
}

void vcpu_deinit(struct vcpu *vcpu)
{
	if (vcpu->run)
		munmap(vcpu->run, vcpu->run_size);
	if (vcpu->fd >= 0)
		close(vcpu->fd);
	*vcpu = (struct vcpu){ .fd = -1 };
}

struct error *vcpu_run(struct vcpu *vcpu, enum vcpu_run_result *ret)
{
	char where[256];

	if (ioctl(vcpu->fd, KVM_RUN, 0) == 0) {
		*ret = VCPU_EXIT;
		return NULL;
	}
	switch (errno) {
	case EINTR:
		*ret = VCPU_INTERRUPTED;
		return NULL;
	case EAGAIN:
		*ret = VCPU_NOT_READY;
		return NULL;
	}

	struct error *err = error_create_errno("KVM_RUN of vCPU %u", vcpu->id);

	vcpu_describe_exit(vcpu, where, sizeof(where));
	return error_with_context(err, "%s", where);
}

static const char *const exit_names[] = {
#define NAME(x) [KVM_EXIT_##x] = "KVM_EXIT_" #x
	NAME(UNKNOWN),
	NAME(EXCEPTION),
	NAME(IO),
	NAME(HYPERCALL),
	NAME(DEBUG),
	NAME(HLT),
	NAME(MMIO),
	NAME(IRQ_WINDOW_OPEN),
	NAME(SHUTDOWN),
	NAME(FAIL_ENTRY),
	NAME(INTR),
	NAME(SET_TPR),
	NAME(TPR_ACCESS),
	NAME(NMI),
	NAME(INTERNAL_ERROR),
	NAME(SYSTEM_EVENT),
	NAME(IOAPIC_EOI),
	NAME(HYPERV),
	NAME(X86_RDMSR),
	NAME(X86_WRMSR),
	NAME(DIRTY_RING_FULL),
	NAME(X86_BUS_LOCK),
#undef NAME
};

const char *vcpu_exit_name(u32 reason)
{
	if (reason < ARRAY_SIZE(exit_names) && exit_names[reason])
		return exit_names[reason];
	return "an unknown exit";
}

/* Appends like printf, cut at the end of the buffer. */
static void PRINTF_LIKE(3, 4) append(char *buffer, size_t size, const char *fmt, ...)
{
	size_t used = strnlen(buffer, size);
	va_list ap;

	if (used >= size)
		return;
	va_start(ap, fmt);
	vsnprintf(buffer + used, size - used, fmt, ap);
	va_end(ap);
}

static void describe_internal_error(const struct kvm_run *run, char *buffer, size_t size)
{
	static const char *const kinds[] = {
		[KVM_INTERNAL_ERROR_EMULATION] = "emulation",
		[KVM_INTERNAL_ERROR_SIMUL_EX] = "simultaneous exceptions",
		[KVM_INTERNAL_ERROR_DELIVERY_EV] = "event delivery",
		[KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON] = "unexpected exit",
	};
	u32 kind = run->internal.suberror;

	append(buffer, size, ", %s (%u)", kind < ARRAY_SIZE(kinds) && kinds[kind] ? kinds[kind] : "unknown kind",
	       kind);

	// The instruction's own bytes, where KVM gives them, tell more than anything else.
	if (kind == KVM_INTERNAL_ERROR_EMULATION && run->emulation_failure.ndata >= 1 &&
	    run->emulation_failure.flags & KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES) {
		u32 count = run->emulation_failure.insn_size;

		append(buffer, size, ", instruction");
		for (u32 i = 0; i < count && i < sizeof(run->emulation_failure.insn_bytes); i++)
			append(buffer, size, " %02x", run->emulation_failure.insn_bytes[i]);
		return;
	}
	for (u32 i = 0; i < run->internal.ndata && i < ARRAY_SIZE(run->internal.data); i++)
		append(buffer, size, " 0x%llx", run->internal.data[i]);
}

static void describe_reason(const struct kvm_run *run, char *buffer, size_t size)
{
	buffer[0] = '\0';
	append(buffer, size, "%s", vcpu_exit_name(run->exit_reason));
	switch (run->exit_reason) {
	case KVM_EXIT_INTERNAL_ERROR:
		describe_internal_error(run, buffer, size);
		break;
	case KVM_EXIT_SHUTDOWN:
		append(buffer, size, ", a triple fault");
		break;
	case KVM_EXIT_FAIL_ENTRY:
		append(buffer, size, ", hardware reason 0x%llx",
		       run->fail_entry.hardware_entry_failure_reason);
		break;
	case KVM_EXIT_UNKNOWN:
		append(buffer, size, ", hardware reason 0x%llx", run->hw.hardware_exit_reason);
		break;
	case KVM_EXIT_IO:
		append(buffer, size, ", %s port 0x%x", run->io.direction == KVM_EXIT_IO_OUT ? "out to" : "in from",
		       run->io.port);
		break;
	case KVM_EXIT_MMIO:
		append(buffer, size, ", %s 0x%llx", run->mmio.is_write ? "write to" : "read from",
		       run->mmio.phys_addr);
		break;
	case KVM_EXIT_SYSTEM_EVENT:
		append(buffer, size, ", event %u", run->system_event.type);
		break;
	}
}

void vcpu_describe_last_exit(const struct vcpu *vcpu, char *buffer, size_t size)
{
	const struct kvm_run *run = vcpu->run;

	if (!size)
		return;
	describe_reason(run, buffer, size);
	if (run->kvm_valid_regs & KVM_SYNC_X86_REGS)
		append(buffer, size, ", at rip 0x%llx", run->s.regs.regs.rip);
}

void vcpu_describe_exit(const struct vcpu *vcpu, char *buffer, size_t size)
{
	struct kvm_regs regs;

	if (!size)
		return;
	describe_reason(vcpu->run, buffer, size);
	if (ioctl(vcpu->fd, KVM_GET_REGS, &regs) == 0)
		append(buffer, size, ", at rip 0x%llx", regs.rip);
}

struct error *vcpu_set_cpuid(const struct vcpu *vcpu, const struct kvm_cpuid2 *cpuid)
{
	return KVM_IOCTL(vcpu->fd, KVM_SET_CPUID2, cpuid, "what the vCPU says it is");
}

struct error *vcpu_get_regs(const struct vcpu *vcpu, struct kvm_regs *ret)
{
	return KVM_IOCTL(vcpu->fd, KVM_GET_REGS, ret, "general registers");
}

struct error *vcpu_set_regs(const struct vcpu *vcpu, const struct kvm_regs *regs)
{
	return KVM_IOCTL(vcpu->fd, KVM_SET_REGS, regs, "general registers");
}

struct error *vcpu_get_sregs(const struct vcpu *vcpu, struct kvm_sregs *ret)
{
	return KVM_IOCTL(vcpu->fd, KVM_GET_SREGS, ret, "segment and control registers");
}

struct error *vcpu_set_sregs(const struct vcpu *vcpu, const struct kvm_sregs *sregs)
{
	return KVM_IOCTL(vcpu->fd, KVM_SET_SREGS, sregs, "segment and control registers");
}

struct error *vcpu_get_mp_state(const struct vcpu *vcpu, u32 *ret)
{
	struct kvm_mp_state state = { 0 };
	struct error *err = KVM_IOCTL(vcpu->fd, KVM_GET_MP_STATE, &state, "does it run, halt or wait?");

	if (!err)
		*ret = state.mp_state;
	return err;
}

struct error *vcpu_set_mp_state(const struct vcpu *vcpu, u32 mp_state)
{
	struct kvm_mp_state state = { .mp_state = mp_state };

	return KVM_IOCTL(vcpu->fd, KVM_SET_MP_STATE, &state, "does it run, halt or wait?");
}

struct error *vcpu_get_events(const struct vcpu *vcpu, struct kvm_vcpu_events *ret)
{
	return KVM_IOCTL(vcpu->fd, KVM_GET_VCPU_EVENTS, ret, "pending exceptions and interrupts");
}

struct error *vcpu_set_events(const struct vcpu *vcpu, const struct kvm_vcpu_events *events)
{
	return KVM_IOCTL(vcpu->fd, KVM_SET_VCPU_EVENTS, events, "pending exceptions and interrupts");
}

/* A struct kvm_msrs with room for its entries. */
union msr_list {
	struct kvm_msrs msrs;
	u8 space[sizeof(struct kvm_msrs) + VCPU_MSRS_MAX * sizeof(struct kvm_msr_entry)];
};

/* Both ioctls stop at the first MSR that KVM refuses and return how many came before it. */
static struct error *transfer_msrs(const struct vcpu *vcpu, unsigned long request, const char *name,
				   const struct kvm_msr_entry *entries, u32 count, union msr_list *list)
{
	int done = 0;

	if (count > VCPU_MSRS_MAX)
		return error_create(ERROR_INVALID, "%s of %u MSRs, at most %d at a time", name, count,
				    VCPU_MSRS_MAX);
	list->msrs.nmsrs = count;
	list->msrs.pad = 0;
	memcpy(list->msrs.entries, entries, count * sizeof(entries[0]));

	struct error *err = kvm_ioctl(vcpu->fd, request, name, list, "model-specific registers", &done);

	if (err)
		return err;
	if ((u32)done < count)
		return error_create(ERROR_UNSUPPORTED, "%s: KVM refuses MSR 0x%x (value 0x%llx)", name,
				    entries[done].index, entries[done].data);
	return NULL;
}

struct error *vcpu_set_msrs(const struct vcpu *vcpu, const struct kvm_msr_entry *msrs, u32 count)
{
	union msr_list list;

	return transfer_msrs(vcpu, KVM_SET_MSRS, "KVM_SET_MSRS", msrs, count, &list);
}

struct error *vcpu_get_msrs(const struct vcpu *vcpu, struct kvm_msr_entry *msrs, u32 count)
{
	union msr_list list;
	struct error *err = transfer_msrs(vcpu, KVM_GET_MSRS, "KVM_GET_MSRS", msrs, count, &list);

	if (!err)
		memcpy(msrs, list.msrs.entries, count * sizeof(msrs[0]));
	return err;
}

struct error *vcpu_get_tsc_khz(const struct vcpu *vcpu, u32 *ret)
{
	int khz = 0;
	struct error *err = KVM_IOCTL_RET(vcpu->fd, KVM_GET_TSC_KHZ, 0, "TSC frequency", &khz);

	if (!err)
		*ret = (u32)khz;
	return err;
}

struct error *vcpu_set_tsc_khz(const struct vcpu *vcpu, u32 khz)
{
	return KVM_IOCTL(vcpu->fd, KVM_SET_TSC_KHZ, khz, "TSC frequency");
}

static struct kvm_device_attr tsc_offset_attr(u64 *value)
{
	return (struct kvm_device_attr){
		.group = KVM_VCPU_TSC_CTRL,
		.attr = KVM_VCPU_TSC_OFFSET,
		.addr = (uintptr_t)value,
	};
}

/* Asked after a failure alone: a freeze reads and sets the offset of every vCPU, and every call counts. */
static struct error *explain_tsc_offset(const struct vcpu *vcpu, const struct kvm_device_attr *attr,
					struct error *err)
{
	if (!err || ioctl(vcpu->fd, KVM_HAS_DEVICE_ATTR, attr) == 0)
		return err;
	error_destroy(err);
	return error_create(ERROR_UNSUPPORTED, "this KVM has no TSC offset to read or set (Linux 5.16 or later has)");
}

struct error *vcpu_get_tsc_offset(const struct vcpu *vcpu, u64 *ret)
{
	struct kvm_device_attr attr = tsc_offset_attr(ret);

	return explain_tsc_offset(vcpu, &attr, KVM_IOCTL(vcpu->fd, KVM_GET_DEVICE_ATTR, &attr, "TSC offset"));
}

struct error *vcpu_set_tsc_offset(const struct vcpu *vcpu, u64 offset)
{
	struct kvm_device_attr attr = tsc_offset_attr(&offset);

	return explain_tsc_offset(vcpu, &attr, KVM_IOCTL(vcpu->fd, KVM_SET_DEVICE_ATTR, &attr, "TSC offset"));
}

struct error *vcpu_get_lapic(const struct vcpu *vcpu, struct kvm_lapic_state *ret)
{
	return KVM_IOCTL(vcpu->fd, KVM_GET_LAPIC, ret, "the local APIC");
}

struct error *vcpu_set_lapic(const struct vcpu *vcpu, const struct kvm_lapic_state *lapic)
{
	return KVM_IOCTL(vcpu->fd, KVM_SET_LAPIC, lapic, "the local APIC");
}

struct error *vcpu_tell_stopped(const struct vcpu *vcpu)
{
	// EINVAL: the guest has no kvmclock there, so nothing that would listen.
	if (ioctl(vcpu->fd, KVM_KVMCLOCK_CTRL, 0) == 0 || errno == EINVAL)
		return NULL;
	return error_create_errno("KVM_KVMCLOCK_CTRL (telling the guest that it was stopped)");
}

struct error *vcpu_set_guest_debug(const struct vcpu *vcpu, u32 control, const u64 debugreg[8])
{
	struct kvm_guest_debug debug = { .control = control };

	if (debugreg)
		for (int i = 0; i < 8; i++)
			debug.arch.debugreg[i] = debugreg[i];
	return KVM_IOCTL(vcpu->fd, KVM_SET_GUEST_DEBUG, &debug, "breakpoints, watchpoints, stepping");
}

struct error *vcpu_translate(const struct vcpu *vcpu, u64 gva, u64 *gpa, bool *mapped)
{
	struct kvm_translation t = { .linear_address = gva };
	struct error *err = KVM_IOCTL(vcpu->fd, KVM_TRANSLATE, &t, "address translation");

	if (err)
		return err;
	*gpa = t.physical_address;
	*mapped = t.valid;
	return NULL;
}
