// SPDX-License-Identifier: GPL-2.0-or-later
#include "kvm/kvm.h"
#include "kvm/probe.h"
#include "lua/bind.h"

static void set_bool(lua_State *L, const char *name, bool value)
{
	lua_pushboolean(L, value);
	lua_setfield(L, -2, name);
}

static void set_number(lua_State *L, const char *name, double value)
{
	lua_pushnumber(L, value);
	lua_setfield(L, -2, name);
}

static void set_text(lua_State *L, const char *name, const char *value)
{
	if (!*value)
		return;
	lua_pushstring(L, value);
	lua_setfield(L, -2, name);
}

static int core_doctor(lua_State *L)
{
	static const char *const kvm_names[] = {
		[PROBE_KVM_OK] = "ok",
		[PROBE_KVM_MISSING] = "missing",
		[PROBE_KVM_PERMISSION] = "permission",
		[PROBE_KVM_ERROR] = "error",
	};
	struct probe p;

	probe_run(&p, KVM_DEVICE);
	lua_newtable(L);
	set_text(L, "kvm", kvm_names[p.kvm]);
	set_text(L, "error", p.error);
	set_text(L, "hint", p.hint);
	if (p.api_version >= 0)
		set_number(L, "api_version", p.api_version);
	set_bool(L, "long_mode", p.long_mode);
	set_bool(L, "int3", p.int3);
	set_bool(L, "sse", p.sse);
	set_bool(L, "xsave", p.xsave);
	set_bool(L, "popcnt", p.popcnt);
	set_bool(L, "cmpxchg16b", p.cmpxchg16b);
	set_bool(L, "syscall", p.syscall);
	set_bool(L, "data_watchpoint", p.data_watchpoint);
	set_bool(L, "code_breakpoint", p.code_breakpoint);
	set_bool(L, "master_clock", p.master_clock);
	set_bool(L, "tsc_deadline", p.tsc_deadline);
	set_bool(L, "invariant_tsc", p.invariant_tsc);
	if (p.max_vcpus)
		set_number(L, "max_vcpus", p.max_vcpus);
	set_number(L, "memory_available", (double)p.memory_available);
	set_bool(L, "stock_kernel", p.stock_kernel);
	set_bool(L, "paravirtual", p.paravirtual);
	return 1;
}

void bind_doctor(lua_State *L)
{
	lua_pushcfunction(L, core_doctor);
	lua_setfield(L, -2, "doctor");
}
