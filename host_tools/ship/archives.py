"""What a runtime on a device is made of: archives with their sha256, and the id that follows from them."""

from __future__ import annotations

import hashlib
import io
import zipfile
from dataclasses import dataclass
from pathlib import Path

import edge_runtime
from edge_runtime.contract.errors import SettingsError

# The oldest date that a zip file can hold: the same files make the same bytes.
EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True, kw_only=True)
class Archive:
    """A zip file to unpack below `site`: a wheel, or the `edge_runtime` package.

    unpacked_bytes  what it takes on the device's disk
    """

    name: str
    sha256: str
    n_bytes: int
    unpacked_bytes: int
    data: Path | bytes


def package_archive(folder: Path | None = None) -> Archive:
    """The Python files of `edge_runtime` (None: the one imported here), the same bytes every time.

    They lie in it as they are: it is compressed on its way, and a later version is sent as the difference to it.
    """
    folder = folder or Path(next(iter(edge_runtime.__path__)))
    if not (folder / "__init__.py").is_file():
        raise SettingsError(f"{folder}: no __init__.py found; the folder of the package edge_runtime wanted")
    buffer = io.BytesIO()
    n = 0
    with zipfile.ZipFile(buffer, "w") as archive:
        for path in sorted(folder.rglob("*.py")):
            key = f"edge_runtime/{path.relative_to(folder).as_posix()}"
            member = zipfile.ZipInfo(key, EPOCH)
            member.external_attr = 0o644 << 16
            archive.writestr(member, path.read_bytes())
            n += path.stat().st_size
    data = buffer.getvalue()
    return Archive(
        name="edge_runtime.zip",
        sha256=hashlib.sha256(data).hexdigest(),
        n_bytes=len(data),
        unpacked_bytes=n,
        data=data,
    )


def wheel_archive(path: Path) -> Archive:
    """A wheel file as an archive."""
    with zipfile.ZipFile(path) as wheel:
        unpacked = sum(member.file_size for member in wheel.infolist())
    return Archive(
        name=path.name,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        n_bytes=path.stat().st_size,
        unpacked_bytes=unpacked,
        data=path,
    )


def runtime_id(archives: list[Archive]) -> str:
    """16 hexadecimal digits that change when any archive does."""
    text = "\n".join(sorted(archive.sha256 for archive in archives))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
