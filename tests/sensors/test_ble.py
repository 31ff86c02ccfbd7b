"""Bluetooth LE: payloads by hand and as their encoders make them, and a source over a client that is no radio."""

from __future__ import annotations

import asyncio
import math
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.contract.errors import SettingsError, SourceError
from edge_runtime.sensors import ble_payloads as payloads
from edge_runtime.sensors.ble import open_ble
from edge_runtime.sensors.ble_protocols import BLE_PROTOCOLS, PMD_CONTROL, PMD_DATA, BleOptions, PolarEcgOptions
from edge_runtime.sensors.capture import CaptureWriter
from edge_runtime.sensors.encoders import ble
from edge_runtime.sensors.lost import SourceLost
from edge_runtime.sensors.playback import Pace
from edge_runtime.sensors.source import open_source

QUICK = settings(derandomize=True, max_examples=60, deadline=None)
SECOND_NS = 10**9


@pytest.mark.parametrize(
    ("hex_bytes", "bpm", "contact", "energy", "rr"),
    [
        ("00 48", 72, None, None, ()),
        ("06 48", 72, True, None, ()),
        ("04 48", 72, False, None, ()),
        ("01 2C 01", 300, None, None, ()),
        ("10 3C 00 04", 60, None, None, (1.0,)),
        ("16 3C 00 04 00 02 01 00", 60, True, None, (1.0, 0.5, 1 / 1024)),
        # As in ActiGraph's description of its heart rate log: HR 66, two intervals.
        ("16 42 18 04 70 01", 66, True, None, (1048 / 1024, 368 / 1024)),
        ("18 3C 34 12 00 03", 60, None, 0x1234, (0.75,)),
        ("1F 50 00 01 00 00 04", 80, True, 1, (1.0,)),
    ],
)
def test_heart_rate_by_hand(hex_bytes: str, bpm: int, contact: bool | None, energy: int | None, rr: tuple) -> None:
    """Bluetooth SIG, Heart Rate Measurement 0x2A37."""
    payload = bytes.fromhex(hex_bytes)
    found = payloads.heart_rate(payload)
    assert found == payloads.HeartRate(bpm=bpm, contact=contact, energy_kj=energy, rr_s=rr)
    ticks, is_wide = [round(v * 1024) for v in rr], bool(payload[0] & 1)
    assert ble.heart_rate(bpm, contact=contact, energy_kj=energy, rr_1024=ticks, is_wide=is_wide) == payload


@pytest.mark.parametrize("hex_bytes", ["", "00", "01 2C", "08 48 01"])
def test_a_heart_rate_that_is_cut_is_none(hex_bytes: str) -> None:
    assert payloads.heart_rate(bytes.fromhex(hex_bytes)) is None


@pytest.mark.parametrize(
    ("mantissa", "exponent", "value"),
    [(72, 0, 72.0), (985, -1, 98.5), (-5, 0, -5.0), (12, 2, 1200.0), (-2046, -8, -2.046e-5)],
)
def test_sfloat_by_hand(mantissa: int, exponent: int, value: float) -> None:
    (raw,) = struct.unpack("<H", ble.sfloat(mantissa, exponent))
    assert payloads.sfloat(raw) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize("raw", [0x07FF, 0x0800, 0x07FE, 0x0802, 0x0801])
def test_special_sfloats_are_no_numbers(raw: int) -> None:
    assert math.isnan(payloads.sfloat(raw))


@pytest.mark.parametrize("flags", range(32))
@pytest.mark.parametrize(
    ("measured", "sensor", "is_usable"),
    [(0, 0, True), (0x01C0, 0x0410, True)]
    + [(bit, 0, False) for bit in (0x0400, 0x0800, 0x2000, 0x8000)]
    + [(0, bit, False) for bit in (0x0800, 0x2000, 0x4000, 0x8000)],
)
def test_oximetry_with_every_set_of_optional_fields(flags: int, measured: int, sensor: int, is_usable: bool) -> None:
    """Bluetooth SIG, Pulse Oximeter Service 1.0.1, tables 3.4 and 3.5: demonstration, test, unavailable, invalid; a
    sensor off the user, displaced, malfunctioning, disconnected. Early or validated data and a poor signal are data."""
    body = ble.pulse_oximetry(
        (97, 0),
        (725, -1),
        fast=((1, 0), (1, 0)) if flags & 1 else None,
        slow=((2, 0), (2, 0)) if flags & 2 else None,
        measured=measured if flags & 4 else None,
        sensor=sensor if flags & 8 else None,
        amplitude=(3, 0) if flags & 16 else None,
    )
    assert body[0] == flags
    found = payloads.pulse_oximetry(body)
    assert found is not None
    said = not ((flags & 4 and measured) or (flags & 8 and sensor))
    assert math.isnan(found.spo2_percent) != (is_usable or said)
    if is_usable or said:
        assert (found.spo2_percent, found.pulse_bpm) == (97.0, 72.5)
    assert payloads.pulse_oximetry(body[:-1]) is None


def test_a_polar_ecg_frame_by_hand() -> None:
    """Type 00, 2020-01-01 as ns since 2000, frame type 00, then 1, -1, 8388607 and -8388608 uV."""
    days_ns = 7305 * 86400 * SECOND_NS
    payload = b"\x00" + days_ns.to_bytes(8, "little") + bytes.fromhex("00 010000 ffffff ffff7f 000080")
    assert ble.polar_ecg([1, -1, 8388607, -8388608], days_ns) == payload
    found = payloads.polar(payload)
    assert found is not None
    assert found.t_ns == 1_577_836_800 * SECOND_NS  # Unix time of 2020-01-01
    np.testing.assert_array_equal(found.samples[:, 0], [1, -1, 8388607, -8388608])


def test_a_polar_ppg_frame_as_in_polars_own_tests() -> None:
    """The beginning of a frame of type 0 in the unit tests of Polar's BLE SDK (PpgDataTest): a first sample of four
    channels, then differences of 10 bits; the SDK's comment says 178, -68, -178, 68."""
    payload = bytes.fromhex("01 0500000000000000 80 2C2D00 C27700 D3D2FF 3D88FF 0A 01 B2F0EE3411")
    found = payloads.polar(payload)
    assert found is not None
    first = [11564, 30658, -11565, -30659]
    rows = [first, [v + d for v, d in zip(first, (178, -68, -178, 68), strict=True)]]
    np.testing.assert_array_equal(found.samples, rows)
    assert ble.polar_ppg(rows, 5, widths=[10], counts=[1]) == payload


@pytest.mark.parametrize(
    ("name", "start", "stop"),
    [
        ("polar-ecg", "02 00 0001 8200 0101 0E00", "03 00"),
        ("polar-acc", "02 02 0001 C800 0101 1000 0201 0800", "03 02"),
        ("polar-ppg", "02 01 0001 3700 0101 1600 0401 04", "03 01"),
    ],
)
def test_polar_is_started_by_the_bytes_that_published_clients_write(name: str, start: str, stop: str) -> None:
    """130 Hz of 14 bits; 200 Hz of 16 bits in 8 g; 55 Hz of 22 bits in four channels: many public clients agree."""
    protocol = BLE_PROTOCOLS[name]
    assert (protocol.start, protocol.stop) == (bytes.fromhex(start), bytes.fromhex(stop))
    assert protocol.control == "fb005c81-02e7-f387-1cad-8acd2d8df0c8"
    assert protocol.notify == "fb005c82-02e7-f387-1cad-8acd2d8df0c8"


@QUICK
@given(st.lists(st.tuples(*[st.integers(-32768, 32767)] * 3), min_size=1, max_size=30))
def test_polar_acceleration_comes_back(rows: list[tuple[int, int, int]]) -> None:
    found = payloads.polar(ble.polar_acc(rows, 5))
    assert found is not None
    np.testing.assert_array_equal(found.samples, rows)


@QUICK
@given(st.integers(2, 20), st.lists(st.integers(1, 9), min_size=1, max_size=4), st.integers(0, 2**31))
def test_polar_ppg_of_any_width_comes_back(width: int, counts: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    half = 1 << (width - 1)
    steps = rng.integers(-half, half, (sum(counts), 4))
    rows = np.concatenate([rng.integers(-(2**21), 2**21, (1, 4)), steps]).cumsum(axis=0)
    blocks = ble.polar_ppg(rows.tolist(), 5, widths=[width] * len(counts), counts=counts)
    for payload in (blocks, ble.polar_ppg(rows.tolist(), 5), ble.polar_ppg(rows[:1].tolist(), 5)):
        found = payloads.polar(payload)
        assert found is not None
        np.testing.assert_array_equal(found.samples, rows[: len(found.samples)].astype(np.float32))
        assert len(found.samples) == (1 if len(payload) == 22 else len(rows))


@QUICK
@given(st.binary(max_size=60))
def test_any_bytes_are_a_value_and_never_an_exception(payload: bytes) -> None:
    for read in (payloads.heart_rate, payloads.pulse_oximetry, payloads.polar):
        read(payload)


def ecg_frame(first: int, n: int = 73, *, device_ns: int = 0) -> bytes:
    """Samples that say their own position; the time stamp is that of the last."""
    at = device_ns or 599_616_000 * SECOND_NS + round((first + n - 1) / 130.0 * 1e9)
    return ble.polar_ecg(range(first, first + n), at)


def test_lost_notifications_are_a_gap_to_the_sample() -> None:
    decoder = BLE_PROTOCOLS["polar-ecg"].make_decoder(PolarEcgOptions())
    firsts = [0, 73, 146, 365, 438, 438 + 73 * 100]
    for first in firsts:
        (block,) = decoder.feed(ecg_frame(first), 0)
        assert block.start == first
        np.testing.assert_array_equal(block.samples[:, 0], np.arange(first, first + 73))
    assert decoder.counts.good == len(firsts)
    assert decoder.feed(b"\x07nonsense", 0) == []
    assert decoder.counts.damaged == 1


def test_a_device_clock_that_goes_back_leaves_the_gap_to_arrival() -> None:
    """The H10's clock begins again in 2019 after a restart."""
    decoder = BLE_PROTOCOLS["polar-ecg"].make_decoder(PolarEcgOptions())
    decoder.feed(ecg_frame(0), SECOND_NS)
    (block,) = decoder.feed(ecg_frame(0, device_ns=1), 11 * SECOND_NS)
    assert block.start == 1300


def test_no_contact_is_unknown_and_a_second_without_a_notification_is_a_gap() -> None:
    decoder = BLE_PROTOCOLS["heart-rate"].make_decoder(BleOptions())
    rows = [decoder.feed(bytes.fromhex(h), t * SECOND_NS)[0] for t, h in ((1, "06 48"), (2, "04 00"), (5, "06 49"))]
    assert [b.start for b in rows] == [0, 1, 4]
    assert [b.samples[0, 0] for b in (rows[0], rows[2])] == [72, 73]
    assert np.isnan(rows[1].samples).all()
    assert [bool(b.contact[0]) for b in rows] == [True, False, True]


@pytest.mark.parametrize(
    ("name", "channel", "unit", "row"),
    [
        ("pulse-oximeter", "HR", "bpm", [72.5]),
        ("pulse-oximeter", "HR,SPO2", "bpm,%", [72.5, 97.0]),
        ("polar-acc", "ACCZ,ACCX", "mg", [-3.0, 1.0]),
        ("polar-ppg", "PPG1", "count", [8.0]),
    ],
)
def test_channels_are_chosen_by_name_and_in_any_order(name: str, channel: str, unit: str, row: list[float]) -> None:
    payload = {
        "pulse-oximeter": ble.pulse_oximetry((97, 0), (725, -1)),
        "polar-acc": ble.polar_acc([(1, 2, -3)], 5),
        "polar-ppg": ble.polar_ppg([(7, 8, 9, 10)], 5),
    }[name]
    decoder = BLE_PROTOCOLS[name].make_decoder(BleOptions(channel=channel))
    (block,) = decoder.feed(payload, 0)
    assert (decoder.spec.unit, decoder.spec.channels) == (unit, tuple(channel.split(",")))
    np.testing.assert_array_equal(block.samples, [row])


def test_a_polar_belt_gives_millivolts_if_it_is_asked_to() -> None:
    decoder = BLE_PROTOCOLS["polar-ecg"].make_decoder(PolarEcgOptions(unit="mV"))
    (block,) = decoder.feed(ble.polar_ecg([1500, -250], 5), 0)
    assert decoder.spec.unit == "mV"
    np.testing.assert_allclose(block.samples[:, 0], [1.5, -0.25], rtol=1e-6)


class FakeClient:
    """The part of bleak's BleakClient that is used: coroutines, and callbacks in its event loop."""

    made: list[FakeClient] = []  # noqa: RUF012 - what the tests look into

    def __init__(self, address: str, disconnected_callback: Callable[[Any], None]) -> None:
        self.address, self._gone = address, disconnected_callback
        self.calls: list[tuple[Any, ...]] = []
        FakeClient.made.append(self)

    async def connect(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.calls.append(("connect",))
        if self.address == "out-of-reach":
            raise TimeoutError

    async def start_notify(self, characteristic: str, callback: Callable[[Any, bytearray], None]) -> None:
        self.calls.append(("notify", characteristic))
        self._callback = callback

    async def write_gatt_char(self, characteristic: str, data: bytes, response: bool) -> None:
        self.calls.append(("write", characteristic, bytes(data), response))

    async def disconnect(self) -> None:
        self.calls.append(("disconnect",))

    def notify(self, payload: bytes) -> None:
        self._loop.call_soon_threadsafe(self._callback, None, bytearray(payload))

    def vanish(self) -> None:
        self._loop.call_soon_threadsafe(self._gone, self)


PACE = Pace(speed=1.0, clock=time.monotonic_ns, sleep=time.sleep)


def test_a_polar_belt_is_started_read_captured_and_stopped(tmp_path: Path) -> None:
    FakeClient.made.clear()
    writer = CaptureWriter(tmp_path / "belt.vcap")
    source = open_ble("//AA:BB", "protocol=polar-ecg", PACE, writer, FakeClient)
    (client,) = FakeClient.made
    for first in (0, 73, 219):
        client.notify(ecg_frame(first))
    live = []
    for block in source.blocks():
        live += [(block.start + i, v) for i, v in enumerate(block.samples[:, 0].tolist())]
        if block.stop == 292:
            break
    source.close()
    writer.close()
    assert live == [(p, float(p)) for p in [*range(146), *range(219, 292)]]
    start = bytes.fromhex("02 00 00 01 82 00 01 01 0e 00")  # Polar BLE SDK: start ECG, 130 Hz, 14 bits
    assert client.calls == [
        ("connect",),
        ("notify", PMD_DATA),
        ("write", PMD_CONTROL, start, True),
        ("write", PMD_CONTROL, b"\x03\x00", True),
        ("disconnect",),
    ]
    again = open_source(f"replay:{tmp_path / 'belt.vcap'}")
    assert [(b.start + i, v) for b in again.blocks() for i, v in enumerate(b.samples[:, 0].tolist())] == live


def test_a_belt_that_goes_out_of_reach_is_lost() -> None:
    FakeClient.made.clear()
    source = open_ble("//AA:BB", "protocol=heart-rate", PACE, None, FakeClient)
    FakeClient.made[0].vanish()
    with pytest.raises(SourceLost, match="out of reach"):
        list(source.blocks())
    source.close()
    with pytest.raises(SourceLost, match="cannot be reached"):
        open_ble("//out-of-reach", "protocol=heart-rate", PACE, None, FakeClient)


def test_without_bleak_one_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "bleak", None)  # how Python marks a missing module
    with pytest.raises(SourceError, match=r"bleak package is not installed here; pip install 'vitaledge\[ble\]'"):
        open_source("ble://AA:BB?protocol=polar-ecg")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("ble:?protocol=polar-ecg", "no address"),
        ("ble://A?protocol=cyton", "'cyton'; one of heart-rate"),
        ("ble://A?protocol=polar-ecg&baud=9600", "unknown key 'baud'; keys are channel, protocol, rate_hz, unit"),
        ("ble://A?protocol=pulse-oximeter&channel=ECG", "channel is 'ECG'; channels are SPO2, HR"),
        ("ble://A?protocol=heart-rate&unit=mV", "unknown key 'unit'"),
        ("ble://A?protocol=polar-ecg&unit=V", "'uV', 'mV' wanted"),
    ],
)
def test_a_wrong_address_or_protocol_is_refused(url: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        open_source(url)
