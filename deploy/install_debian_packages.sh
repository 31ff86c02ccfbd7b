#!/bin/sh
# install_debian_packages.sh [--devices] [PYTHON]
# Install the Debian packages that development and tests need, and say why; does nothing where all are there.
# --devices: those that emulated gateways need.
set -eu

devices=""
if [ "${1:-}" = --devices ]; then
    devices=yes
    shift
fi

# package, the file that shows it is there, and the reason
packages() {
    cat <<'LIST'
openssh-server /usr/sbin/sshd tests ship to a real SSH server on this machine's loopback interface
openssh-client /usr/bin/ssh-keygen tests make their own SSH host and user keys
LIST
    if [ "$devices" ]; then
        cat <<'LIST'
qemu-system-arm /usr/bin/qemu-system-aarch64 the emulated aarch64 gateway runs in QEMU
qemu-utils /usr/bin/qemu-img its disks are QEMU's
qemu-user-static /usr/bin/qemu-aarch64-static its Debian is set up by programs of its own processor
arch-test /usr/bin/arch-test mmdebstrap asks it whether those run
mmdebstrap /usr/bin/mmdebstrap makes Debians for emulated gateways
e2fsprogs /sbin/mke2fs makes their disks
kmod /sbin/depmod sorts their kernel's modules
cpio /usr/bin/cpio packs what their kernel starts from
systemd-container /usr/bin/systemd-nspawn the quick gateway is a container
iproute2 /sbin/ip gives the container an address
LIST
    fi
    # Debian splits venv from its Python; a Python from elsewhere brings its own.
    if [ "${1:-}" ] && ! "$1" -c 'import ensurepip, venv' 2>/dev/null; then
        echo "python3-venv - $1 cannot create virtual environments without it"
    fi
}

missing=""
while read -r name proof reason; do
    if [ -z "$name" ] || [ -x "$proof" ]; then
        continue
    fi
    echo "Debian package $name: $reason" >&2
    missing="$missing $name"
done <<LIST
$(packages "$@")
LIST

if [ -z "$missing" ]; then
    exit 0
fi
if ! command -v apt-get >/dev/null; then
    echo "no apt-get here: install what provides$missing yourself, then run this again" >&2
    exit 1
fi
if [ "$(id -u)" -eq 0 ]; then
    as_root=""
elif command -v sudo >/dev/null && { [ -t 0 ] || sudo -n true 2>/dev/null; }; then
    as_root="sudo"
else
    echo "neither root nor sudo: run 'apt-get install$missing' as root, then run this again" >&2
    exit 1
fi
$as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq </dev/null
# shellcheck disable=SC2086 # a list of words is meant
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing </dev/null
