"""Probing: every protocol's own encoder is recognised among all the others, on a pseudo-terminal and off it."""

from __future__ import annotations

import json
import os
import pty
import threading
import tty
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.cli import main
from edge_runtime.sensors.ble_protocols import BLE_PROTOCOLS
from edge_runtime.sensors.probe import judged, ports, ranked
from edge_runtime.sensors.protocols import PROTOCOLS


def spoken(name: str, seconds: float = 3.0) -> tuple[list[tuple[int, bytes]], float]:
    """Chunks of a tenth of a second as a protocol's encoder plays a slow wave at its own rate; and that rate."""
    p = PROTOCOLS[name]
    spec = p.decoder(p.example).spec
    rng, per_chunk = np.random.default_rng(5), max(1, round(spec.rate_hz / 10))
    limits = (1, 15) if name == "bitalino" else (30, 90)  # its last columns have 6 and 4 bits
    chunks, first = [], 0
    while first < max(12, seconds * spec.rate_hz):
        rows = rng.integers(*limits, (per_chunk, len(spec.channels))).astype(np.float32)
        chunks.append((round((first + per_chunk) / spec.rate_hz * 1e9), p.encode(rows, first)))
        first += per_chunk
    return chunks, spec.rate_hz


@pytest.mark.parametrize("name", [n for n in PROTOCOLS if n not in ("berry", "contec")])
def test_each_protocol_is_recognised_among_all(name: str) -> None:
    chunks, rate_hz = spoken(name)
    found = ranked([judged(p, chunks, 115200) for p in PROTOCOLS.values()])
    assert found[0].protocol == name
    assert found[0].is_speaking
    assert found[0].damaged == 0
    assert found[0].rate_hz == pytest.approx(rate_hz, rel=0.1)


@pytest.mark.parametrize("name", ["berry", "contec"])
def test_two_pulse_oximeters_of_one_shape_are_told_apart_by_their_settings_only(name: str) -> None:
    """Same 5 bytes, other meaning of the bits: the speed of the port decides."""
    chunks, _ = spoken(name)
    found = ranked([judged(p, chunks, 115200) for p in PROTOCOLS.values()])
    assert {v.protocol for v in found if v.is_speaking} >= {"berry", "contec"}
    assert PROTOCOLS["berry"].baud != PROTOCOLS["contec"].baud


def test_noise_is_nobody() -> None:
    rng = np.random.default_rng(8)
    chunks = [(i * 10**8, rng.integers(0, 256, 400, np.uint8).tobytes()) for i in range(30)]
    assert not any(judged(p, chunks, 115200).is_speaking for p in PROTOCOLS.values())


def test_the_command_recognises_a_cyton_on_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    writer, reader = pty.openpty()
    tty.setraw(reader)
    os.set_blocking(writer, False)
    chunks, _ = spoken("cyton", 60.0)
    stop = threading.Event()

    def play() -> None:
        for _, chunk in chunks:
            if stop.wait(0.1):
                return
            os.write(writer, chunk)

    player = threading.Thread(target=play, daemon=True)
    player.start()
    try:
        assert main(["probe", os.ttyname(reader), "--json", "--seconds", "1.2"]) == 0
    finally:
        stop.set()
        player.join(5)
        os.close(writer)
        os.close(reader)
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert found[0]["protocol"] == "cyton"
    assert found[0]["rate_hz"] == pytest.approx(250, rel=0.25)  # a second of a busy machine


def test_a_silent_terminal_is_said_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    writer, reader = pty.openpty()
    tty.setraw(reader)
    try:
        assert main(["probe", os.ttyname(reader), "--seconds", "0.05"]) == 1
    finally:
        os.close(writer)
        os.close(reader)
    assert "is the sensor on?" in capsys.readouterr().err


def test_sources_lists_every_protocol(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sources", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [p["protocol"] for p in found["protocols"]] == [*PROTOCOLS, *BLE_PROTOCOLS]
    assert [p["protocol"] for p in found["protocols"] if p["baud"] is None] == list(BLE_PROTOCOLS)
    assert isinstance(found["ports"], list)


def test_a_port_has_its_lasting_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from serial.tools import list_ports
    from serial.tools.list_ports_common import ListPortInfo

    device = tmp_path / "ttyUSB7"
    device.touch()
    (tmp_path / "by-id").mkdir()
    (tmp_path / "by-id" / "usb-FTDI_1234").symlink_to(device)
    monkeypatch.setattr(list_ports, "comports", lambda: [ListPortInfo(str(device))])
    (found,) = ports(tmp_path / "by-id")
    assert found["port"] == str(tmp_path / "by-id" / "usb-FTDI_1234")
    assert (found["device"], found["is_stable"]) == (str(device), True)
