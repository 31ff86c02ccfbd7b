"""Rows of samples in physical units, as the decoders give them -> bytes, each protocol with its usual settings."""

from __future__ import annotations

import math

import numpy as np

from edge_runtime.contract.signal import Float32Array
from edge_runtime.sensors.encoders import bitalino as _bitalino
from edge_runtime.sensors.encoders import cyton as _cyton
from edge_runtime.sensors.encoders import edge_frame as _edge_frame
from edge_runtime.sensors.encoders import fingertip as _fingertip
from edge_runtime.sensors.encoders import healthypi as _healthypi
from edge_runtime.sensors.encoders import nonin as _nonin
from edge_runtime.sensors.encoders import shimmer3 as _shimmer3


def csv(values: Float32Array, first: int) -> bytes:
    """One number a line; `!` for none."""
    return "".join(f"{v:.9g}\n" if v == v else "!\n" for v in values[:, 0].tolist()).encode()


def cyton(values: Float32Array, first: int) -> bytes:
    """Eight columns, uV."""
    return _cyton.encode(values.tolist(), first=first)


def edge_frame(values: Float32Array, first: int) -> bytes:
    """ECG and RESP, i24, 0.0001 a count; NaN is no contact."""
    return _edge_frame.encode((values.astype(np.float64) / 0.0001).tolist(), kind="i24", first=first)


def healthypi3(values: Float32Array, first: int) -> bytes:
    """ECG mV, RESP, IR, RED, TEMP degC, RR, SPO2, HR, PR; NaN in ECG is lead off, in IR a probe that is open."""
    out = b""
    for row in values.tolist():
        ecg, resp, ir, red, temp, *numbers = row
        rr, spo2, hr, pr = (_count(v) for v in numbers)
        out += _healthypi.encode_v3(
            _count(ecg / (2420 / 6 / 32768)),
            _count(resp),
            _count(ir),
            _count(red),
            temp_centi=_count(temp * 100),
            rr=rr,
            spo2=spo2,
            hr=hr,
            pr=pr,
            is_lead_off=math.isnan(ecg),
            is_probe_open=math.isnan(ir),
        )
    return out


def healthypi5(values: Float32Array, first: int) -> bytes:
    """Packets of type 02: ECG mV, BIOZ (NaN: this one brings none), RED, IR, TEMP degC, SPO2, HR, RR."""
    out = b""
    for ecg, bioz, red, ir, temp, *numbers in values.tolist():
        spo2, hr, rr = (_count(v) for v in numbers)
        out += _healthypi.encode_v5_basic(
            _count(ecg / (1000 / 131072 / 20)),
            None if math.isnan(bioz) else round(bioz),
            _count(red),
            _count(ir),
            temp_centi=_count(temp * 100),
            spo2=spo2,
            hr=hr,
            rr=rr,
        )
    return out


def nonin_wave(values: Float32Array, first: int, number: int) -> bytes:
    """PLETH, SPO2, HR; NaN in PLETH is a sensor that is off, and the numbers are those of each packet's first row."""
    out, spo2, hr = b"", None, None
    for i, row in enumerate(values.tolist(), first):
        if i % 25 == 0 or i == first:
            spo2, hr = (None if math.isnan(v) else round(v) for v in row[1:])
        status = 0x40 if math.isnan(row[0]) else 0
        out += _nonin.encode_wave([_count(row[0])], number=number, hr=hr, spo2=spo2, status=status, first=i)
    return out


def nonin_8(values: Float32Array, first: int) -> bytes:
    """SPO2, HR; NaN is a number that the device does not have."""
    return b"".join(_nonin.encode_8(hr=_or_none(hr), spo2=_or_none(spo2)) for spo2, hr in values.tolist())


def nonin_13(values: Float32Array, first: int) -> bytes:
    """SPO2, HR."""
    return b"".join(_nonin.encode_13(hr=_or_none(hr), spo2=_or_none(spo2)) for spo2, hr in values.tolist())


def fingertip(values: Float32Array, first: int) -> bytes:
    """PLETH, BAR, SPO2, HR; NaN in PLETH is a finger that is out (in the way of either device)."""
    return b"".join(
        _fingertip.encode(
            [_count(pleth)],
            bar=_count(bar),
            spo2=127 if math.isnan(spo2) else round(spo2),
            hr=255 if math.isnan(hr) else round(hr),
            flags2=0x10 if math.isnan(pleth) else 0,
        )
        for pleth, bar, spo2, hr in values.tolist()
    )


def bitalino(values: Float32Array, first: int) -> bytes:
    """A1 to A6 and DIGITAL, counts."""
    return b"".join(
        _bitalino.encode([[round(v) for v in row[:6]]], digital=round(row[6]), first=i)
        for i, row in enumerate(values.tolist(), first)
    )


def shimmer3(values: Float32Array, first: int) -> bytes:
    """ECG1 and ECG2 in mV behind a status byte."""
    per_mv = (2**23 - 1) * 6 / 2420
    counts = [[0x80, *(_count(v * per_mv) for v in row)] for row in values.tolist()]
    return _shimmer3.encode(counts, ["u8", "i24be", "i24be"], first_tick=first * 64)


def _count(value: float) -> int:
    return 0 if math.isnan(value) else round(value)


def _or_none(value: float) -> int | None:
    return None if math.isnan(value) else round(value)
