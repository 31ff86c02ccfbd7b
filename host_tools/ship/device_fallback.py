"""Lies on the device as ROOT/service/fall_back.py: systemd runs it when a release was started too often and failed.

Standard library only. Makes the release that was active before it current again; whoever calls it starts the service
then. Exit 0: there is something to start. Exit 1: there is no older release, or nothing has failed.
"""

# It speaks to the journal.
# ruff: noqa: T201

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import time

from host_tools.ship.device_files import read_json, relink, sync, write_synced

PATIENCE_S = 600.0  # a deployment that holds the lock decides itself, and lets go when its host is gone


def fall_back(root: str, now: str) -> tuple[str, str]:
    """Switch to the release before the active one; gives both names. Raises LookupError if there is none."""
    link = os.path.join(root, "current")
    active = os.path.basename(os.readlink(link)) if os.path.islink(link) else ""
    history = [str(name) for name in read_json(os.path.join(root, "history.json")).get("releases", [])]
    before = [n for n in history if n != active and os.path.isdir(os.path.join(root, "releases", n))]
    if not before:
        raise LookupError(f"{active or 'nothing'} failed too often, and there is no release before it")
    # Written first: the current release is always counted as the last of the history.
    note(os.path.join(root, "history.json"), {"releases": before})
    relink(link, os.path.join("releases", before[-1]), os.path.join(root, "service", "current"))
    sync(root)
    write_synced(os.path.join(root, "service", "proved"), before[-1].encode())
    note(os.path.join(root, "service", "fallback.json"), {"from": active, "to": before[-1], "at": now})
    return active, before[-1]


def note(path: str, value: dict[str, object]) -> None:
    """Write or replace a small file of JSON in one step."""
    write_synced(path, json.dumps({"schema": 1, **value}).encode())


def has_failed(scope: str, unit: str) -> bool:
    """Whether systemd has given the service up; a deployment may have started it again meanwhile."""
    argv = ["systemctl", *(["--user"] if scope == "user" else []), "is-failed", "--quiet", unit]
    return subprocess.run(argv, check=False, timeout=30).returncode == 0


def main(root: str) -> int:
    """Wait for the lock, look again, and fall back."""
    noted = read_json(os.path.join(root, "service", "service.json"))
    with open(os.path.join(root, "lock"), "a") as stream:
        until = time.monotonic() + PATIENCE_S
        while True:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    print("a deployment holds the lock for too long; nothing was done", file=sys.stderr)
                    return 1
            time.sleep(0.2)
        if not has_failed(noted.get("scope", "system"), noted.get("unit", "vitaledge.service")):
            print("the service is not in need any more")
            return 1
        try:
            left, taken = fall_back(root, time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))
        except LookupError as error:
            print(error, file=sys.stderr)
            return 1
        print(f"{left} failed too often; {taken} is active again")
        return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
