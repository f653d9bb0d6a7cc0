#!/usr/bin/env bash
# Boots one kernel in QEMU and runs a command in it. The command finds the host's files, this tree and the build directory
# included, at their own paths: the host's root, read-only, under an overlay in memory. It is root there; what it writes is
# gone afterwards, but for /results.
#
#   tests/vm/vm.sh --kernel LABEL [OPTION...] -- COMMAND [ARGUMENT...]
#
#   --kernel LABEL    6.1 or 6.12 (fetched by scripts/kernels.sh) or debug (built by scripts/debug-kernel.sh)
#   --results DIR     becomes /results in the VM, read-write, and stays (default: a temporary directory that does not)
#   --memory MB       memory (default 2048)
#   --cpus N          processors (default 2)
#   --timeout S       seconds until the VM is killed (default 600)
#   --append ARGS     more kernel parameters
#   --log FILE        the kernel's log goes there as well
#   --quiet           do not print the command's output (it is in DIR/.vm/output)
#
# The command's output, both streams, comes out on stdout as it is written; what vm.sh itself says, on stderr. It starts in the
# caller's directory, with no environment of the caller's (say `-- env NAME=VALUE COMMAND`). In the VM: veth, tun, netem, fq
# and the like load when asked for; bpffs, debugfs and tracefs are mounted; /tmp and every other path can be written.
#
# Exit codes: the command's own; 124 time-out; 125 trouble with the VM; 126 the kernel's log holds a splat (BUG, WARNING, Oops,
# lockdep, KASAN, stall, leak, ...), whatever the command said. Nothing is left behind, neither after Ctrl-C.
#
# Environment: ADAPATH_VM_ACCEL=tcg (or kvm, where it works), ADAPATH_KERNELS (default out/cache/kernels).
set -uo pipefail
# In braces, so that bash has read all of it before it runs: it runs for long, and may be edited meanwhile.
{

here=$(cd "$(dirname "$0")/../.." && pwd)
say() { printf 'vm: %s\n' "$*" >&2; }
trouble() { say "$*"; exit 125; }
usage() { say "$*; see $0 --help"; exit 125; }
number() { [[ "$2" =~ ^[1-9][0-9]*$ ]] || usage "$1: '$2' is not a number above 0"; }

kernel='' results='' memory=2048 cpus=2 timeout=600 append='' log='' quiet=''
while [ $# -gt 0 ]; do
	case $1 in
	--help | -h) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"; exit 0 ;;
	--quiet) quiet=1; shift; continue ;;
	--) shift; break ;;
	--kernel | --results | --memory | --cpus | --timeout | --append | --log)
		[ $# -ge 2 ] || usage "$1 needs a value"
		declare "${1#--}=$2"; shift 2 ;;
	*) usage "unknown argument '$1'" ;;
	esac
done
[ -n "$kernel" ] || usage "--kernel is missing (6.1, 6.12 or debug)"
[ $# -gt 0 ] || usage "no command after --"
number --memory "$memory"; number --cpus "$cpus"; number --timeout "$timeout"

export PATH=$PATH:/usr/sbin:/sbin
qemu='qemu-system-x86_64'
for tool in "$qemu:qemu-system-x86" busybox:busybox-static cpio:cpio modprobe:kmod setpriv:util-linux; do
	command -v "${tool%:*}" >/dev/null || trouble "${tool%:*} is missing: install Debian's ${tool#*:} (make deps does)"
done
# Not the dynamically linked one: the initramfs has no libraries.
file=$(command -v busybox)
readelf -lW "$file" 2>/dev/null | grep -q INTERP &&
	trouble "$file is not statically linked: install Debian's busybox-static (make deps does)"

kernels=${ADAPATH_KERNELS:-$here/out/cache/kernels}
if [ "$kernel" = debug ]; then
	"$here/scripts/debug-kernel.sh" || trouble "no debug kernel (above)"
	# All its checkers under TCG slow ACPI's interpreter beyond its own time limit, and devices stay without interrupts.
	append="acpi=noirq $append"
else
	"$here/scripts/kernels.sh" "$kernel" || trouble "no kernel $kernel (above)"
fi
dir=$(readlink -f "$kernels/$kernel")
release=$(cat "$dir/release") || trouble "$dir/release can't be read"

tmp=$(mktemp -d) || exit 125
vm='' watcher='' timer=''
cleanup() {
	[ -z "$vm" ] || kill -KILL "$vm" 2>/dev/null
	[ -z "$watcher" ] || kill "$watcher" 2>/dev/null
	[ -z "$timer" ] || kill "$timer" 2>/dev/null
	wait 2>/dev/null
	rm -rf "$tmp"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# The initramfs: busybox, the modules that reach the host's root, our init. Made once per kernel.
key=$(cat "$here/tests/vm/initramfs-init" "$0" "$file" | sha256sum | cut -c1-16)
initramfs=$dir/initramfs-$key.gz
if [ ! -f "$initramfs" ]; then
	root=$tmp/initramfs
	mkdir -p "$root"/{bin,proc,sys,dev} "$root/lib/modules/$release"
	cp "$file" "$root/bin/busybox"
	install -m 755 "$here/tests/vm/initramfs-init" "$root/init"
	# kmod looks for DIR/lib/modules/RELEASE; the built debug kernel's tree lies elsewhere.
	mkdir -p "$tmp/tree/lib/modules"
	ln -s "$(readlink -f "$dir/modules")" "$tmp/tree/lib/modules/$release"
	for module in virtio_pci 9pnet_virtio 9p overlay; do
		modprobe -d "$tmp/tree" -S "$release" --show-depends "$module" 2>"$tmp/modprobe.log" || {
			cat "$tmp/modprobe.log" >&2
			trouble "$dir/modules lacks $module: remove $dir and run this again"
		}
	done | awk '$1 == "insmod" { print $2 }' | sort -u | while read -r path; do
		to=$root/lib/modules/$release/${path##*/}
		case $path in
		*.xz) xz -dc "$path" >"${to%.xz}" ;;
		*.zst) zstd -dcq "$path" >"${to%.zst}" ;;
		*) cp "$path" "$to" ;;
		esac
	done || exit 125
	cp "$dir/modules/"modules.{builtin,order} "$root/lib/modules/$release/"
	depmod -b "$root" "$release" 2>/dev/null
	(cd "$root" && find . | cpio -o -H newc --quiet | gzip -1) >"$tmp/initramfs.gz" || trouble "the initramfs could not be packed"
	# Where the cache is another user's, this run's own will do.
	if mv "$tmp/initramfs.gz" "$initramfs.$$" 2>/dev/null && mv "$initramfs.$$" "$initramfs"; then
		find "$dir/" -maxdepth 1 -name 'initramfs-*.gz' ! -name "initramfs-$key.gz" -delete
	else
		initramfs=$tmp/initramfs.gz
	fi
fi

if [ -z "$results" ]; then
	results=$tmp/results
fi
mkdir -p "$results" || trouble "--results $results can't be made"
results=$(cd "$results" && pwd)
control=$results/.vm
rm -rf "$control"
mkdir -p "$control" || trouble "$control can't be written"
cp "$here/tests/vm/guest.sh" "$control/guest.sh"
printf 'modules=%q\ndirectory=%q\n' "$(readlink -f "$dir/modules")" "$PWD" >"$control/settings"
printf '%q ' "$@" >"$control/command"
: >"$control/output"
: >"$control/kmsg"
: >"$control/kmsg.end"

# TCG unless asked otherwise: nested KVM is not to be relied upon, and every machine has TCG.
accel=${ADAPATH_VM_ACCEL:-tcg}
[ "$accel" = tcg ] && accel=tcg,thread=multi
# The host's other work can hold a virtual processor up for long: a stall is one only after two minutes.
# setpriv: QEMU dies with us, even if we are killed without warning.
setpriv --pdeathsig KILL "$qemu" -accel "$accel" -cpu max -smp "$cpus" -m "$memory" -nodefaults -display none -no-reboot \
	-serial "file:$control/console" -kernel "$dir/vmlinuz" -initrd "$initramfs" \
	-append "console=ttyS0 loglevel=5 rcupdate.rcu_cpu_stall_timeout=120 watchdog_thresh=60 oops=panic panic=-1 log_buf_len=4M mitigations=off $append" \
	-virtfs local,path=/,mount_tag=root,security_model=none,readonly=on,multidevs=remap \
	-virtfs "local,path=$results,mount_tag=results,security_model=none,multidevs=remap" \
	</dev/null >"$tmp/qemu.log" 2>&1 &
vm=$!
if [ -z "$quiet" ]; then
	tail -c +1 -s 0.2 -f --pid=$vm "$control/output" &
	watcher=$!
fi
sleep "$timeout" &
timer=$!
wait -n -p ended "$vm" "$timer"
timed_out=''
if [ "${ended:-}" = "$timer" ]; then
	timed_out=1
	timer=''
	kill -KILL "$vm" 2>/dev/null
fi
wait "$vm" 2>/dev/null
# The watcher ends with QEMU, once it has printed the rest.
[ -z "$watcher" ] || wait "$watcher" 2>/dev/null
vm='' watcher=''

# /dev/kmsg's records as dmesg prints them; lines that userspace wrote there (facility above 0) are not the kernel's.
awk -F';' '/^[0-9]+,/ { split($1, field, ","); if (field[1] >= 8 || seen[field[2]]++) next; text = substr($0, index($0, ";") + 1); gsub(/\\x0a/, "\n", text)
	printf "[%5d.%06d] %s\n", field[3] / 1000000, field[3] % 1000000, text }' "$control/kmsg" "$control/kmsg.end" >"$control/dmesg"
# A panic's last words are on the console alone.
if ! [ -f "$control/exit" ]; then
	{ echo "--- console:"; tr -d '\r' <"$control/console"; } >>"$control/dmesg" 2>/dev/null
fi
[ -z "$log" ] || cp "$control/dmesg" "$log"

splat='BUG[: ]|WARNING:|Oops|Call Trace|general protection|Kernel panic|Unable to handle|unable to handle|invalid opcode'
splat+='|stack segment|double fault|rcu.*(detected stall|self-detected|stalls on)|soft lockup|hard LOCKUP|blocked for more than'
splat+='|refcount_t:|UBSAN:|KASAN:|KFENCE:|KCSAN:|DEBUG_LOCKS_WARN_ON|INFO: trying to register non-static key|kmemleak: [1-9]'
splat+='|(list_add|list_del) corruption|unregister_netdevice: waiting|ODEBUG:|leaked reference|still has .*objects|Bad page'
splat+='|scheduling while atomic|sleeping function called|Workqueue.*leaked|stack overflow|Slab corruption|Poison overwritten'
benign='Spectre|MDS CPU bug|TAA CPU bug|MMIO Stale Data'
found=$(grep -nE "$splat" "$control/dmesg" | grep -vE "$benign" | head -1 | cut -d: -f1)
if [ -n "$found" ]; then
	say "splat in the log of kernel $release:"
	from=$((found > 5 ? found - 5 : 1))
	tail -n +$from "$control/dmesg" | head -n 120 >&2
	count=$(grep -E "$splat" "$control/dmesg" | grep -vcE "$benign")
	say "$count such lines in all${log:+; the whole log is in $log}"
	exit 126
fi
if [ -n "$timed_out" ]; then
	say "kernel $release: killed after $timeout s$([ -f "$control/booted" ] || echo ', before it was up'); the last lines of its log:"
	tail -n 15 "$control/dmesg" >&2
	exit 124
fi
code=$(cat "$control/exit" 2>/dev/null)
if [ -z "$code" ]; then
	cat "$tmp/qemu.log" >&2
	tail -n 30 "$control/dmesg" >&2
	trouble "kernel $release ended without a verdict (above: QEMU's messages and the end of the console)"
fi
exit "$code"
}
