#!/bin/bash
# bench_instructions: instructions per query of the programs that the kernel module may run a network with, counted by valgrind's
# callgrind on the same objects in userspace. Unlike times, the counts are the same in every run.
set -euo pipefail

usage() {
	cat <<'END'
usage: bench_instructions [--benchmark_out=FILE] [--benchmark_out_format=json]

Prints instructions per query: generated, generic and AVX2, and how many times generated the generic one takes. valgrind (3.19)
knows no AVX-512, so there is no count of the VNNI program: see bench_kmod_programs for its times.

  --benchmark_out=FILE         also as JSON into FILE (default: none)
  --benchmark_out_format=json  the only format
END
}

out=
for arg in "$@"; do
	case $arg in
	--help | -h) usage; exit 0 ;;
	--benchmark_out=*) out=${arg#*=} ;;
	--benchmark_out_format=json) ;;
	*) echo "bench_instructions: unknown argument $arg; see --help" >&2; exit 2 ;;
	esac
done
program=$(dirname "$(readlink -f "$0")")/kmod_instructions
[ -x "$program" ] || { echo "bench_instructions: $program is not built; build target kmod_instructions" >&2; exit 1; }
command -v valgrind >/dev/null || { echo "bench_instructions: no valgrind; install it (make deps)" >&2; exit 1; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
# Everything until the first query runs uninstrumented: compiling the generated programs would take minutes else.
if ! valgrind --tool=callgrind --instr-atstart=no --collect-atstart=no --callgrind-out-file="$work/out" "$program" 2>"$work/log"; then
	cat "$work/log" >&2
	echo "bench_instructions: counting failed, see above" >&2
	exit 1
fi

# One file a dump: its name in "desc: Trigger: Client Request: ...", its instructions in "summary: ...".
for dump in "$work"/out*; do
	awk '/^desc: Trigger: Client Request:/ { sub(/^desc: Trigger: Client Request: */, ""); name = $0 }
		/^(summary|totals):/ { total = $2 }
		END { if (name != "") print name, total }' "$dump"
done >"$work/counts"
[ -s "$work/counts" ] || { echo "bench_instructions: callgrind left no counts; its log:" >&2; cat "$work/log" >&2; exit 1; }

# network multiplications program queries total -> a table, smallest network first, less what the loop costs without a program
sort -k2,2n -k1,1 "$work/counts" | awk -v out="$out" '
	{
		if (!(($1, "nothing") in n) && !($1 in seen)) { order[++networks] = $1; seen[$1] = 1 }
		n[$1, $3] = $5 / $4
		multiplications[$1] = $2
	}
	END {
		split("generated generic avx2", programs)
		printf "%-16s %8s %10s %10s %10s %18s\n", "instructions", "mult.", "generated", "generic", "AVX2", "generic/generated"
		for (i = 1; i <= networks; i++) {
			net = order[i]
			printf "%-16s %8d", net, multiplications[net]
			for (p = 1; p <= 3; p++) {
				key = net SUBSEP programs[p]
				if (key in n) {
					value = n[key] - n[net, "nothing"]
					printf " %10.1f", value
					json = json sprintf("%s\n    {\"name\": \"%s/%s\", \"multiplications\": %d, \"instructions\": %.2f}",
						json == "" ? "" : ",", net, programs[p], multiplications[net], value)
				} else {
					printf " %10s", "-"
				}
			}
			printf " %18.2f\n", (n[net, "generic"] - n[net, "nothing"]) / (n[net, "generated"] - n[net, "nothing"])
		}
		print "AVX-512 VNNI: not counted, valgrind does not know it; times are in bench_kmod_programs"
		if (out != "") printf "{\n  \"benchmarks\": [%s\n  ]\n}\n", json >out
	}'
