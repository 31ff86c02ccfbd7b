"""What a target is and whether the runtime will run there: only reads, and needs no Python on the device."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from importlib.resources import files
from typing import Literal

from host_tools.ship.errors import ShipError
from host_tools.ship.offers import Offer
from host_tools.ship.python_archive import PythonArchive
from host_tools.ship.transport import Transport
from host_tools.ship.wheels import MACHINES, Platform

SCHEMA = 1
TIMEOUT_S = 60.0
OLDEST = (3, 10)
MIB_KIB = 1 << 10
# A release with its runtime and wheels took 122 MB; another comes beside it before the old one goes.
WANTED_DISK_KIB = 300 * MIB_KIB
WANTED_MEMORY_KIB = 256 * MIB_KIB
CLOCK_OFF_S = 60
HOT_C = 80.0
# Of a Raspberry Pi's firmware: what is so now. The same bits, 16 higher, say what has been since it was started.
THROTTLE_BITS = {0: "under-voltage", 1: "frequency capped", 2: "throttled", 3: "soft temperature limit"}

Level = Literal["ok", "note", "warning", "fail"]


@dataclass(frozen=True, kw_only=True)
class Python:
    """A Python of the device."""

    version: tuple[int, int, int]
    implementation: str
    bits: int
    executable: str


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was looked at."""

    level: Level
    about: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """What a target is, what would be shipped there, or why nothing can be."""

    schema: int
    target: str
    board: str
    system: str
    platform: str
    python: str
    wheels: tuple[str, ...]
    fits: bool
    findings: tuple[Finding, ...]
    facts: dict[str, tuple[str, ...]]

    def to_text(self) -> str:
        """As lines for people."""
        lines = [f"{'board':10} {self.board}", f"{'system':10} {self.system}"]
        for one in self.findings:
            lines.append(f"{one.about:10} {one.text}" + ("" if one.level == "ok" else f"  [{one.level}]"))
        if self.fits:
            lines.append(f"{'ships':10} edge_runtime, {', '.join(self.wheels)} for {self.platform}")
        verdict = "fits" if self.fits else "does NOT fit"
        return "\n".join([*lines, f"{self.target} {verdict}"])


Facts = dict[str, tuple[str, ...]]


def ask(transport: Transport, root: str, where: str) -> Facts:
    """What the device says: values by key. Raises ShipError if no shell answers."""
    script = files("host_tools.ship").joinpath("device_doctor.sh").read_bytes()
    done = transport.run(["sh", "-s", "--", root], [script], timeout_s=TIMEOUT_S)
    facts: dict[str, tuple[str, ...]] = {}
    for line in done.stdout.decode("utf-8", "replace").splitlines():
        key, tab, value = line.partition("\t")
        if tab and re.fullmatch(r"[A-Za-z_]+", key):
            facts[key] = (*facts.get(key, ()), value.strip())
    if "end" not in facts:
        raise ShipError(f"{where}: no shell answered ({done.last_words}); does the login there run programs?")
    return facts


def board_of(facts: Facts) -> str:
    """The board's name as its maker gives it; for x86 that of the machine."""
    model = _one(facts, "model")
    if not model and _one(facts, "machine") in ("x86_64", "amd64", "i686"):
        return f"x86 ({_one(facts, 'product') or 'no name'})"
    return re.sub(r" Rev [0-9.]+$", "", model) or f"not known ({_one(facts, 'machine')})"


def system_of(facts: Facts) -> str:
    """The system's name; of a Jetson also JetPack's, of a Raspberry Pi that it is Raspberry Pi OS."""
    name = _one(facts, "os_name") or "not known"
    tegra = re.match(r"# R(\d+) .*REVISION: (\d+)", _one(facts, "tegra"))
    if tegra:
        jetpack = {"32": "4", "34": "5", "35": "5", "36": "6"}.get(tegra[1], "?")
        # JetPack 4.6 is L4T 32.6 and 32.7; earlier 4.x have lower revisions.
        jetpack += ".6" if tegra[1] == "32" and int(tegra[2]) >= 6 else ""
        return f"{name}, JetPack {jetpack} (L4T {tegra[1]}.{tegra[2]})"
    if "rpi_issue" in facts or _one(facts, "os_id") == "raspbian":
        return f"Raspberry Pi OS {_one(facts, 'os_version')} ({name})"
    return name


def diagnose(
    target: str,
    facts: Facts,
    offer: Offer,
    requirements: tuple[str, ...],
    archive: PythonArchive | None = None,
    *,
    now_s: float,
) -> Diagnosis:
    """Chooses runtime and wheels from what a device said, or tells why none fits; a pure function but for `offer`.

    now_s  this machine's time (Unix) when the device answered
    """
    findings: list[Finding] = []
    platform, python = _platform(facts, archive, findings)
    wheels: list[str] = []
    if platform is not None:
        for name, found in offer(platform, requirements).items():
            if found.wheel:
                wheels.append(found.wheel)
            else:
                findings.append(Finding(level="fail", about="wheels", text=f"{name}: {found.why}"))
    findings += [*_machine(facts), *_service(facts), *_state(facts, now_s)]
    fits = platform is not None and not any(one.level == "fail" for one in findings)
    return Diagnosis(
        schema=SCHEMA,
        target=target,
        board=board_of(facts),
        system=system_of(facts),
        platform=str(platform or ""),
        python=python,
        wheels=tuple(wheels),
        fits=fits,
        findings=tuple(findings),
        facts=facts,
    )


def pythons_of(facts: Facts) -> list[Python]:
    """All that answered, each once."""
    found = {}
    for text in facts.get("python", ()):
        if match := re.fullmatch(r"(\d+)\.(\d+)\.(\d+) (\S+) (\d+) (.+)", text):
            version = (int(match[1]), int(match[2]), int(match[3]))
            found[match[6]] = Python(version=version, implementation=match[4], bits=int(match[5]), executable=match[6])
    return list(found.values())


def _platform(facts: Facts, archive: PythonArchive | None, findings: list[Finding]) -> tuple[Platform | None, str]:
    """The platform of the wheels, and the Python; findings say what is in the way."""

    def fail(about: str, text: str) -> None:
        findings.append(Finding(level="fail", about=about, text=text))

    machine = MACHINES.get(_one(facts, "machine").lower())
    libc = re.match(r"glibc (\d+)\.(\d+)", _one(facts, "libc"))
    if machine is None:
        fail("processor", f"{_one(facts, 'machine')}; 64-bit x86_64 or aarch64 wanted: no engine has wheels for it")
    elif _one(facts, "bits") == "32":
        fail("processor", f"{machine} with a 32-bit system; a 64-bit one wanted: the board can run it, install it anew")
    else:
        findings.append(Finding(level="ok", about="processor", text=f"{machine}, {_one(facts, 'cpus') or '?'} CPUs"))
    if libc is None:
        fail("libc", f"{_one(facts, 'libc') or 'not known'}; glibc wanted (wheels need it)")
    else:
        findings.append(Finding(level="ok", about="libc", text=f"glibc {libc[1]}.{libc[2]}"))
    found = pythons_of(facts)
    fitting = [p for p in found if p.version[:2] >= OLDEST and p.implementation == "cpython" and p.bits == 64]
    if fitting:
        chosen, words = fitting[0].version, f"{_version(fitting[0].version)}, {fitting[0].executable}"
        findings.append(Finding(level="ok", about="python", text=words))
    elif archive is not None and archive.machine == machine:
        chosen, words = archive.version, f"{_version(archive.version)}, brought: {archive.path.name}"
        findings.append(Finding(level="ok", about="python", text=words))
        for tool in {"tar", "gzip", "sha256sum"} - set(facts.get("tool", ())):
            fail("python", f"{tool} is missing, which unpacks what is brought")
    else:
        there = ", ".join(f"{_version(p.version)} ({p.bits} bits)" for p in found) or "none"
        other = f"; the archive is for {archive.machine}" if archive else ""
        fail("python", f"{there}; 64-bit CPython 3.10 or newer wanted: --python-archive brings one{other}")
        return None, ""
    if machine is None or libc is None or any(one.level == "fail" for one in findings):
        return None, words
    return Platform(machine=machine, python=chosen[:2], glibc=(int(libc[1]), int(libc[2]))), words


def _machine(facts: Facts) -> list[Finding]:
    """Disk and memory."""
    findings = []
    free, root = int(_one(facts, "disk_free_kib") or 0), _one(facts, "root")
    text = f"{free / MIB_KIB:.0f} MiB free at {root}"
    if blocked := _one(facts, "root_blocked"):
        findings.append(Finding(level="fail", about="disk", text=f"{blocked} is no folder; a folder wanted at {root}"))
    elif _one(facts, "root_writable") != "yes":
        findings.append(Finding(level="fail", about="disk", text=f"{root}: {_one(facts, 'user')} may not write there"))
    elif free < WANTED_DISK_KIB:
        findings.append(Finding(level="fail", about="disk", text=f"{text}; {WANTED_DISK_KIB // MIB_KIB} MiB wanted"))
    else:
        findings.append(Finding(level="ok", about="disk", text=text))
    total, available = (int(_one(facts, key) or 0) for key in ("MemTotal", "MemAvailable"))
    text = f"{total / MIB_KIB:.0f} MiB, {available / MIB_KIB:.0f} MiB available"
    level: Level = "warning" if total < WANTED_MEMORY_KIB else "ok"
    findings.append(Finding(level=level, about="memory", text=text))
    return findings


def _service(facts: Facts) -> list[Finding]:
    """User, systemd, serial ports."""
    user, groups = _one(facts, "user"), _one(facts, "groups").split()
    sudo = {"root": "is root", "yes": "sudo without a password", "no": "no sudo without a password"}
    findings = [Finding(level="ok", about="user", text=f"{user}, {sudo.get(_one(facts, 'sudo'), 'sudo not known')}")]
    systemd = re.match(r"systemd (\d+)", _one(facts, "systemd"))
    if systemd is None:
        findings.append(Finding(level="warning", about="systemd", text="none: nothing restarts the runtime"))
    else:
        state, own = _one(facts, "systemd_state") or "not running", _one(facts, "systemd_user") or "none for this user"
        lingers = "lingering" if "linger" in facts else "not lingering: its units stop when it logs out"
        level: Level = "ok" if state in ("running", "degraded", "starting") else "warning"
        text = f"{systemd[1]}, {state}; of the user: {own}, {lingers}"
        findings.append(Finding(level=level, about="systemd", text=text))
    for text in facts.get("serial", ()):
        port, _, state = text.rpartition(" ")
        closed = f"{port}: {user} may not open it" + ("" if "dialout" in groups else "; not in the group dialout")
        is_open = state == "open"
        findings.append(Finding(level="ok" if is_open else "note", about="serial", text=port if is_open else closed))
    if "serial" not in facts:
        findings.append(Finding(level="note", about="serial", text="no serial port is there now"))
    return findings


def _state(facts: Facts, now_s: float) -> list[Finding]:
    """Clock, heat, throttling."""
    off = float(_one(facts, "time_s") or now_s) - now_s
    ntp = {"yes": "set by the network", "no": "NOT set by the network"}.get(
        _one(facts, "ntp"), "who sets it is not known"
    )
    rtc = "a clock chip" if "rtc" in facts else "no clock chip"
    level: Level = "warning" if abs(off) > CLOCK_OFF_S else "ok"
    findings = [Finding(level=level, about="clock", text=f"{off:+.0f} s off this machine's, {ntp}, {rtc}")]
    heat = [(float(v.split()[-1]) / 1000, v.split()[0]) for v in facts.get("thermal", ()) if _is_heat(v)]
    if heat:
        top, zone = max(heat)
        level = "warning" if top >= HOT_C else "ok"
        findings.append(Finding(level=level, about="heat", text=f"{top:.0f} C ({zone})"))
    if throttled := _one(facts, "throttled"):
        bits = int(throttled, 16)
        now = [text for bit, text in THROTTLE_BITS.items() if bits >> bit & 1]
        was = [text for bit, text in THROTTLE_BITS.items() if bits >> (bit + 16) & 1 and text not in now]
        parts = [f"{', '.join(now)} now"] * bool(now) + [f"{', '.join(was)} since it was started"] * bool(was)
        level = "warning" if now else "note" if was else "ok"
        findings.append(Finding(level=level, about="throttling", text="; ".join(parts) or "none"))
    return findings


def _is_heat(text: str) -> bool:
    return re.fullmatch(r"\S+ -?\d+", text) is not None


def _version(version: tuple[int, int, int]) -> str:
    return ".".join(map(str, version))


def _one(facts: Facts, key: str) -> str:
    return facts.get(key, ("",))[0]


def to_json(found: Diagnosis) -> dict[str, object]:
    """As one JSON object."""
    return asdict(found)
