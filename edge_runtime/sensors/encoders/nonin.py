"""Bytes as a Nonin oximeter sends them in formats 2, 7, 8 and 13; None stands for a number it does not have."""

from __future__ import annotations

from collections.abc import Sequence


def encode_wave(
    pleth: Sequence[int],
    *,
    number: int = 2,
    hr: int | None = 72,
    spo2: int | None = 98,
    status: int = 0,
    first: int = 0,
) -> bytes:
    """One frame of format 2 or 7 for each value of the pulse wave.

    first   place of the first frame in its packet of 25
    status  further bits of the status byte
    """
    rate = 511 if hr is None else hr
    percent = 127 if spo2 is None else spo2
    table = [0] * 25
    for at in (0, 13, 19, 21):
        table[at], table[at + 1] = rate // 128, rate % 128
    for at in (2, 8, 9, 10, 15, 16):
        table[at] = percent
    table[3] = 48
    out = bytearray()
    for i, value in enumerate(pleth, first):
        said = 0x80 + status + (1 if i % 25 == 0 else 0)
        head = [1, said, value] if number == 2 else [said, value // 256, value % 256]
        frame = [*head, table[i % 25]]
        out += bytes([*frame, sum(frame) % 256])
    return bytes(out)


def encode_8(hr: int | None, spo2: int | None, *, status1: int = 0, status2: int = 0) -> bytes:
    """One frame of format 8."""
    rate = 511 if hr is None else hr
    return bytes([0x80 + status1 + rate // 128, rate % 128, 127 if spo2 is None else spo2, status2])


def encode_13(
    hr: int | None,
    spo2: int | None,
    *,
    when: Sequence[int] = (20, 26, 1, 2, 3, 4, 5, 6),
    status: int = 0,
    more: bytes = b"",
) -> bytes:
    """One frame of format 13; `when`: century, year, month, day, hour, minute, second, hundredths."""
    rate = 511 if hr is None else hr
    payload = bytes([*when, *status.to_bytes(2, "big"), *rate.to_bytes(2, "big"), 0, 127 if spo2 is None else spo2])
    payload += more
    head = b"\x00\x02\x00\x0d" + len(payload).to_bytes(2, "big")
    return head + payload + bytes([sum(payload) % 256, 3])
