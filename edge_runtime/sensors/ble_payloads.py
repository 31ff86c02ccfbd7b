"""Notifications of Bluetooth LE wearables as pure functions of their bytes: heart rate, pulse oximetry, Polar PMD.

Sources: Bluetooth SIG, Heart Rate Service and Pulse Oximeter Service; IEEE 11073-20601 SFLOAT; Polar BLE SDK,
BlePMDClient and TimeSystemExplained. A payload that is too short, or of a kind that is not known, is None.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from edge_runtime.contract.signal import Float32Array

POLAR_EPOCH_S = 946_684_800  # 2000-01-01 in Unix time
POLAR_HEAD = 10
ECG, PPG, ACC = 0, 1, 2
PPG_CHANNELS, PPG_BYTES = 4, 3
# PLX measurement status: demonstration, test, unavailable, invalid. Sensor status: not on the user, displaced,
# malfunctioning, disconnected. Source: Pulse Oximeter Service 1.0.1, tables 3.4 and 3.5.
NO_MEASUREMENT, QUESTIONABLE = 0x0400 | 0x0800 | 0x2000 | 0x8000, 0x4000
NO_SENSOR = 0x0800 | 0x2000 | 0x4000 | 0x8000
SFLOAT_SPECIAL = {0x07FF, 0x0800, 0x07FE, 0x0802, 0x0801}  # NaN, NRes, +infinity, -infinity, reserved


@dataclass(frozen=True, kw_only=True)
class HeartRate:
    """One notification of 0x2A37: contact is None where the sensor cannot tell; RR intervals oldest first."""

    bpm: int
    contact: bool | None
    energy_kj: int | None
    rr_s: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class PulseOximetry:
    """One notification of 0x2A5F: NaN where the sensor has no number, or says that its number is not valid."""

    spo2_percent: float
    pulse_bpm: float
    has_contact: bool
    is_questionable: bool


@dataclass(frozen=True, kw_only=True, eq=False)
class PolarFrame:
    """One PMD data frame: kind ECG, PPG or ACC; Unix time of the LAST sample in ns; float32 (n, channels).

    ECG in uV, acceleration in mg, PPG in counts (three channels and ambient light). The device's clock may be set to
    2019 at a restart: use it as a counter.
    """

    kind: int
    t_ns: int
    samples: Float32Array


def sfloat(raw: int) -> float:
    """IEEE 11073 16-bit float: 4 bits of exponent to ten above 12 of mantissa, both signed; special values are NaN."""
    if raw in SFLOAT_SPECIAL:
        return math.nan
    mantissa = (raw & 0x0FFF) - (0x1000 if raw & 0x0800 else 0)
    exponent = (raw >> 12) - (16 if raw & 0x8000 else 0)
    return mantissa * 10.0**exponent if exponent >= 0 else mantissa / 10.0**-exponent


def heart_rate(payload: bytes) -> HeartRate | None:
    """Flags b0: 16-bit rate, b1: contact, b2: contact supported, b3: energy, b4: RR list in 1/1024 s."""
    if len(payload) < 2:
        return None
    flags = payload[0]
    at = 3 if flags & 1 else 2
    energy_at, at = at, at + (2 if flags & 8 else 0)
    if len(payload) < at:
        return None
    rr = [int.from_bytes(payload[i : i + 2], "little") / 1024 for i in range(at, len(payload) - 1, 2)]
    return HeartRate(
        bpm=int.from_bytes(payload[1 : 3 if flags & 1 else 2], "little"),
        contact=bool(flags & 2) if flags & 4 else None,
        energy_kj=int.from_bytes(payload[energy_at : energy_at + 2], "little") if flags & 8 else None,
        rr_s=tuple(rr) if flags & 16 else (),
    )


def pulse_oximetry(payload: bytes) -> PulseOximetry | None:
    """Flags b0: fast 4, b1: slow 4, b2: measurement status 2, b3: sensor status 3, b4: amplitude 2 bytes."""
    if len(payload) < 5:
        return None
    flags, at = payload[0], 5 + 4 * (payload[0] & 1) + 4 * (payload[0] >> 1 & 1)
    measured_at, at = at, at + (2 if flags & 4 else 0)
    sensor_at, at = at, at + (3 if flags & 8 else 0)
    if len(payload) < at + (2 if flags & 16 else 0):
        return None
    measured = int.from_bytes(payload[measured_at : measured_at + 2], "little") if flags & 4 else 0
    sensor = int.from_bytes(payload[sensor_at : sensor_at + 3], "little") if flags & 8 else 0
    has_contact, is_valid = not sensor & NO_SENSOR, not measured & NO_MEASUREMENT
    spo2, pulse = (sfloat(int.from_bytes(payload[i : i + 2], "little")) for i in (1, 3))
    is_usable = has_contact and is_valid
    return PulseOximetry(
        spo2_percent=spo2 if is_usable else math.nan,
        pulse_bpm=pulse if is_usable else math.nan,
        has_contact=has_contact,
        is_questionable=bool(measured & QUESTIONABLE),
    )


def polar(payload: bytes) -> PolarFrame | None:
    """Type, u64 time of the last sample, frame type, samples: ECG 00/00, PPG 01/80 (deltas), ACC 02/01."""
    if len(payload) <= POLAR_HEAD:
        return None
    body, kind = payload[POLAR_HEAD:], (payload[0], payload[9])
    samples: Float32Array | None = None
    if kind == (ECG, 0x00) and len(body) % 3 == 0:
        samples = _signed(body, 3).reshape(-1, 1)
    elif kind == (ACC, 0x01) and len(body) % 6 == 0:
        samples = _signed(body, 2).reshape(-1, 3)
    elif kind == (PPG, 0x80):
        samples = _deltas(body)
    if samples is None:
        return None
    t_ns = int.from_bytes(payload[1:9], "little") + POLAR_EPOCH_S * 10**9
    return PolarFrame(kind=payload[0], t_ns=t_ns, samples=samples)


def _signed(body: bytes, width: int) -> Float32Array:
    """Signed little-endian integers of `width` bytes."""
    raw = np.frombuffer(body, np.uint8).reshape(-1, width).astype(np.int64)
    value = (raw << (8 * np.arange(width))).sum(axis=1)
    half = 1 << (8 * width - 1)
    return np.asarray((value ^ half) - half, np.float32)


def _deltas(body: bytes) -> Float32Array | None:
    """A first sample, then blocks of {bits, count, differences packed from the lowest bit on}."""
    at = PPG_CHANNELS * PPG_BYTES
    if len(body) < at:
        return None
    steps = [_signed(body[:at], PPG_BYTES).astype(np.int64).reshape(1, -1)]
    while at < len(body):
        if len(body) < at + 2:
            return None
        bits, count = body[at], body[at + 1]
        n_bytes = (bits * count * PPG_CHANNELS + 7) // 8
        packed, at = body[at + 2 : at + 2 + n_bytes], at + 2 + n_bytes
        if bits == 0 or bits > 32 or len(packed) < n_bytes:
            return None
        flat = np.unpackbits(np.frombuffer(packed, np.uint8), bitorder="little")[: bits * count * PPG_CHANNELS]
        value = (flat.reshape(-1, bits).astype(np.int64) << np.arange(bits)).sum(axis=1)
        half = 1 << (bits - 1)
        steps.append(((value ^ half) - half).reshape(count, PPG_CHANNELS))
    return np.asarray(np.cumsum(np.concatenate(steps), axis=0), np.float32)
