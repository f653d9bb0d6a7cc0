# shellcheck shell=bash
# The modules are loaded and unloaded a hundred times with a snapshot in them: what a snapshot and its program hold goes in time.
# limit: 240
needs_module adapath adapath_cc
hand=$BIN/kmod_hand
[ -x "$hand" ] || skip_all "$hand was not built"
model=$ADAPATH_SOURCE/models/cc/policy.model

# The program of the committed model, where it was built.
generated=$(cd "$ADAPATH_MODULES" && ls adapath_net_*.ko 2>/dev/null | sed 's/\.ko$//')

rounds() {
	local n slot name
	for ((n = 0; n < 100; ++n)); do
		insmod "$(module_path adapath)" && insmod "$(module_path adapath_cc)" || { echo "round $n: load"; return 1; }
		for name in $generated; do insmod "$(module_path "$name")" || { echo "round $n: load $name"; return 1; }; done
		slot=$("$hand" install cc "$model" $((n + 1))) && "$hand" switch cc "$slot" || { echo "round $n: install"; return 1; }
		# Every other round unloads with the snapshot active, the rest clears first.
		if ((n % 2)); then "$hand" clear cc || { echo "round $n: clear"; return 1; }; fi
		rmmod adapath_cc || { echo "round $n: rmmod adapath_cc"; return 1; }
		for name in $generated; do
			# Its last user is freed by a grace period and a worker after the app has gone.
			wait_for "rmmod $name" 20 || { echo "round $n: rmmod $name: $(rmmod "$name" 2>&1)"; return 1; }
		done
		rmmod adapath || { echo "round $n: rmmod adapath"; return 1; }
	done
}
free_kb() { sync; echo 3 >/proc/sys/vm/drop_caches; awk '/^MemFree/ { print $2 }' /proc/meminfo; }
check "loaded and unloaded 100 times with a snapshot" rounds
for module in adapath_cc $generated adapath; do module_loaded "$module" && rmmod "$module"; done
# Once warm, nothing more is lost: a slot's 64 KiB a round would be 6.4 MB.
before=$(free_kb)
check "and 100 times more" rounds
after=$(free_kb)
note "free memory: $before kB before, $after kB after"
if [ $((before - after)) -lt 4000 ]; then
	pass "no memory is lost over a hundred rounds"
else
	fail "no memory is lost over a hundred rounds" "$((before - after)) kB less"
fi
