#!/bin/sh
# The first process of a machine, in namespaces of its own: makes the machine, then holds it.
# usage: boot.sh NAME VAR HOLDER, started in the cluster's home folder
set -eu

hostname "$1"
mount -t proc proc /proc

# A /run and a /var of its own keep sockets, pod namespaces and images off the host, and go with the
# machine. The home folder is bound from the working directory: its path may lie below either.
mount -t tmpfs -o mode=755 tmpfs /run
mkdir /run/lock /run/pilotlight
mount --no-canonicalize --bind . /run/pilotlight
mount --bind "/run/pilotlight/$2" /var

# The kubelet sets these for the whole kernel unless they already read so; panic_on_oops among them.
pin() {
	mkdir -p /run/sysctl
	echo "$2" >"/run/sysctl/$1"
	mount --bind "/run/sysctl/$1" "/proc/sys/$(echo "$1" | tr . /)"
}
pin vm.overcommit_memory 1
pin vm.panic_on_oom 0
pin kernel.panic 10
pin kernel.panic_on_oops 1
pin kernel.keys.root_maxkeys 1000000
pin kernel.keys.root_maxbytes 25000000

# Pods may ask for mounts that propagate; nothing propagates to the host.
mount --make-rshared /

ip link set lo up
echo 1 >/proc/sys/net/ipv4/ip_forward

exec "/run/pilotlight/$3"
