#!/usr/bin/env bash
# Builds the modules for one kernel, boots it and runs the suite in it (tests/vm/suite.sh). What ctest and `make vmtest` call.
#
#   tests/vm/run.sh --kernel LABEL [--build DIR] [--filter REGEX] [--quick] [--timeout S] [--memory MB] [--cpus N]
#                   [--results DIR] [--modules-only]
#
#   --kernel LABEL  6.1, 6.12 or debug
#   --build DIR     build directory (default build); modules go to DIR/kmod/LABEL
#   --filter REGEX  only the subtests whose name matches
#   --quick         the part of it that `make test` has time for (suite.sh says what)
#   --timeout S     seconds for all of it inside the VM (default 840 with --quick, 2400 without, 10800 with debug)
#   --results DIR   where the logs go (default out/test/vm/LABEL; one run at a time there)
#   --modules-only  build the modules, print their directory, boot nothing
#
# The suite's KTAP comes out on stdout as it runs; the logs of its tests and the kernel's stay in the results directory.
# Exit codes: 0 all passed; 1 something failed, the kernel's log held a splat, or the VM did not run; 4 skipped, with the reason
# (this machine is not an amd64 one, or its package lists offer no such kernel).
set -uo pipefail
# In braces, so that bash has read all of it before it runs: it runs for long, and may be edited meanwhile.
{

here=$(cd "$(dirname "$0")/../.." && pwd)
kernel='' build=$here/build filter='' timeout='' memory='' cpus=2 results='' quick='' modules_only=''
usage() { echo "vm: $*; see $0 --help" >&2; exit 1; }
while [ $# -gt 0 ]; do
	case $1 in
	--help | -h) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"; exit 0 ;;
	--quick) quick=--quick; shift; continue ;;
	--modules-only) modules_only=1; shift; continue ;;
	--kernel | --build | --filter | --timeout | --memory | --cpus | --results)
		[ $# -ge 2 ] || usage "$1 needs a value"
		declare "${1#--}=$2"; shift 2 ;;
	*) usage "unknown argument '$1'" ;;
	esac
done
[ -n "$kernel" ] || usage "--kernel is missing (6.1, 6.12 or debug)"
build=$(cd "$build" 2>/dev/null && pwd) || usage "there is no build directory here: run 'make all' first, or name it with --build"

slow=1
if [ "$kernel" = debug ]; then
	slow=6
	: "${timeout:=10800}" "${memory:=4096}"
fi
[ -z "$quick" ] || : "${timeout:=840}"
: "${timeout:=2400}" "${memory:=2048}"

name=vm.$kernel
skip() {
	echo "ok 1 $name # SKIP $*"
	exit 4
}
fail() {
	echo "not ok 1 $name # $*"
	exit 1
}

[ "$(uname -m)" = x86_64 ] || skip "the kernels under test are Debian's amd64 ones; emulating them on $(uname -m) is not set up"
command -v qemu-system-x86_64 >/dev/null || fail "qemu-system-x86_64 is missing: run 'make deps' as root, or install qemu-system-x86"

kernels=${ADAPATH_KERNELS:-$here/out/cache/kernels}
if [ "$kernel" = debug ]; then
	"$here/scripts/debug-kernel.sh" || fail "no debug kernel (above)"
else
	"$here/scripts/kernels.sh" "$kernel"
	code=$?
	[ $code != 4 ] || skip "this system's package lists offer no kernel $kernel"
	[ $code = 0 ] || fail "no kernel $kernel (above)"
fi
kdir=$(readlink -f "$kernels/$kernel/build")

: "${results:=$here/out/test/vm/$kernel}"
mkdir -p "$results"
exec 6>"$results.lock"
flock -n 6 || { echo "# another run writes to $results: waiting"; flock 6; }
rm -rf "${results:?}"
mkdir -p "$results"
results=$(cd "$results" && pwd)

# The modules, with the tests' own: every tests/*/module/build.sh KDIR OUT puts one into OUT.
modules=$build/kmod/$kernel
mkdir -p "$modules"
build_modules() {
	# Those of earlier networks would be loaded too.
	rm -f "$modules"/adapath_net_*.ko
	make -C "$here/kmod" KDIR="$kdir" OUT="$modules" || return
	local script
	for script in "$here"/tests/*/module/build.sh; do
		[ -x "$script" ] || continue
		"$script" "$kdir" "$modules" || return
	done
	ADAPATH_CODEGEN=$build/bin/adapath-codegen "$here/tests/vm/make-nets.sh" "$kdir" "$modules"
}
# Two runs for the same kernel would meet in there.
exec 7>"$modules/.lock"
flock 7
build_modules >"$results/modules.log" 2>&1 || {
	tail -n 40 "$results/modules.log" | sed 's/^/# | /'
	fail "the modules did not build for $kernel (above; the whole log: ${results#"$here"/}/modules.log)"
}
# What the VM loads is this run's own: another may build again meanwhile.
mkdir -p "$results/modules"
cp -r "$modules"/*.ko "$modules/nets" "$results/modules/"
flock -u 7
if [ -n "$modules_only" ]; then
	echo "$modules"
	exit 0
fi

setpriv --pdeathsig TERM "$here/tests/vm/vm.sh" --kernel "$kernel" --results "$results" --log "$results/dmesg" --memory "$memory" \
	--cpus "$cpus" --timeout "$timeout" -- \
	env ADAPATH_MODULES=/results/modules ADAPATH_VM_SLOW="$slow" "$here/tests/vm/suite.sh" --build "$build" --filter "$filter" $quick 6>&- 7>&- &
vm=$!
trap 'kill -TERM $vm 2>/dev/null; wait $vm; exit 130' INT TERM HUP
wait $vm
code=$?
logs="logs: ${results#"$here"/}"
case $code in
0) ;;
124) fail "killed after $timeout s; $logs" ;;
125) fail "the VM did not run (above)" ;;
130 | 137 | 143) fail "stopped by a signal (exit $code); $logs" ;;
126) fail "the kernel's log holds a splat (above); $logs" ;;
*) fail "the suite failed (above); $logs" ;;
esac
exit 0
}
