"""What a device can say about itself: memory of a process, temperature, frequency, throttling, names.

Each probe reads `/proc` and `/sys` below a root that is a parameter, and gives None for what is not there.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path("/")
KIB = 1024

# Bits of the Raspberry Pi firmware's get_throttled. Source: raspberrypi.com documentation, os, vcgencmd.
THROTTLE_FLAGS = {
    0: "under-voltage",
    1: "frequency capped",
    2: "throttled",
    3: "soft temperature limit",
    16: "under-voltage has occurred",
    17: "frequency capping has occurred",
    18: "throttling has occurred",
    19: "soft temperature limit has occurred",
}


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Of one process, in bytes: resident now, resident at most so far, resident with shared pages divided."""

    rss_bytes: int | None
    peak_rss_bytes: int | None
    pss_bytes: int | None


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What does not change while the machine is up."""

    board: str | None
    cpu: str | None
    cpus: int | None
    memory_bytes: int | None


@dataclass(frozen=True, kw_only=True)
class MachineState:
    """What changes: hottest CPU zone, frequency and governor of CPU 0, throttle flags (() is none), load, swap."""

    temperature_c: float | None
    frequency_hz: int | None
    max_frequency_hz: int | None
    governor: str | None
    throttled: tuple[str, ...] | None
    load_1min: float | None
    swap_used_bytes: int | None

    def to_json(self) -> dict[str, object]:
        """The fields as a JSON object."""
        return asdict(self)


def memory(pid: int | str = "self", root: Path = ROOT) -> Memory:
    """Memory of a process."""
    status = _table(root / f"proc/{pid}/status")
    rollup = _table(root / f"proc/{pid}/smaps_rollup")
    return Memory(
        rss_bytes=_kib(status.get("VmRSS")),
        peak_rss_bytes=_kib(status.get("VmHWM")),
        pss_bytes=_kib(rollup.get("Pss")),
    )


def machine(root: Path = ROOT) -> Machine:
    """Board, CPU and memory of this machine."""
    return Machine(board=board_name(root), cpu=cpu_name(root), cpus=_n_cpus(root), memory_bytes=_memory_bytes(root))


def machine_state(root: Path = ROOT) -> MachineState:
    """Temperature, frequency, throttling and load now."""
    frequency = root / "sys/devices/system/cpu/cpu0/cpufreq"
    current, limit = (_integer(frequency / f"{name}_freq") for name in ("scaling_cur", "cpuinfo_max"))
    return MachineState(
        temperature_c=cpu_temperature_c(root),
        frequency_hz=None if current is None else 1000 * current,
        max_frequency_hz=None if limit is None else 1000 * limit,
        governor=_text(frequency / "scaling_governor"),
        throttled=throttle_flags(root),
        load_1min=_load(root),
        swap_used_bytes=_swap_used_bytes(root),
    )


def bytes_from_disk(pid: int | str = "self", root: Path = ROOT) -> int | None:
    """What a process has made storage deliver since it was started; 0 where all it read was in memory.

    Source: proc(5), /proc/PID/io, read_bytes.
    """
    text = _table(root / f"proc/{pid}/io").get("read_bytes", "")
    return int(text) if text.isdecimal() else None


def cpu_temperature_c(root: Path = ROOT) -> float | None:
    """The hottest thermal zone that is named after a CPU or SoC; any zone where none is."""
    zones: list[tuple[str, float]] = []
    for zone in sorted(root.glob("sys/class/thermal/thermal_zone*")):
        millidegrees = _integer(zone / "temp")
        if millidegrees is not None:
            zones.append(((_text(zone / "type") or "").lower(), millidegrees / 1000.0))
    of_cpu = [t for kind, t in zones if re.search(r"cpu|soc|x86_pkg|core", kind)]
    return max(of_cpu or [t for _, t in zones], default=None)


def throttle_flags(root: Path = ROOT) -> tuple[str, ...] | None:
    """What the Raspberry Pi's firmware complains of; None on other boards."""
    text = _text(root / "sys/devices/platform/soc/soc:firmware/get_throttled")
    try:
        bits = None if text is None else int(text, 16)
    except ValueError:
        bits = None
    return None if bits is None else tuple(name for bit, name in THROTTLE_FLAGS.items() if bits >> bit & 1)


def board_name(root: Path = ROOT) -> str | None:
    """Model of the board from the device tree, or of the PC from its firmware."""
    for path in ("proc/device-tree/model", "sys/firmware/devicetree/base/model"):
        if name := _text(root / path):
            return name
    return _text(root / "sys/devices/virtual/dmi/id/product_name") or None


def cpu_name(root: Path = ROOT) -> str | None:
    """Model of the CPU; on ARM, where the kernel gives no name, its implementer and part numbers."""
    table = _table(root / "proc/cpuinfo")
    if name := table.get("model name"):
        return name
    implementer, part = table.get("CPU implementer"), table.get("CPU part")
    return f"ARM implementer {implementer} part {part}" if implementer and part else None


def _n_cpus(root: Path) -> int | None:
    text = _text(root / "proc/cpuinfo")
    return None if text is None else len(re.findall(r"^processor\s*:", text, re.MULTILINE)) or None


def _memory_bytes(root: Path) -> int | None:
    return _kib(_table(root / "proc/meminfo").get("MemTotal"))


def _swap_used_bytes(root: Path) -> int | None:
    table = _table(root / "proc/meminfo")
    total, free = _kib(table.get("SwapTotal")), _kib(table.get("SwapFree"))
    return None if total is None or free is None else total - free


def _load(root: Path) -> float | None:
    try:
        return float((_text(root / "proc/loadavg") or "").split()[0])
    except (IndexError, ValueError):
        return None


def _text(path: Path) -> str | None:
    """The file without blanks and zero bytes around it; None if it cannot be read."""
    try:
        return path.read_bytes().decode(errors="replace").strip(" \t\n\0")
    except OSError:
        return None


def _integer(path: Path) -> int | None:
    try:
        return int(_text(path) or "")
    except ValueError:
        return None


def _table(path: Path) -> dict[str, str]:
    """Lines of `key: value`; the first of equal keys."""
    table: dict[str, str] = {}
    for line in (_text(path) or "").splitlines():
        key, colon, value = line.partition(":")
        if colon:
            table.setdefault(key.strip(), value.strip())
    return table


def _kib(text: str | None) -> int | None:
    """`1234 kB` in bytes."""
    match = re.fullmatch(r"(\d+) kB", text or "")
    return int(match[1]) * KIB if match else None
