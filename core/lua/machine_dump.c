// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A frozen machine written as a core file, for other tools.
 */
#include "kernel/vmcore.h"
#include "lua/machine.h"

enum { MSR_KERNEL_GS_BASE = 0xc0000102 };

/* Of the view's ranges; the direct map begins with guest-physical address 0. */
enum { IMAGE,
       DIRECT_MAP };

static struct error *read_cpus(struct lua_machine *lm, struct vmcore_cpu *cpus, u32 count)
{
	for (u32 i = 0; i < count; i++) {
		struct vmcore_cpu *cpu = &cpus[i];
		struct error *err = coordinator_get_regs(lm->coordinator, i, &cpu->regs, &cpu->sregs);

		if (!err)
			err = coordinator_get_msr(lm->coordinator, i, MSR_KERNEL_GS_BASE, &cpu->kernel_gs_base);
		if (err)
			return err;
	}
	return NULL;
}

/* A limit thaws the machine, and what is read after that is of another moment. */
static struct error *check_frozen(u64 done, u64 total, void *arg)
{
	const struct lua_machine *lm = arg;

	return view_is_expired(&lm->view) ?
		       error_create(ERROR_FREEZE_LIMIT, "freeze limit: the machine has been thawed") :
		       NULL;
}

/* dump(path, info, pids) */
static int lua_machine_dump(lua_State *L)
{
	struct lua_machine *lm = machine_check_started(L);
	const char *path = luaL_checkstring(L, 2);
	const struct view_range *image = &lm->view.ranges[IMAGE], *direct = &lm->view.ranges[DIRECT_MAP];
	size_t info_size;
	const char *info = luaL_checklstring(L, 3, &info_size);

	luaL_checktype(L, 4, LUA_TTABLE);

	u32 count = (u32)lua_objlen(L, 4);
	struct vmcore_cpu *cpus = lua_newuserdata(L, (count + 1) * sizeof(*cpus));

	for (u32 i = 0; i < count; i++) {
		lua_rawgeti(L, 4, (int)i + 1);
		cpus[i].pid = (u32)luaL_checkinteger(L, -1);
		lua_pop(L, 1);
	}
	if (!direct->size)
		bind_raise(L, error_create(ERROR_UNSUPPORTED, "the kernel's direct map is not known yet"));
	bind_check(L, read_cpus(lm, cpus, count));

	const struct vmcore core = {
		.memory = lm->view.memory,
		.page_offset = direct->start,
		.image_start = image->start,
		.image_gpa = image->gpa,
		.image_size = image->size,
		.info = info,
		.info_size = info_size,
		.cpus = cpus,
		.cpu_count = count,
		.progress = check_frozen,
		.arg = lm,
	};

	bind_check(L, vmcore_save(&core, path));
	return 0;
}

const luaL_Reg machine_dump_methods[] = {
	{ "dump", lua_machine_dump },
	{ NULL, NULL },
};
