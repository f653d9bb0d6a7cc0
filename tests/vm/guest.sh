#!/bin/bash
# Second stage of the VM, process 1 on the overlay: mounts what userspace expects, runs the command of vm.sh and hands its exit
# code back through the results share. Runs in the guest only.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 TERM=dumb
control=/results/.vm
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tmpfs tmpfs /run
mkdir -p /run/lock /run/netns /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t bpf bpf /sys/fs/bpf
mount -t cgroup2 cgroup2 /sys/fs/cgroup 2>/dev/null
mount -t debugfs debugfs /sys/kernel/debug 2>/dev/null
mount -t tracefs tracefs /sys/kernel/tracing 2>/dev/null
ln -sfn /proc/self/fd /dev/fd

# The kernel's log, message by message as it comes: what a panic or a hang leaves is on the host's side already.
cat /dev/kmsg >$control/kmsg 2>/dev/null &
reader=$!

modules='' directory='' # the directory of the kernel's modules on the host; where the command starts
. $control/settings
release=$(uname -r)
mkdir -p "/lib/modules/$release"
mount --bind "$modules" "/lib/modules/$release"
# Its device node comes with the module; nothing makes it beforehand, as udev would.
modprobe tun
ip link set lo up
hostname adapath-vm
ulimit -l unlimited
ulimit -c 0
read -r up _ </proc/uptime
echo "$up" >$control/booted

cd "$directory" || cd /
setsid bash $control/command >$control/output 2>&1 </dev/null
code=$?

cd /
# Whatever the command left running must not write into a share that goes away.
kill -TERM -1 2>/dev/null
read -r up _ </proc/uptime
echo "$up" >$control/ended
# Everything the kernel said until now is on the host's side once this line is. The reader is gone with the rest; a new one
# begins with the oldest record that the kernel still has (vm.sh drops what comes twice).
wait $reader 2>/dev/null
echo "adapath-vm: end" >/dev/kmsg
cat /dev/kmsg >$control/kmsg.end 2>/dev/null &
for ((n = 0; n < 200; ++n)); do
	grep -q 'adapath-vm: end' $control/kmsg.end && break
	sleep 0.05
done
echo $code >$control/exit.part
mv $control/exit.part $control/exit
sync
exec busybox poweroff -f
