"""Every protocol against bytes that somebody else published, or written by hand from what somebody published."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from edge_runtime.sensors.ble_protocols import BLE_PROTOCOLS
from edge_runtime.sensors.options import parse_options
from edge_runtime.sensors.protocols import PROTOCOLS

NAN = float("nan")


@dataclass(frozen=True, kw_only=True)
class Golden:
    """What the first samples of these bytes are, and who says so."""

    protocol: str
    source: str
    bytes: str
    rows: list[list[float]]
    query: str = ""


# The example in NoninPulseOx, DataFormat2FrameSerialiser, from the frame with SYNC on; one frame waits for the next.
NONIN_2 = "01 81 43 00 C5 01 80 43 4A 0E 01 80 43 60 24 01 80 43 94 58"
# bitalino.py's own expressions for A1 = 3FF, A2 = 001, A3 = 155, A4 = 2AA, A5 = 15, A6 = 2A, pins 1001; the last byte
# is sequence and CRC-4 by its loop.
BITALINO = "6A A5 6A 55 01 FC 9F"

ALL = (
    Golden(
        protocol="csv",
        source="NMEA 0183's check: 31 xor 2C xor 32 is 2F; the first line is left out, the third is wrong",
        bytes=b"9,9\n1,2*2F\n3,4*2E\n5,6*2F\n".hex(),
        rows=[[1.0], [5.0]],
        query="rate_hz=250",
    ),
    Golden(
        protocol="edge",
        source="docs/sensors.md; CRC-16/CCITT-FALSE by binascii.crc_hqx(..., 0xFFFF)",
        bytes="A55A 11 06 03 04030201 010000 000080 816B 0D",
        rows=[[1.0, NAN]],
        query="rate_hz=100&stream=3&type=i24&columns=A,B&scale=1",
    ),
    Golden(
        protocol="cyton",
        source="OpenBCI's Cyton Data Format: 24 bits, most significant first; 4.5 V / gain / (2^23 - 1); counter; C0",
        bytes="A0 07 7FFFFF 800000 FFFFFF 000001 000000 00A0C0 A0A0A0 010000 0008 0000 2000 C0"
        "A0 08 7FFFFF 800000 FFFFFF 000001 000000 00A0C0 A0A0A0 010000 0008 0000 2000 C0",
        rows=[[n * 4.5e6 / 24 / (2**23 - 1) for n in (8388607, -8388608, -1, 1, 0, 41152, -6250336, 65536)]],
    ),
    Golden(
        protocol="healthypi3",
        source="healthypi3_streaming.ino, loop(): DataPacket[22] = 80, in decimal; [24] is probe open << 1 | lead off",
        bytes="0AFA 1400 02 FEFF 0300 00040000 FBFFFFFF 420E 10 61 48 50 4A 00 000B",
        rows=[[-1.0, 3, 1024, -5, 36.5, 16, 97, 72, 74]],
        query="ecg_scale=0.5",
    ),
    Golden(
        protocol="healthypi5",
        source="healthypi5_zephyr, data_module.c, sendData(): red before infrared, SpO2, HR, RR",
        bytes="0AFA 1600 02 00000200 05000000 00 07000000 FFFFFFFF 420E 61 48 10 000B",
        rows=[[131072.0, 5, 7, -1, 36.5, 97, 72, 16]],
        query="rate_hz=125&ecg_scale=1",
    ),
    Golden(
        protocol="healthypi5",
        source="the same, type 03: eight of ECG, four of BioZ, HR, RR; 32 bits each, least significant first",
        bytes="0AFA 3200 03"
        + "01000000 FEFFFFFF 03000000 04000000 05000000 06000000 07000000 00000200"
        + "0A000000 14000000 1E000000 D8FFFFFF 48 10 000B",
        rows=[
            [1, 10, 72, 16],
            [-2, NAN, 72, 16],
            [3, 20, 72, 16],
            [4, NAN, 72, 16],
            [5, 30, 72, 16],
            [6, NAN, 72, 16],
            [7, -40, 72, 16],
            [131072, NAN, 72, 16],
        ],
        query="rate_hz=125&stream=ecg&ecg_scale=1",
    ),
    Golden(
        protocol="healthypi5",
        source="the same, send_ppg_data_ov3_format(), type 04: eight of PPG, SpO2, twice the temperature's high byte",
        bytes="0AFA 1300 04 0100 FFFF 0080 FF7F 0500 0600 0700 0001 61 0E0E 000B",
        rows=[[v, 97] for v in (1.0, -1, -32768, 32767, 5, 6, 7, 256)],
        query="rate_hz=125&stream=ppg",
    ),
    Golden(
        protocol="nonin2",
        source="NoninPulseOx, DataFormat2FrameSerialiser",
        bytes=NONIN_2,
        rows=[[0x43, NAN, NAN], [0x43, NAN, 0x4A], [0x43, 0x60, 0x4A]],
    ),
    Golden(
        protocol="nonin7",
        source="mdpnp Packet.java: status, PLETH's high and low byte, data as in format 2, sum; 1 << 7 | 0A is 138",
        bytes="81 12 34 01 C8 80 12 35 0A D1 80 FF FF 61 DF 80 00 01 00 81",
        rows=[[0x1234, NAN, NAN], [0x1235, NAN, 138], [0xFFFF, 0x61, 138]],
    ),
    Golden(
        protocol="nonin8",
        source="NoninPulseOx, DataFormat8Serialiser: (first & 3) << 7 | second; SpO2; 08 of the fourth an alarm",
        bytes="80 48 62 20 81 0A 61 20 83 7F 7F 20 80 48 62 28",
        rows=[[98, 72], [97, 138], [NAN, NAN], [NAN, NAN]],
    ),
    Golden(
        protocol="nonin8",
        source="javautilityclasses, NoninAndroid, Format8.isSensorDisconnected: 40 of the first byte",
        bytes="C0 48 62 20 80 48 62 20",
        rows=[[NAN, NAN], [98, 72]],
    ),
    Golden(
        protocol="nonin13",
        source="NoninPulseOx, DataFormat13Serialiser: date to 0.01 s, status, HR, reserved, SpO2, low byte of sum",
        bytes="0002 000D 000E 141A010203040506 0000 0048 00 62 ED 03",
        rows=[[98, 72]],
    ),
    Golden(
        protocol="contec",
        source="atbrask/CMS50Dplus, unittests.py: rate = (third & 40) << 1 | fourth & 7F; 10 of the first: finger out",
        bytes="C4 37 46 02 62 D4 37 46 02 62",
        rows=[[55, 6, 98, 130], [NAN, NAN, NAN, NAN]],
    ),
    Golden(
        protocol="berry",
        source="PulseOximeterLib, BM1000Payload, and berrymed-pulseox-reader, packet.go: 10 of the third: no finger",
        bytes="88 37 46 02 62 88 37 56 02 62 88 00 06 7F 7F",
        rows=[[55, 6, 98, 130], [NAN, NAN, NAN, NAN], [0, 6, NAN, 127]],
    ),
    Golden(
        protocol="bitalino",
        source="bitalino.py, read()",
        bytes=" ".join(f"{BITALINO} {last}" for last in ("C8", "DB", "EE", "FD", "0F", "1C", "29", "3A")),
        rows=[[0x3FF, 1, 0x155, 0x2AA, 0x15, 0x2A, 9]] * 2,
    ),
    Golden(
        protocol="shimmer3",
        source="pyshimmer, test_bluetooth_api.py, test_data_packet: two packets, 64 ticks apart",
        bytes="00 DE D0 B2 26 07 00 1E D1 B2 FC 06",
        rows=[[0x0726]],
        query="layout=A13:u16",
    ),
    Golden(
        protocol="heart-rate",
        source="ActiGraph's description of its heart rate log; the newest interval is the last",
        bytes="16 42 18 04 70 01",
        rows=[[66, 368 / 1024]],
    ),
    Golden(
        protocol="pulse-oximeter",
        source="a ChoiceMMed oximeter's, read with nRF Connect (Stack Overflow, question 71264072): 62 is 98, 4E is 78",
        bytes="0C 6200 4E00 2000 000000",
        rows=[[98, 78]],
    ),
    Golden(
        protocol="pulse-oximeter",
        source="gattparser, IEEE11073FloatingPointNumberFormatterTest: F16C is 36.4, 016C is 364",
        bytes="00 6CF1 6C01",
        rows=[[36.4, 364]],
    ),
    Golden(
        protocol="polar-ecg",
        source="arctic (a client in Rust), the tests of its PMD frames; 24 bits in uV",
        bytes="00 EA54A2428B455208 00 FFFFFF 000010",
        rows=[[-1], [0x100000]],
    ),
    Golden(
        protocol="polar-acc",
        source="Polar's description of its measurement data: -187, -28 and 949 mg, at 599618164814402794 ns",
        bytes="02 EA54A2428B455208 01 45FF E4FF B503 45FF E4FF B803",
        rows=[[-187, -28, 949], [-187, -28, 952]],
    ),
    Golden(
        protocol="polar-ppg",
        source="Polar's BLE SDK, PpgDataTest: a sample, then differences of 10 bits: 178, -68, -178, 68",
        bytes="01 EA54A2428B455208 80 2C2D00 C27700 D3D2FF 3D88FF 0A 01 B2F0EE3411",
        rows=[[11564, 30658, -11565, -30659], [11742, 30590, -11743, -30591]],
    ),
)


def test_no_protocol_is_without_golden_bytes() -> None:
    assert {g.protocol for g in ALL} == {*PROTOCOLS, *BLE_PROTOCOLS}


@pytest.mark.parametrize("golden", ALL, ids=lambda g: g.protocol)
@pytest.mark.parametrize("at_a_time", [1, 1000])
def test_golden_bytes(golden: Golden, at_a_time: int) -> None:
    protocol: Any = {**PROTOCOLS, **BLE_PROTOCOLS}[golden.protocol]
    stage = protocol.make_decoder(parse_options(protocol.options, golden.query, golden.protocol))
    data = bytes.fromhex(golden.bytes)
    size = at_a_time if golden.protocol in PROTOCOLS else len(data)  # a notification comes whole
    blocks = [b for i in range(0, len(data), size) for b in stage.feed(data[i : i + size], 0)]
    found = np.concatenate([b.samples for b in blocks])
    assert len(found) >= len(golden.rows)
    np.testing.assert_allclose(found[: len(golden.rows)], golden.rows, rtol=2e-6)
