"""The verbs of the service: install it on a device, take it away, say how it is."""

from __future__ import annotations

from dataclasses import dataclass

from host_tools.ship.ask import ask
from host_tools.ship.device import Device, connect
from host_tools.ship.errors import ShipError
from host_tools.ship.options import ShipOptions
from host_tools.ship.service_unit import FALLBACK, RESTART, RESTART_PATH, UNIT, Scope, ServiceSpec, needs_of, units
from host_tools.ship.sources import program, text_of

SCRIPT = ("device_files.py", "device_service.py")
SYSTEM_FOLDER = "/etc/systemd/system"
RULES = "/etc/udev/rules.d/60-vitaledge-wearable.rules"
NAMES = (UNIT, FALLBACK, RESTART, RESTART_PATH)


@dataclass(frozen=True, kw_only=True)
class ServiceState:
    """How the service on a device is; `state` is systemd's words for it, `fallback` the last one, if there was one."""

    scope: str
    source: str
    release: str
    state: dict[str, str]
    fallback: dict[str, str]
    warning: str = ""

    def to_text(self) -> str:
        """For people."""
        if not self.scope:
            return "no service is installed; `vitaledge service install TARGET --source URL`"
        said = self.state.get("StatusText", "")
        lines = [
            f"service    {self.state.get('ActiveState', 'not known')} ({self.state.get('SubState', '')}), "
            f"of the {self.scope}" + (f": {said}" if said else ""),
            f"source     {self.source}",
            f"release    {self.release or 'none has proved itself yet'}",
            f"restarts   {self.state.get('NRestarts', 'not known')} since it was started",
        ]
        if self.fallback:
            f = self.fallback
            lines.append(f"fell back  from {f['from']} to {f['to']} at {f['at']}, after too many restarts")
        if self.warning:
            lines.append(f"warning    {self.warning}")
        return "\n".join(lines)


def install(
    target: str,
    source: str,
    *,
    scope: Scope | None = None,
    memory_mib: int = 512,
    watchdog_s: int = 10,
    options: ShipOptions | None = None,
) -> ServiceState:
    """Have systemd run the active release on a source; None: for the system if we may, else for the user.

    Raises SettingsError for a source that a service cannot read, and ShipError for everything else.
    """
    options = options or ShipOptions()
    needs_of(source)
    with connect(target, options) as device, device.locked():
        if device.facts(brief=True).current is None:
            raise ShipError(f"{device.name}: no release is active there; deploy one first")
        here = ask(device, SCRIPT, "look", root=device.root)
        if not here["systemd"]:
            raise ShipError(f"{device.name}: systemd does not run there; start `bin/edge-runtime run` by other means")
        may = bool(here["is_root"] or here["may_sudo"])
        if scope == "system" and not may:
            raise ShipError(f"{device.name}: root or sudo without a password wanted for the system's service")
        spec = ServiceSpec(
            source=source,
            root=device.root,
            owner=str(here["owner"]),
            python=device.executable,
            scope=scope or ("system" if may else "user"),
            memory_mib=memory_mib,
            watchdog_s=watchdog_s,
        )
        before = device.verb("service_state", root=device.root)
        if before["scope"] not in ("", spec.scope):
            raise ShipError(
                f"{device.name}: a service of the {before['scope']} is installed there; remove it with "
                "`vitaledge service remove` first"
            )
        fall_back = program("device_files.py", "device_fallback.py")
        device.verb("note_service", root=device.root, scope=spec.scope, unit=UNIT, source=source, fall_back=fall_back)
        is_system = spec.scope == "system"
        done = ask(
            device,
            SCRIPT,
            "install",
            by_sudo=is_system and not here["is_root"],
            folder=SYSTEM_FOLDER if is_system else f"{here['home']}/.config/systemd/user",
            units=units(spec),
            scope=spec.scope,
            enable=[UNIT, RESTART_PATH] if is_system else [UNIT],
            rules={RULES: _rules()} if is_system else {},
        )
        device.verb("serve", root=device.root, start_s=options.limits.start_s)
        warning = (
            "" if done["lingers"] else f"it ends at the log-out: have root run loginctl enable-linger {here['user']}"
        )
        return _state(device, warning)


def remove(target: str, *, options: ShipOptions | None = None) -> tuple[str, ...]:
    """Stop the service and take its units away; gives their names. Releases stay."""
    with connect(target, options) as device, device.locked():
        scope = device.verb("service_state", root=device.root)["scope"]
        here = ask(device, SCRIPT, "look", root=device.root)
        if scope == "system" and not (here["is_root"] or here["may_sudo"]):
            raise ShipError(f"{device.name}: root or sudo without a password wanted to remove the system's service")
        if not scope:
            return ()
        is_system = scope == "system"
        done = ask(
            device,
            SCRIPT,
            "remove",
            by_sudo=is_system and not here["is_root"],
            folder=SYSTEM_FOLDER if is_system else f"{here['home']}/.config/systemd/user",
            names=list(NAMES),
            scope=scope,
            rules=[RULES] if is_system else [],
        )
        device.verb("forget_service", root=device.root)
        return tuple(done["removed"])  # type: ignore[arg-type]


def state(target: str, *, options: ShipOptions | None = None) -> ServiceState:
    """How the service is; an empty scope: there is none."""
    with connect(target, options) as device:
        return _state(device)


def _state(device: Device, warning: str = "") -> ServiceState:
    found = device.verb("service_state", root=device.root)
    return ServiceState(
        scope=str(found["scope"]),
        source=str(found["source"]),
        release=str(found["release"]),
        state=dict(found["state"]),  # type: ignore[call-overload]
        fallback=dict(found["fallback"]),  # type: ignore[call-overload]
        warning=warning,
    )


def _rules() -> str:
    return text_of("wearables.rules")
