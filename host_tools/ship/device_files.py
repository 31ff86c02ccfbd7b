"""Runs on the device, before all that needs it there: small files, links and folders, brought to the disk.

Standard library only.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from typing import Any

CHUNK = 1 << 18


def read_json(path: str) -> dict[str, Any]:
    """A JSON object; empty if there is none."""
    try:
        with open(path) as stream:
            value = json.load(stream)
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def sha256_of(path: str) -> str:
    """sha256 of a file; empty if there is none."""
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as stream:
            for chunk in iter(lambda: stream.read(CHUNK), b""):
                digest.update(chunk)
    except FileNotFoundError:
        return ""
    return digest.hexdigest()


def sync(path: str) -> None:
    """Bring a file, or a folder's entries, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_folder(path: str) -> None:
    """A folder and those above it, each brought to the disk in the folder that holds it."""
    if not os.path.isdir(path):
        make_folder(os.path.dirname(path))
        os.mkdir(path)
        sync(os.path.dirname(path))


def write_synced(path: str, data: bytes, *, mode: int | None = None, aside: str = "") -> None:
    """Write or replace a small file in one step.

    mode   permissions; None: as the umask gives them
    aside  where it is written before it is renamed; empty: beside it
    """
    aside = aside or path + ".part"
    with open(aside, "wb") as stream:
        stream.write(data)
        stream.flush()
        if mode is not None:
            os.fchmod(stream.fileno(), mode)
        os.fsync(stream.fileno())
    os.replace(aside, path)
    sync(os.path.dirname(path))


def relink(link: str, to: str, aside: str) -> None:
    """A symbolic link, new or replaced in one rename; its folder is not brought to the disk here."""
    with contextlib.suppress(FileNotFoundError):
        os.remove(aside)
    os.symlink(to, aside)
    os.replace(aside, link)
