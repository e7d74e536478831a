#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# What scripts/with-kvm promises, in TAP: a helper machine is started, used, interrupted and killed
# in every way. Takes three to six minutes; needs QEMU, and the helper's kernel in the cache or a
# network.
#
# usage: tests/helper/with-kvm.sh [PATTERN]     runs the tests whose names match

# What is in single quotes is for a shell in the helper.
# shellcheck disable=SC2016

set -u

project=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P) || exit 2
with_kvm=$project/scripts/with-kvm
only=${1:-}
cache=${XDG_CACHE_HOME:-$HOME/.cache}/ktstr
# Helpers of others are none of our business, nor are ours of theirs.
real_tmp=$(mktemp -d) || exit 2
export XDG_RUNTIME_DIR=$real_tmp
base=$XDG_RUNTIME_DIR/ktstr-helper-$UID
mkdir -p "$project/build" "$cache"
work=$(mktemp -d "$project/build/with-kvm.XXXXXX") || exit 2
unset KTSTR_HELPER KTSTR_IN_HELPER
cd "$work" || exit 2

cleanup() {
	local pid
	for pid in $(our_machines); do
		kill -KILL "$pid"
	done
	cd / && rm -rf "$work" "$real_tmp" "$cache/with-kvm-test"
}
trap cleanup EXIT

# The processes that hold the lock of a helper of this test: its QEMUs.
our_machines() {
	local fd
	for fd in /proc/[0-9]*/fd/9; do
		if [[ $(readlink "$fd" 2>/dev/null) == "$base"/*/lock ]]; then
			fd=${fd#/proc/} && echo "${fd%%/*}"
		fi
	done
}

helper() { "$with_kvm" --helper "$@"; }

# In the background: $! is with-kvm itself, not a shell that waits for it, and SIGINT is not ignored.
helper_job() { exec env --default-signal "$with_kvm" --helper "$@"; }

# wait_until SECONDS COMMAND...
wait_until() {
	local end=$((SECONDS + $1))
	shift
	until "$@"; do
		[ $SECONDS -lt $end ] || return 1
		sleep 0.05
	done
}

count=0 failed=0
check() {
	local name=$1
	shift
	if [ -n "$only" ] && [[ ! $name =~ $only ]]; then
		return
	fi
	count=$((count + 1))
	if "$@" >"$real_tmp/log" 2>&1; then
		echo "ok $count - $name"
	else
		echo "not ok $count - $name"
		sed 's/^/# /' "$real_tmp/log"
		failed=$((failed + 1))
	fi
}

expect_status() {
	local wanted=$1 got
	shift
	"$@"
	got=$?
	[ $got = "$wanted" ] || { echo "status $got instead of $wanted: $*" && return 1; }
}

# --- with a kept helper ------------------------------------------------------------------------

keeps() {
	helper --keep && "$with_kvm" --list && "$with_kvm" --list | grep -q '^default'
}

exit_statuses() {
	local n
	for n in 0 1 7 125 255; do
		expect_status $n helper sh -c "exit $n" || return 1
	done
	expect_status 139 helper sh -c 'kill -SEGV $$' &&
		expect_status 143 helper sh -c 'kill -TERM $$' &&
		expect_status 127 helper ./no-such-command &&
		expect_status 126 helper /etc/passwd
}

byte_exact() {
	head -c 12000000 /dev/urandom >a && head -c 12000000 /dev/urandom >b &&
		helper sh -c 'cat a & cat b >&2; wait' >out 2>err && cmp a out && cmp b err
}

merged_order() {
	local script='for i in 1 2 3 4 5 6 7 8 9; do echo "out $i"; echo "err $i" >&2; done'
	sh -c "$script" >wanted 2>&1
	helper sh -c "$script" >got 2>&1 && cmp wanted got
}

apart() {
	[ "$(helper sh -c 'echo out; echo err >&2' 2>/dev/null)" = out ] &&
		[ "$(helper sh -c 'echo out; echo err >&2' 2>&1 >/dev/null)" = err ]
}

standard_input() {
	head -c 12000000 /dev/urandom >a
	helper cat <a >out && cmp a out || return 1
	[ "$(helper wc -c </dev/null)" = 0 ] || return 1
	[ "$(helper wc -c <&-)" = 0 ] || return 1
	# A command that leaves most of its input unread.
	[ "$(seq 1 1000000 | helper head -n 1)" = 1 ]
}

working_directory() {
	mkdir -p "deep/with space"
	[ "$(cd "deep/with space" && helper pwd)" = "$work/deep/with space" ] &&
		[ "$(cd / && helper pwd)" = / ] && [ "$(cd /usr/share && helper pwd)" = /usr/share ]
}

environment() {
	export ODD=$'two\nlines, "quotes" $dollar \x01\xff' EMPTY=''
	# Warm machines have a place of their own in the helper, whatever the caller's is.
	export KTSTR_WARM_DIR=/nowhere KTSTR_WARM=0 KTSTR_WARM_LIMIT=1T
	env -0 | grep -zv '^_=' | grep -zv '^KTSTR_WARM_DIR=' | sort -z >wanted
	helper env -0 | grep -zv '^_=' | sort -z >got
	unset KTSTR_WARM_DIR KTSTR_WARM KTSTR_WARM_LIMIT
	cmp <(grep -zvE '^KTSTR_(IN_HELPER|WARM_DIR)=' got) wanted &&
		grep -zq '^KTSTR_IN_HELPER=1$' got && grep -zq '^KTSTR_WARM_DIR=/run/ktstr-warm$' got
}

arguments() {
	helper printf '<%s>\n' '' 'a b' $'x\ny' '*' --help >got
	printf '<%s>\n' '' 'a b' $'x\ny' '*' --help | cmp - got
}

identity() {
	[ "$(helper sh -c 'id -u; id -g; umask')" = "$(id -u; id -g; umask)" ]
}

files_come_back() {
	rm -rf "$cache/with-kvm-test"
	helper sh -c "mkdir tree && echo one >tree/file && mv tree/file tree/moved &&
		ln -s moved tree/link && chmod 750 tree/moved &&
		mkdir '$cache/with-kvm-test' && echo two >'$cache/with-kvm-test/file'" &&
		[ "$(cat tree/link)" = one ] && [ "$(stat -c %a tree/moved)" = 750 ] &&
		[ "$(cat "$cache/with-kvm-test/file")" = two ]
}

others_do_not() {
	local file=$real_tmp/elsewhere
	echo before >"$file"
	[ "$(helper sh -c "cat '$file'; echo after >'$file'; cat '$file'")" = $'before\nafter' ] &&
		[ "$(cat "$file")" = before ] && [ "$(helper cat "$file")" = before ]
}

rebuilt_binary() {
	local n
	for n in 1 2 3; do
		printf '#include <stdio.h>\nint main(void) { puts("%d"); return 0; }\n' $n >p.c
		${CC:-cc} -o p p.c && [ "$(helper ./p)" = $n ] || return 1
	done
	echo 'echo script 1' >s.sh && [ "$(helper sh s.sh)" = 'script 1' ] || return 1
	echo 'echo script 2' >s.sh && [ "$(helper sh s.sh)" = 'script 2' ]
}

rebuilt_while_running() {
	local pid result
	printf '#include <stdio.h>\n#include <unistd.h>\nint main(int c, char **v) {
		puts("old"); fflush(stdout); (void)v; if (c > 1) getchar(); return 0; }\n' >p.c
	${CC:-cc} -o p p.c || return 1
	mkfifo hold
	helper_job ./p wait <hold >held &
	pid=$!
	exec 5>hold
	wait_until 20 test -s held || return 1
	printf '#include <stdio.h>\nint main(void) { puts("new"); return 0; }\n' >p.c
	${CC:-cc} -o p p.c && result=$(helper ./p)
	exec 5>&-
	wait $pid && [ "$result" = new ]
}

meet() {
	touch "$1"
	for _ in $(seq 200); do
		[ -e "$2" ] && return
		sleep 0.05
	done
	return 1
}
export -f meet

concurrent() {
	local pid
	rm -f left right
	helper_job bash -c 'meet left right' &
	pid=$!
	helper bash -c 'meet right left' && wait $pid
}

more_than_ports() {
	local i pids=()
	for i in $(seq 12); do
		helper_job sh -c "sleep 0.3; echo $i >many.$i" &
		pids+=($!)
	done
	for i in "${pids[@]}"; do
		wait "$i" || return 1
	done
	[ "$(cat many.* | sort -n | tr '\n' ' ')" = "$(seq 12 | tr '\n' ' ')" ]
}

kvm_inside() {
	cat >kvm.c <<-'END'
		#include <fcntl.h>
		#include <linux/kvm.h>
		#include <sys/ioctl.h>
		int main(void)
		{
			int kvm = open("/dev/kvm", O_RDWR);
			return ioctl(kvm, KVM_GET_API_VERSION, 0) != 12 || ioctl(kvm, KVM_CREATE_VM, 0) < 0;
		}
	END
	${CC:-cc} -o kvm kvm.c && helper ./kvm && helper grep -qw svm /proc/cpuinfo
}

# Why: see "Lost interrupts" in docs/helper.md.
interrupted() {
	local script='awk "/ timer\$/ { print \$2 }" /proc/interrupts' before after
	before=$(helper sh -c "$script; sleep 2; $script")
	after=${before#*$'\n'}
	echo "$before"
	[ $((after - ${before%%$'\n'*})) -ge 100 ]
}

directly_inside() {
	[ "$(helper "$with_kvm" sh -c 'echo $KTSTR_IN_HELPER')" = 1 ]
}

clocks() {
	local inside
	inside=$(helper sh -c 'date +%s; cat /sys/devices/system/clocksource/clocksource0/current_clocksource')
	echo "$inside, here $(date +%s)"
	[ "${inside#*$'\n'}" = tsc ] && [ $(($(date +%s) - ${inside%%$'\n'*})) -le 3 ]
}

terminal() {
	local got
	command -v script >/dev/null || return 0
	got=$(script -qec "stty rows 33 cols 99; '$with_kvm' --helper sh -c 'tty; stty size; test -t 2 && echo ok'" \
		/dev/null </dev/null | tr -d '\r\0')
	echo "$got"
	[[ $got == */dev/pts/*$'\n33 99\nok' ]]
}

timeouts() { expect_status 124 helper --timeout 1 sleep 100; }

signals_running() {
	local signal status pid
	for signal in INT TERM HUP; do
		status=$((128 + $(kill -l $signal)))
		rm -f up trapped
		helper_job sh -c "trap 'touch trapped; exit 3' $signal; touch up; while :; do sleep 0.05; done" &
		pid=$!
		wait_until 20 test -e up || return 1
		kill -$signal $pid
		expect_status $status wait $pid && [ -e trapped ] || return 1
	done
}

no_leftovers() {
	local pid
	helper sh -c 'sleep 4711 & exit 0'
	rm -f up
	helper_job sh -c 'touch up; sleep 4712; true' &
	pid=$!
	wait_until 20 test -e up || return 1
	kill -KILL $pid
	wait $pid
	wait_until 10 no_process_inside 'sleep 471[12]'
}

no_process_inside() { ! helper sh -c "ps ax 2>/dev/null | grep -q '[s]${1#s}'"; }

killed_machine() {
	local pid
	rm -f up
	helper_job sh -c 'touch up; sleep 100' &
	pid=$!
	wait_until 20 test -e up || return 1
	kill -KILL "$(our_machines)"
	expect_status 125 wait $pid && [ -z "$("$with_kvm" --list)" ]
}

stale_state() {
	# What the killed one left is in nobody's way.
	[ "$(helper echo alive)" = alive ] && nothing_left
}

stops() {
	helper --keep=other true && [ -n "$(our_machines)" ] &&
		[ "$(KTSTR_HELPER=other helper echo in)" = in ] &&
		"$with_kvm" --stop=other && nothing_left
}

# --- with helpers of their own -----------------------------------------------------------------

nothing_left() {
	wait_until 2 no_machines || { echo "left: $(our_machines)" && return 1; }
}

no_machines() { [ -z "$(our_machines)" ]; }

own_helper() {
	[ "$(helper echo here)" = here ] && nothing_left && [ -z "$(ls -d "$base"/*.* 2>/dev/null)" ]
}

# Preparing, starting QEMU, booting, nearly up.
signals_starting() {
	local signal status delay pid
	for signal in INT TERM KILL; do
		status=$((128 + $(kill -l $signal)))
		for delay in 0.02 0.1 0.3 1 4; do
			helper_job sleep 100 &
			pid=$!
			sleep $delay
			kill -$signal $pid
			expect_status $status wait $pid && nothing_left || return 1
		done
	done
}

killed_running() {
	local pid
	rm -f up
	helper_job sh -c 'touch up; sleep 100' &
	pid=$!
	wait_until 120 test -e up || return 1
	kill -KILL $pid
	expect_status 137 wait $pid && nothing_left
}

# A cache that has the kernel only, as after an update of the scripts.
new_cache() {
	rm -rf "$real_tmp/cache"
	mkdir -p "$real_tmp/cache/ktstr/helper" &&
		"$with_kvm" --prepare && cp -r "$cache"/helper/kernel-* "$real_tmp/cache/ktstr/helper/"
}

prepared_once() { ls -d "$real_tmp"/cache/ktstr/helper/ready-*; }

prepares_at_once() {
	local pid
	new_cache || return 1
	XDG_CACHE_HOME=$real_tmp/cache "$with_kvm" --prepare &
	pid=$!
	XDG_CACHE_HOME=$real_tmp/cache "$with_kvm" --prepare && wait $pid &&
		[ "$(prepared_once | wc -l)" = 1 ] && [ -z "$(ls -d "$real_tmp"/cache/ktstr/helper/tmp.* 2>/dev/null)" ]
}

prepare_interrupted() {
	local delay
	for delay in 0.05 0.2 0.4; do
		new_cache || return 1
		XDG_CACHE_HOME=$real_tmp/cache timeout -s KILL $delay "$with_kvm" --prepare
		XDG_CACHE_HOME=$real_tmp/cache "$with_kvm" --prepare || return 1
		[ -z "$(ls -d "$real_tmp"/cache/ktstr/helper/tmp.* 2>/dev/null)" ] || return 1
	done
}

# A file that has no name first, is mostly hole, is mapped privately and only then gets its name.
warm_files() {
	cat >warm.c <<-'END'
		#include <fcntl.h>
		#include <stdio.h>
		#include <stdlib.h>
		#include <string.h>
		#include <sys/mman.h>
		#include <sys/stat.h>
		#include <unistd.h>
		#define SIZE (512L << 20)
		#define TRY(x) do { if (!(x)) { perror(#x); return 1; } } while (0)
		int main(void)
		{
			const char *dir = getenv("KTSTR_WARM_DIR");
			char name[64], path[256], byte = 0;
			struct stat st;
			int fd = open(dir, O_TMPFILE | O_RDWR, 0600);
			TRY(fd >= 0);
			TRY(ftruncate(fd, SIZE) == 0);
			TRY(pwrite(fd, "saved", 5, SIZE / 2) == 5);
			TRY(fstat(fd, &st) == 0 && st.st_blocks * 512 < 1 << 20);
			TRY(lseek(fd, 0, SEEK_DATA) == SIZE / 2);
			TRY(lseek(fd, SIZE / 2, SEEK_HOLE) < SIZE);
			char *shared = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
			TRY(shared != MAP_FAILED);
			char *map = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
			TRY(map != MAP_FAILED);
			shared[SIZE / 2 + 4] = 't';
			TRY(memcmp(map + SIZE / 2, "savet", 5) == 0);
			map[0] = 'x';
			map[SIZE / 2] = 'S';
			TRY(pread(fd, &byte, 1, SIZE / 2) == 1 && byte == 's');
			TRY(fstat(fd, &st) == 0 && st.st_nlink == 0 && st.st_blocks * 512 < 1 << 20);
			snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
			snprintf(path, sizeof(path), "%s/named", dir);
			TRY(linkat(AT_FDCWD, name, AT_FDCWD, path, AT_SYMLINK_FOLLOW) == 0);
			TRY(stat(path, &st) == 0 && st.st_nlink == 1 && st.st_size == SIZE);
			return 0;
		}
	END
	${CC:-cc} -D_GNU_SOURCE -Wall -o warm warm.c && helper sh -c 'rm -f $KTSTR_WARM_DIR/named; ./warm'
}

warm_files_stay() {
	local pid status
	helper sh -c 'echo kept >$KTSTR_WARM_DIR/kept' && [ "$(helper sh -c 'cat $KTSTR_WARM_DIR/kept')" = kept ] ||
		return 1
	rm -f up
	mkfifo go
	helper_job sh -c 'exec 4>$KTSTR_WARM_DIR/kept && flock 4 && touch up && cat' <go &
	pid=$!
	exec 5>go
	wait_until 20 test -e up || return 1
	expect_status 1 helper sh -c 'flock -n $KTSTR_WARM_DIR/kept true'
	status=$?
	exec 5>&-
	wait $pid && [ $status = 0 ] && helper sh -c 'flock -n $KTSTR_WARM_DIR/kept rm $KTSTR_WARM_DIR/kept'
}

# A quarter of the memory fits in; what does not is refused, and the helper survives it.
warm_room() {
	helper bash -c '
		memory=$(awk "/^MemTotal/ { print \$2 }" /proc/meminfo) && cd "$KTSTR_WARM_DIR" || exit
		fallocate -l $((memory / 4))K within && ! fallocate -l $((memory / 2))K beyond
		status=$?
		rm -f within beyond
		exit $status'
}

stock_kernel_inside() { "$project/scripts/soak-helper" 1; }

bad_usage() {
	expect_status 125 "$with_kvm" --nonsense && expect_status 125 "$with_kvm" --memory lots true &&
		expect_status 125 "$with_kvm" --keep=a/b true && expect_status 125 "$with_kvm" &&
		expect_status 0 "$with_kvm" --help
}

"$with_kvm" --prepare || exit 2
check "bad usage says so" bad_usage
check "a helper can be kept" keeps
check "exit statuses are carried" exit_statuses
check "12 MB on stdout and on stderr at once are byte-exact" byte_exact
check "stdout and stderr stay apart" apart
check "stdout and stderr into one file keep their order" merged_order
check "standard input is carried: 12 MB, /dev/null, closed, unread" standard_input
check "the working directory is carried" working_directory
check "the environment is carried" environment
check "arguments are carried" arguments
check "user, group and umask are carried" identity
check "files below project and cache come back" files_come_back
check "files elsewhere can be read, and writes to them do not come back" others_do_not
check "a program or script built anew is seen" rebuilt_binary
check "a program built anew is seen while the old one runs in the helper" rebuilt_while_running
check "two commands run at once in one helper" concurrent
check "commands beyond the number of ports wait their turn" more_than_ports
check "warm machines have a place with unnamed files, holes and mappings" warm_files
check "what is there is seen, and can be locked, by other commands" warm_files_stay
check "its room is bounded" warm_room
check "/dev/kvm works inside" kvm_inside
check "an interrupt comes to the helper all the time" interrupted
check "with-kvm inside runs directly" directly_inside
check "the helper has the host's time, and a TSC it trusts" clocks
check "a terminal is carried" terminal
check "a time limit ends the command" timeouts
check "INT, TERM and HUP reach a running command and end it" signals_running
check "no process of an ended or killed session stays in the helper" no_leftovers
check "a machine that dies is reported" killed_machine
check "what a dead helper left is in nobody's way" stale_state
check "helpers have names and can be stopped" stops
check "a helper of its own is gone afterwards" own_helper
check "INT, TERM and KILL while starting leave nothing" signals_starting
check "KILL while running leaves nothing" killed_running
check "two preparations at once make one" prepares_at_once
check "an interrupted preparation leaves nothing half-made" prepare_interrupted
check "a stock kernel with 4 vCPUs runs under load inside" stock_kernel_inside
echo "1..$count"
[ $failed = 0 ]
