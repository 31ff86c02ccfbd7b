"""Probes on trees of files: what is there is read right, what is not there is None and never 0."""

from __future__ import annotations

import resource
from pathlib import Path

import psutil
import pytest

from edge_runtime import probes

# Files as a Raspberry Pi 4 with a 64-bit system lays them out; the figures are made up.
PI = {
    "proc/self/status": "Name:\tpython3\nVmPeak:\t  201180 kB\nVmHWM:\t   48212 kB\nVmRSS:\t   47988 kB\n",
    "proc/self/smaps_rollup": "5580000000-7ffd000000 ---p 00000000 00:00 0   [rollup]\n"
    "Rss:               47988 kB\nPss:               41007 kB\nPss_Anon:          33000 kB\n",
    "proc/cpuinfo": "".join(
        f"processor\t: {i}\nBogoMIPS\t: 108.00\nCPU implementer\t: 0x41\nCPU part\t: 0xd08\n\n" for i in range(4)
    )
    + "Revision\t: c03114\nModel\t\t: Raspberry Pi 4 Model B Rev 1.4\n",
    "proc/meminfo": "MemTotal:        3884392 kB\nMemFree:         2101000 kB\n"
    "SwapTotal:        102396 kB\nSwapFree:          98300 kB\n",
    "proc/loadavg": "0.52 0.58 0.59 1/311 2041\n",
    "proc/device-tree/model": "Raspberry Pi 4 Model B Rev 1.4\0",
    "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
    "sys/class/thermal/thermal_zone0/temp": "61835\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "1500000\n",
    "sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq": "1800000\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "ondemand\n",
    "sys/devices/platform/soc/soc:firmware/get_throttled": "50005\n",
}


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_a_raspberry_pi(tmp_path: Path) -> None:
    root = tree(tmp_path, PI)
    assert probes.memory(root=root) == probes.Memory(
        rss_bytes=47988 * 1024, peak_rss_bytes=48212 * 1024, pss_bytes=41007 * 1024
    )
    assert probes.machine(root) == probes.Machine(
        board="Raspberry Pi 4 Model B Rev 1.4",
        cpu="ARM implementer 0x41 part 0xd08",
        cpus=4,
        memory_bytes=3884392 * 1024,
    )
    state = probes.machine_state(root)
    assert state == probes.MachineState(
        temperature_c=61.835,
        frequency_hz=1_500_000_000,
        max_frequency_hz=1_800_000_000,
        governor="ondemand",
        throttled=(
            "under-voltage",
            "throttled",
            "under-voltage has occurred",
            "throttling has occurred",
        ),
        load_1min=0.52,
        swap_used_bytes=4096 * 1024,
    )
    assert state.to_json()["throttled"] == state.throttled


def test_what_is_not_there_is_none_and_never_zero(tmp_path: Path) -> None:
    for found in (probes.memory(root=tmp_path), probes.machine(tmp_path), probes.machine_state(tmp_path)):
        assert set(vars(found).values()) == {None}


def test_what_is_damaged_is_none(tmp_path: Path) -> None:
    root = tree(tmp_path, dict.fromkeys(PI, "\x80?\n"))
    assert probes.memory(root=root) == probes.Memory(rss_bytes=None, peak_rss_bytes=None, pss_bytes=None)
    state = probes.machine_state(root)
    assert (state.temperature_c, state.frequency_hz, state.throttled, state.load_1min) == (None,) * 4
    assert probes.machine(root).cpus is None


def test_no_throttling_is_an_empty_list_and_not_none(tmp_path: Path) -> None:
    root = tree(tmp_path, {"sys/devices/platform/soc/soc:firmware/get_throttled": "0\n"})
    assert probes.throttle_flags(root) == ()


def test_the_cpus_own_zones_count_and_the_hottest_of_them(tmp_path: Path) -> None:
    # Zones as a Jetson names them; the PMIC is no CPU.
    zones = {"CPU-therm": 42500, "GPU-therm": 39000, "PMIC-Die": 100000, "SOC0-therm": 43250}
    files = {}
    for i, (kind, value) in enumerate(zones.items()):
        files[f"sys/class/thermal/thermal_zone{i}/type"] = kind
        files[f"sys/class/thermal/thermal_zone{i}/temp"] = str(value)
    assert probes.cpu_temperature_c(tree(tmp_path, files)) == 43.25


def test_a_temperature_below_zero_is_one(tmp_path: Path) -> None:
    files = {"sys/class/thermal/thermal_zone0/type": "cpu", "sys/class/thermal/thermal_zone0/temp": "-3500"}
    assert probes.cpu_temperature_c(tree(tmp_path, files)) == -3.5


def test_a_pc_has_its_names_elsewhere(tmp_path: Path) -> None:
    files = {
        "proc/cpuinfo": "".join(f"processor\t: {i}\nmodel name\t: Intel(R) N100\n" for i in range(2)),
        "sys/devices/virtual/dmi/id/product_name": "NUC\n",
    }
    found = probes.machine(tree(tmp_path, files))
    assert (found.board, found.cpu, found.cpus) == ("NUC", "Intel(R) N100", 2)


def test_bytes_from_the_disk_are_told_apart_from_what_was_read_in_memory(tmp_path: Path) -> None:
    io = "rchar: 6976\nwchar: 0\nread_bytes: {}\nwrite_bytes: 12\n"
    assert probes.bytes_from_disk(root=tree(tmp_path / "cold", {"proc/self/io": io.format(40960)})) == 40960
    assert probes.bytes_from_disk(root=tree(tmp_path / "warm", {"proc/self/io": io.format(0)})) == 0
    assert probes.bytes_from_disk(root=tmp_path) is None


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_this_process_against_psutil_and_getrusage() -> None:
    found = probes.memory()
    assert found.rss_bytes == pytest.approx(psutil.Process().memory_info().rss, rel=0.05)
    assert found.peak_rss_bytes == pytest.approx(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, rel=0.05)
    assert found.rss_bytes is not None
    assert found.pss_bytes is None or 0 < found.pss_bytes <= found.rss_bytes * 1.05
