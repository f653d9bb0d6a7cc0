# shellcheck shell=bash disable=SC2154 # BIN and ADAPATH_SOURCE are the suite's
# A generated program stays while a snapshot runs it, and may go after CLEAR; without it the core serves the same snapshot.
# limit: 60
needs_module adapath adapath_cc
hand=$BIN/kmod_hand
[ -x "$hand" ] || skip_all "$hand was not built"
model=$ADAPATH_SOURCE/models/cc/policy.model
load adapath || bail "adapath loads"
load adapath_cc || bail "adapath_cc loads"

state() { "$hand" status cc | awk -v key="$1" '$1 == key { print $2 }'; }
slot=$("$hand" install cc "$model" 1) || bail "a snapshot is installed without its program"
if [ "$(state "slot_${slot}_implementation")" = 2 ]; then
	fail "without the program another implementation serves" "$("$hand" status cc)"
else
	pass "without the program another implementation serves"
fi
check "cleared" "$hand" clear cc

name=$(cd "$ADAPATH_MODULES" && for ko in adapath_net_*.ko; do [ -f "$ko" ] && echo "${ko%.ko}"; done)
[ -n "$name" ] || skip_all "no generated module was built for $(uname -r)"
for one in $name; do load "$one" || bail "$one loads"; done
# Which of them is the model's is what the kernel takes for it.
slot=$("$hand" install cc "$model" 2) || bail "a snapshot is installed"
check "switched" "$hand" switch cc "$slot"
used=$("$hand" programs | awk '$3 > 0 { print $2 }')
if [ -z "$used" ]; then
	fail "the snapshot runs on its program" "$("$hand" programs)"
	exit
fi
pass "the snapshot runs on its program"
check_fails "the program stays while it decides" 'in use' rmmod "$used"
check_fails "the core stays while a program is registered" 'in use' rmmod adapath
check "cleared again" "$hand" clear cc
check "the program goes after CLEAR" wait_for "rmmod $used" 20
slot=$("$hand" install cc "$model" 3) || bail "the snapshot is installed once more"
check "and decides without its program" "$hand" switch cc "$slot"
