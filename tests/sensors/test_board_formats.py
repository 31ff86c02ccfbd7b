"""Frames of ECG boards (Cyton, HealthyPi, BITalino, Shimmer3) against bytes written from their descriptions."""

from __future__ import annotations

import numpy as np
import pytest
from wire_decoded import NAN, close, decoded

from edge_runtime.sensors.encoders import bitalino, cyton, healthypi, shimmer3
from edge_runtime.sensors.protocols import PROTOCOLS


def test_cyton_golden() -> None:
    # OpenBCI's Cyton Data Format: 7FFFFF is +4.5 V / gain, 800000 just beyond -4.5 V / gain, FFFFFF is -1.
    row = "A0 07 7FFFFF 800000 FFFFFF 000001 000000 00A0C0 A0A0A0 010000 0008 0000 2000 C0"
    data = bytes.fromhex(row) + bytes.fromhex(row.replace("A0 07", "A0 08", 1))
    unit = 4.5e6 / 24 / 8388607
    counts = [8388607, -8388608, -1, 1, 0, 0xA0C0, 0xA0A0A0 - 2**24, 65536]
    found = decoded("cyton", data, "aux=acceleration").samples
    close(found[0, :8], [c * unit for c in counts])
    assert found[0, 0] == pytest.approx(187500.0)
    close(found[0, 8:], [8 * 0.000125, 0.0, 8192 * 0.000125])
    close(decoded("cyton", data, "gain=1&unit=mV&channel=EXG1").samples[:, 0], [4500.0, 4500.0])


def test_cyton_aux_of_another_kind_is_no_acceleration() -> None:
    data = cyton.encode([[1.0] * 8] * 4, acceleration_g=(0.5, 0.5, 1.0), end=0xC1)
    assert np.isnan(decoded("cyton", data, "aux=acceleration").samples[:, 8:]).all()
    data = cyton.encode([[1.0] * 8] * 4)
    assert np.isnan(decoded("cyton", data, "aux=acceleration").samples[:, 8:]).all()


def test_a_cyton_header_in_the_data_does_not_lead_astray() -> None:
    # Constant data that has an end byte before a header at the same place of every frame.
    unit = 4.5e6 / 24 / 8388607
    value = (0xC0A000 - 2**24) * unit
    data = cyton.encode([[value] * 8] * 50)[17:]
    stage = PROTOCOLS["cyton"].decoder()
    blocks = stage.feed(data)
    close(np.concatenate([b.samples for b in blocks]), np.full((49, 8), value))
    assert stage.counts.skipped == 16


def test_a_cyton_counter_that_went_round_is_told_by_time() -> None:
    stage = PROTOCOLS["cyton"].decoder()
    row = [[0.0] * 8]
    first = stage.feed(cyton.encode(row * 10, first=0), 0)
    assert (first[0].start, first[-1].stop) == (0, 10)
    # 3.2 s later: 800 samples on, which is three times round and 32 more.
    later = stage.feed(cyton.encode(row * 10, first=9 + 800 - 9), round(3.2e9))
    assert later[0].start == 9 + 800 - 9
    # Late by 0.6 s without a loss, all at once: nothing is made up.
    burst = stage.feed(cyton.encode(row * 10, first=810), round(3.84e9))
    assert burst[0].start == 810
    assert stage.counts.damaged == 790


def test_a_late_burst_with_damage_in_it_is_no_round_of_the_counter() -> None:
    stage = PROTOCOLS["cyton"].decoder()
    data = cyton.encode([[0.0] * 8] * 310)
    stage.feed(data[: 33 * 10], 0)
    found = stage.feed(data[33 * 10 : 33 * 20 + 5] + data[33 * 20 + 6 :], round(1.2e9))
    assert (found[0].start, found[0].stop) == (10, 20)
    assert found[-1].stop == 310


def test_healthypi3_golden() -> None:
    # ECG -2, resp 3, IR 1024, red -5, 36.5 C, RR 16, SpO2 97, HR 72, 80 in decimal, BP-HR 74, status.
    text = "0AFA 1400 02 FEFF 0300 00040000 FBFFFFFF 420E 10 61 48 50 4A {} 000B"
    found = decoded("healthypi3", bytes.fromhex(text.format("00")), "ecg_scale=0.5")
    close(found.samples, [[-1.0, 3, 1024, -5, 36.5, 16, 97, 72, 74]])
    assert found.contact.tolist() == [True]
    lead_off = decoded("healthypi3", bytes.fromhex(text.format("01")))
    close(lead_off.samples, [[NAN, NAN, 1024, -5, 36.5, NAN, 97, NAN, 74]])
    assert lead_off.contact.tolist() == [False]
    assert decoded("healthypi3", bytes.fromhex(text.format("01")), "channel=SPO2").contact.tolist() == [True]
    open_probe = decoded("healthypi3", bytes.fromhex(text.format("02")))
    close(open_probe.samples, [[-2 * 2420 / 6 / 32768, 3, NAN, NAN, 36.5, 16, NAN, 72, NAN]])


def test_healthypi3_numbers_that_are_not_there_are_nan() -> None:
    # SpO2 -999 in one byte is 25.
    found = decoded("healthypi3", healthypi.encode_v3(1, spo2=-999 & 0xFF, hr=0, rr=0), "channel=SPO2,HR,RR")
    assert np.isnan(found.samples).all()


def test_healthypi5_golden() -> None:
    basic = "0AFA 1600 02 00000200 05000000 00 07000000 FFFFFFFF 420E 61 48 10 000B"
    found = decoded("healthypi5", bytes.fromhex(basic), "rate_hz=125").samples
    close(found, [[50.0, 5, 7, -1, 36.5, 97, 72, 16]])  # 2**17 counts are 1 V / 20
    none = decoded("healthypi5", healthypi.encode_v5_basic(1, None, 2, 3), "rate_hz=125&channel=BIOZ").samples
    assert np.isnan(none).all()


def test_healthypi5_streams_are_told_apart_by_type_and_length() -> None:
    ecg = healthypi.encode_v5_ecg(range(8), [10, 20, 30, 40], hr=0)
    ppg = healthypi.encode_v5_ppg(range(-4, 4), spo2=97)
    data = (ecg + ppg) * 3
    found = decoded("healthypi5", data, "rate_hz=500&stream=ecg&ecg_scale=1").samples
    close(found[:, 0], [*range(8)] * 3)
    close(found[:8, 1], [10, NAN, 20, NAN, 30, NAN, 40, NAN])
    assert np.isnan(found[:, 2]).all()
    close(found[:, 3], [16] * 24)
    found = decoded("healthypi5", data, "rate_hz=500&stream=ppg").samples
    close(found, [[v, 97] for v in [*range(-4, 4)] * 3])


def test_bitalino_golden() -> None:
    # A1 = 3FF, A2 = 001, A3 = 155, A4 = 2AA, A5 = 15, A6 = 2A, pins 1001; by bitalino.py's own expressions:
    # byte -2 is pins and A1's upper 4 bits, -3 A1's lower 6 and A2's upper 2, -4 A2's lower 8, ...
    body = [0x2A | (0x15 & 3) << 6, (0x15 >> 2) | (0x2AA & 15) << 4, (0x2AA >> 4) | (0x155 & 3) << 6]
    body += [0x155 >> 2, 1, (0x3FF & 63) << 2, 9 << 4 | 0x3FF >> 6]
    data = bitalino.encode([[0x3FF, 1, 0x155, 0x2AA, 0x15, 0x2A]] * 8, first=12, digital=9)
    assert list(data[:7]) == body
    assert data[7] >> 4 == 12
    assert decoded("bitalino", data).samples[0].tolist() == [0x3FF, 1, 0x155, 0x2AA, 0x15, 0x2A, 9]


@pytest.mark.parametrize(("analog", "size"), [(1, 3), (2, 4), (3, 6), (4, 7), (5, 8), (6, 8)])
def test_bitalino_with_fewer_channels(analog: int, size: int) -> None:
    rows = [[(37 * i + 11 * k) % (1024 if k < 4 else 64) for k in range(analog)] for i in range(40)]
    data = bitalino.encode(rows, digital=5)
    assert len(data) == 40 * size
    found = decoded("bitalino", data, f"analog={analog}").samples
    assert found.tolist() == [[*row, 5] for row in rows[: len(found)]]
    assert len(found) == 39


def test_bitalino_ecg_is_in_millivolts() -> None:
    data = bitalino.encode([[512, 1023]] * 8)
    stage = PROTOCOLS["bitalino"].decoder("analog=2&ecg=2&channel=ECG")
    assert (stage.spec.unit, stage.spec.channels) == ("mV", ("ECG",))
    close(stage.feed(data)[0].samples[0], [(1023 / 1024 - 0.5) * 3.3 / 1100 * 1000])


def test_shimmer3_golden() -> None:
    # 00, ticks 0000FE, status 80, ECG1 = -1, ECG2 = 0x010203, then 64 ticks later.
    frame = "00 {} 80 FFFFFF 010203"
    data = b"".join(bytes.fromhex(frame.format(t)) for t in ("FE0000", "3E0100", "7E0100"))
    found = decoded("shimmer3", data, "layout=-:u8,A:i24be,B:i24be:0.5:mV").samples
    assert found.tolist() == [[-1.0, 0x010203 / 2]] * 2


@pytest.mark.parametrize("crc_bytes", [0, 1, 2])
def test_shimmer3_clock_goes_round_and_replies_are_skipped(crc_bytes: int) -> None:
    rows = [[i, -i, 1000 + i] for i in range(60)]
    kinds = ["u16", "i16", "i16be"]
    data = shimmer3.encode(rows, kinds, first_tick=2**24 - 64 * 20, crc_bytes=crc_bytes)
    size = 10 + crc_bytes
    data = b"\xff" + data[: 30 * size] + b"\xff\x8a\x10\x05" + data[30 * size :]
    query = f"layout=A:u16,B:i16,C:i16be&crc={ {0: 'none', 1: '8', 2: '16'}[crc_bytes] }"
    stage = PROTOCOLS["shimmer3"].decoder(query)
    blocks = stage.feed(data)
    close(np.concatenate([b.samples for b in blocks]), rows[:59])
    assert (blocks[0].start, blocks[-1].stop, stage.counts.damaged, stage.counts.skipped) == (0, 59, 0, 5)


def test_a_shimmer3_clock_that_went_round_in_a_silence_is_told_by_time() -> None:
    stage = PROTOCOLS["shimmer3"].decoder()
    kinds, row = ["u8", "i24be", "i24be"], [[0x80, 1, 2]]
    stage.feed(shimmer3.encode(row * 10, kinds), 0)
    # 600 s later: once round (512 s) and 88 s.
    ticks = 600 * 32768
    found = stage.feed(shimmer3.encode(row * 10, kinds, first_tick=ticks % 2**24), 600_000_000_000)
    # The last frame of before waited for the next one, and has its own time.
    assert [(b.start, b.stop, b.t_ns) for b in found] == [
        (9, 10, 0),
        (600 * 512, 600 * 512 + 1, 600_000_000_000),
        (600 * 512 + 1, 600 * 512 + 9, 600_000_000_000),
    ]
