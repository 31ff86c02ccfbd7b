#!/bin/bash
# set_up_aarch64.sh ROOT: what make_aarch64_image.sh does to a Debian's files before they become a disk (a hook of mmdebstrap).
set -euo pipefail
root=$1
out=$VITALEDGE_OUT

# The kernel and busybox are unpacked, not installed: their set-up would spend minutes on an initial RAM disk.
cd "$root/var/cache/apt/archives"
kernel=$(APT_CONFIG=$MMDEBSTRAP_APT_CONFIG apt-cache depends linux-image-arm64 | awk '$1 == "Depends:" { print $2; exit }')
APT_CONFIG=$MMDEBSTRAP_APT_CONFIG apt-get -q download "$kernel" busybox-static >&2
dpkg-deb --fsys-tarfile linux-image-*.deb | tar -x -C "$root" --keep-directory-symlink \
    --exclude='*/drivers/gpu' --exclude='*/drivers/media' --exclude='*/drivers/infiniband' --exclude='*/drivers/staging' \
    --exclude='*/drivers/iio' --exclude='*/drivers/scsi' --exclude='*/drivers/net/wireless' \
    --exclude='*/drivers/net/ethernet' --exclude='*/kernel/sound' ./boot ./lib
dpkg-deb --fsys-tarfile busybox-static_*.deb | tar -x -O ./bin/busybox > "$root/opt/busybox"
chmod +x "$root/opt/busybox"
rm -f -- *.deb "$root"/boot/System.map-* "$root"/boot/config-*

echo gateway > "$root/etc/hostname"
printf '127.0.0.1 localhost gateway\n' > "$root/etc/hosts"
printf '/dev/vda / ext4 rw,relatime,errors=remount-ro 0 0\n' > "$root/etc/fstab"
printf '[Match]\nName=en* eth*\n[Network]\nAddress=10.0.2.15/24\nGateway=10.0.2.2\n' > "$root/etc/systemd/network/10-emulated.network"
chroot "$root" systemctl --quiet enable systemd-networkd ssh
chroot "$root" systemctl --quiet mask systemd-networkd-wait-online apt-daily.timer apt-daily-upgrade.timer \
    dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap systemd-timesyncd systemd-pstore
rm -f "$root"/etc/ssh/ssh_host_*
install -m 600 "$out/host" "$root/etc/ssh/ssh_host_ed25519_key"
printf 'HostKey /etc/ssh/ssh_host_ed25519_key\nUseDNS no\nPasswordAuthentication no\n' > "$root/etc/ssh/sshd_config.d/emulated.conf"
chroot "$root" useradd --create-home --shell /bin/bash --groups dialout,sudo pi
echo 'pi ALL=(ALL) NOPASSWD: ALL' > "$root/etc/sudoers.d/pi"
chmod 440 "$root/etc/sudoers.d/pi"
for home in root home/pi; do
    install -d -m 700 "$root/$home/.ssh"
    install -m 600 "$out/client.pub" "$root/$home/.ssh/authorized_keys"
done
chroot "$root" chown -R pi:pi /home/pi/.ssh
# No log-in by password. Not '!': that would also keep keys out.
for user in root pi; do chroot "$root" usermod --password '*' "$user"; done
# A log-in costs seconds of a computed processor; most of them went into these.
mkdir -p "$root/var/lib/systemd/linger"
touch "$root/var/lib/systemd/linger/root" "$root/var/lib/systemd/linger/pi"
rm -f "$root"/etc/update-motd.d/*
# The first boot makes a machine id of its own.
: > "$root/etc/machine-id"
