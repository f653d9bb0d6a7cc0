#!/usr/bin/env bash
# Runs every test through ctest, live, with the full output of what fails. The last line is `N passed, N failed, N skipped`.
#
#   tests/run.sh [BUILD]       JOBS=2: tests at a time; FILTER=regex: only tests whose name matches; exit 1 on any failure
set -uo pipefail

here=$(cd "$(dirname "$0")/.." && pwd)
cd "$here" || exit 1
build=${1:-build}
jobs=${JOBS:-2}
results=out/test
mkdir -p "$results"
rm -f "$results"/*.xml "$results/counts"

[ -f "$build/CTestTestfile.cmake" ] || {
	echo "tests: $build has no tests: run 'make all' first, or name the build directory: tests/run.sh DIR" >&2
	exit 1
}

options=(--test-dir "$build" -j "$jobs" --output-on-failure --no-tests=ignore --timeout 300)
[ -n "${FILTER:-}" ] && options+=(-R "$FILTER")
[ -t 1 ] && options+=(--progress)

# The VMs (label vm) after the rest: they take every core for minutes, and what runs beside them would find its flows slow. One BLAS
# thread a test, for the same reason.
code=0
for phase in LE L; do
	OMP_NUM_THREADS=1 ctest "${options[@]}" -$phase vm --output-junit "$here/$results/$phase.xml" </dev/null || code=1
done
reports=("$results"/LE.xml "$results"/L.xml)

# ctest writes a testcase a line; a skipped one says why in a <skipped> element. "notrun" without a skip is a test whose
# program is missing: a failure, whatever the report calls it.
counts=$(awk '
	function close_case() {
		if (status == "") return
		if (status == "run") passed++
		else if (skip != "" && skip !~ /Unable to find executable|Not Run|Missing Configuration|Failed to start/) skipped++
		else if (status == "disabled") skipped++
		else failed++
		status = ""; skip = ""
	}
	/<testcase / {
		close_case()
		status = $0; sub(/.* status="/, "", status); sub(/".*/, "", status)
	}
	/<skipped/ { skip = $0 }
	END { close_case(); printf "%d passed, %d failed, %d skipped\n", passed, failed, skipped }
' "${reports[@]}" 2>/dev/null)
[ -n "$counts" ] || counts="0 passed, 1 failed, 0 skipped"
if [ "$counts" = "0 passed, 0 failed, 0 skipped" ]; then
	echo "tests: none${FILTER:+ matches FILTER=$FILTER}"
	counts="0 passed, 1 failed, 0 skipped"
fi
# ctest knows of failures that have no testcase (a fixture, a crash of its own).
if [ $code -ne 0 ] && [[ "$counts" == *" 0 failed"* ]]; then
	echo "tests: ctest failed (exit $code) without naming a test"
	counts=${counts/ 0 failed/ 1 failed}
fi
[[ "$counts" == *" 0 failed"* ]] || code=1
# What failed and what was skipped, with the reason that the test gave.
awk '
	function say() { if (kind != "") print kind ": " name (why != "" ? ": " why : ""); kind = ""; why = "" }
	/<testcase / {
		say()
		name = $0; sub(/.* name="/, "", name); sub(/".*/, "", name)
		status = $0; sub(/.* status="/, "", status); sub(/".*/, "", status)
		kind = status == "fail" ? "failed" : status == "disabled" ? "skipped" : ""
		if (status == "disabled") why = "disabled"
	}
	/<skipped message="(Unable to find executable|Not Run|Missing Configuration|Failed to start)/ { kind = "failed"; why = "it could not be started" }
	/<skipped message="SKIP/ { kind = "skipped" }
	take { why = $0; take = 0 }
	kind == "skipped" && why == "" && /: Skipped$/ { take = 1 }
	kind == "skipped" && why == "" && /(# SKIP|^skip: )/ { why = $0; sub(/.*(# SKIP|skip:) */, "", why) }
	END { say() }
' "${reports[@]}" 2>/dev/null
echo "$counts" >"$results/counts"
echo "$counts"
[ $code -eq 0 ] || exit 1
