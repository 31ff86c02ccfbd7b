"""Frames of pulse oximeters (Nonin, Contec, Berry) against bytes written from their descriptions."""

from __future__ import annotations

import numpy as np
import pytest
from wire_decoded import NAN, close, decoded

from edge_runtime.sensors.encoders import fingertip, nonin

# The example in NoninPulseOx, DataFormat2FrameSerialiser: 30 frames, a packet begins with the fifth.
NONIN_2 = """01804900CA 0180464A11 01804400C5 01804300C4 01814300C5 0180434A0E 0180436024 0180439458 01804300C4
01804100C2 01803E17D6 01803C04C1 018039601A 0180366017 0180356016 01803400B5 01803400B5 01803400B5 0180354A00
0180366017 0180376018 01803A00BB 01804000C1 01804A00CB 0180574A22 01806900EA 01807C4A47 0180900011 0180A10022
0181AF0031"""


def test_nonin2_golden() -> None:
    found = decoded("nonin2", bytes.fromhex(NONIN_2)).samples
    assert len(found) == 29
    assert found[:, 0].tolist() == [int(frame[4:6], 16) for frame in NONIN_2.split()][:29]
    assert np.isnan(found[:5, 1:]).all()
    assert np.isnan(found[5, 1])
    close(found[5:, 2], [0x4A] * 24)
    close(found[6:, 1], [0x60] * 23)


@pytest.mark.parametrize("number", [2, 7])
@pytest.mark.parametrize("rate", [127, 128, 200, 300])
def test_nonin_rates_above_127_read_right(number: int, rate: int) -> None:
    data = nonin.encode_wave([5] * 30, number=number, hr=rate)
    assert decoded(f"nonin{number}", data).samples[10, 2] == rate
    assert decoded("nonin8", nonin.encode_8(rate, 98) * 2).samples[0].tolist() == [98, rate]


def test_nonin_numbers_that_are_not_there_and_sensors_that_are_off() -> None:
    found = decoded("nonin2", nonin.encode_wave([5] * 30, hr=None, spo2=None))
    assert np.isnan(found.samples[:, 1:]).all()
    assert (found.samples[:, 0] == 5).all()
    for flag in (0x40, 0x08):
        off = nonin.encode_wave([5] * 25) + nonin.encode_wave([5] * 5, status=flag, first=25)
        found = decoded("nonin2", off + nonin.encode_wave([5] * 15, first=30))
        assert found.contact.tolist() == [True] * 25 + [False] * 5 + [True] * 14
        assert np.isnan(found.samples[25:30]).all()
        assert np.isnan(found.samples[30:, 1:]).all()  # not the numbers of before
    assert np.isnan(decoded("nonin8", nonin.encode_8(None, None) * 2).samples).all()
    assert decoded("nonin8", nonin.encode_8(72, 98, status2=8) * 2).contact.tolist() == [False] * 2
    spot = decoded("nonin13", nonin.encode_13(None, 97))
    close(spot.samples, [[97, NAN]])
    assert not decoded("nonin13", nonin.encode_13(72, 97, status=0x0100)).contact[0]


def test_nonin_quality() -> None:
    bits = {0x20: 0.0, 0x10: 0.0, 0x04: 0.25, 0x06: 0.5, 0x02: 1.0, 0x00: 1.0}
    for bit, wanted in bits.items():
        quality = decoded("nonin7", nonin.encode_wave([300] * 3, number=7, status=bit)).quality
        assert quality is not None
        assert quality.tolist() == [wanted] * 2


def test_nonin13_golden_and_longer() -> None:
    # 00 02, type 13, 14 bytes: 2026-01-02 03:04:05.06, status, 72 bpm, reserved, 98 %; sum of the 14 bytes; 03.
    payload = "141A010203040506 0000 0048 00 62"
    total = (0x14 + 0x1A + 1 + 2 + 3 + 4 + 5 + 6 + 0x48 + 0x62) % 256
    data = bytes.fromhex(f"0002 000D 000E {payload} {total:02X} 03")
    assert data == nonin.encode_13(72, 98)
    assert decoded("nonin13", data).samples.tolist() == [[98, 72]]
    assert decoded("nonin13", nonin.encode_13(300, 98, more=b"\x01\x02\x03")).samples.tolist() == [[98, 300]]


def test_contec_golden() -> None:
    # Strength 4, beep; pleth 55; bar 6 and bit 7 of a rate of 130; 98 %.
    found = decoded("contec", bytes.fromhex("C4 37 46 02 62") * 2)
    assert found.samples[0].tolist() == [55, 6, 98, 130]
    assert found.quality is not None
    assert (found.contact[0], found.quality[0]) == (True, 0.5)


Flags = list[tuple[int, int]]


@pytest.mark.parametrize(
    ("name", "off", "poor"),
    [
        ("contec", [(0x10, 0), (0, 0x10)], [(0x20, 0), (0, 0x20)]),
        ("berry", [(0x20, 0), (0, 0x10)], [(0x10, 0), (0, 0x20)]),
    ],
)
def test_fingertip_flags_differ_between_the_two(name: str, off: Flags, poor: Flags) -> None:
    for flags0, flags2 in off:
        found = decoded(name, fingertip.encode([50] * 3, flags0=flags0, flags2=flags2))
        assert not found.contact.any()
        assert np.isnan(found.samples).all()
    for flags0, flags2 in poor:
        found = decoded(name, fingertip.encode([50] * 3, flags0=flags0, flags2=flags2))
        assert found.contact.all()
        assert found.quality is not None
        assert not found.quality.any()
        assert (found.samples[:, 0] == 50).all()


def test_fingertip_numbers_that_are_not_there() -> None:
    found = decoded("berry", fingertip.encode([50] * 2, hr=255, spo2=127, strength=15))
    assert np.isnan(found.samples[:, 2:]).all()
    assert found.quality is not None
    assert found.quality.tolist() == [0.0] * 2
