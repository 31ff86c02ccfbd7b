# Runs on the device, sent to its `sh -s ROOT`: says what there is, one `key<TAB>value` a line. It only reads.
# POSIX shell and what Debian, BusyBox and L4T have in common, so that a device without any Python answers, too.
LC_ALL=C
export LC_ALL
tab=$(printf '\t')
say() { [ -z "$2" ] || printf '%s%s%s\n' "$1" "$tab" "$2"; }
line() { [ -r "$1" ] && head -n 1 "$1" 2>/dev/null | tr -d '\0'; }

root=$1
case $root in "~/"*) root=$HOME/${root#"~/"} ;; "~") root=$HOME ;; esac
say machine "$(uname -m)"
say bits "$(getconf LONG_BIT 2>/dev/null)"
say kernel "$(uname -r)"
say model "$(line /proc/device-tree/model)"
[ -r /proc/device-tree/compatible ] && say compatible "$(tr '\0' ' ' </proc/device-tree/compatible)"
say product "$(line /sys/class/dmi/id/product_name)"
say tegra "$(line /etc/nv_tegra_release)"
if [ -r /etc/os-release ]; then
    say os_id "$(. /etc/os-release && echo "$ID")"
    say os_version "$(. /etc/os-release && echo "$VERSION_ID")"
    say os_name "$(. /etc/os-release && echo "$PRETTY_NAME")"
fi
[ -e /etc/rpi-issue ] && say rpi_issue "$(line /etc/rpi-issue)"
libc=$(getconf GNU_LIBC_VERSION 2>/dev/null)
say libc "${libc:-$(ldd --version 2>&1 | head -n 1)}"

asks='import struct, sys
print("%d.%d.%d %s %d %s" % (sys.version_info[:3] + (sys.implementation.name, struct.calcsize("P") * 8, sys.executable)))'
for python in /usr/bin/python3 python3 python3.14 python3.13 python3.12 python3.11 python3.10 "$root/python/current/bin/python3"; do
    say python "$("$python" -I -S -B -c "$asks" 2>/dev/null)"
done

above=$root
while [ ! -e "$above" ] && [ ! -L "$above" ]; do above=$(dirname "$above"); done
say root "$root"
[ -d "$above" ] || say root_blocked "$above"
[ -w "$above" ] && say root_writable yes || say root_writable no
say disk_free_kib "$(df -Pk "$above" 2>/dev/null | awk 'NR == 2 {print $4}')"
say disk_type "$(stat -f -c %T "$above" 2>/dev/null)"
for key in MemTotal MemAvailable SwapTotal; do
    say "$key" "$(awk -v key="$key:" '$1 == key {print $2}' /proc/meminfo 2>/dev/null)"
done
say cpus "$(getconf _NPROCESSORS_ONLN 2>/dev/null)"

say user "$(id -un)"
say uid "$(id -u)"
say groups "$(id -Gn)"
if [ "$(id -u)" = 0 ]; then say sudo root; elif sudo -n true 2>/dev/null; then say sudo yes; else say sudo no; fi
say systemd "$(systemctl --version 2>/dev/null | head -n 1)"
say systemd_state "$(systemctl is-system-running 2>/dev/null)"
say systemd_user "$(XDG_RUNTIME_DIR=${XDG_RUNTIME_DIR:-/run/user/$(id -u)} systemctl --user is-system-running 2>/dev/null)"
[ -e "/var/lib/systemd/linger/$(id -un)" ] && say linger yes

say time_s "$(date +%s)"
say ntp "$(timedatectl show -p NTPSynchronized --value 2>/dev/null)"
[ -e /dev/rtc0 ] && say rtc yes
for zone in /sys/class/thermal/thermal_zone*; do
    [ -r "$zone/temp" ] && say thermal "$(line "$zone/type") $(line "$zone/temp")"
done
throttled=$(line /sys/devices/platform/soc/soc:firmware/get_throttled)
[ -n "$throttled" ] || throttled=$(vcgencmd get_throttled 2>/dev/null | sed 's/.*=//')
say throttled "$throttled"
say governor "$(line /sys/devices/system/cpu/cpu0/cpufreq/scaling_governor)"
say frequency_khz "$(line /sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq)"
say max_frequency_khz "$(line /sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq)"
for port in /dev/serial/by-id/* /dev/ttyUSB* /dev/ttyACM* /dev/ttyAMA* /dev/ttyTHS* /dev/rfcomm*; do
    [ -c "$port" ] || continue
    if [ -r "$port" ] && [ -w "$port" ]; then say serial "$port open"; else say serial "$port closed"; fi
done
for tool in tar gzip sha256sum journalctl ssh-keygen; do
    command -v "$tool" >/dev/null 2>&1 && say tool "$tool"
done
say end yes
