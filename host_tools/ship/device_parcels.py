"""Runs on the device, behind `device_loop.py`: files arrive, compressed, as differences, or in several goes.

Standard library only. A parcel is a file on its way: its payload is the file itself, compressed, or the difference to
a file that the device has. A payload is kept under its own sha256 until it is whole, so that a transfer which was cut
goes on where it ended.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import IO, Any

from host_tools.ship.device_files import CHUNK, sync
from host_tools.ship.device_loop import RefusedError

# Of a difference: how many pieces, how many bytes of differences; then the pieces, the differences, new bytes.
DELTA_HEAD = struct.Struct("<II")
# Of a piece: where it starts in the old file, how many bytes differ from there, how many new bytes follow.
DELTA_PIECE = struct.Struct("<III")


def unpacker(codec: str) -> Any:
    """An object with `decompress` for a payload's codec."""
    if codec == "zlib":
        return zlib.decompressobj()
    if codec == "lzma":
        import lzma

        return lzma.LZMADecompressor()
    if codec == "bz2":
        import bz2

        return bz2.BZ2Decompressor()
    raise RefusedError(f"codec {codec!r} is not known here")


def receive(parcels: list[dict[str, Any]], parts: str, body: Iterator[bytes]) -> object:
    """The payloads, one behind the other -> `path` of each file, whole and as announced, or not at all.

    parts  folder for payloads that are not whole yet
    A parcel: path, sha256, n_bytes; payload_sha256, payload_bytes, of which `offset` are in `parts` already; codec;
    base, the file that the payload is a difference to, or null.
    """
    parts = os.path.expanduser(parts)
    os.makedirs(parts, exist_ok=True)
    stream = Stream(body)
    folders = set()
    for parcel in parcels:
        path = os.path.expanduser(parcel["path"])
        part = os.path.join(parts, parcel["payload_sha256"])
        os.makedirs(os.path.dirname(path), exist_ok=True)
        collect(stream, part, parcel)
        try:
            unwrap(part, path, parcel)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.remove(part)
        folders.add(os.path.dirname(path))
    for _ in body:
        raise RefusedError("more arrived than was announced")
    for folder in folders:
        sync(folder)
    with contextlib.suppress(OSError):
        os.rmdir(parts)
    return {}


class Stream:
    """A body whose pieces are cut anywhere, read by length."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._rest = b""

    def take(self, n_bytes: int) -> Iterator[bytes]:
        """The next `n_bytes`, in pieces."""
        while n_bytes:
            piece = self._rest or next(self._pieces, b"")
            if not piece:
                raise RefusedError(f"{n_bytes} bytes fewer arrived than announced")
            piece, self._rest = piece[:n_bytes], piece[n_bytes:]
            n_bytes -= len(piece)
            yield piece


def collect(stream: Stream, part: str, parcel: dict[str, Any]) -> None:
    """The rest of a payload -> `part`, which keeps what has arrived if the link is cut."""
    offset, wanted = parcel["offset"], parcel["payload_bytes"]
    handle = os.open(part, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        os.ftruncate(handle, offset)
        digest = hashlib.sha256()
        while chunk := os.read(handle, CHUNK):
            digest.update(chunk)
        for piece in stream.take(wanted - offset):
            digest.update(piece)
            write_all(handle, piece)
        if digest.hexdigest() != parcel["payload_sha256"]:
            os.remove(part)
            raise RefusedError(
                f"{os.path.basename(parcel['path'])}: sha256 is {digest.hexdigest()[:12]}... on arrival; "
                f"{parcel['payload_sha256'][:12]}... wanted"
            )
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            os.remove(part)
        raise
    finally:
        os.close(handle)


def unwrap(part: str, path: str, parcel: dict[str, Any]) -> None:
    """A whole payload -> the file, hashed and on the disk."""
    aside = path + ".part"
    try:
        if parcel["codec"] == "raw" and parcel["base"] is None:
            os.rename(part, aside)
            found = parcel["payload_sha256"]
        else:
            found = unpack_to(part, aside, parcel)
        if found != parcel["sha256"]:
            raise RefusedError(
                f"{os.path.basename(path)}: sha256 is {found[:12]}... on arrival; {parcel['sha256'][:12]}... wanted"
            )
        sync(aside)
        os.replace(aside, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.remove(aside)


def unpack_to(part: str, aside: str, parcel: dict[str, Any]) -> str:
    """Unpack a payload; gives the file's sha256."""
    digest, n_bytes = hashlib.sha256(), 0
    with open(part, "rb") as source, open(aside, "wb") as out:
        chunks: Iterable[bytes] = unpacked(source, parcel["codec"])
        if parcel["base"] is not None:
            with open(os.path.expanduser(parcel["base"]), "rb") as old:
                chunks = patched(old.read(), b"".join(chunks))
        for chunk in chunks:
            n_bytes += len(chunk)
            if n_bytes > parcel["n_bytes"]:
                raise RefusedError(f"{os.path.basename(aside)}: more than {parcel['n_bytes']} bytes are in it")
            digest.update(chunk)
            out.write(chunk)
    return digest.hexdigest()


def unpacked(source: IO[bytes], codec: str) -> Iterator[bytes]:
    """What was compressed, in pieces."""
    machine = None if codec == "raw" else unpacker(codec)
    try:
        while chunk := source.read(CHUNK):
            yield chunk if machine is None else machine.decompress(chunk)
    except Exception as error:  # lzma has an error of its own, and may be missing
        if type(error).__name__ not in ("LZMAError", "error", "EOFError", "OSError"):
            raise
        raise RefusedError(f"a payload cannot be unpacked ({error})") from error


def patched(old: bytes, delta: bytes) -> Iterator[bytes]:
    """The new file, in pieces, from the old one and a difference as `delta.py` writes it."""
    try:
        n_pieces, n_differences = DELTA_HEAD.unpack_from(delta)
        pieces = list(DELTA_PIECE.iter_unpack(delta[DELTA_HEAD.size :][: n_pieces * DELTA_PIECE.size]))
    except struct.error as error:
        raise RefusedError(f"a difference cannot be read ({error})") from error
    at = DELTA_HEAD.size + n_pieces * DELTA_PIECE.size
    new = at + n_differences
    for start, n_differ, n_new in pieces:
        if start + n_differ > len(old) or at + n_differ > len(delta) or new + n_new > len(delta):
            raise RefusedError("a difference reaches beyond its files")
        yield added(old[start : start + n_differ], delta[at : at + n_differ])
        yield delta[new : new + n_new]
        at, new = at + n_differ, new + n_new


def added(a: bytes, b: bytes) -> bytes:
    """a + b, byte by byte modulo 256: as two long integers, without carries from byte to byte."""
    n = len(a)
    low, high = int.from_bytes(b"\x7f" * n, "little"), int.from_bytes(b"\x80" * n, "little")
    x, y = int.from_bytes(a, "little"), int.from_bytes(b, "little")
    return (((x & low) + (y & low)) ^ ((x ^ y) & high)).to_bytes(n, "little")


def write_all(handle: int, data: bytes) -> None:
    """All of it, without a buffer: what arrived is in the file if this program is killed."""
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]


VERBS = {"receive": receive}
