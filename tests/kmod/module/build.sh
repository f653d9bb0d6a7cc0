#!/bin/sh
# Builds adapath_test.ko and adapath_hold.ko for one kernel, out of the source tree.
set -eu

usage() {
    cat <<END
usage: build.sh KDIR OUT

Builds the test modules adapath_test.ko and adapath_hold.ko against a kernel's headers and puts them into the directory OUT, where
adapath.ko's build left its Module.symvers. KDIR is what one gives to make -C: /lib/modules/<release>/build, or out/cache/kernels/<label>/build.
Exit: 0 built, 1 failed, 2 wrong usage.
END
}

case "${1:-}" in
-h | --help)
    usage
    exit 0
    ;;
esac
[ $# -eq 2 ] || { usage >&2; exit 2; }
kdir=$(realpath -- "$1")
out=$(realpath -- "$2")
here=$(dirname -- "$(realpath -- "$0")")
root=$(realpath -- "$here/../../..")

symbols=$out/Module.symvers
[ -f "$symbols" ] || {
    echo "build.sh: $symbols is not there: build adapath.ko into $out first (make -C kmod KDIR=$kdir OUT=$out)" >&2
    exit 1
}
# Kbuild writes beside the sources, so it gets a copy.
work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
trap 'exit 1' INT TERM
cp -- "$here/Kbuild" "$here/adapath_hold.c" "$here/adapath_test.c" "$here/adapath_test.h" "$work/"
make -C "$kdir" M="$work" ADAPATH="$root" KBUILD_EXTRA_SYMBOLS="$symbols" W=1 modules >"$work/log" 2>&1 || {
    cat "$work/log" >&2
    exit 1
}
grep -E 'warning:' "$work/log" >&2 || true
cp -- "$work/adapath_test.ko" "$work/adapath_hold.ko" "$out/"
