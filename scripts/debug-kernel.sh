#!/usr/bin/env bash
# Builds the kernel of `make vmtest-debug`: Debian's linux-source with the checkers of tests/vm/debug.config switched on.
#
#   scripts/debug-kernel.sh          build it if it is not there or the configuration changed; quiet otherwise
#   scripts/debug-kernel.sh --path   only print where it lies
#
# It takes long (docs/testing.md says how long), so it lies outside the tree: $ADAPATH_CACHE, or ~/.cache/adapath. The
# result has the layout of the kernels that scripts/kernels.sh fetches (vmlinuz, modules, build, release), and
# out/cache/kernels/debug points at it, so that tests/vm/vm.sh --kernel debug boots it and modules build against it.
set -euo pipefail

here=$(cd "$(dirname "$0")/.." && pwd)
config=$here/tests/vm/debug.config
series=${DEBUG_KERNEL_SERIES:-6.12}
jobs=${JOBS:-$(nproc)}

say() { printf 'debug kernel: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

case ${1:-} in
--help | -h) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"; exit 0 ;;
--path | '') ;;
*) die "unknown argument '$1': see $0 --help" ;;
esac

cache=${ADAPATH_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/adapath}
mkdir -p "$cache"
cache=$(cd "$cache" && pwd)
# The configuration and this script decide what is built; the package's version is not part of the name, so that a security
# update of linux-source does not cost everybody another build.
hash=$(sha256sum "$config" | cut -c1-12)
result=$cache/debug-kernel-$series-$hash
link=$here/out/cache/kernels/debug

if [ "${1:-}" = --path ]; then
	echo "$result"
	exit 0
fi

point() {
	mkdir -p "$(dirname "$link")"
	[ "$(readlink "$link" 2>/dev/null)" = "$result" ] || ln -sfn "$result" "$link"
}

exec 9>"$result.lock"
flock -n 9 || { say "another run is building it: waiting"; flock 9; }
if [ -f "$result/release" ]; then
	point
	exit 0
fi

for tool in gcc make bc bison flex pahole xz cpio; do
	command -v "$tool" >/dev/null || die "$tool is missing: run 'make deps'"
done

work=$result.part
rm -rf "$work"
mkdir -p "$work/source"
chmod 755 "$work"
started=$SECONDS
ticker=''
stopped() {
	local code=$?
	[ -z "$ticker" ] || kill "$ticker" 2>/dev/null
	[ $code = 0 ] || say "stopped (exit $code); what there is lies in $work, its log is $work/build.log"
}
trap stopped EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

say "fetching linux-source-$series (150 MB)"
(cd "$work" && apt-get download -q "linux-source-$series" >fetch.log 2>&1) || {
	tail -n 5 "$work/fetch.log" >&2
	die "linux-source-$series could not be downloaded: is it in the package lists (apt-get update; on Debian 12 it is in bookworm-security and bookworm-backports)?"
}
(cd "$work" && dpkg-deb --fsys-tarfile linux-source-*.deb | tar -xO --wildcards '*/linux-source-*.tar.xz' | tar -xJ -C source --strip-components=1)
rm -f "$work"/linux-source-*.deb

run() {
	"$@" >>"$work/build.log" 2>&1 || {
		tail -n 30 "$work/build.log" >&2
		die "failed: $* (the whole log: $work/build.log)"
	}
}
make_kernel() { nice -n 10 make -C "$work/source" -j "$jobs" "$@"; }

say "configuring $(make -s -C "$work/source" kernelversion)"
run env KCONFIG_ALLCONFIG="$config" make -C "$work/source" allnoconfig
# A line that Kconfig dropped would be a checker that is silently not there.
dropped=$(grep '^CONFIG_' "$config" | grep -vxFf "$work/source/.config" || true)
[ -z "$dropped" ] || die "Kconfig does not keep these lines of tests/vm/debug.config (a dependency is missing): ${dropped//$'\n'/ }"

say "building with $jobs jobs; this takes some 10 to 20 minutes on 2 cores (log: $work/build.log)"
# A sign of life a minute: how many files are compiled so far.
(while sleep 60; do say "$(grep -c '^  CC  ' "$work/build.log") files compiled in $(((SECONDS - started) / 60)) min"; done) &
ticker=$!
run make_kernel vmlinux bzImage modules
run make_kernel INSTALL_MOD_PATH="$work/install" modules_install
kill $ticker 2>/dev/null || true
ticker=''

release=$(cat "$work/source/include/config/kernel.release")
cp "$work/source/arch/x86/boot/bzImage" "$work/vmlinuz"
mv "$work/install/lib/modules/$release" "$work/modules"
rm -rf "$work/install"
rm -f "$work/modules/build" "$work/modules/source"
# Modules build in the source tree; its own object files are of no more use to anybody.
find "$work/source" \( -name '*.o' -o -name '*.a' -o -name '.*.cmd' \) -not -path '*/scripts/*' -not -path '*/tools/*' -delete
mv "$work/source" "$work/build"
echo "$release" >"$work/release"
rm -rf "$result"
mv "$work" "$result"
point
# Kernels of earlier configurations, 1 GB each.
find "$cache" -maxdepth 1 -name "debug-kernel-$series-*" ! -name "${result##*/}*" -exec rm -rf {} +
say "$release is ready after $(((SECONDS - started) / 60)) min $(((SECONDS - started) % 60)) s: $result"
