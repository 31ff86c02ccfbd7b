#!/bin/bash
# make_aarch64_image.sh DIR: make the files an emulated aarch64 gateway starts from, Debian 12 with systemd and sshd:
#   DIR/disk.raw (ext4), DIR/vmlinuz, DIR/initrd.gz, and the keys of `vitaledge emulator`: DIR/client, DIR/host
# Run by root through `vitaledge emulator create`, which says what is missing. Lines that begin with "step" are progress.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
out=$(realpath -m "$1")
root=$out/root
suite=bookworm
packages=systemd-sysv,libpam-systemd,dbus,dbus-user-session,udev,kmod,openssh-server,sudo,python3,iproute2,procps,ca-certificates
# What the initial RAM disk loads, in the order of their dependencies; all else is loaded from the disk.
boot_modules="virtio_pci virtio_blk crc32c_generic ext4"

step() { printf 'step %s\n' "$*"; }

step 1/5 "keys and the processor's emulation"
mkdir -p "$out"
for name in client host; do
    [ -e "$out/$name" ] || ssh-keygen -q -t ed25519 -N '' -C "vitaledge-emulator-$name" -f "$out/$name"
done
# Programs of the other processor run through qemu-user while packages are set up.
[ -e /proc/sys/fs/binfmt_misc/register ] || mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc
if [ ! -e /proc/sys/fs/binfmt_misc/qemu-aarch64 ]; then
    cat /usr/lib/binfmt.d/qemu-aarch64.conf > /proc/sys/fs/binfmt_misc/register
fi

step 2/5 "Debian's packages"
proxy=()
for scheme in http https; do
    eval "$(apt-config shell address "Acquire::$scheme::Proxy")"
    [ -z "${address:-}" ] || proxy+=(--aptopt="Acquire::$scheme::Proxy \"$address\"")
    unset address
done
export VITALEDGE_OUT=$out
"$here/sources.sh" "$suite" | mmdebstrap --quiet --mode=root --architectures=arm64 --variant=minbase --include="$packages" \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' --aptopt='APT::Install-Recommends "false"' "${proxy[@]}" \
    --aptopt='Acquire::Languages "none"' \
    --customize-hook="$here/set_up_aarch64.sh" \
    "$suite" "$root" - >&2

step 3/5 "the kernel"
version=$(ls "$root/lib/modules")
depmod -b "$root" "$version"
mv "$root/boot/vmlinuz-$version" "$out/vmlinuz"

step 4/5 "the initial RAM disk"
ram=$out/initrd
rm -rf "$ram"
mkdir -p "$ram"/{bin,dev,proc,sys,modules,root}
mv "$root/opt/busybox" "$ram/bin/busybox"
# shellcheck disable=SC2086 # a list of words is meant
for module in $boot_modules; do
    modprobe -d "$root" -S "$version" --show-depends "$module"
done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' > "$out/modules"
n=0
while read -r file; do
    n=$((n + 1))
    cp "$file" "$ram/modules/$(printf %02d "$n").ko"
done < "$out/modules"
cat > "$ram/init" <<'INIT'
#!/bin/busybox sh
b=/bin/busybox
$b mount -t devtmpfs dev /dev
for module in /modules/*.ko; do $b insmod "$module"; done
n=0
until $b mount -t ext4 -o rw,errors=remount-ro /dev/vda /root || [ "$n" -ge 100 ]; do n=$((n + 1)); $b sleep 0.1; done
$b mount -o move /dev /root/dev
exec $b switch_root /root /lib/systemd/systemd
INIT
chmod +x "$ram/init"
(cd "$ram" && find . | cpio --quiet -o -H newc | gzip -1) > "$out/initrd.gz"

step 5/5 "the disk"
rm -f "$out/disk.raw"
mke2fs -q -t ext4 -L root -d "$root" "$out/disk.raw" 3G
rm -rf "$root" "$ram" "$out/modules"
