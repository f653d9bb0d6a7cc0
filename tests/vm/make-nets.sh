#!/usr/bin/env bash
# Generates and builds the modules of a few networks for one kernel, out of the source tree: the committed checkpoint's and two
# random ones, one of which BPF's stack has no room for.
#
#   tests/vm/make-nets.sh KDIR OUT
#
#   KDIR   what one gives to make -C: /lib/modules/RELEASE/build, or out/cache/kernels/LABEL/build
#   OUT    where adapath.ko's build left its Module.symvers; gets adapath_net_<hash>.ko, and under nets/ a line a network in
#          `list` ("module float-model") with the random ones' models
#
# Environment: ADAPATH_CODEGEN (default build/bin/adapath-codegen of this tree).
# Exit codes: 0 built; 1 failed; 2 wrong usage.
set -euo pipefail

case "${1:-}" in --help | -h) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"; exit 0 ;; esac
[ $# -eq 2 ] || { echo "make-nets.sh: wrong usage; see $0 --help" >&2; exit 2; }
here=$(cd "$(dirname "$0")/../.." && pwd)
codegen=${ADAPATH_CODEGEN:-$here/build/bin/adapath-codegen}
[ -x "$codegen" ] || { echo "make-nets.sh: $codegen is not there: build adapath-codegen, or set ADAPATH_CODEGEN" >&2; exit 1; }
[ -d "$2" ] || { echo "make-nets.sh: $2 is no directory: build adapath.ko into it first (make -C kmod KDIR=$1 OUT=$2)" >&2; exit 1; }
kdir=$(cd "$1" && pwd)
out=$(cd "$2" && pwd)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM HUP

"$codegen" random --network 12-24-3 --activations relu,sigmoid --seed 1 -o "$work/small.model" >/dev/null
"$codegen" random --network 250-40-4 --activations sigmoid,tanh --seed 2 -o "$work/wide.model" >/dev/null
mkdir -p "$out/nets"
cp "$work/small.model" "$work/wide.model" "$out/nets/"
: >"$work/list"
for model in "$here/models/cc/policy.model" "$out/nets/small.model" "$out/nets/wide.model"; do
	tree=$work/$(basename "$model" .model)
	"$codegen" emit "$model" --target kmod --out "$tree" --build --kdir "$kdir" --sources "$here" \
		--symvers "$out/Module.symvers" >/dev/null
	for ko in "$tree"/adapath_net_*.ko; do
		cp "$ko" "$out/"
		echo "$(basename "$ko" .ko) $model" >>"$work/list"
	done
done
mv "$work/list" "$out/nets/list"
cat "$out/nets/list"
