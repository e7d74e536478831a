# usage: python3 fields.py CORE VMLINUX FIELDS
# What drgn says of the fields in FIELDS (type, address, path; separated by tabs, one a line, behind "field"):
# the same lines with its own values. Then the tasks, some symbols and stack traces as it sees them.
import sys

import drgn
from drgn import Object, Program, TypeKind
from drgn.helpers.linux.cpumask import for_each_online_cpu
from drgn.helpers.linux.percpu import per_cpu
from drgn.helpers.linux.pid import for_each_task
from drgn.helpers.linux.sched import task_cpu, task_state_to_char


def plain(type):
    while type.kind == TypeKind.TYPEDEF:
        type = type.type
    return type


def follow(obj, path):
    for step in path.split("."):
        name, *indices = step.replace("]", "").split("[")
        obj = obj.member_(name)
        for i in indices:
            obj = obj[int(i)]
    return obj


def text(obj):
    type = plain(obj.type_)
    if type.kind == TypeKind.POINTER:
        return f"0x{obj.value_():016x}"
    if type.kind == TypeKind.ARRAY:
        return "'" + obj.string_().hex()
    return str(int(obj.value_()))


def say(*words):
    print("\t".join(str(word) for word in words))


def main():
    core, vmlinux, fields = sys.argv[1:]
    prog = Program()
    prog.set_core_dump(core)
    prog.load_debug_info([vmlinux])
    for line in open(fields):
        kind, *words = line.rstrip("\n").split("\t")
        if kind == "field":
            type, place, path = words[:3]
            say("field", type, place, path, text(follow(Object(prog, type, address=int(place, 16)), path)))
        elif kind == "symbol":
            say("symbol", words[0], f"0x{prog.symbol(words[0]).address:016x}")
        elif kind == "stack":
            # Calls that were inlined have no frame of their own; user mode's is no kernel's.
            places = [frame.pc for frame in prog.stack_trace(int(words[0])) if not frame.is_inline]
            say("stack", words[0], " ".join(f"0x{place:016x}" for place in places if place >> 63))
    for task in for_each_task(prog):
        say("task", task.pid.value_(), task.comm.string_().hex(), task_state_to_char(task), task_cpu(task))
    for cpu in for_each_online_cpu(prog):
        rq = per_cpu(prog["runqueues"], cpu)
        say("rq", cpu, rq.nr_running.value_(), rq.nr_switches.value_(), rq.curr.pid.value_())


main()
