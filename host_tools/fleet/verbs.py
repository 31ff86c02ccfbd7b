"""What can be done with every host besides deploying: status, rollback, logs, collect, exec."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from host_tools.fleet.inventory import Host
from host_tools.fleet.run import Work
from host_tools.ship.deploy import rollback_on
from host_tools.ship.device import Device
from host_tools.ship.errors import ShipError
from host_tools.ship.options import ShipOptions
from host_tools.ship.transport import Completed

UNIT = "vitaledge"
LOGS_S = 60.0

Tell = Callable[[str], None]


def status(host: Host, device: Device, say: Tell) -> dict[str, object]:
    """What the host has."""
    say("looking")
    return asdict(device.facts())


def rollback(to: str | None, options: ShipOptions) -> Work:
    """The release before, or `to`."""

    def work(host: Host, device: Device, say: Tell) -> dict[str, object]:
        say("rolling back")
        return asdict(rollback_on(device, to, options))

    return work


def logs(n_lines: int) -> Work:
    """The last lines of the service's log, of the system's unit and the user's."""

    def work(host: Host, device: Device, say: Tell) -> dict[str, object]:
        say("reading the log")
        argv = ["journalctl", "--no-pager", "--quiet", "-o", "short-iso", "-n", str(n_lines)]
        done = device.transport.run([*argv, "-u", UNIT, "--user-unit", UNIT], timeout_s=LOGS_S)
        if done.rc != 0:
            raise ShipError(f"{device.name}: journalctl ended with {done.rc}: {done.last_words}")
        return {"lines": _text(done.stdout).splitlines()}

    return work


def execute(argv: Sequence[str], timeout_s: float) -> Work:
    """`edge-runtime ARGV` of the active release; {name} in it is a variable, {current} the active release."""

    def work(host: Host, device: Device, say: Tell) -> dict[str, object]:
        words = filled(host, argv, device.root)
        say("edge-runtime " + " ".join(words))
        done = device.edge_runtime(words, timeout_s=timeout_s)
        if done.rc != 0:
            raise ShipError(f"{device.name}: edge-runtime {words[0]} ended with {done.rc}: {done.last_words}")
        return {"output": _text(done.stdout), "errors": _text(done.stderr)}

    return work


def filled(host: Host, argv: Sequence[str], root: str) -> list[str]:
    """The arguments of `exec` for one host; raises SettingsError for a variable that it lacks."""
    own = replace(host, variables={"current": f"{root}/current", "root": root, **host.variables})
    return [own.filled(word) for word in argv]


def collect(out: Path, patterns: Sequence[str], timeout_s: float) -> Work:
    """OUT/HOST/: status.json, check.json with what the active release costs there, and files below the root.

    `unmatched` of the answer are patterns that no file there matches.
    """

    def work(host: Host, device: Device, say: Tell) -> dict[str, object]:
        folder = out / host.name
        folder.mkdir(parents=True, exist_ok=True)
        say("looking")
        (folder / "status.json").write_text(json.dumps(asdict(device.facts(brief=True)), indent=1))
        files = ["status.json"]
        say("checking the active release")
        done = _check(device, timeout_s)
        if done.rc == 0:
            (folder / "check.json").write_bytes(done.stdout)
            files.append("check.json")
        found = {pattern: _names(device, pattern) for pattern in patterns}
        for name in sorted(set().union(*found.values())):
            say(f"fetching {name}")
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            device.get(name, folder / name)
            files.append(name)
        unmatched = [pattern for pattern, names in found.items() if not names]
        return {"folder": str(folder), "files": files, "unmatched": unmatched}

    return work


def _check(device: Device, timeout_s: float) -> Completed:
    done = device.edge_runtime(["check", device.path("current"), "--timing", "--json"], timeout_s=timeout_s)
    # 2: a runtime from before checks could be timed.
    if done.rc != 2:
        return done
    return device.edge_runtime(["check", device.path("current"), "--json"], timeout_s=timeout_s)


def matched_nowhere(answers: Sequence[dict[str, object]]) -> list[str]:
    """Patterns of `collect` that no file of any host matches, of the hosts that answered."""
    found = [patterns for one in answers if isinstance(patterns := one.get("unmatched"), list)]
    return [str(pattern) for pattern in found[0] if all(pattern in one for one in found)] if found else []


def _names(device: Device, pattern: str) -> list[str]:
    found = device.verb("names", root=device.root, patterns=[pattern])["names"]
    if not isinstance(found, list):
        raise ShipError(f"{device.name}: names answered {found!r}; a list wanted")
    # What comes from a device decides nothing about where files lie here.
    return [str(n) for n in found if not Path(n).is_absolute() and ".." not in Path(n).parts]


def _text(output: bytes) -> str:
    return output.decode("utf-8", "replace").strip()
