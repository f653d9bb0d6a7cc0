#!/usr/bin/env bash
# clang for a kernel whose headers were configured for gcc (Debian's): leaves out or translates the options that only gcc knows
# and hands on the rest. For `make check`, which compiles the modules with both; what is run is built with the kernel's own
# compiler.
set -euo pipefail
args=()
for a in "$@"; do
	case $a in
	-fconserve-stack | -mrecord-mcount | -fno-allow-store-data-races | -mindirect-branch-register | -mskip-rax-setup | \
		-mno-fp-ret-in-387) ;;
	-mindirect-branch=thunk-extern) args+=(-mretpoline-external-thunk) ;;
	*) args+=("$a") ;;
	esac
done
here=$(cd "$(dirname "$0")" && pwd)
# Later options win. Warnings that only gcc has by name are not worth an error; the kernel's own headers, GNU C, no warning.
exec clang-19 "${args[@]}" -include "$here/clang-kernel.h" -Wno-unknown-warning-option -Wno-gnu-variable-sized-type-not-at-end \
	-Wno-enum-enum-conversion
