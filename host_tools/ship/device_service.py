"""Runs on the device, sent as `python3 -c`, as root where the units are the system's: puts them there, or away.

Standard library only. The verb is the argument, its own arguments are JSON on standard input; answers one line of
JSON.
"""

# Its output is its answer.
# ruff: noqa: T201

from __future__ import annotations

import contextlib
import json
import os
import pwd
import shutil
import subprocess
import sys
from typing import Any

from host_tools.ship.device_files import write_synced


class RefusedError(Exception):
    """systemd is not there, or refuses."""


def run(*argv: str) -> subprocess.CompletedProcess[str]:
    """A program's end and what it said."""
    environment = {"XDG_RUNTIME_DIR": f"/run/user/{os.getuid()}", **os.environ}
    return subprocess.run(
        argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=120, env=environment
    )


def systemctl(scope: str, *argv: str) -> None:
    """Tell systemd; raises RefusedError with what it says."""
    done = run("systemctl", *(["--user"] if scope == "user" else []), *argv)
    if done.returncode != 0:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise RefusedError(f"systemctl {' '.join(argv)}: {lines[0] if lines else done.returncode}")


def look(root: str) -> object:
    """Who we are here, and what we may do."""
    version = 0
    if shutil.which("systemctl") and os.path.isdir("/run/systemd/system"):
        words = run("systemctl", "--version").stdout.split()
        version = int(words[1]) if len(words) > 1 and words[1].isdecimal() else 1
    may_sudo = bool(shutil.which("sudo")) and run("sudo", "-n", "true").returncode == 0
    owner = pwd.getpwuid(os.stat(root).st_uid).pw_name if os.path.isdir(root) else ""
    me = pwd.getpwuid(os.getuid())
    return {
        "systemd": version,
        "user": me.pw_name,
        "home": me.pw_dir,
        "owner": owner,
        "is_root": os.getuid() == 0,
        "may_sudo": may_sudo,
    }


def install(folder: str, units: dict[str, str], scope: str, enable: list[str], rules: dict[str, str]) -> object:
    """Write units and udev's rules, and enable them; what they run is started later."""
    os.makedirs(folder, exist_ok=True)
    for name, text in units.items():
        write_synced(os.path.join(folder, name), text.encode(), mode=0o644)
    for path, text in rules.items():
        with contextlib.suppress(FileNotFoundError):  # a system without udev
            write_synced(path, text.encode(), mode=0o644)
    if rules and shutil.which("udevadm"):
        run("udevadm", "control", "--reload")
        # A wearable that is plugged in already gets its name now, not when it is plugged in again.
        run("udevadm", "trigger", "--subsystem-match=tty")
    systemctl(scope, "daemon-reload")
    systemctl(scope, "enable", "--quiet", *enable)
    for name in enable:
        if name.endswith(".path"):
            systemctl(scope, "restart", name)
    return {"lingers": scope == "system" or linger()}


def linger() -> bool:
    """Have this user's services go on after the log-out, and start at boot; whether they do."""
    name = pwd.getpwuid(os.getuid()).pw_name
    for argv in (["loginctl", "enable-linger"], ["sudo", "-n", "loginctl", "enable-linger", name]):
        with contextlib.suppress(FileNotFoundError):
            if run(*argv).returncode == 0:
                break
    return os.path.exists(f"/var/lib/systemd/linger/{name}")


def remove(folder: str, names: list[str], scope: str, rules: list[str]) -> object:
    """Stop and disable the units, and take their files away."""
    there = [name for name in names if os.path.exists(os.path.join(folder, name))]
    if there:
        systemctl(scope, "disable", "--now", "--quiet", *there)
        for name in there:
            run("systemctl", *(["--user"] if scope == "user" else []), "reset-failed", name)
    for path in [*(os.path.join(folder, name) for name in there), *rules]:
        with contextlib.suppress(FileNotFoundError):
            os.remove(path)
    if there:
        systemctl(scope, "daemon-reload")
    return {"removed": there}


VERBS: dict[str, Any] = {"look": look, "install": install, "remove": remove}


def main(name: str) -> int:
    """Run one verb."""
    try:
        answer = VERBS[name](**json.load(sys.stdin))
    except RefusedError as error:
        answer = {"error": str(error)}
    except OSError as error:
        answer = {"error": f"{error.filename}: {error.strerror}"}
    print(json.dumps(answer))
    return 1 if isinstance(answer, dict) and "error" in answer else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
