# shellcheck shell=bash disable=SC2154 # BIN and ADAPATH_SOURCE are the suite's
# Flows under adapath_k between two network namespaces, over a link that loses, delays and reorders: data moves with a snapshot
# and without one, counters are the namespace's own, and the module goes only when the last flow has gone.
# limit: 240
needs_module adapath adapath_cc
hand=$BIN/kmod_hand
[ -x "$hand" ] || skip_all "$hand was not built"
command -v iperf3 >/dev/null || skip_all "iperf3 is not installed"
model=$ADAPATH_SOURCE/models/cc/policy.model
load adapath || bail "adapath loads"
load adapath_cc || bail "adapath_cc loads"

camera=$(new_namespace) && server=$(new_namespace) && aside=$(new_namespace) || bail "namespaces"
new_link "$camera" 10.77.0.1/24 "$server" 10.77.0.2/24 || bail "a link between them"
tc -n "$camera" qdisc add dev uplink root netem delay 10ms 2ms loss 0.5% reorder 2% 50% rate 20mbit limit 200 || bail "netem towards the server"
tc -n "$server" qdisc add dev uplink root netem delay 10ms || bail "netem back"

status() { "$hand" status cc | awk -v key="$1" '$1 == key { print $2 }'; }
counter() { ip netns exec "$1" awk -v key="$2" '$1 == key { print $2 }' /proc/net/adapath_cc; }
# listen PORT: a server for one client, ready when it returns.
listen() {
	ip netns exec "$server" iperf3 -s -1 -p "$1" >"/tmp/iperf-server.$1" 2>&1 &
	wait_for "ip netns exec $server ss -ltn | grep -q ':$1 '" 20
}
# send PORT SECONDS: megabits a second that arrived.
send() {
	ip netns exec "$camera" iperf3 -c 10.77.0.2 -p "$1" -t "$2" -C adapath_k -J >"/tmp/iperf.$1" 2>&1 || { cat "/tmp/iperf.$1" >&2; return 1; }
	awk '/"sum_received"/ { inside = 1 } inside && /"bits_per_second"/ { gsub(/[",]/, ""); printf "%.2f\n", $2 / 1e6; exit }' "/tmp/iperf.$1"
}
at_exit "rm -f /tmp/iperf*.520*"
moved() { # NAME RATE: more than a tenth of a Mbit/s, and no more than the link has
	note "$1: $2 Mbit/s"
	if awk -v r="${2:-0}" 'BEGIN { exit !(r > 0.1 && r < 22) }'; then pass "$1"; else fail "$1" "${2:-nothing} Mbit/s over a link of 20"; fi
}

listen 5201 || bail "iperf3 listens"
rate=$(send 5201 6)
moved "data moves without a snapshot" "$rate"
fallbacks=$(status fallbacks) decisions=$(status decisions)
if [ "${fallbacks:-0}" -gt 0 ] && [ "$decisions" = 0 ]; then pass "the fallback decided"; else fail "the fallback decided" "$("$hand" status cc)"; fi

slot=$("$hand" install cc "$model" 1) && "$hand" switch cc "$slot" || bail "a snapshot is installed and active"
listen 5202 || bail "iperf3 listens"
rate=$(send 5202 10)
moved "data moves with a snapshot" "$rate"
decisions=$(status decisions)
note "$decisions decisions, $(status samples) samples, $(status samples_lost) lost"
if [ "${decisions:-0}" -gt 20 ]; then pass "the snapshot decided"; else fail "the snapshot decided" "$("$hand" status cc)"; fi

if [ -e /proc/net/adapath_cc ]; then
	mine=$(counter "$camera" decisions) other=$(counter "$aside" decisions)
	if [ "${mine:-0}" = "$decisions" ] && [ "$other" = 0 ] && [ "$(counter "$camera" flows_opened)" -ge 2 ]; then
		pass "counters are the namespace's own"
	else
		fail "counters are the namespace's own" "camera: $mine decisions, aside: $other, in all: $decisions" \
			"$(ip netns exec "$camera" cat /proc/net/adapath_cc)"
	fi
	if wait_for "[ \$(counter $camera flows_open) = 0 ]" 20; then pass "no flow is open after the last"; else
		fail "no flow is open after the last" "$(ip netns exec "$camera" cat /proc/net/adapath_cc)"; fi
else
	skip "counters are the namespace's own" "no /proc/net/adapath_cc"
fi

# Under a live flow: switches, another consistency, and nobody takes the module away.
check "flows keep their snapshot" "$hand" consistency cc flow
listen 5203 || bail "iperf3 listens"
send 5203 $((12 * ${ADAPATH_VM_SLOW:-1})) >/tmp/iperf-rate.5203 &
sender=$!
check "a flow binds to the snapshot that decides" wait_for '[ "$(status bound)" -gt 0 ]' 20
check_fails "adapath_cc stays under a live flow" 'in use' rmmod adapath_cc
second=$("$hand" install cc "$model" 2) && "$hand" switch cc "$second" || fail "a switch under a live flow"
if [ "$(status "slot_${slot}_bound")" -gt 0 ]; then pass "the flow stays with its snapshot over a switch"; else
	fail "the flow stays with its snapshot over a switch" "$("$hand" status cc)"; fi
check "back to the newest at each decision" "$hand" consistency cc decision
check "the flow lets go of its snapshot" wait_for '[ "$(status bound)" = 0 ]' 20
check "cleared under a live flow" "$hand" clear cc
fallbacks=$(status fallbacks)
check "the flow goes on by the fallback" wait_for "[ \"\$(status fallbacks)\" -gt $fallbacks ]" 20
wait $sender
moved "the flow moved data through all of it" "$(cat /tmp/iperf-rate.5203)"
check "adapath_cc unloads after the last flow" wait_for 'rmmod adapath_cc' 60
check "adapath unloads" rmmod adapath
