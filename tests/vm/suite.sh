#!/usr/bin/env bash
# The tests that run inside the VM, one after the other; KTAP on stdout, a log for each under /results. A failing one does not
# stop the rest. tests/vm/run.sh starts this in a VM; by hand: tests/vm/vm.sh --kernel 6.1 -- tests/vm/suite.sh --build build
#
#   tests/vm/suite.sh --build DIR [--filter REGEX] [--quick] [--list]
#
#   --build DIR     the build directory, for its bin/
#   --filter REGEX  only the tests whose name matches (grep -E)
#   --quick         for `make test`: each daemon test on one of the kernels only, fewer switches under load (500 for 10,000)
#                   and not in every test, no kill in mid-install
#   --list          only print the names
#
# Environment: ADAPATH_MODULES: directory of the modules built for this kernel (none: what needs them is skipped);
# ADAPATH_VM_SLOW: factor on all limits (default 1; the debug kernel has 6).
#
# To add a test: a line in the list at the end (program, limit, arguments); or a GoogleTest program called vm_* in the build
# directory's bin/ (limit 300 s); or a file in tests/vm/cases/ (see lib.sh). Exit 0 if nothing failed, 1 otherwise.
set -uo pipefail

here=$(cd "$(dirname "$0")/../.." && pwd)
build=$here/build filter=. list='' quick=''
while [ $# -gt 0 ]; do
	case $1 in
	--help | -h) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"; exit 0 ;;
	--build) build=$2; shift 2 ;;
	--filter) filter=$2; shift 2 ;;
	--quick) quick=1; shift ;;
	--list) list=1; shift ;;
	*) echo "suite: unknown argument '$1'; see $0 --help" >&2; exit 2 ;;
	esac
done
[ -n "$filter" ] || filter=.
build=$(cd "$build" && pwd) || exit 2
bin=$build/bin
results=/results
slow=${ADAPATH_VM_SLOW:-1}
export ADAPATH_MODULES=${ADAPATH_MODULES:-} ADAPATH_VM_SLOW=$slow

names=() limits=() kinds=() commands=()
# add NAME LIMIT KIND COMMAND...; KIND: gtest, case (KTAP lines by lib.sh) or plain (an exit code; 4 is a skip)
add() {
	grep -qE -- "$filter" <<<"$1" || return 0
	names+=("$1")
	limits+=($(($2 * slow)))
	kinds+=("$3")
	commands+=("$(printf '%q ' "${@:4}")")
}
# add_gtest NAME LIMIT PROGRAM [FILTER]
add_gtest() { add "$1" "$2" gtest "$bin/$3" --gtest_color=no "--gtest_filter=${4:-*}"; }

# GoogleTest's output -> KTAP lines.
gtest_to_ktap() {
	awk '
		/^\[ RUN      \] / { why = "" }
		/^\[       OK \] / { print "ok " ++n " " $4 time($0); next }
		/^\[  SKIPPED \] .* \([0-9]+ ms\)$/ { print "ok " ++n " " $4 " # SKIP " why; next }
		/^\[  FAILED  \] .* \([0-9]+ ms\)$/ { sub(/,$/, "", $4); print "not ok " ++n " " $4 time($0); next }
		/: Skipped$/ { take = 1; next }
		take { why = $0; take = 0 }
		function time(line) { sub(/.*\(/, "(", line); return " # " line }'
}

# run INDEX: one test with its limit; prints its lines and the verdict.
run() {
	local n=$1 name=${names[$1]} log=$results/${names[$1]}.log code began lines skipped failures left
	began=$SECONDS
	echo "# $name: running (limit ${limits[n]} s)"
	# A session of its own, so that the limit takes what it started along.
	eval "setsid --wait timeout -k 10 ${limits[n]} ${commands[n]}" >"$log" 2>&1 </dev/null
	code=$?
	case ${kinds[n]} in
	gtest) lines=$(gtest_to_ktap <"$log") ;;
	case) lines=$(grep -E '^((not )?ok |# |1\.\.0)' "$log") ;;
	plain) lines='' ;;
	esac
	failures=$(grep -c '^not ok' <<<"$lines")
	left=$(leaks)
	[ -z "$left" ] || tidy
	if [ -n "$lines" ] && [ "${lines:0:4}" != 1..0 ]; then
		echo "  KTAP version 1"
		echo "  1..$(grep -cE '^(not )?ok ' <<<"$lines")"
		sed 's/^/  /' <<<"$lines"
	fi
	local verdict="$((n + 1)) $name"
	local took="# $((SECONDS - began)) s"
	if [ $code = 4 ] && [ ${kinds[n]} != gtest ]; then
		skipped=$(sed -n 's/.*# SKIP *//p' "$log" | tail -1)
		echo "ok $verdict # SKIP ${skipped:-no reason given}"
	elif [ $code = 0 ] && [ "$failures" = 0 ] && [ -z "$left" ]; then
		# A program none of whose tests ran has not passed.
		if [ ${kinds[n]} = gtest ] && ! grep -q '^ok' <<<"$lines"; then
			echo "not ok $verdict # no test ran"
			return 1
		fi
		# All of them skipped is a skip, for the reason of the first.
		if [ -n "$lines" ] && ! grep '^ok' <<<"$lines" | grep -qv '# SKIP'; then
			echo "ok $verdict $(grep -m1 -o '# SKIP.*' <<<"$lines")"
		else
			echo "ok $verdict $took"
		fi
	else
		case $code in
		124 | 137) echo "# $name: killed after its limit of ${limits[n]} s" ;;
		*) echo "# $name: exit $code" ;;
		esac
		[ -z "$left" ] || sed "s/^/# $name: left behind: /" <<<"$left"
		tail -n 60 "$log" | sed 's/^/# | /'
		echo "not ok $verdict $took"
		return 1
	fi
}

# What a test left behind in the kernel, one line each: the next test would meet it, and so would a gateway.
leaks() {
	local file name pid
	for file in "$ADAPATH_MODULES"/*.ko; do
		name=${file##*/} name=${name%.ko}
		[ ! -d "/sys/module/$name" ] || echo "module $name (users: $(cat "/sys/module/$name/refcnt"))"
	done
	for file in /run/netns/*; do [ ! -e "$file" ] || echo "namespace ${file##*/}"; done
	for file in /sys/fs/bpf/*; do [ ! -e "$file" ] || echo "pin $file"; done
	for name in $(</proc/sys/net/ipv4/tcp_available_congestion_control); do
		case $name in adp* | adapath*) echo "congestion control $name" ;; esac
	done
	# Kernel threads have no program. (Two patterns: pgrep refuses one of more than 15 characters.)
	for pid in $(pgrep '^(adapath|vm_)'; pgrep '^(bpf_|netns_)'); do
		! readlink "/proc/$pid/exe" >/dev/null || echo "process $pid ($(tr '\0' ' ' <"/proc/$pid/cmdline"))"
	done
}
# Takes away what can be, so that one test's dirt is not the next one's failure.
tidy() {
	local file name
	pkill -KILL '^(adapath|vm_)'
	pkill -KILL '^(bpf_|netns_)'
	for file in /run/netns/*; do [ ! -e "$file" ] || ip netns del "${file##*/}"; done
	rm -rf /sys/fs/bpf/*
	# The core goes after those that use it; a killed process's sockets hold the congestion control until TCP gives them up.
	local deadline=$((SECONDS + 150)) left=1
	while [ -n "$left" ] && [ $SECONDS -lt $deadline ]; do
		left=''
		for file in "$ADAPATH_MODULES"/*.ko; do
			name=${file##*/} name=${name%.ko}
			[ ! -d "/sys/module/$name" ] || rmmod "$name" || left=1
		done
		[ -z "$left" ] || sleep 0.5
	done
} 2>/dev/null
# kmemleak wants an object to be unreferenced in a scan, and older than 5 s, before it calls it leaked: two scans, that far apart.
kmemleak() {
	local file=/sys/kernel/debug/kmemleak report
	[ -w $file ] || { echo "# SKIP this kernel has no kmemleak"; return 4; }
	echo scan >$file
	sleep 6
	echo scan >$file
	report=$(cat $file)
	[ -z "$report" ] || { echo "$report" | head -n 200; return 1; }
}
export -f kmemleak

# --- the tests -----------------------------------------------------------------------------------------------------------

# on KERNEL: whether a test that --quick runs on one kernel alone is for this one. The debug kernel gets them all.
on() { [ -z "$quick" ] || [[ "$(uname -r)" == "$1".* ]] || [[ "$(uname -r)" == *-adapath-debug ]]; }
# What --quick leaves out of a GoogleTest program: minutes of switches under flows, since the daemon's test has 500 of them.
without=
if [ -n "$quick" ]; then
	without='-*.ThousandsOfSwitches*:*.KilledInMidInstall*'
	export ADAPATH_SWITCHES=500
fi

# The BPF backend on this kernel: decisions bit for bit, switches under flows, adoption, refusals.
add_gtest bpf_backend 300 bpf_backend_test "$without"
add_gtest select 300 select_test
if on 6.1; then add_gtest select_netns 300 select_netns_test; fi
# The daemon on that backend, killed in mid-batch and in mid-install; a second one refused.
if on 6.12; then
	add_gtest bpf_daemon 400 netns_daemon_test "DaemonOnKernel.KilledInMid*:DaemonOnKernel.ASecondDaemon*$without"
fi

for program in "$bin"/vm_*; do
	[ -x "$program" ] || continue
	case ${program##*/} in
	# The daemon on the module. All its 10,000 switches take long where the processor is emulated.
	vm_kmod_select_test) if on 6.12; then add_gtest vm_kmod_select_test 400 vm_kmod_select_test; fi ;;
	vm_kmod_select_daemon_test) if on 6.1; then add_gtest vm_kmod_select_daemon_test 300 vm_kmod_select_daemon_test; fi ;;
	vm_kmod_daemon_test) if on 6.1; then add_gtest vm_kmod_daemon_test 900 vm_kmod_daemon_test "$without"; fi ;;
	*) add_gtest "${program##*/}" 300 "${program##*/}" "$without" ;;
	esac
done
for file in "$here"/tests/vm/cases/*.sh; do
	[ -f "$file" ] || continue
	limit=$(sed -n 's/^# limit: *\([0-9][0-9]*\).*/\1/p' "$file" | head -1)
	name=${file##*/}
	add "${name%.sh}" "${limit:-120}" case bash -c ". \"\$1\"; . \"\$2\"" "${name%.sh}" "$here/tests/vm/lib.sh" "$file"
done
# Last: what all of them left unreachable.
add kmemleak 120 plain bash -c kmemleak

# -------------------------------------------------------------------------------------------------------------------------

if [ -n "$list" ]; then
	printf '%s\n' "${names[@]}"
	exit 0
fi
# Loaded many times: from memory.
if [ -d "$ADAPATH_MODULES" ]; then
	cp -r "$ADAPATH_MODULES" /run/adapath-modules
	export ADAPATH_MODULES=/run/adapath-modules
fi
export HOME=/root BUILD=$build BIN=$bin ADAPATH_SOURCE=$here
cd /tmp || exit 2
echo "KTAP version 1"
if [ ${#names[@]} = 0 ]; then
	echo "1..1"
	echo "not ok 1 no test matches '$filter'"
	exit 1
fi
echo "1..${#names[@]}"
failed=0
for n in "${!names[@]}"; do run "$n" || failed=$((failed + 1)); done
echo "# $((${#names[@]} - failed)) of ${#names[@]} passed or skipped on $(uname -r) in $SECONDS s"
[ $failed = 0 ]
