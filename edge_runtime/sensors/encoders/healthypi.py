"""Bytes as a HealthyPi v3 or a HealthyPi 5 sends them; values are the firmware's own integers."""

from __future__ import annotations

import struct
from collections.abc import Sequence


def encode_v3(
    ecg: int,
    resp: int = 0,
    ir: int = 0,
    red: int = 0,
    *,
    temp_centi: int = 3650,
    rr: int = 16,
    spo2: int = 98,
    hr: int = 72,
    pr: int = 72,
    is_lead_off: bool = False,
    is_probe_open: bool = False,
) -> bytes:
    """One packet."""
    status = int(is_lead_off) + 2 * int(is_probe_open)
    numbers = struct.pack("<BBBBBB", rr, spo2, hr, 80, pr, status)
    return _packet(2, struct.pack("<hhiiH", ecg, resp, ir, red, temp_centi) + numbers)


def encode_v5_basic(
    ecg: int,
    bioz: int | None,
    red: int,
    ir: int,
    *,
    temp_centi: int = 3650,
    spo2: int = 98,
    hr: int = 72,
    rr: int = 16,
) -> bytes:
    """One packet of type 02; `bioz` None: this packet brings none."""
    skip = 0xFF if bioz is None else 0
    return _packet(2, struct.pack("<iiBiihBBB", ecg, bioz or 0, skip, red, ir, temp_centi, spo2, hr, rr))


def encode_v5_ecg(ecg: Sequence[int], bioz: Sequence[int], *, hr: int = 72, rr: int = 16) -> bytes:
    """One packet of type 03: eight of ECG, four of BioZ."""
    return _packet(3, struct.pack("<8i4iBB", *ecg, *bioz, hr, rr))


def encode_v5_ppg(ppg: Sequence[int], *, spo2: int = 98, temp_centi: int = 3650) -> bytes:
    """One packet of type 04; the temperature's high byte is sent twice, as the firmware does."""
    return _packet(4, struct.pack("<8hB", *ppg, spo2) + bytes([temp_centi >> 8]) * 2)


def _packet(kind: int, payload: bytes) -> bytes:
    return b"\x0a\xfa" + struct.pack("<HB", len(payload), kind) + payload + b"\x00\x0b"
