# The modules come and go: a hundred times, in the right order only, and with nothing left behind.
# limit: 180
needs_module adapath adapath_cc

rounds() {
	local n
	for ((n = 0; n < 100; ++n)); do
		insmod "$(module_path adapath)" && insmod "$(module_path adapath_cc)" && rmmod adapath_cc && rmmod adapath || {
			echo "round $n"
			return 1
		}
	done
}
check "loaded and unloaded 100 times" rounds
check_fails "adapath_cc alone is refused" 'Unknown symbol' insmod "$(module_path adapath_cc)"

load adapath || bail "adapath loads"
load adapath_cc || bail "adapath_cc loads"
check "the congestion control is there" grep -qw adapath_k /proc/sys/net/ipv4/tcp_available_congestion_control
check "the core has type information" test -s /sys/kernel/btf/adapath
check_fails "the core stays while the congestion control needs it" 'in use' rmmod adapath
unload adapath_cc || bail "adapath_cc unloads"
unload adapath || bail "adapath unloads"
check "the congestion control is gone" not grep -qw adapath_k /proc/sys/net/ipv4/tcp_available_congestion_control
check "the core's type information is gone" not test -e /sys/kernel/btf/adapath
