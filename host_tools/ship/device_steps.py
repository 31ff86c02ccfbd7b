"""Runs on the device, sent as `python3 -c`: one verb of a deployment, its arguments as JSON.

Standard library only. Answers one line of JSON: the verb's result, or {"error": ..., "errno": ...} and
exit status 1.
Everything is written aside in `incoming/`, hashed, brought to the disk, and only then renamed into place.
"""

# Its output is its answer.
# ruff: noqa: T201

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import select
import shutil
import stat
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from typing import IO, Any

Verb = Callable[..., object]
CHUNK = 1 << 18


class RefusedError(Exception):
    """What was received is not what was announced."""


def sync_folder(path: str) -> None:
    """Bring a folder's entries to the disk."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_disk(path: str) -> None:
    """Bring everything on the file system of `path` to the disk; faster than thousands of fsyncs."""
    import ctypes

    handle = os.open(path, os.O_RDONLY)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(handle) != 0:
            raise OSError(ctypes.get_errno(), "syncfs failed", path)
    except AttributeError:
        os.sync()
    finally:
        os.close(handle)


def write_synced(path: str, data: bytes) -> None:
    """Write or replace a small file in one step."""
    with open(path + ".part", "wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(path + ".part", path)
    sync_folder(os.path.dirname(path))


def copy(source: IO[bytes], path: str, n_bytes: int) -> tuple[str, int]:
    """Copy at most `n_bytes` of a stream to a file; gives sha256 and size."""
    digest, n = hashlib.sha256(), 0
    with open(path, "wb") as out:
        while chunk := source.read(min(CHUNK, n_bytes - n)):
            digest.update(chunk)
            out.write(chunk)
            n += len(chunk)
        out.flush()
        os.fsync(out.fileno())
    return digest.hexdigest(), n


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


def receive(files: list[dict[str, Any]]) -> object:
    """Standard input, one file behind the other -> `path` of each, whole and as announced, or not at all."""
    for file in files:
        path = os.path.expanduser(file["path"])
        os.makedirs(os.path.dirname(path), exist_ok=True)
        receive_one(path, file["sha256"], file["n_bytes"])
    return {}


def receive_one(path: str, sha256: str, n_bytes: int) -> None:
    """The next `n_bytes` of standard input -> `path`."""
    part, name = path + ".part", os.path.basename(path)
    try:
        found, n = copy(sys.stdin.buffer, part, n_bytes)
        if n != n_bytes:
            raise RefusedError(f"{name}: {n} bytes arrived; {n_bytes} wanted")
        if found != sha256:
            raise RefusedError(f"{name}: sha256 is {found[:12]}... on arrival; {sha256[:12]}... wanted")
        os.replace(part, path)
        sync_folder(os.path.dirname(path))
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.remove(part)


def send(path: str) -> object:
    """`path` -> standard output, behind one line that says its size and sha256."""
    path = os.path.expanduser(path)
    head = {"n_bytes": os.path.getsize(path), "sha256": sha256_of(path)}
    sys.stdout.write(json.dumps(head) + "\n")
    sys.stdout.flush()
    with open(path, "rb") as stream:
        shutil.copyfileobj(stream, sys.stdout.buffer, CHUNK)
    sys.stdout.buffer.flush()
    return None


def hashes(paths: list[str]) -> object:
    """sha256 of files; empty where there is none."""
    return {path: sha256_of(os.path.expanduser(path)) for path in paths}


def make_root(root: str) -> object:
    """The root and its folders."""
    for name in ("incoming", "releases", "runtime"):
        os.makedirs(os.path.join(root, name), exist_ok=True)
    sync_folder(root)
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
        if parts[0].endswith(".data"):
            if len(parts) < 3 or parts[1] not in ("purelib", "platlib"):
                continue
            parts = parts[2:]
        yield member, "/".join(parts)


def unzip(path: str, site: str) -> dict[str, str]:
    """Unpack an archive; gives the sha256 of each file."""
    files = {}
    with zipfile.ZipFile(path) as archive:
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
    write_synced(
        os.path.join(folder, "runtime.json"),
        json.dumps({"schema": 1, "id": runtime, "archives": archives}).encode(),
    )
    sync_disk(folder)
    settle(folder, os.path.join(root, "runtime", runtime))
    shutil.rmtree(staging)
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
            sync_folder(there)
        sync_disk(place)
    sync_folder(os.path.dirname(place))


def place(root: str, staging: str, release: str, note: dict[str, object]) -> object:
    """The received files of a bundle -> releases/ID, with release.json beside them."""
    folder = os.path.join(staging, "release")
    os.makedirs(folder, exist_ok=True)
    write_synced(os.path.join(folder, "release.json"), json.dumps(note, sort_keys=True).encode())
    for where, _, _ in os.walk(folder, topdown=False):
        sync_folder(where)
    settle(folder, os.path.join(root, "releases", release))
    shutil.rmtree(staging)
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
        aside = os.path.join(root, "incoming", "current")
        with contextlib.suppress(FileNotFoundError):
            os.remove(aside)
        os.symlink(os.path.join("releases", release), aside)
        os.replace(aside, link)
    sync_folder(root)
    return {}


def remember(root: str, releases: list[str]) -> object:
    """Write which releases were active, oldest first."""
    text = json.dumps({"schema": 1, "releases": releases})
    write_synced(os.path.join(root, "history.json"), text.encode())
    return {}


def launch(root: str, text: str) -> object:
    """The command `bin/edge-runtime`, new or replaced in one rename."""
    aside = os.path.join(root, "incoming", "edge-runtime")
    with open(aside, "w") as stream:
        stream.write(text)
        stream.flush()
        os.fchmod(stream.fileno(), 0o755)
        os.fsync(stream.fileno())
    folder = os.path.join(root, "bin")
    os.makedirs(folder, exist_ok=True)
    os.replace(aside, os.path.join(folder, "edge-runtime"))
    sync_folder(folder)
    sync_folder(root)
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
        sync_folder(os.path.join(root, kind))
    return {}


def try_lock(stream: IO[str]) -> bool:
    """Take the lock if it is free."""
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def lock(root: str, owner: str, lease_s: float) -> object:
    """Hold the root until standard input ends, or is silent for `lease_s`."""
    os.makedirs(root, exist_ok=True)
    with open(os.path.join(root, "lock"), "a+") as stream:
        # A deployment whose host was killed a moment ago is letting go just now.
        patience = time.monotonic() + 2.0
        while not try_lock(stream):
            if time.monotonic() > patience:
                stream.seek(0)
                raise RefusedError(
                    f"another deployment or bench is under way ({stream.read().strip()}); wait for its end"
                )
            time.sleep(0.1)
        stream.truncate(0)
        stream.write(owner)
        stream.flush()
        print('{"locked": true}', flush=True)
        source = sys.stdin.fileno()
        while select.select([source], [], [], lease_s or None)[0] and os.read(source, 4096):
            pass
    return None


VERBS: dict[str, Verb] = {
    verb.__name__: verb
    for verb in (
        receive,
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
        lock,
    )
}


def main(name: str, arguments: str) -> int:
    """Run one verb."""
    try:
        answer = VERBS[name](**json.loads(arguments))
    except RefusedError as error:
        answer = {"error": str(error), "errno": 0}
    except (OSError, zipfile.BadZipFile) as error:
        answer = {"error": str(error), "errno": getattr(error, "errno", None) or errno.EIO}
    if answer is not None:
        print(json.dumps(answer))
    return 1 if isinstance(answer, dict) and "error" in answer else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))
