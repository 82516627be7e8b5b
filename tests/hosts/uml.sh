#!/bin/sh
# Run a command under a kernel of its own that has cgroup version 2 and nothing of version 1: user-mode Linux, an
# ordinary process (Debian: apt install user-mode-linux). Its root is this machine's own root directory, so that
# programs, packages and this checkout are there; /tmp and /run are its own, and empty but for what is kept.
#
#     uml.sh COMMAND ARGUMENT...          (absolute paths, no spaces)
#
# What the command writes is on standard output, and then a line "uml: exit status N". UML_MEMORY is the new machine's
# memory (1G), UML_PRELOAD a library to preload into its kernel: see uml_xstate.c. UML_KEEP has directories, with colons
# between them, that stay where they are even below /tmp or /run: Python's, if it lies there. The checkout always does.
set -eu
END=:end:

if [ "${INSIDE_UML:-}" != 1 ]; then
    # Unknown KEY=VALUE words become variables of init, and what follows "--" its arguments.
    LD_PRELOAD=${UML_PRELOAD:-} exec linux.uml mem="${UML_MEMORY:-1G}" rootfstype=hostfs rootflags=/ rw init="$(realpath "$0")" \
        con=null con0=null,fd:1 quiet loglevel=1 INSIDE_UML=1 KEEP="${UML_KEEP:-}" -- "$@" "$END"
fi

# From here on: process 1 of the new kernel, which has put words of its own behind ours.
count=$#
ours=yes
while [ "$count" -gt 0 ]; do
    [ "$1" = "$END" ] && ours=no
    [ $ours = yes ] && set -- "$@" "$1"
    shift
    count=$((count - 1))
done
mount -t proc proc /proc
# Nothing may be written to the machine's own file system: what is to be kept is set aside on /sys, as long as that is
# free.
mount -t tmpfs tmpfs /sys
cover() { # DIRECTORY MODE: a tmpfs of this kernel's own
    number=0
    IFS=:
    for kept in $KEEP; do
        case "$kept" in
        "$1"/*)
            mkdir "/sys/$number"
            mount --bind "$kept" "/sys/$number"
            ;;
        esac
        number=$((number + 1))
    done
    mount -t tmpfs -o "mode=$2" tmpfs "$1"
    number=0
    for kept in $KEEP; do
        if [ -d "/sys/$number" ]; then
            mkdir -p "$kept"
            mount --move "/sys/$number" "$kept"
            rmdir "/sys/$number"
        fi
        number=$((number + 1))
    done
    unset IFS
}
KEEP=$(realpath "$(dirname "$0")/../.."):${KEEP:-}
cover /run 755
cover /tmp 1777
umount /sys
mount -t sysfs sysfs /sys
ln -sf /proc/self/fd /dev/fd
mount -t cgroup2 cgroup2 /sys/fs/cgroup
ip link set lo up 2>/dev/null || ifconfig lo up
# The command is alone in a cgroup below the root, as a service is on a machine with systemd.
mkdir /sys/fs/cgroup/service
echo "+memory +cpu +pids" > /sys/fs/cgroup/cgroup.subtree_control
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 HOME=/tmp
export PYTHONDONTWRITEBYTECODE=1
status=0
sh -c 'echo $$ > /sys/fs/cgroup/service/cgroup.procs; exec "$@"' service "$@" </dev/null 2>&1 || status=$?
echo "uml: exit status $status"
echo o > /proc/sysrq-trigger
while :; do sleep 1; done
