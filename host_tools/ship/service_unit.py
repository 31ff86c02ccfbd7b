"""The systemd units of a gateway as text: the service in its sandbox, what falls back for it, what restarts it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

from edge_runtime.contract.errors import SettingsError
from edge_runtime.sensors.source import RECORDINGS, SCHEMES
from host_tools.ship.device_gate import TAKEN
from host_tools.ship.sources import ALONE

Scope = Literal["system", "user"]
UNIT = "vitaledge.service"
FALLBACK = "vitaledge-fallback.service"
RESTART = "vitaledge-restart.service"
RESTART_PATH = "vitaledge-restart.path"
MOST_RESTARTS = 5
START_ALLOWANCE_S = 20  # a Raspberry Pi Zero loads the engine for about ten seconds
# Of the two small units beside the service, which run for an instant: all that talking to systemd leaves over.
SMALL_WALLS = """NoNewPrivileges=yes
CapabilityBoundingSet=CAP_DAC_READ_SEARCH
ProtectSystem=strict
PrivateTmp=yes
PrivateDevices=yes
PrivateNetwork=yes
ProtectClock=yes
ProtectHostname=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
RestrictAddressFamilies=AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
"""
# systemd looks names up among the drivers that are loaded when the service starts. USB's are loaded when the first
# adapter is plugged in, which may be later: theirs are also named by number (Linux's devices.txt), which never changes.
SERIAL_DEVICES = ("char-ttyUSB", "char-188", "char-ttyACM", "char-166", "char-ttyAMA", "char-ttyS", "char-ttyTHS")


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What a source needs of the machine.

    folder  where its recordings lie; empty: none are read
    """

    is_serial: bool = False
    is_network: bool = False
    is_bluetooth: bool = False
    folder: str = ""


@dataclass(frozen=True, kw_only=True)
class ServiceSpec:
    """A service as it should be.

    root   the root folder on the device
    owner  the user who deploys there
    """

    source: str
    root: str
    owner: str
    python: str
    scope: Scope
    watchdog_s: int = 10
    memory_mib: int = 512


def needs_of(source: str) -> Needs:
    """What a source's URL says that it needs; raises SettingsError for one that a service cannot read."""
    scheme, colon, rest = source.partition(":")
    path = rest.partition("?")[0]
    if not colon or scheme not in SCHEMES or any(c in source for c in "\n\r\0"):
        raise SettingsError(f"source is {source!r}; SCHEME:PATH?key=value wanted, where SCHEME is {', '.join(SCHEMES)}")
    if scheme == "stdin":
        raise SettingsError("source is stdin:, and nobody types at a service; serial, tcp, ble or a recording wanted")
    if scheme == "tcp" or (scheme == "serial" and not path.startswith("///dev/") and "://" in path):
        return Needs(is_network=True)
    if scheme == "serial":
        return Needs(is_serial=True)
    if scheme == "ble":
        return Needs(is_bluetooth=True)
    if scheme in RECORDINGS and scheme != "synthetic":
        if not path.startswith("/"):
            raise SettingsError(f"source is {source!r}; a recording's whole path wanted, from / on")
        return Needs(folder=str(PurePosixPath(path).parent))
    return Needs()


def units(spec: ServiceSpec) -> dict[str, str]:
    """File name -> text of every unit."""
    found = {UNIT: service(spec), FALLBACK: fallback(spec)}
    if spec.scope == "system":
        found |= {RESTART: restart(spec), RESTART_PATH: restart_path(spec)}
    return found


def service(spec: ServiceSpec) -> str:
    """The service itself: at most five restarts, then `fallback`."""
    needs = needs_of(spec.source)
    # Also hangs that are found by the watchdog alone must count together.
    interval_s = max(60, (MOST_RESTARTS + 1) * (spec.watchdog_s + START_ALLOWANCE_S))
    argv = [f"{spec.root}/bin/edge-runtime", "run", f"{spec.root}/current", spec.source, "--json", "--wait"]
    lines = [
        "# Written by `vitaledge service install`, which replaces it.",
        "[Unit]",
        "Description=vitaledge: readings from a wearable",
        f"StartLimitIntervalSec={interval_s}",
        f"StartLimitBurst={MOST_RESTARTS + 1}",
        f"OnFailure={FALLBACK}",
        "",
        "[Service]",
        "Type=notify",
        "NotifyAccess=main",
        f"ExecStart={' '.join(quoted(word) for word in argv)}",
        "Environment=PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/",
        f"WatchdogSec={spec.watchdog_s}",
        "TimeoutStartSec=90",
        "TimeoutStopSec=5",
        "Restart=on-failure",
        "RestartSec=1",
        "LimitCORE=0",
        f"MemoryMax={spec.memory_mib}M",
        "TasksMax=64",
        *walls(needs),
        *(system_walls(spec, needs) if spec.scope == "system" else []),
        "",
        "[Install]",
        f"WantedBy={'multi-user' if spec.scope == 'system' else 'default'}.target",
    ]
    return "\n".join(lines) + "\n"


def walls(needs: Needs) -> list[str]:
    """What any systemd can put up, a user's too."""
    families = "AF_UNIX AF_INET AF_INET6" if needs.is_network else "AF_UNIX"
    return [
        "NoNewPrivileges=yes",
        f"RestrictAddressFamilies={families}",
        "RestrictNamespaces=yes",
        "RestrictRealtime=yes",
        "RestrictSUIDSGID=yes",
        "LockPersonality=yes",
        "MemoryDenyWriteExecute=yes",
        "SystemCallArchitectures=native",
        "SystemCallFilter=@system-service",
        "SystemCallFilter=~@privileged @resources",
        "SystemCallErrorNumber=EPERM",
        "UMask=0077",
    ]


def system_walls(spec: ServiceSpec, needs: Needs) -> list[str]:
    """What only the system's own systemd can: a user of its own, and a file system and devices that it hardly sees."""
    # /proc/cpuinfo stays: the engine reads it to choose its kernels.
    lines = [
        "DynamicUser=yes",
        "User=vitaledge",
        "CapabilityBoundingSet=",
        "AmbientCapabilities=",
        "ProtectSystem=strict",
        "PrivateTmp=yes",
        "ProtectHome=tmpfs",
        f"BindReadOnlyPaths={quoted(spec.root)}",
        "ProtectClock=yes",
        "ProtectHostname=yes",
        "ProtectKernelTunables=yes",
        "ProtectKernelModules=yes",
        "ProtectKernelLogs=yes",
        "ProtectControlGroups=yes",
        "ProtectProc=invisible",
        "PrivateIPC=yes",
        "KeyringMode=private",
        "RemoveIPC=yes",
        "DevicePolicy=closed",
    ]
    if needs.folder:
        lines.append(f"BindReadOnlyPaths={quoted(needs.folder)}")
    if needs.is_serial:
        lines += [f"DeviceAllow={name} rw" for name in SERIAL_DEVICES]
        lines.append("SupplementaryGroups=dialout")
    else:
        lines += ["PrivateDevices=yes", "PrivateUsers=yes"]
    if not needs.is_network:
        lines.append("IPAddressDeny=any")
        if not needs.is_bluetooth:
            lines.append("PrivateNetwork=yes")
    return lines


def fallback(spec: ServiceSpec) -> str:
    """Runs when the service failed too often: the release before is active again, and the service starts afresh."""
    # Only root may start the system's service, but nothing of the user's folder is run as root.
    is_system = spec.scope == "system"
    plus = "+" if is_system else ""
    run_as = f"User={spec.owner}\n{SMALL_WALLS}ReadWritePaths={quoted(spec.root)}\n" if is_system else ""
    systemctl = f"/usr/bin/env systemctl{'' if is_system else ' --user'}"
    script = [spec.python, *ALONE, f"{spec.root}/service/fall_back.py", spec.root]
    return (
        "# Written by `vitaledge service install`, which replaces it.\n"
        "[Unit]\n"
        "Description=vitaledge: back to the release before\n"
        "StartLimitIntervalSec=0\n\n"
        "[Service]\n"
        "Type=oneshot\n"
        f"{run_as}"
        "TimeoutStartSec=900\n"
        f"ExecStart={' '.join(quoted(word) for word in script)}\n"
        f"ExecStartPost={plus}{systemctl} reset-failed {UNIT}\n"
        f"ExecStartPost={plus}{systemctl} start --no-block {UNIT}\n"
    )


def restart(spec: ServiceSpec) -> str:
    """Does as root the one thing that the user who deploys may ask for, once for each request's number."""
    script = (
        'word=; number=; read -r word number < "$$REQUEST"; '
        '[ "$$number" ] && [ "$$number" = "$$(cat $$TAKEN 2>/dev/null)" ] && exit 0; '
        '[ "$$word" = kill ] && systemctl kill --signal=KILL $$UNIT; '
        'if [ "$$word" = stop ]; then systemctl stop --no-block $$UNIT; '
        "else systemctl reset-failed $$UNIT; systemctl restart --no-block $$UNIT; fi "
        '&& echo "$$number" > $$TAKEN'
    )
    return (
        "# Written by `vitaledge service install`, which replaces it.\n"
        "[Unit]\n"
        "Description=vitaledge: start the active release\n"
        "StartLimitIntervalSec=0\n\n"
        "[Service]\n"
        "Type=oneshot\n"
        "TimeoutStartSec=10\n"
        f"{SMALL_WALLS}ProtectHome=read-only\n"
        f"RuntimeDirectory={PurePosixPath(TAKEN).parent.name}\nRuntimeDirectoryPreserve=yes\n"
        f"Environment={quoted(f'REQUEST={spec.root}/service/request')} TAKEN={TAKEN} UNIT={UNIT}\n"
        f"ExecStart=/bin/sh -c '{script}'\n"
    )


def restart_path(spec: ServiceSpec) -> str:
    """Waits for the user who deploys to write the request."""
    return (
        "# Written by `vitaledge service install`, which replaces it.\n"
        "[Unit]\n"
        "Description=vitaledge: wait for a deployment\n\n"
        "[Path]\n"
        f"PathChanged={spec.root.replace('%', '%%')}/service/request\n"
        f"Unit={RESTART}\n\n"
        "[Install]\n"
        "WantedBy=multi-user.target\n"
    )


def quoted(word: str) -> str:
    """A word as systemd reads it back unchanged. Source: systemd.syntax(7), systemd.service(5)."""
    if any(ord(c) < 32 for c in word):
        raise SettingsError(f"{word!r}: a control character; none wanted")
    text = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{text}"'
