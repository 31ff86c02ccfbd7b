"""Frames found one byte at a time in plain Python, from the descriptions alone: the oracle of the array search."""

from __future__ import annotations

import binascii
from collections.abc import Callable
from dataclasses import dataclass

Bytes = bytes


@dataclass(frozen=True)
class Scalar:
    """One protocol: `size` of the frame that begins here (0: none, None: too few bytes), whether it `holds`."""

    rule: str
    size: Callable[[Bytes], int | None]
    holds: Callable[[Bytes], bool]
    count: Callable[[Bytes], int] | None = None
    wrap: int = 1
    step: int = 1
    slack: int = 0
    chain: int = 1
    reach: int = 1

    def follows(self, later: Bytes, earlier: Bytes, n: int) -> bool:
        if self.count is None:
            return True
        ahead = (self.count(later) - self.count(earlier)) % self.wrap
        return any((n * self.step + d) % self.wrap == ahead for d in range(-self.slack, self.slack + 1))


HEAD = 16  # bytes that tell any frame's length


class TooFewBytes(Exception):
    """What follows decides."""


def frames(data: Bytes, p: Scalar) -> list[tuple[int, Bytes]]:
    """(offset, frame) of all that are believed."""
    found: list[tuple[int, Bytes]] = []
    at, doubt = 0, -1
    try:
        while True:
            frame = frame_at(data, at, p)
            rival = None if frame is None or at <= doubt else is_believed(data, at, frame, found, p)
            if rival is not None and rival > at and p.reach == 1:
                doubt = rival
            if frame is not None and rival == at:
                found.append((at, frame))
                at += len(frame)
            else:
                at += 1
    except TooFewBytes:
        return found


def frame_at(data: Bytes, at: int, p: Scalar) -> Bytes | None:
    size = p.size(data[at : at + HEAD])
    if size is None or at + size > len(data):
        raise TooFewBytes
    frame = data[at : at + size]
    return frame if size and p.holds(frame) else None


def is_followed(data: Bytes, at: int, frame: Bytes, p: Scalar) -> bool:
    then = frame_at(data, at + len(frame), p)
    return then is not None and p.follows(then, frame, 1)


def is_believed(data: Bytes, at: int, frame: Bytes, found: list[tuple[int, Bytes]], p: Scalar) -> int | None:
    """`at` if so, None if not, and the offset of its rival where that is the reason."""
    size = len(frame)
    if p.rule == "checked":
        return at
    last = found[-1][1] if found else None
    gap = at - (found[-1][0] + size) if found else at
    if p.rule == "sync" and last is not None and gap == 0:
        return at
    missing = int(gap / size + 0.5)
    is_linked = last is not None and gap <= 8 * size and p.follows(frame, last, 1 + missing)
    if p.rule == "tail" and is_linked:
        return at
    if p.rule != "next":
        return at if is_followed(data, at, frame, p) else None
    if p.count is not None and not is_linked:
        place, this = at, frame
        for _ in range(p.chain):
            if not is_followed(data, place, this, p):
                return None
            place += size
            this = data[place : place + size]
        return at
    if is_followed(data, at, frame, p):
        return at
    if last is None or (gap and p.chain > 1):
        return None
    end = at + p.reach * (size - 1)
    frame_at(data, end + (size if p.chain > 1 else 0), p)  # all that may rival must be there
    for place in range(at + 1, end + 1):
        rival = frame_at(data, place, p) if place != at + size else None
        if rival is None or not p.follows(rival, frame, 1 if place <= at + size else 2):
            continue
        if p.chain == 1 or is_followed(data, place, rival, p):
            return place
    return at


def fixed(size: int) -> Callable[[Bytes], int | None]:
    return lambda data: size


def five(data: Bytes) -> bool:
    return data[0] > 127 and all(b < 128 for b in data[1:])


def cyton(data: Bytes) -> bool:
    """A frame whose last two bytes are the next frame's first two has lost two, unless it ends as usual."""
    ends_in_next = data[31] == 0xA0 and data[32] == (data[1] + 1) % 256 and data[32] != 0xC0
    return data[0] == 0xA0 and 0xC0 <= data[32] <= 0xC6 and not ends_in_next


def healthypi_size(data: Bytes) -> int | None:
    if len(data) < 5:
        return None
    known = {(2, 22), (3, 50), (4, 19)}
    size = data[2] + 256 * data[3]
    return size + 7 if data[:2] == b"\x0a\xfa" and (data[4], size) in known else 0


def nonin13_size(data: Bytes) -> int | None:
    if len(data) < 6:
        return None
    size = data[4] * 256 + data[5]
    return size + 8 if data[:4] == bytes((0, 2, 0, 13)) and 14 <= size <= 64 else 0


def edge_size(data: Bytes) -> int | None:
    if len(data) < 9:
        return None
    return data[3] + 12 if data[:2] == b"\xa5\x5a" and data[2] in (16, 17, 18) and data[3] <= 240 else 0


def crc4(data: Bytes) -> bool:
    """Long division of the bits without the CRC by 10011."""
    bits = [int(b) for byte in [*data[:-1], data[-1] & 0xF0] for b in f"{byte:08b}"]
    for i in range(len(bits) - 4):
        if bits[i]:
            for k, tap in enumerate((1, 0, 0, 1, 1)):
                bits[i + k] ^= tap
    return int("".join(map(str, bits[-4:])), 2) == data[-1] & 15


SCALARS: dict[str, Scalar] = {
    "cyton": Scalar("tail", fixed(33), cyton, lambda f: f[1], wrap=256),
    "edge": Scalar(
        "checked", edge_size, lambda f: f[-1] == 13 and binascii.crc_hqx(f[2:-3], 0xFFFF) == f[-3] + 256 * f[-2]
    ),
    "healthypi3": Scalar(
        "checked", fixed(27), lambda f: f[:5] == b"\x0a\xfa\x14\x00\x02" and f[22] == 80 and f[25:] == b"\x00\x0b"
    ),
    "healthypi5": Scalar("checked", healthypi_size, lambda f: f[-2:] == b"\x00\x0b"),
    "nonin2": Scalar("next", fixed(5), lambda f: f[0] == 1 and f[1] > 127 and sum(f[:4]) % 256 == f[4]),
    "nonin7": Scalar("next", fixed(5), lambda f: f[0] > 127 and sum(f[:4]) % 256 == f[4]),
    "nonin8": Scalar("sync", fixed(4), five),
    "nonin13": Scalar("checked", nonin13_size, lambda f: sum(f[6:-2]) % 256 == f[-2] and f[-1] == 3),
    "contec": Scalar("sync", fixed(5), five),
    "berry": Scalar("sync", fixed(5), five),
    "bitalino": Scalar("next", fixed(8), crc4, lambda f: f[-1] >> 4, wrap=16, chain=4),
    "shimmer3": Scalar(
        "next",
        fixed(11),
        lambda f: f[0] == 0,
        lambda f: int.from_bytes(f[1:4], "little"),
        wrap=2**24,
        step=64,
        slack=4,
        reach=2,
    ),
}
