#!/bin/bash
# A gateway as a container: Debian 12 with real systemd and sshd, an address of its own, gone without a trace when
# stopped. Needs root, systemd-nspawn, mmdebstrap (docs/emulator.md).
#
#   container.sh create                the root file system, once, below ~/.cache/vitaledge-devices (about a minute)
#   container.sh start NAME NUMBER     NUMBER 1-250 makes the address 10.78.NUMBER.2; prints it and the folder of keys
#   container.sh stop NAME NUMBER
#   container.sh cut NAME NUMBER       as if the power failed: everything in it is killed at once
set -euo pipefail

CACHE=${VITALEDGE_DEVICES:-$HOME/.cache/vitaledge-devices}
SUITE=bookworm
PACKAGES=systemd-sysv,dbus,dbus-user-session,libpam-systemd,udev,openssh-server,python3,procps
# Another list or suite is another image.
IMAGE=$CACHE/container-$SUITE-$(printf %s "$PACKAGES" | sha256sum | cut -c1-8)

create() {
    [ ! -d "$IMAGE" ] || return 0
    mkdir -p "$CACHE"
    # Two that start at once: the second waits, and finds it made.
    exec 9>"$CACHE/container.lock"
    flock 9
    [ ! -d "$IMAGE" ] || return 0
    # In a name space of its own: what an interrupted one had mounted (/proc, /dev/shm) must be out of rm's reach.
    rm -rf --one-file-system "$IMAGE.part"
    "$(dirname "$(realpath "$0")")/sources.sh" "$SUITE" \
        | unshare --mount mmdebstrap --quiet --mode=root --variant=minbase --include="$PACKAGES" \
        --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
        --aptopt='APT::Install-Recommends "false"' "$SUITE" "$IMAGE.part" - >&2
    mv "$IMAGE.part" "$IMAGE"
}

set_up_network() {
    ip netns add "$SPACE"
    ip link add "$LINK" type veth peer name eth0 netns "$SPACE"
    ip addr add "10.78.$NUMBER.1/24" dev "$LINK"
    ip link set "$LINK" up
    ip -n "$SPACE" link set lo up
    ip -n "$SPACE" addr add "$ADDRESS/24" dev eth0
    ip -n "$SPACE" link set eth0 up
}

# Its own key, one key to get in, and two accounts: root, and `pi`, who may do nothing that root may.
set_up_accounts() {
    local root=$1 home
    ssh-keygen -q -t ed25519 -N '' -C client -f "$STATE/client"
    ssh-keygen -q -t ed25519 -N '' -C host -f "$STATE/host"
    printf '%s %s\n' "$ADDRESS" "$(cut -d' ' -f1,2 "$STATE/host.pub")" > "$STATE/known_hosts"
    install -m 600 "$STATE/host" "$root/etc/ssh/ssh_host_ed25519_key"
    printf 'HostKey /etc/ssh/ssh_host_ed25519_key\nUseDNS no\nPasswordAuthentication no\nMaxStartups 100\n' \
        > "$root/etc/ssh/sshd_config.d/vitaledge.conf"
    chroot "$root" useradd --create-home --shell /bin/bash --groups dialout pi
    # Not '!': that would also keep keys out.
    chroot "$root" usermod --password '*' pi
    for home in root home/pi; do
        install -d -m 700 "$root/$home/.ssh"
        install -m 600 "$STATE/client.pub" "$root/$home/.ssh/authorized_keys"
    done
    chroot "$root" chown -R pi:pi /home/pi/.ssh
    echo "$NAME" > "$root/etc/hostname"
    : > "$root/etc/machine-id"
}

start() {
    create
    mkdir -p "$STATE/disk"
    mount -t tmpfs -o size=2g tmpfs "$STATE/disk"
    mkdir "$STATE/disk/upper" "$STATE/disk/work" "$STATE/disk/root"
    mount -t overlay overlay "$STATE/disk/root" \
        -o "lowerdir=$IMAGE,upperdir=$STATE/disk/upper,workdir=$STATE/disk/work"
    set_up_network
    set_up_accounts "$STATE/disk/root"
    boot
    echo "$ADDRESS $STATE"
}

boot() {
    local group
    # systemd inside wants control groups that are its own.
    for group in /sys/fs/cgroup/systemd /sys/fs/cgroup/unified /sys/fs/cgroup; do
        [ ! -e "$group/cgroup.procs" ] || mkdir -p "$group/vitaledge-$NAME"
    done
    (
        for group in /sys/fs/cgroup/systemd /sys/fs/cgroup/unified /sys/fs/cgroup; do
            [ ! -e "$group/vitaledge-$NAME/cgroup.procs" ] || echo "$BASHPID" > "$group/vitaledge-$NAME/cgroup.procs"
        done
        exec systemd-nspawn --quiet --directory="$STATE/disk/root" --boot --keep-unit --register=no \
            --network-namespace-path="/run/netns/$SPACE" --resolv-conf=off --timezone=off --link-journal=no \
            --console=pipe --kill-signal=SIGRTMIN+3
    ) < /dev/null > "$STATE/console" 2>&1 &
    echo $! > "$STATE/pid"
    for _ in $(seq 600); do
        if answer 2>/dev/null; then return 0; fi
        sleep 0.1
    done
    echo "$NAME: no sshd answers; see $STATE/console" >&2
    return 1
}

answer() (
    exec 3<> "/dev/tcp/$ADDRESS/22"
    read -r -t 2 -u 3 line
    [[ $line == SSH-2* ]]
)

# Everything that runs in it, by number, from its own control groups.
kill_all() {
    local group number
    for group in /sys/fs/cgroup/systemd /sys/fs/cgroup/unified /sys/fs/cgroup; do
        [ -d "$group/vitaledge-$NAME" ] || continue
        while read -r number; do kill -9 "$number" 2>/dev/null || true; done \
            < <(find "$group/vitaledge-$NAME" -name cgroup.procs -exec cat {} + 2>/dev/null)
    done
}

stop() {
    local pid
    pid=$(cat "$STATE/pid" 2>/dev/null || echo 0)
    if [ "$pid" != 0 ] && [ "$1" = gently ]; then
        kill -TERM "$pid" 2>/dev/null || true
        for _ in $(seq 100); do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
    fi
    [ "$pid" = 0 ] || kill -9 "$pid" 2>/dev/null || true
    kill_all
}

clean_up() {
    local place group
    for place in "$STATE/disk/root" "$STATE/disk"; do
        ! mountpoint -q "$place" || umount "$place" 2>/dev/null || umount -l "$place"
    done
    ip link del "$LINK" 2>/dev/null || true
    ip netns del "$SPACE" 2>/dev/null || true
    for group in /sys/fs/cgroup/systemd /sys/fs/cgroup/unified /sys/fs/cgroup; do
        [ ! -d "$group/vitaledge-$NAME" ] || find "$group/vitaledge-$NAME" -depth -type d -exec rmdir {} + 2>/dev/null || true
    done
    rm -rf "$STATE"
}

COMMAND=${1:?create, start, stop or cut wanted}
if [ "$COMMAND" = create ]; then
    create
    exit 0
fi
NAME=${2:?a name wanted} NUMBER=${3:?a number from 1 to 250 wanted}
STATE=$CACHE/run/$NAME SPACE=ve-$NAME LINK=ve$NUMBER ADDRESS=10.78.$NUMBER.2
case $COMMAND in
start) start ;;
stop) stop gently; clean_up ;;
cut) stop at-once; boot ;;
*) echo "$COMMAND: create, start, stop or cut wanted" >&2; exit 2 ;;
esac
