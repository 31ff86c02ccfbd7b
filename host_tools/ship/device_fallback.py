"""Lies on the device as ROOT/service/fall_back.py: systemd runs it when a release was started too often and failed.

Standard library only. Makes the release that was active before it current again; whoever calls it starts the service
then. Exit 0: there is something to start. Exit 1: there is no older release, or nothing has failed.
"""

# It speaks to the journal.
# ruff: noqa: T201

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import subprocess
import sys
import time
from typing import Any

PATIENCE_S = 600.0  # a deployment that holds the lock decides itself, and lets go when its host is gone


def read_json(path: str) -> dict[str, Any]:
    """A JSON object; empty if there is none."""
    try:
        with open(path) as stream:
            value = json.load(stream)
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def write_synced(path: str, value: object) -> None:
    """Write or replace a small file in one step, and bring it to the disk."""
    with open(path + ".part", "w") as stream:
        json.dump(value, stream)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(path + ".part", path)


def fall_back(root: str, now: str) -> tuple[str, str]:
    """Switch to the release before the active one; gives both names. Raises LookupError if there is none."""
    link = os.path.join(root, "current")
    active = os.path.basename(os.readlink(link)) if os.path.islink(link) else ""
    history = [str(name) for name in read_json(os.path.join(root, "history.json")).get("releases", [])]
    before = [n for n in history if n != active and os.path.isdir(os.path.join(root, "releases", n))]
    if not before:
        raise LookupError(f"{active or 'nothing'} failed too often, and there is no release before it")
    # Written first: the current release is always counted as the last of the history.
    write_synced(os.path.join(root, "history.json"), {"schema": 1, "releases": before})
    aside = os.path.join(root, "service", "current")
    with contextlib.suppress(FileNotFoundError):
        os.remove(aside)
    os.symlink(os.path.join("releases", before[-1]), aside)
    os.replace(aside, link)
    with open(os.path.join(root, "service", "proved"), "w") as stream:
        stream.write(before[-1])
    write_synced(
        os.path.join(root, "service", "fallback.json"), {"schema": 1, "from": active, "to": before[-1], "at": now}
    )
    handle = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
    return active, before[-1]


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
