#!/usr/bin/env bash
# `make demo BACKEND=kmod`: boots a VM, loads the kernel modules there and runs adapath-demo in it, its progress visible as it
# goes. The results are copied out.
#
#   scripts/demo-vm.sh [--kernel LABEL] [--build DIR] [--out DIR] [-- OPTION...]
#
#   --kernel LABEL  6.1, 6.12 (default) or debug
#   --build DIR     build directory (default build)
#   --out DIR       where summary.json, report.html and log/ go (default out/demo)
#   OPTION...       for adapath-demo (--duration 120 --mean-rate 1 ...); see adapath-demo --help. Unless given: small pictures,
#                   12 a second, 2 forced switches a second
#
# The VM's processor is emulated: video and rates have to be small, and a second of the demo may take longer than one.
# Exit codes: adapath-demo's own; 124 time-out; 125 the VM did not run; 126 the kernel's log holds a splat.
set -uo pipefail

here=$(cd "$(dirname "$0")/.." && pwd)
kernel=6.12 build=$here/build out=$here/out/demo
say() { printf 'demo: %s\n' "$*" >&2; }
while [ $# -gt 0 ]; do
	case $1 in
	--help | -h) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"; exit 0 ;;
	--) shift; break ;;
	--kernel | --build | --out)
		[ $# -ge 2 ] || { say "$1 needs a value; see $0 --help"; exit 125; }
		declare "${1#--}=$2"; shift 2 ;;
	*) say "unknown argument '$1'; see $0 --help"; exit 125 ;;
	esac
done
build=$(cd "$build" 2>/dev/null && pwd) || { say "no build directory $build: run 'make all' first"; exit 125; }
mkdir -p "$out" || exit 125
out=$(cd "$out" && pwd)

# What an emulated processor can encode in time, and how long it takes its programs to answer.
for default in "--backend kmod" "--size 192x144" "--fps 12" "--switch-rate 2" "--patience 5"; do
	# shellcheck disable=SC2086 # an option and its value
	[[ " $* " == *" ${default% *} "* ]] || set -- "$@" $default
done
duration=60
for ((n = 1; n < $#; ++n)); do
	if [ "${!n}" = --duration ]; then next=$((n + 1)); duration=${!next%.*}; fi
done

say "building the modules for kernel $kernel"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
modules=$("$here/tests/vm/run.sh" --kernel "$kernel" --build "$build" --results "$work/build" --modules-only) || {
	printf '%s\n' "$modules" >&2
	exit 125
}
mkdir -p "$work/vm/modules"
cp "$modules"/adapath.ko "$modules"/adapath_cc.ko "$modules"/adapath_net_*.ko "$work/vm/modules/"

cat >"$work/vm/demo.sh" <<'END'
# In the VM: the modules in, the demo, the modules out again (they must be able to go).
bin=$1
shift
for module in adapath adapath_cc; do insmod /results/modules/$module.ko || exit 125; done
for file in /results/modules/adapath_net_*.ko; do insmod "$file" || exit 125; done
"$bin/adapath-demo" --out /results/demo "$@"
code=$?
for file in /results/modules/adapath_net_*.ko; do rmmod "$(basename "$file" .ko)"; done
rmmod adapath_cc && rmmod adapath || { echo "demo: the modules did not unload afterwards" >&2; [ $code != 0 ] || code=1; }
exit $code
END

say "booting kernel $kernel in QEMU; the demo's $duration s take some $((duration / 60 + 2)) minutes there"
# --pdeathsig: the VM goes with us.
setpriv --pdeathsig TERM "$here/tests/vm/vm.sh" --kernel "$kernel" --results "$work/vm" --memory 3072 \
	--timeout $((duration * 4 + 300)) --log "$work/dmesg" -- \
	${ADAPATH_CACHE:+env ADAPATH_CACHE="$ADAPATH_CACHE"} bash /results/demo.sh "$build/bin" "$@" &
vm=$!
trap 'kill -TERM $vm 2>/dev/null; wait $vm; exit 130' INT TERM HUP
wait $vm
code=$?
if [ -d "$work/vm/demo" ]; then
	cp -r "$work/vm/demo/." "$out/"
	say "results of the VM: ${out#"$here"/}"
fi
if [ -f "$work/dmesg" ]; then cp "$work/dmesg" "$out/dmesg"; fi
exit $code
