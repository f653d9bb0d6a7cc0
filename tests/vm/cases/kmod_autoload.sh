# shellcheck shell=bash disable=SC2154 # BIN is the suite's
# The kernel loads the modules by itself: adapath.ko and adapath_select.ko by the names of their netlink families, adapath_cc.ko by
# that of its app. (The other way round adapath_select.ko would hang: a family is registered when no request is under way, and the
# core asks for an app's module within one.)
# limit: 90
needs_module adapath adapath_cc adapath_select
hand=$BIN/kmod_hand
[ -x "$hand" ] || skip_all "$hand was not built"
command -v genl >/dev/null || skip_all "genl (iproute2) is not installed"

# A tree of our own for modprobe, as if they were installed.
tree=$(mktemp -d) release=$(uname -r) usual=$(</proc/sys/kernel/modprobe)
mkdir -p "$tree/lib/modules/$release/extra"
cp "$(module_path adapath)" "$(module_path adapath_cc)" "$(module_path adapath_select)" "$tree/lib/modules/$release/extra/"
depmod -b "$tree" "$release" 2>/dev/null || bail "depmod"
printf '#!/bin/sh\nexec modprobe -d %s "$@"\n' "$tree" >"$tree/modprobe"
chmod +x "$tree/modprobe"
at_exit "echo $usual >/proc/sys/kernel/modprobe; rm -rf $tree"
echo "$tree/modprobe" >/proc/sys/kernel/modprobe
at_exit "rmmod adapath_select adapath_cc adapath 2>/dev/null"

check "the family adapath_select is found" timeout 30 genl ctrl get name adapath_select
check "its module is loaded" module_loaded adapath_select
check "and the core with it" module_loaded adapath
check "the app is there" timeout 30 "$hand" status select
check "adapath_select unloads" rmmod adapath_select
check_fails "asked for the app, the core does not load it, and does not hang" 'no app of that name' timeout 30 "$hand" status select
check "adapath_cc is loaded for its app" timeout 30 "$hand" status cc
check "the family adapath_select is found beside a core that is there" timeout 30 genl ctrl get name adapath_select
check "all unload" rmmod adapath_select adapath_cc adapath
