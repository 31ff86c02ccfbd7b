"""Runs on the device, behind `device_loop.py`: reports what is there. Standard library only."""

from __future__ import annotations

import contextlib
import os
import struct
import sys
from collections.abc import Sequence
from typing import Any

from host_tools.ship.device_files import read_json, sha256_of
from host_tools.ship.device_loop import require_place

# Archives that stay beside what was unpacked of them: later versions come as differences. A wheel is compressed, which
# leaves no small differences.
KEPT = ".zip"


def hashes_below(folder: str, leave_out: Sequence[str]) -> dict[str, str]:
    """sha256 of each file below a folder."""
    found = {}
    for where, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = os.path.join(where, name)
            key = os.path.relpath(path, folder)
            if key not in leave_out:
                try:
                    found[key] = sha256_of(path)
                except OSError:
                    found[key] = "unreadable"
    return found


def text_of(path: str) -> str:
    """A small file's text; empty if there is none."""
    try:
        with open(path) as stream:
            return stream.read()
    except OSError:
        return ""


def names_in(folder: str) -> list[str]:
    """What lies in a folder, if there is one."""
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def release(folder: str, brief: bool) -> dict[str, Any]:
    """A release's note and the hashes of its files."""
    note = read_json(os.path.join(folder, "release.json"))
    files = {} if brief else hashes_below(folder, ("release.json",))
    return {"runtime": str(note.get("runtime", "")), "files": files}


def strays(folder: str) -> list[str]:
    """Files of a runtime that no archive brought, and bytecode that is not as it was made: paths below `site`."""
    noted, site = read_json(os.path.join(folder, "runtime.json")), os.path.join(folder, "site")
    brought = {key for files in noted.get("archives", {}).values() for key in files}
    bytecode = noted.get("bytecode", {})
    found: list[str] = []
    if not brought:
        return found  # where nothing is known of a runtime, nothing is strange in it
    for where, folders, names in os.walk(site):
        # A link to a folder is none to `walk`, but Python would follow it.
        for name in names + [one for one in folders if os.path.islink(os.path.join(where, one))]:
            path = os.path.join(where, name)
            key = os.path.relpath(path, site)
            if key not in brought and (key not in bytecode or sha256_of(path) != bytecode[key]):
                found.append(key)
    return found


def runtime(folder: str, brief: bool) -> dict[str, Any]:
    """Which archives were unpacked here, whether every file of each is as it was, and whether that is all there is."""
    noted = read_json(os.path.join(folder, "runtime.json"))
    archives, bytecode = noted.get("archives", {}), noted.get("bytecode")
    whole: dict[str, bool] = {}
    for name, files in archives.items():
        if brief:
            continue
        try:
            whole[name] = all(sha256_of(os.path.join(folder, "site", key)) == wanted for key, wanted in files.items())
        except OSError:
            whole[name] = False
    is_clean = brief or (
        bytecode is not None
        and all(os.path.isfile(os.path.join(folder, "site", name)) for name in bytecode)
        and not strays(folder)
    )
    kept = [] if brief else [name for name in names_in(folder) if name.endswith(KEPT)]
    hashes = {name: sha256_of(os.path.join(folder, name)) for name in kept}
    return {"archives": whole, "is_clean": is_clean, "kept": hashes}


def current(root: str) -> str | None:
    """The active release."""
    try:
        head, name = os.path.split(os.readlink(os.path.join(root, "current")))
    except OSError:
        return None
    return name if head == "releases" and os.path.isdir(os.path.join(root, head, name)) else None


def launcher(path: str) -> str:
    """sha256 of the command; empty if it cannot be executed."""
    try:
        return sha256_of(path) if os.access(path, os.X_OK) else ""
    except OSError:
        return ""


def free_bytes(path: str) -> int:
    """Room where a path is, or will be."""
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    room = os.statvfs(path)
    return room.f_bavail * room.f_frsize


def parts(folder: str) -> dict[str, Any]:
    """Payloads that have not arrived whole: size and sha256 of what is there."""
    found = {}
    for name in names_in(folder):
        path = os.path.join(folder, name)
        with contextlib.suppress(OSError):
            found[name] = {"n_bytes": os.path.getsize(path), "sha256": sha256_of(path)}
    return found


def has_module(name: str) -> bool:
    """Whether it could be imported: the standard library's parts are not installed everywhere."""
    return any(finder.find_spec(name, None) for finder in sys.meta_path)


def expand(path: str) -> dict[str, Any]:
    """A path that may start with `~`, as an absolute one."""
    return {"path": os.path.abspath(os.path.expanduser(path))}


def libc() -> tuple[str, str]:
    """Name and version of the C library; a program has one, and asking the system for it is quick."""
    with contextlib.suppress(ValueError, OSError):
        name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
        if name:
            return name, version
    import platform  # slow to load, and hardly ever needed

    return platform.libc_ver()


def facts(root: str, brief: bool) -> dict[str, Any]:
    """What there is; `brief`: hash nothing."""
    root = os.path.abspath(os.path.expanduser(root))
    require_place(root)
    releases = os.path.join(root, "releases")
    runtimes = os.path.join(root, "runtime")
    libc_name, libc_version = libc()
    memory = 0
    with contextlib.suppress(OSError, ValueError):
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    history = read_json(os.path.join(root, "history.json")).get("releases", [])
    proved = os.path.join(root, "service", "proved")
    signers = ("/etc/vitaledge/allowed_signers", os.path.join(root, "trust", "allowed_signers"))
    return {
        "schema": 1,
        "executable": sys.executable,
        "python": list(sys.version_info[:3]),
        "implementation": sys.implementation.name,
        "machine": os.uname().machine,
        "bits": struct.calcsize("P") * 8,
        "libc": libc_name,
        "libc_version": libc_version,
        "root": root,
        "has_root": all(os.path.isdir(os.path.join(root, n)) for n in ("incoming", "releases", "runtime")),
        "free_bytes": free_bytes(root),
        "memory_bytes": memory,
        "releases": {n: release(os.path.join(releases, n), brief) for n in names_in(releases)},
        "runtimes": {n: runtime(os.path.join(runtimes, n), brief) for n in names_in(runtimes)},
        "launcher": launcher(os.path.join(root, "bin", "edge-runtime")),
        "current": current(root),
        "history": [str(name) for name in history],
        "codecs": ["raw", "zlib", *(name for name in ("lzma", "bz2") if has_module("_" + name))],
        "parts": {} if brief else parts(os.path.join(root, "incoming", "parts")),
        "incoming": names_in(os.path.join(root, "incoming")),
        "is_unproved": os.path.isfile(proved) and text_of(proved) != current(root),
        "signers": next((path for path in signers if os.path.isfile(path)), ""),
        "signed": [name[: -len(".json")] for name in names_in(os.path.join(root, "trust", "releases"))],
    }


VERBS = {"expand": expand, "facts": facts}
