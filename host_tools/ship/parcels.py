"""A file on its way to a device: as it is, compressed, or as the difference to one that the device has."""

from __future__ import annotations

import bz2
import hashlib
import lzma
import threading
import zlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from host_tools.ship.delta import delta
from host_tools.ship.device_parcels import patched
from host_tools.ship.errors import ShipError

CHUNK = 1 << 16
SAMPLE_BYTES = 1 << 18
# What does not lose at least this share is sent as it is: a wheel is a compressed file.
WORTH = 0.95
# Payloads that are kept for the next device of a fleet.
KEPT_BYTES = 256 << 20
# Differences of weights are noise around zero: nothing repeats, but few values are common.
ZLIB_STRATEGIES = (zlib.Z_DEFAULT_STRATEGY, zlib.Z_FILTERED, zlib.Z_HUFFMAN_ONLY, zlib.Z_RLE)
# Weights lie at any byte; float32 tables and indices at every fourth.
LZMA_POSITIONS = ((3, 0, 0), (0, 2, 2), (0, 0, 0))
# What a device needs as memory to unpack.
DICTIONARY_BYTES = 1 << 22
# Of more than this, one way of compressing is tried, not all.
LARGE_BYTES = 2 << 20


@dataclass(frozen=True, kw_only=True)
class Base:
    """A file that the device has and the host holds: `path` there, below the root."""

    path: str
    sha256: str
    contents: bytes


@dataclass(frozen=True, kw_only=True)
class Parcel:
    """What travels for one file: `payload`, under its own hash; `base` is a path below the device's root."""

    sha256: str
    n_bytes: int
    payload: Path | bytes
    payload_sha256: str
    payload_bytes: int
    codec: str
    base: str | None = None


def pack(sha256: str, source: Path | bytes, codecs: Sequence[str], base: Base | None = None) -> Parcel:
    """The smallest payload that a device with these `codecs` can unpack.

    Raises ShipError if the contents are not what `sha256` says any more.
    """
    n_bytes = len(source) if isinstance(source, bytes) else source.stat().st_size
    kind, payload = _KEPT.get((sha256, base.sha256 if base else "", tuple(codecs))) or (None, b"")
    if kind is None:
        kind, payload = _best(sha256, source, codecs, base)
        _KEPT.put((sha256, base.sha256 if base else "", tuple(codecs)), (kind, payload))
    if kind == "raw":
        return Parcel(
            sha256=sha256, n_bytes=n_bytes, payload=source, payload_sha256=sha256, payload_bytes=n_bytes, codec="raw"
        )
    return Parcel(
        sha256=sha256,
        n_bytes=n_bytes,
        payload=payload,
        payload_sha256=hashlib.sha256(payload).hexdigest(),
        payload_bytes=len(payload),
        codec=kind.removeprefix("delta-"),
        base=base.path if base and kind.startswith("delta-") else None,
    )


def chunks(source: Path | bytes, offset: int = 0) -> Iterator[bytes]:
    """The contents from `offset` on, in pieces."""
    if isinstance(source, bytes):
        yield from (source[i : i + CHUNK] for i in range(offset, len(source), CHUNK))
        return
    with source.open("rb") as stream:
        stream.seek(offset)
        while chunk := stream.read(CHUNK):
            yield chunk


def sha256_of(source: Path | bytes, n_bytes: int | None = None) -> str:
    """sha256 of the contents, or of their first `n_bytes`."""
    digest, left = hashlib.sha256(), n_bytes
    for chunk in chunks(source):
        digest.update(chunk if left is None else chunk[:left])
        left = None if left is None else left - len(chunk)
        if left is not None and left <= 0:
            break
    return digest.hexdigest()


def _best(sha256: str, source: Path | bytes, codecs: Sequence[str], base: Base | None) -> tuple[str, bytes]:
    if base is None and not _is_worth(source):
        return "raw", b""
    contents = source if isinstance(source, bytes) else source.read_bytes()
    if hashlib.sha256(contents).hexdigest() != sha256:
        raise ShipError(f"{source if isinstance(source, Path) else sha256[:12]}: has changed meanwhile; try again")
    found = [(f"{codec}", data) for codec, data in _compressed(contents, codecs)]
    if base is not None:
        difference = delta(base.contents, contents)
        # What the device will do is done here first: a difference that does not add up is not sent.
        if b"".join(patched(base.contents, difference)) == contents:
            found += [(f"delta-{codec}", data) for codec, data in _compressed(difference, codecs)]
    kind, data = min(found, key=lambda one: len(one[1]), default=("raw", b""))
    if len(data) >= len(contents):
        return "raw", b""
    return kind, data


def _is_worth(source: Path | bytes) -> bool:
    n = len(source) if isinstance(source, bytes) else source.stat().st_size
    start = max(0, n // 2 - SAMPLE_BYTES // 2)
    sample = b"".join(_first(chunks(source, start), SAMPLE_BYTES))
    return len(zlib.compress(sample, 1)) < WORTH * len(sample)


def _first(pieces: Iterator[bytes], n_bytes: int) -> Iterator[bytes]:
    for piece in pieces:
        yield piece[:n_bytes]
        n_bytes -= len(piece)
        if n_bytes <= 0:
            return


def _compressed(data: bytes, codecs: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    if not _is_worth(data):
        return
    is_large = len(data) > LARGE_BYTES
    if "zlib" in codecs:
        for strategy in ZLIB_STRATEGIES[: 1 if is_large else None]:
            machine = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS, 9, strategy)
            yield "zlib", machine.compress(data) + machine.flush()
    if "bz2" in codecs and not is_large:
        yield "bz2", bz2.compress(data, 9)
    if "lzma" in codecs:
        room = min(DICTIONARY_BYTES, 1 << max(12, len(data).bit_length()))
        for lc, lp, pb in LZMA_POSITIONS[: 1 if is_large else None]:
            settings = {"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": room, "lc": lc, "lp": lp, "pb": pb}
            yield "lzma", lzma.compress(data, format=lzma.FORMAT_XZ, check=lzma.CHECK_NONE, filters=[settings])


Key = tuple[str, str, tuple[str, ...]]


class _Kept:
    """Payloads of the last files: the hosts of a fleet get the same."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._payloads: OrderedDict[Key, tuple[str, bytes]] = OrderedDict()

    def get(self, key: Key) -> tuple[str, bytes] | None:
        with self._lock:
            if key in self._payloads:
                self._payloads.move_to_end(key)
            return self._payloads.get(key)

    def put(self, key: Key, value: tuple[str, bytes]) -> None:
        with self._lock:
            self._payloads[key] = value
            while sum(len(data) for _, data in self._payloads.values()) > KEPT_BYTES:
                self._payloads.popitem(last=False)


_KEPT = _Kept()
