"""A standalone CPython that the host was given, brought to a device whose own Python is too old."""

from __future__ import annotations

import hashlib
import re
import tarfile
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path, PurePosixPath

from edge_runtime.contract.errors import SettingsError
from host_tools.ship.errors import ShipError
from host_tools.ship.options import Progress
from host_tools.ship.parcels import chunks
from host_tools.ship.transport import Transport
from host_tools.ship.wheels import MACHINES

# As python-build-standalone names its releases: cpython-3.12.8+20250115-aarch64-unknown-linux-gnu-install_only.tar.gz
NAME = re.compile(r"cpython-(\d+)\.(\d+)\.(\d+).*?-(x86_64|aarch64)(?:_v\d)?-unknown-linux-gnu-install_only.*\.tar\.gz")
RESERVE_KIB = 20 << 10  # of it, 10 MiB are bytecode of the standard library


@dataclass(frozen=True, kw_only=True)
class PythonArchive:
    """A .tar.gz whose `python/bin/python3` is a CPython that needs nothing but glibc."""

    path: Path
    version: tuple[int, int, int]
    machine: str
    unpacked_bytes: int
    sha256: str


def open_python_archive(path: Path) -> PythonArchive:
    """Look into an archive; raises SettingsError for what is none, or what leads out of its folder."""
    wanted = "a python-build-standalone archive, cpython-...-install_only.tar.gz, wanted"
    named = NAME.fullmatch(path.name)
    if named is None:
        raise SettingsError(f"--python-archive {path}: its name tells no version and processor for Linux; {wanted}")
    n_bytes, has_python = 0, False
    try:
        with tarfile.open(path, "r:gz") as archive:
            for member in archive:
                if not _stays_inside(member):
                    raise SettingsError(f"--python-archive {path}: {member.name!r} leads out of the archive")
                n_bytes += member.size
                has_python = has_python or member.name in ("python/bin/python3", "./python/bin/python3")
    except OSError as error:
        raise SettingsError(f"--python-archive {path}: cannot be read ({error}); {wanted}") from error
    except tarfile.TarError as error:
        raise SettingsError(f"--python-archive {path}: no tar archive ({error}); {wanted}") from error
    if not has_python:
        raise SettingsError(f"--python-archive {path}: no python/bin/python3 in it; {wanted}")
    digest = hashlib.sha256()
    for chunk in chunks(path):
        digest.update(chunk)
    return PythonArchive(
        path=path,
        version=(int(named[1]), int(named[2]), int(named[3])),
        machine=MACHINES[named[4]],
        unpacked_bytes=n_bytes,
        sha256=digest.hexdigest(),
    )


def bring(transport: Transport, root: str, archive: PythonArchive, where: str, progress: Progress) -> None:
    """Send and unpack it at ROOT/python/current, checked; raises ShipError with what the device said."""
    progress(f"sending {archive.path.name}", 0, 1)
    script = files("host_tools.ship").joinpath("device_python.sh").read_text()
    needed = str((archive.unpacked_bytes + archive.path.stat().st_size) // 1024 + RESERVE_KIB)
    argv = ["sh", "-c", script, "sh", root, archive.sha256, archive.machine, needed]
    done = transport.run(argv, chunks(archive.path))
    if done.rc != 0:
        raise ShipError(f"{where}: {archive.path.name} could not be brought there: {done.last_words}")


def _stays_inside(member: tarfile.TarInfo) -> bool:
    """Whether the member, and what it links to, lie below the archive's own folder."""
    paths = [PurePosixPath(member.name)]
    if member.issym():
        paths.append(paths[0].parent / member.linkname)
    elif member.islnk():
        paths.append(PurePosixPath(member.linkname))
    elif not (member.isfile() or member.isdir()):
        return False
    for path in paths:
        depth = 0
        for part in path.parts:
            depth += -1 if part == ".." else part != "."
            if part == "/" or depth < 0:
                return False
    return True
