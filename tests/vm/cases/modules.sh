# shellcheck shell=bash
# The modules come and go in the right order only, with type information and nothing left behind.
# limit: 60
needs_module adapath adapath_cc adapath_select

check_fails "adapath_cc alone is refused" 'Unknown symbol' insmod "$(module_path adapath_cc)"
check_fails "adapath_select alone is refused" 'Unknown symbol' insmod "$(module_path adapath_select)"

load adapath || bail "adapath loads"
load adapath_cc || bail "adapath_cc loads"
load adapath_select || bail "adapath_select loads"
check "the congestion control is there" grep -qw adapath_k /proc/sys/net/ipv4/tcp_available_congestion_control
check "the core has type information" test -s /sys/kernel/btf/adapath
check_fails "the core stays while the congestion control needs it" 'in use' rmmod adapath
unload adapath_cc || bail "adapath_cc unloads"
check "the netlink family of select is there" genl ctrl get name adapath_select
check_fails "the core stays while select needs it" 'in use' rmmod adapath
unload adapath_select || bail "adapath_select unloads"
check_fails "the netlink family of select is gone" . genl ctrl get name adapath_select
unload adapath || bail "adapath unloads"
check "the congestion control is gone" not grep -qw adapath_k /proc/sys/net/ipv4/tcp_available_congestion_control
check "the core's type information is gone" not test -e /sys/kernel/btf/adapath
