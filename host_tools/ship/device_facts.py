"""Runs on the device, sent to its `python3 -`: reports what is there as one line of JSON.

Standard library only, and the syntax of Python 3.6, so that an old Python can say that it is too old.
Arguments: the root folder, or `~/...`; and `brief` to hash no files.
"""

# Annotations of today are not the syntax of 3.6.
# mypy: disable-error-code="no-untyped-def, no-untyped-call"
# ruff: noqa: T201, UP036

import hashlib
import json
import os
import platform
import shutil
import struct
import sys


def sha256_of(path):
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        for chunk in iter(lambda: stream.read(1 << 20), b""):
            digest.update(chunk)
    return digest.hexdigest()


def hashes_below(folder, leave_out):
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


def read_json(path):
    try:
        with open(path) as stream:
            value = json.load(stream)
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def names_in(folder):
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def release(folder, brief):
    note = read_json(os.path.join(folder, "release.json"))
    files = {} if brief else hashes_below(folder, ("release.json",))
    return {"runtime": str(note.get("runtime", "")), "files": files}


def runtime(folder, brief):
    """Which archives were unpacked here, and whether every file of each is as it was."""
    archives = read_json(os.path.join(folder, "runtime.json")).get("archives", {})
    whole = {}
    for name, files in archives.items():
        if brief:
            continue
        try:
            whole[name] = all(sha256_of(os.path.join(folder, "site", key)) == wanted for key, wanted in files.items())
        except OSError:
            whole[name] = False
    return {"archives": whole}


def current(root):
    try:
        head, name = os.path.split(os.readlink(os.path.join(root, "current")))
    except OSError:
        return None
    return name if head == "releases" and os.path.isdir(os.path.join(root, head, name)) else None


def launcher(path):
    try:
        return sha256_of(path) if os.access(path, os.X_OK) else ""
    except OSError:
        return ""


def free_bytes(path):
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    return shutil.disk_usage(path).free


def facts(root, brief):
    root = os.path.abspath(os.path.expanduser(root))
    releases = os.path.join(root, "releases")
    runtimes = os.path.join(root, "runtime")
    libc, libc_version = platform.libc_ver()
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError):
        memory = 0
    history = read_json(os.path.join(root, "history.json")).get("releases", [])
    signers = ("/etc/vitaledge/allowed_signers", os.path.join(root, "trust", "allowed_signers"))
    return {
        "schema": 1,
        "executable": sys.executable,
        "python": list(sys.version_info[:3]),
        "implementation": sys.implementation.name,
        "machine": platform.machine(),
        "bits": struct.calcsize("P") * 8,
        "libc": libc,
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
        "incoming": names_in(os.path.join(root, "incoming")),
        "signers": next((path for path in signers if os.path.isfile(path)), ""),
        "signed": [name[: -len(".json")] for name in names_in(os.path.join(root, "trust", "releases"))],
    }


if __name__ == "__main__":
    if sys.version_info < (3, 10):
        print(json.dumps({"schema": 1, "python": list(sys.version_info[:3]), "too_old": True}))
    else:
        print(json.dumps(facts(sys.argv[1], sys.argv[2:] == ["brief"])))
