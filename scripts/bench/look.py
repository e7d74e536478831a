# usage: python3 look.py ready CORE VMLINUX | fields CORE VMLINUX COUNT PASSES FIRST | walk CORE VMLINUX PASSES
# What look.lua does, with drgn: prints lines of a name and a number.
import sys
import time

from drgn import Object, Program
from drgn.helpers.linux.pid import for_each_task
from drgn.helpers.linux.sched import task_cpu, task_state_to_char

STRIDE = 64


def say(name, value):
    print(f"{name}\t{value!r}")


def opened(core, vmlinux):
    prog = Program()
    prog.set_core_dump(core)
    prog.load_debug_info([vmlinux])
    return prog


def ready(core, vmlinux):
    began = time.perf_counter()
    prog = opened(core, vmlinux)
    prog.symbol("runqueues")
    prog.type("struct rq").member("nr_running")
    say("ready", (time.perf_counter() - began) * 1e6)


def each_pass(name, passes, f):
    for _ in range(int(passes)):
        began = time.perf_counter()
        result = f()
        say(name, time.perf_counter() - began)
    return result


def fields(core, vmlinux, count, passes, first):
    prog = opened(core, vmlinux)
    type = prog.type("struct task_struct")
    first, count = int(first, 16), int(count)

    def objects():
        total = 0
        for address in range(first, first + count * STRIDE, STRIDE):
            total += Object(prog, type, address=address).pid.value_()
        return total

    # For comparison: no object, no type, no member.
    def words():
        read, place = prog.read_u32, first + type.member("pid").offset
        total = 0
        for address in range(place, place + count * STRIDE, STRIDE):
            total += read(address)
        return total

    say("sum", each_pass("seconds", passes, objects))
    each_pass("words", passes, words)


def walk(core, vmlinux, passes):
    prog = opened(core, vmlinux)

    def members():
        count = total = 0
        for task in for_each_task(prog):
            count += 1
            total += task.pid.value_() + len(task.comm.string_()) + task.member_("__state").value_()
            total += task.thread_info.cpu.value_()
        return count, total

    def helpers():
        count = total = 0
        for task in for_each_task(prog):
            count += 1
            total += task.pid.value_() + len(task.comm.string_()) + len(task_state_to_char(task))
            total += task_cpu(task)
        return count, total

    members()
    count, total = each_pass("members", passes, members)
    say("count", count)
    say("members_sum", total)
    helpers()
    count, total = each_pass("helpers", passes, helpers)
    say("helpers_sum", total)


globals()[sys.argv[1]](*sys.argv[2:])
