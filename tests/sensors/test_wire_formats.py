"""Every wire format against bytes written from its description, and against its encoder."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from wire_streams import WIRE, rows_of, stream

from edge_runtime.contract.errors import SettingsError
from edge_runtime.sensors.encoders import bitalino, cyton, edge_frame, fingertip, healthypi, nonin, shimmer3
from edge_runtime.sensors.protocols import PROTOCOLS
from edge_runtime.sensors.sensor_block import SensorBlock

NAN = float("nan")


def decoded(name: str, data: bytes, query: str = "") -> SensorBlock:
    """One block of all; frames that wait for the next one are asked for by repeating the last bytes' rhythm."""
    stage = PROTOCOLS[name].decoder(query)
    blocks = stage.feed(data)
    assert blocks
    assert all(a.stop == b.start for a, b in itertools.pairwise(blocks))
    assert all(isinstance(b, SensorBlock) for b in blocks)
    qualities = [b.quality for b in blocks if b.quality is not None]
    return SensorBlock(
        start=blocks[0].start,
        samples=np.concatenate([b.samples for b in blocks]),
        contact=np.concatenate([b.contact for b in blocks]),
        quality=np.concatenate(qualities) if qualities else None,
    )


def close(found: np.ndarray, wanted: object, atol: float = 0.0) -> None:
    np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=atol, equal_nan=True)


TOLERANCE = {"cyton": 0.012, "edge": 5.1e-5, "healthypi3": 0.0062, "healthypi5": 0.0052, "shimmer3": 2.5e-5}


@pytest.mark.parametrize("name", WIRE)
def test_what_was_encoded_is_decoded(name: str) -> None:
    found = decoded(name, stream(name, 150), PROTOCOLS[name].example).samples
    rows = rows_of(name, 150)[: len(found)]
    assert len(found) >= 149
    begin = 25 if name in ("nonin2", "nonin7") else 0  # the numbers come with the first bytes of a packet
    np.testing.assert_allclose(found[begin:], rows[begin:], rtol=1e-6, atol=TOLERANCE.get(name, 0.0))


@pytest.mark.parametrize("name", WIRE)
def test_channels_are_chosen_by_name_and_in_any_order(name: str) -> None:
    example, data = PROTOCOLS[name].example, stream(name, 60)
    whole = PROTOCOLS[name].decoder(example)
    names = whole.spec.channels
    chosen = f"{names[-1]},{names[0]}"
    query = "&".join(q for q in (example, f"channel={chosen}") if q)
    some = PROTOCOLS[name].decoder(query)
    assert some.spec.channels == (names[-1], names[0])
    for a, b in zip(whole.feed(data), some.feed(data), strict=True):
        np.testing.assert_array_equal(b.samples, a.samples[:, [-1, 0]])
    with pytest.raises(SettingsError, match=f"channels are {names[0]}"):
        PROTOCOLS[name].decoder("&".join(q for q in (example, "channel=NONE") if q))


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


def test_frames_that_never_came_are_a_gap_although_no_byte_is_wrong() -> None:
    data = edge_frame.encode([[float(i)] for i in range(10)])
    size = len(data) // 10
    stage = PROTOCOLS["edge"].decoder("rate_hz=100")
    found = stage.feed(data[: 2 * size] + data[5 * size :])
    assert [(b.start, b.stop, b.samples[0, 0]) for b in found] == [(0, 2, 0.0), (5, 10, 5.0)]
    assert stage.counts.damaged == 3


def test_a_frame_said_twice_counts_once() -> None:
    data = edge_frame.encode([[1.0], [2.0], [3.0]])
    size = len(data) // 3
    stage = PROTOCOLS["edge"].decoder("rate_hz=100&scale=1")
    found = stage.feed(data[: 2 * size] + data[size:])
    assert np.concatenate([b.samples[:, 0] for b in found]).tolist() == [1.0, 2.0, 3.0]
    assert stage.counts.good == 3


def test_edge_frame_golden() -> None:
    # CRC-16/CCITT-FALSE of "123456789" is 29B1 (catalogue of CRC algorithms, Greg Cook).
    assert edge_frame._crc(b"123456789") == 0x29B1
    body = bytes.fromhex("11 06 03 04030201 010000 000080")
    data = b"\xa5\x5a" + body + edge_frame._crc(body).to_bytes(2, "little") + b"\r"
    assert data == edge_frame.encode([[1, NAN]], kind="i24", stream=3, first=0x01020304)
    found = decoded("edge", data, "rate_hz=100&stream=3&type=i24&columns=A,B&scale=2&offset=-1")
    close(found.samples, [[4.0, NAN]])
    assert found.contact.tolist() == [False]
    assert decoded("edge", data, "rate_hz=100&stream=3&type=i24&columns=A,B&channel=A").contact.tolist() == [True]


@pytest.mark.parametrize("kind", ["i16", "i24", "f32"])
def test_edge_frames_of_several_rows_and_streams(kind: str) -> None:
    rows = [[float(3 * i), float(-i)] for i in range(40)]
    mine = edge_frame.encode(rows, kind=kind, stream=1, samples=4, first=2**32 - 5)
    other = edge_frame.encode([[float(i)] for i in range(10)], stream=2)
    a, b = len(mine) // 10, len(other) // 10
    data = b"".join(mine[i * a : (i + 1) * a] + other[i * b : (i + 1) * b] for i in range(10))
    stage = PROTOCOLS["edge"].decoder(f"rate_hz=100&stream=1&type={kind}&columns=A,B&samples=4")
    found = stage.feed(data)
    close(np.concatenate([x.samples for x in found]), rows)
    assert (found[0].start, found[-1].stop) == (0, 40)  # the counter went round in between
    assert stage.counts.good == 20


def test_an_edge_device_that_starts_again_is_a_gap_by_time() -> None:
    stage = PROTOCOLS["edge"].decoder("rate_hz=100&samples=2")
    stage.feed(edge_frame.encode([[1.0]] * 20, samples=2, first=5000), 0)
    found = stage.feed(edge_frame.encode([[2.0]] * 4, samples=2, first=0), 2_000_000_000)
    assert [(b.start, b.stop) for b in found] == [(216, 220)]


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


@pytest.mark.parametrize(
    ("name", "query", "match"),
    [
        ("shimmer3", "layout=A:i17", "TYPE is u8"),
        ("shimmer3", "layout=A:i16,A:i16", "each NAME once"),
        ("shimmer3", "layout=-:i16", "one channel with a name"),
        ("shimmer3", "layout=A:i16:x", "NAME:TYPE"),
        ("bitalino", "analog=7", "1 to 6 wanted"),
        ("bitalino", "rate_hz=250", "1, 10, 100 or 1000"),
        ("edge", "rate_hz=250&samples=200", "240 at most"),
        ("edge", "rate_hz=250&columns=A,,B", "different names"),
        ("edge", "", "'rate_hz' is missing"),
        ("cyton", "gain=0", "1 to 24 wanted"),
        ("cyton", "unit=V", "'uV', 'mV' wanted"),
        ("cyton", "rate_hz=0", "rate_hz is 0"),
        ("nonin2", "hr=1", "unknown key 'hr'"),
    ],
)
def test_options_that_make_no_sense_are_refused_by_name(name: str, query: str, match: str) -> None:
    with pytest.raises(SettingsError, match=match):
        PROTOCOLS[name].decoder(query)


def test_units_are_named_once_or_by_column() -> None:
    assert PROTOCOLS["cyton"].decoder().spec.unit == "uV"
    assert PROTOCOLS["nonin2"].decoder().spec.unit == "count,%,bpm"
    assert PROTOCOLS["nonin2"].decoder("channel=HR").spec.unit == "bpm"


def test_an_edge_frame_needs_its_end() -> None:
    data = edge_frame.encode([[1.0]])
    assert PROTOCOLS["edge"].decoder("rate_hz=100").feed(data[:-1] + b"\xa5") == []
    assert len(PROTOCOLS["edge"].decoder("rate_hz=100").feed(data)) == 1
