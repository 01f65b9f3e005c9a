#!/bin/sh
# The guest's first process: makes a writable machine out of the host's files and runs one command in it.
#
# boot.py sets SHARE (a directory of the host's that both write) on the kernel's command line and puts there
#     run       the command, a shell script        status    its exit status, when it has ended
#     lib       the kernel's modules
# The command's output goes to ttyS0, the kernel's and this script's to the console.

export PYCONTAINER_TEST_DISK=/var/lib/pycontainer
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8
power_off() {
    sync
    echo o >/proc/sysrq-trigger
    sleep 60
}

fail() {
    echo "init.sh: $*" >/dev/console
    power_off
}

mount -t proc proc /proc || exit 1
mount -t hostfs -o "$SHARE" hostfs /mnt || fail "mount $SHARE"
# nf_tables is loaded and of little use: this kernel was built without its ip family (CONFIG_NF_TABLES_IPV4).
for module in overlay veth bridge nf_tables iptable_nat sch_tbf sch_htb sch_ingress ifb act_police act_mirred; do
    modprobe -d /mnt -q "$module" || echo "init.sh: no module $module" >/dev/console
done

# The root is the host's, read-only. An overlay with a tmpfs makes it writable; pivot_root and not chroot, because a
# process that has been chrooted may not make user namespaces.
mount -t tmpfs tmpfs /srv || fail "mount tmpfs"
mkdir /srv/upper /srv/work /srv/root
mount -t overlay -o lowerdir=/,upperdir=/srv/upper,workdir=/srv/work overlay /srv/root || fail "mount overlay"
cd /srv/root || fail "cd"
mkdir -p old
umount /proc
pivot_root . old || fail "pivot_root"
mount -t proc proc /proc
mount --move /old/mnt /mnt
umount -l /old
rmdir /old
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/pts /dev/shm /dev/mqueue
mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t mqueue mqueue /dev/mqueue
ln -sf /proc/self/fd /dev/fd
mount -t tmpfs -o mode=755 tmpfs /run
mount -t cgroup2 cgroup2 /sys/fs/cgroup || fail "mount cgroup2"
mkdir -p /var/lib/pycontainer
mount -t ext4 /dev/ubda /var/lib/pycontainer || fail "mount scratch"
{ mkswap /dev/ubdb && swapon /dev/ubdb; } >/dev/null || echo "init.sh: no swap" >/dev/console
hostname uml
ip link set lo up
stty -F /dev/ttyS0 raw 2>/dev/null

sh /mnt/run </dev/null >/dev/ttyS0 2>&1
echo $? >/mnt/status
power_off
