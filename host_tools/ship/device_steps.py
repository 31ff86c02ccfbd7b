"""Runs on the device, behind `device_loop.py`: the steps of a deployment.

Standard library only. Everything is written aside in `incoming/`, hashed, brought to the disk, and only then renamed
into place.
"""

from __future__ import annotations

import contextlib
import ctypes
import glob
import hashlib
import json
import os
import shutil
import stat
import subprocess
import zipfile
from collections.abc import Callable, Iterator
from typing import IO, Any

from host_tools.ship.device_bytecode import compiled, sweep
from host_tools.ship.device_facts import KEPT, names_in
from host_tools.ship.device_files import CHUNK, make_folder, relink, sha256_of, sync, write_synced
from host_tools.ship.device_loop import RefusedError


def sync_disk(path: str) -> None:
    """Bring everything on the file system of `path` to the disk; faster than thousands of fsyncs."""
    handle = os.open(path, os.O_RDONLY)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(handle) != 0:
            raise OSError(ctypes.get_errno(), "syncfs failed", path)
    except AttributeError:
        os.sync()
    finally:
        os.close(handle)


def send(path: str) -> Iterator[bytes]:
    """One line that says a file's size and sha256, then the file."""
    path = os.path.expanduser(path)
    head = json.dumps({"n_bytes": os.path.getsize(path), "sha256": sha256_of(path)}).encode() + b"\n"
    # Opened here: a failure after the first line would be no answer.
    return pour(head, open(path, "rb"))


def pour(head: bytes, stream: IO[bytes]) -> Iterator[bytes]:
    """A line, then all of a stream."""
    yield head
    with stream:
        while chunk := stream.read(CHUNK):
            yield chunk


def hashes(paths: list[str]) -> object:
    """sha256 of files; empty where there is none."""
    return {path: sha256_of(os.path.expanduser(path)) for path in paths}


def run(argv: list[str], timeout_s: float | None) -> object:
    """A program without input, from its start to its end."""
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=timeout_s)
    except FileNotFoundError:
        return {"rc": 127, "stdout": "", "stderr": f"{argv[0]}: not found"}
    except subprocess.TimeoutExpired as error:
        raise RefusedError(f"{os.path.basename(argv[0])} did not end within {timeout_s:g} s") from error
    return {"rc": done.returncode, "stdout": text(done.stdout), "stderr": text(done.stderr)}


def text(output: bytes) -> str:
    """What a program wrote, as JSON can carry it."""
    return output.decode("utf-8", "replace")


def names(root: str, patterns: list[str]) -> object:
    """Files below the root that match; a link that leads out of it is no file of it."""
    root = os.path.realpath(root)
    found = set()
    for pattern in patterns:
        for path in glob.glob(os.path.join(glob.escape(root), pattern), recursive=True):
            real = os.path.realpath(path)
            if real.startswith(root + os.sep) and os.path.isfile(real):
                found.add(os.path.relpath(path, root))
    return {"names": sorted(found)}


def make_root(root: str) -> object:
    """The root and its folders, and whatever lies above it and is missing."""
    for name in ("incoming", "releases", "runtime"):
        make_folder(os.path.join(root, name))
    return {}


def tidy(root: str, names: list[str]) -> object:
    """Remove what an interrupted deployment left in `incoming/`."""
    for name in names:
        path = os.path.join(root, "incoming", os.path.basename(name))
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        else:
            os.remove(path)
    return {}


def members(archive: zipfile.ZipFile) -> Iterator[tuple[zipfile.ZipInfo, str]]:
    """A wheel's files and where they go below `site`; scripts and headers stay out."""
    for member in archive.infolist():
        parts = member.filename.split("/")
        if member.is_dir():
            continue
        if ".." in parts or member.filename.startswith("/"):
            raise RefusedError(f"{archive.filename}: {member.filename!r} leads out of the archive")
        if stat.S_ISLNK(member.external_attr >> 16):
            raise RefusedError(f"{archive.filename}: {member.filename!r} is a link; plain files wanted")
        if "__pycache__" in parts:
            continue  # of what an archive has, sources alone are taken: bytecode is made here
        if parts[0].endswith(".data"):
            if len(parts) < 3 or parts[1] not in ("purelib", "platlib"):
                continue
            parts = parts[2:]
        yield member, "/".join(parts)


def unzip(path: str, site: str) -> dict[str, str]:
    """Unpack an archive; gives the sha256 of each file."""
    files = {}
    try:
        opened = zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise RefusedError(f"{os.path.basename(path)}: {error}") from error
    with opened as archive:
        for member, key in members(archive):
            place = os.path.join(site, key)
            os.makedirs(os.path.dirname(place), exist_ok=True)
            digest = hashlib.sha256()
            with archive.open(member) as source, open(place, "wb") as out:
                for chunk in iter(lambda source=source: source.read(CHUNK), b""):  # type: ignore[misc]
                    digest.update(chunk)
                    out.write(chunk)
            files[key] = digest.hexdigest()
    return files


def reuse(root: str, archive: str, site: str) -> dict[str, str]:
    """An archive that another runtime holds whole: its files once more, as hard links where possible."""
    runtimes = os.path.join(root, "runtime")
    for name in sorted(os.listdir(runtimes)):
        try:
            with open(os.path.join(runtimes, name, "runtime.json")) as stream:
                files: dict[str, str] = json.load(stream)["archives"][archive]
        except (OSError, ValueError, KeyError):
            continue
        there = os.path.join(runtimes, name, "site")
        if any(sha256_of(os.path.join(there, key)) != wanted for key, wanted in files.items()):
            continue
        for key in files:
            place = os.path.join(site, key)
            os.makedirs(os.path.dirname(place), exist_ok=True)
            try:
                os.link(os.path.join(there, key), place)
            except OSError:
                shutil.copyfile(os.path.join(there, key), place)
        for kept in names_in(os.path.join(runtimes, name)):
            source = os.path.join(runtimes, name, kept)
            if kept.endswith(KEPT) and sha256_of(source) == archive:
                shutil.copyfile(source, os.path.join(os.path.dirname(site), kept))
        return files
    raise RefusedError(f"archive {archive[:12]}... is in no runtime of this device any more")


def unpack(root: str, staging: str, runtime: str, sent: dict[str, str], reused: list[str]) -> object:
    """Archives -> runtime/ID/site. `sent`: sha256 -> file name in the staging folder."""
    folder = os.path.join(staging, "runtime")
    site = os.path.join(folder, "site")
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(site)
    archives = {sha256: unzip(os.path.join(staging, name), site) for sha256, name in sorted(sent.items())}
    archives |= {sha256: reuse(root, sha256, site) for sha256 in sorted(reused)}
    for name in sent.values():
        if name.endswith(KEPT):
            os.replace(os.path.join(staging, name), os.path.join(folder, name))
    note = {"schema": 1, "id": runtime, "archives": archives, "bytecode": compiled(site)}
    write_synced(os.path.join(folder, "runtime.json"), json.dumps(note).encode())
    sync_disk(folder)
    settle(folder, os.path.join(root, "runtime", runtime))
    sweep(os.path.join(root, "runtime", runtime))
    clear(root, staging)
    return {"files": sum(map(len, archives.values()))}


def settle(folder: str, place: str) -> None:
    """Rename a finished folder into place; one that exists is mended file by file, each in one step."""
    if not os.path.isdir(place):
        os.rename(folder, place)
    else:
        for where, _, names in os.walk(folder):
            there = os.path.join(place, os.path.relpath(where, folder))
            os.makedirs(there, exist_ok=True)
            for name in names:
                os.replace(os.path.join(where, name), os.path.join(there, name))
            sync(there)
        sync_disk(place)
    sync(os.path.dirname(place))


def clear(root: str, staging: str) -> None:
    """Forget what was received: it has found its place."""
    for folder in (staging, os.path.join(root, "incoming", "parts")):
        shutil.rmtree(folder, ignore_errors=True)


def take_over(root: str, there: str, place: str) -> None:
    """A file that the device has in another release: once more, as a hard link where possible."""
    os.makedirs(os.path.dirname(place), exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        os.remove(place)
    try:
        os.link(os.path.join(root, there), place)
    except OSError:
        with open(os.path.join(root, there), "rb") as source:
            write_synced(place, source.read())


def place(root: str, staging: str, release: str, note: dict[str, object], reused: dict[str, str]) -> object:
    """The received files of a bundle -> releases/ID, with release.json beside them.

    reused  name -> path below the root, for files that another release has
    """
    folder = os.path.join(staging, "release")
    os.makedirs(folder, exist_ok=True)
    for name, there in reused.items():
        take_over(root, there, os.path.join(folder, name))
    write_synced(os.path.join(folder, "release.json"), json.dumps(note, sort_keys=True).encode())
    for where, _, _ in os.walk(folder, topdown=False):
        sync(where)
    settle(folder, os.path.join(root, "releases", release))
    clear(root, staging)
    return {}


def verify(root: str, release: str, files: dict[str, str]) -> object:
    """Whether the release lies on the disk as it was made."""
    for name, wanted in files.items():
        found = sha256_of(os.path.join(root, "releases", release, name))
        if found != wanted:
            raise RefusedError(
                f"releases/{release}/{name}: sha256 is {found[:12] or 'missing'}...; {wanted[:12]}... wanted"
            )
    return {}


def point(root: str, release: str | None) -> object:
    """`current` -> releases/ID in one rename; None takes the link away."""
    link = os.path.join(root, "current")
    if release is None:
        with contextlib.suppress(FileNotFoundError):
            os.remove(link)
    else:
        relink(link, os.path.join("releases", release), os.path.join(root, "incoming", "current"))
    sync(root)
    return {}


def remember(root: str, releases: list[str]) -> object:
    """Write which releases were active, oldest first."""
    text = json.dumps({"schema": 1, "releases": releases})
    write_synced(os.path.join(root, "history.json"), text.encode())
    return {}


def launch(root: str, text: str) -> object:
    """The command `bin/edge-runtime`, new or replaced in one rename."""
    folder = os.path.join(root, "bin")
    make_folder(folder)
    aside = os.path.join(root, "incoming", "edge-runtime")
    write_synced(os.path.join(folder, "edge-runtime"), text.encode(), mode=0o755, aside=aside)
    return {}


def forget(root: str, key: str) -> object:
    """Remove the records and reports of all benches in `work/` but those of `key`."""
    folder = os.path.join(root, "work")
    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        if name in (f"records-{key}", f"report-{key}.json"):
            continue
        if name.startswith("records-") and os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        elif name.startswith("report-") and not os.path.isdir(path):
            os.remove(path)
    return {}


def prune(root: str, releases: list[str], runtimes: list[str]) -> object:
    """Remove releases and runtimes that nothing points at."""
    for kind, names in (("releases", releases), ("runtime", runtimes)):
        for name in names:
            shutil.rmtree(os.path.join(root, kind, os.path.basename(name)))
        sync(os.path.join(root, kind))
    return {}


VERBS: dict[str, Callable[..., Any]] = {
    verb.__name__: verb
    for verb in (
        run,
        names,
        send,
        hashes,
        make_root,
        tidy,
        unpack,
        place,
        verify,
        point,
        remember,
        launch,
        forget,
        prune,
    )
}
