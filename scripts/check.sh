#!/usr/bin/env bash
# Checks that run nothing of ours (`make check`). Exit 1 if any finds something; every finding is printed.
#
#   scripts/check.sh [NAME...]     all of them, or only: scripts headers netlink units paths format kmod tidy
#
#   scripts   bash -n and shellcheck over every shell script
#   headers   the shared C is plain C11 for gcc and clang
#   netlink   the specifications of both netlink families in docs/ agree with their headers
#   units     systemd reads the units that 'make install' installs without a word
#   paths     no path of one machine in the tree
#   format    clang-format over the C++
#   kmod      the modules, for each kernel of scripts/kernels.sh: gcc with W=1 and sparse (C=2), clang with W=1; no warning at all
#   tidy      clang-tidy over the C++ but the tests (about 10 minutes on 2 cores); FILES="a.cc b.cc" for some of it
#
# smatch is not packaged in Debian 12; where `smatch` is found, kmod runs it too.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
build=${BUILD:-build}
log=$(mktemp)
work=$(mktemp -d)
trap 'rm -rf "$log" "$work"' EXIT
trap 'exit 130' INT TERM

say() { printf 'check: %s\n' "$*" >&2; }

check_scripts() {
	local s bad=0
	while read -r s; do bash -n "$s" || bad=1; done < <(git ls-files '*.sh' .ci/run)
	command -v shellcheck >/dev/null || { say "shellcheck is missing: make deps"; return 1; }
	git ls-files -z '*.sh' .ci/run | xargs -0 shellcheck -x -S warning || bad=1
	return $bad
}

check_headers() {
	local h cc bad=0
	for h in types fixed cubic abi cc net layout params generic simd ring netlink packet rtp select select_ports select_netlink; do
		for cc in gcc clang-19; do
			echo "#include <adapath/$h.h>" | $cc -std=c11 -ffreestanding -Wall -Wextra -Werror -Iinclude -fsyntax-only -x c - ||
				{ say "include/adapath/$h.h is not plain C11 for $cc"; bad=1; }
		done
	done
	return $bad
}

# Names in the order of their numbers: an enum's from the header, the same list from the specification.
enum_names() { # HEADER ENUM PREFIX
	sed -n "/^enum $2 {/,/^};/p" "$1" | grep -oE "^[[:space:]]+$3[A-Z0-9_]+" | sed "s/^[[:space:]]*$3//" |
		grep -vE '^(UNSPEC|COUNT_)$' | tr 'A-Z_' 'a-z-'
}
one_specification() { # HEADER PREFIX-OF-ENUMS PREFIX-OF-NUMBERS SPECIFICATION
	local header=include/adapath/$1 spec=docs/$4 bad=0
	diff <(enum_names "$header" "$2_attribute" "$3_A_") <(sed -n '/^attribute-sets:/,/^operations:/p' "$spec" | grep -oE '\{name: [a-z0-9-]+' | sed 's/{name: //') ||
		{ say "$spec: attributes differ from $header (< header, > specification)"; bad=1; }
	diff <(enum_names "$header" "$2_command" "$3_CMD_") <(sed -n '/^operations:/,$p' "$spec" | grep -oE '^    - name: [a-z0-9-]+' | sed 's/.*: //') ||
		{ say "$spec: commands differ from $header (< header, > specification)"; bad=1; }
	return $bad
}
check_netlink() {
	local bad=0
	one_specification netlink.h adp ADP adapath-netlink.yaml || bad=1
	one_specification select_netlink.h adp_select ADP_SELECT adapath-select-netlink.yaml || bad=1
	return $bad
}

# Without their programs, which need not be built or installed.
check_units() {
	command -v systemd-analyze >/dev/null || { say "systemd-analyze is missing (package systemd)"; return 1; }
	local unit name names=()
	mkdir -p "$work/units"
	for unit in userspace/*/systemd/*.service; do
		name=${unit##*/}
		sed -E 's|^ExecStart=[^ ]+|ExecStart=/bin/true|' "$unit" >"$work/units/$name"
		names+=("${name/@./@select.}")
	done
	SYSTEMD_UNIT_PATH="$work/units:" systemd-analyze verify --man=no "${names[@]}" >"$log" 2>&1
	[ -s "$log" ] || return 0
	cat "$log"
	say "systemd finds fault with the units (above)"
	return 1
}

check_paths() {
	if git grep -nE '(^|[^A-Za-z0-9_.])/(work|home)/[A-Za-z]' -- ':!scripts/check.sh'; then
		say "paths of one machine in the tree (above)"
		return 1
	fi
}

check_format() {
	command -v clang-format-19 >/dev/null || { say "clang-format-19 is missing: make deps"; return 1; }
	git ls-files -z '*.cc' '*.h' '*.c' | xargs -0 clang-format-19 --dry-run -Werror 2>"$log" && return 0
	grep -oE '^[^:]+:' "$log" | sort | uniq -c | sort -rn | head -20
	say "clang-format-19 -i would change these files"
	return 1
}

# Whatever a build says besides its progress lines is a finding.
quiet_build() { # NAME COMMAND...
	local name=$1
	shift
	if ! "$@" >"$log" 2>&1 || grep -qiE 'warning|error' "$log"; then
		say "$name:"
		grep -vE '^ +(CC|LD|MODPOST|BTF|CHECK|AR) |^make' "$log"
		return 1
	fi
}
check_kmod() {
	local label kdir bad=0
	scripts/kernels.sh || return 1
	for kdir in out/cache/kernels/*/build; do
		label=$(basename "$(dirname "$kdir")")
		kdir=$(cd "$kdir" && pwd)
		[ "$label" = debug ] && continue
		say "modules for $label: gcc, sparse, clang"
		quiet_build "$label: gcc W=1, sparse" make -C kmod KDIR="$kdir" OUT="$work/gcc-$label" W=1 C=2 || bad=1
		quiet_build "$label: clang W=1" make -C kmod KDIR="$kdir" OUT="$work/clang-$label" W=1 CC="$PWD/scripts/clang-kernel.sh" || bad=1
		if command -v smatch >/dev/null; then
			quiet_build "$label: smatch" make -C kmod KDIR="$kdir" OUT="$work/smatch-$label" C=1 CHECK="smatch -p=kernel" || bad=1
		fi
	done
	return $bad
}

check_tidy() {
	command -v clang-tidy-19 >/dev/null || { say "clang-tidy-19 is missing: make deps"; return 1; }
	[ -f "$build/compile_commands.json" ] || { say "$build/compile_commands.json is missing: make all first"; return 1; }
	local files n=0 bad=0
	# shellcheck disable=SC2206 # words are file names of ours, without spaces
	files=(${FILES:-$(git ls-files 'codegen/*.cc' 'userspace/*.cc' 'models/*.cc')})
	say "clang-tidy over ${#files[@]} files"
	printf '%s\n' "${files[@]}" | xargs -P "$(nproc)" -I{} sh -c \
		'clang-tidy-19 -p "$0" --quiet "$1" >"$2/tidy-$$" 2>/dev/null || { cat "$2/tidy-$$"; echo "tidy: $1"; }; rm -f "$2/tidy-$$"' \
		"$build" {} "$work" >"$log" 2>&1
	n=$(grep -c '^tidy: ' "$log")
	[ "$n" -eq 0 ] || { cat "$log"; say "clang-tidy: findings in $n files"; bad=1; }
	return $bad
}

failed=()
for name in "${@:-scripts headers netlink units paths format kmod tidy}"; do
	# shellcheck disable=SC2086 # the default is a list
	for one in $name; do
		declare -F "check_$one" >/dev/null || { say "no check called '$one'; see the head of $0"; exit 2; }
		say "$one"
		"check_$one" || failed+=("$one")
	done
done
[ ${#failed[@]} -eq 0 ] || { say "failed: ${failed[*]}"; exit 1; }
say ok
