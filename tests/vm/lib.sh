# shellcheck shell=bash
# What the cases in tests/vm/cases/ have at hand: suite.sh sources this before each, in a shell of the case's own that runs as
# root in the VM. A case is a file NAME.sh of plain bash:
#
#   # What it shows.
#   # limit: 120                          seconds until it is killed (default 120)
#   needs_module adapath                  skips the whole case where the module was not built
#   load adapath
#   ns=$(new_namespace)
#   check "loads once" module_loaded adapath
#   wait_for "ip netns exec $ns ping -c1 -W1 10.0.0.1" 10 || fail "no answer in 10 s"
#   pass "answered"
#
# Each check, pass, fail and skip is one KTAP line. Namespaces, modules and processes that came by way of these functions go
# when the case ends, however it ends.
set -uo pipefail

lib_results=0 lib_failed=0
lib_modules=() lib_at_exit=()

pass() { echo "ok $((++lib_results)) $1"; }
# fail NAME [REASON]
fail() {
	echo "not ok $((++lib_results)) $1"
	[ $# -lt 2 ] || printf '%s\n' "${@:2}" | sed 's/^/# /'
	lib_failed=1
}
skip() { echo "ok $((++lib_results)) $1 # SKIP ${2:-}"; }
note() { printf '%s\n' "$*" | sed 's/^/# /'; }

# check NAME COMMAND...: passes if the command does; its output is shown if it fails.
check() {
	local name=$1 output code
	shift
	output=$("$@" 2>&1)
	code=$?
	if [ $code = 0 ]; then pass "$name"; else fail "$name" "$*: exit $code" "$output"; fi
	return $code
}
not() { ! "$@"; }
# check_fails NAME PATTERN COMMAND...: passes if the command fails and its output matches (grep -E).
check_fails() {
	local name=$1 pattern=$2 output code
	shift 2
	output=$("$@" 2>&1)
	code=$?
	if [ $code = 0 ]; then
		fail "$name" "$*: succeeded" "$output"
	elif ! grep -qE -- "$pattern" <<<"$output"; then
		fail "$name" "$*: exit $code, but its output does not match $pattern" "$output"
	else
		pass "$name"
	fi
}

# Ends the case: skip_all REASON, or bail REASON (a failure that makes the rest pointless).
skip_all() { echo "1..0 # SKIP $1"; lib_skipped=1; exit 4; }
bail() { fail "$1" "${@:2}"; exit 1; }

# wait_for CONDITION LIMIT: until the shell command is true; false after LIMIT seconds (times ADAPATH_VM_SLOW).
wait_for() {
	local deadline=$((SECONDS + $2 * ${ADAPATH_VM_SLOW:-1}))
	until eval "$1" >/dev/null 2>&1; do
		[ $SECONDS -lt $deadline ] || return 1
		sleep 0.1
	done
}

at_exit() { lib_at_exit+=("$*"); }

random_name() { echo "$1$(od -An -N4 -tx4 /dev/urandom | tr -d ' ')"; }
# Its name; gone at the end of the case. (Called in $( ), so the list is a file.)
new_namespace() {
	local name
	name=$(random_name "${1:-adpt-}")
	ip netns add "$name" || return 1
	ip -n "$name" link set lo up
	echo "$name" >>"$lib_tmp/namespaces"
	echo "$name"
}
# new_link NS-A ADDRESS-A NS-B ADDRESS-B: a veth pair between two namespaces (dev "uplink" in both), 10.0.0.1/30 like.
new_link() {
	ip link add uplink netns "$1" type veth peer name uplink netns "$3" &&
		ip -n "$1" addr add "$2" dev uplink && ip -n "$3" addr add "$4" dev uplink &&
		ip -n "$1" link set uplink up && ip -n "$3" link set uplink up
}

module_path() { echo "${ADAPATH_MODULES:-/nonexistent}/$1.ko"; }
module_loaded() { [ -d "/sys/module/${1//-/_}" ]; }
module_users() { cat "/sys/module/${1//-/_}/refcnt"; }
needs_module() {
	local name
	for name; do [ -f "$(module_path "$name")" ] || skip_all "$name.ko was not built for $(uname -r)"; done
}
# load NAME [PARAMETER=VALUE...]; unloaded at the end of the case unless it is gone by then.
load() {
	insmod "$(module_path "$1")" "${@:2}" || return
	lib_modules=("$1" "${lib_modules[@]}")
}
unload() { rmmod "$1"; }

lib_finish() {
	local code=$? name
	trap - EXIT
	for ((n = ${#lib_at_exit[@]} - 1; n >= 0; --n)); do eval "${lib_at_exit[n]}"; done
	# shellcheck disable=SC2046
	kill $(jobs -p) 2>/dev/null
	wait 2>/dev/null
	if [ -f "$lib_tmp/namespaces" ]; then
		while read -r name; do
			ip netns pids "$name" 2>/dev/null | xargs -r kill -KILL 2>/dev/null
			ip netns del "$name" 2>/dev/null
		done <"$lib_tmp/namespaces"
	fi
	for name in "${lib_modules[@]}"; do
		module_loaded "$name" || continue
		wait_for "rmmod $name" 20 || fail "$name unloads at the end of the case" "$(rmmod "$name" 2>&1)" "users: $(module_users "$name")"
	done
	rm -rf "$lib_tmp"
	[ -n "${lib_skipped:-}" ] && exit 4
	[ $lib_failed = 0 ] || exit 1
	[ "$code" = 0 ] || { fail "the case ran to its end" "exit $code"; exit 1; }
	[ $lib_results -gt 0 ] || { fail "the case checks something"; exit 1; }
	exit 0
}
lib_tmp=$(mktemp -d)
trap lib_finish EXIT
trap 'exit 143' TERM INT
