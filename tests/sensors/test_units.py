"""Units: what `unit` gives, what a message advises where another is wanted, and readings of what it gave."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from wire_streams import stream

from edge_runtime.assemble import open_engine, open_pipeline
from edge_runtime.contract.bundle import open_bundle
from edge_runtime.contract.errors import SettingsError
from edge_runtime.contract.signal import Block, Float32Array, Reading, StreamSpec
from edge_runtime.sensors.ble_protocols import BLE_PROTOCOLS, PolarEcgOptions
from edge_runtime.sensors.encoders import ble
from edge_runtime.sensors.faults import Events, Faults
from edge_runtime.sensors.protocols import PROTOCOLS
from edge_runtime.sensors.source import open_source
from edge_runtime.sensors.synthetic import simulate
from edge_runtime.sensors.wearable import encoded

ROOT = Path(__file__).parents[2]
BUNDLES = ROOT / "deploy" / "bundles"
BREATHS = 15.0
# Highest number of the pulse wave, from its bits: eight, sixteen, seven, seven.
FULL_SCALE = {"nonin2": 255.0, "nonin7": 65535.0, "contec": 127.0, "berry": 127.0}


def pulse_wave(n: int, rate_hz: float) -> Float32Array:
    """A pulse of 72 a minute around 0 whose baseline, height and rate breathe."""
    t = np.arange(n) / rate_hz
    breath = np.sin(2 * np.pi * BREATHS / 60 * t)
    phase = 2 * np.pi * (1.2 * t + 0.1 * np.cumsum(breath) / rate_hz)
    wave = (1 + 0.25 * breath) * (np.cos(phase) + 0.4 * np.cos(2 * phase - 1))
    return np.asarray(0.5 * wave + 0.2 * breath, np.float32)


def readings(bundle: str, spec: StreamSpec, blocks: list[Block]) -> list[Reading]:
    pipeline = open_pipeline(open_bundle(BUNDLES / bundle), spec, open_engine())
    return [r for b in blocks for r in pipeline.feed(b)] + pipeline.finish()


@pytest.mark.parametrize("name", FULL_SCALE)
def test_a_pulse_wave_in_nu_is_its_share_of_the_full_scale(name: str) -> None:
    counts, shares = (PROTOCOLS[name].decoder(query) for query in ("", "unit=NU"))
    data = stream(name, 100)
    for a, b in zip(counts.feed(data), shares.feed(data), strict=True):
        np.testing.assert_allclose(b.samples[:, 0], a.samples[:, 0] / FULL_SCALE[name], rtol=1e-6)
        np.testing.assert_array_equal(b.samples[:, 1:], a.samples[:, 1:])
    assert counts.spec.unit.startswith("count,")
    assert shares.spec.unit == counts.spec.unit.replace("count", "NU", 1)
    assert PROTOCOLS[name].decoder("unit=NU&channel=PLETH").spec.unit == "NU"


@pytest.mark.parametrize("name", FULL_SCALE)
def test_a_simulated_oximeter_is_read_by_the_bundle_of_breathing(name: str, tmp_path: Path) -> None:
    np.save(tmp_path / "wave.npy", pulse_wave(100 * 60, 100.0))
    source, calm = open_source(f"npy:{tmp_path / 'wave.npy'}?rate_hz=100"), Faults()
    data = b"".join(chunk for _, chunk, _ in encoded(name, source, calm, Events(calm, 1)))
    url = f"stdin:?protocol={name}&unit=NU&channel=PLETH"
    words = [sys.executable, "-m", "edge_runtime", "replay", str(BUNDLES / "ppg-respiration"), url, "--json"]
    done = subprocess.run(words, input=data, cwd=ROOT, capture_output=True, timeout=120, check=True)
    said = [json.loads(line) for line in done.stdout.splitlines()]
    rates = [r["value"] for r in said if r["name"] == "respiration_rate"]
    assert len(rates) >= 6
    assert rates == pytest.approx([BREATHS] * len(rates), abs=0.5)


def test_any_scale_of_a_pulse_wave_reads_the_same() -> None:
    """Its network makes each window's mean 0 and its deviation 1; INT8 rounds, and the bins are half a breath apart."""
    wave, spec = pulse_wave(75 * 60, 75.0), StreamSpec(rate_hz=75.0, unit="NU", channels=("PLETH",))
    found = []
    for scale, offset in ((0.2, 0.4), (0.02, 0.9), (1.0, 0.0)):
        samples = (scale * wave + offset)[:, None].astype(np.float32)
        found.append([r.value for r in readings("ppg-respiration", spec, [Block(start=0, samples=samples)])])
    assert len(found[0]) >= 6
    for other in found[1:]:
        assert other == pytest.approx(found[0], abs=0.25)


def test_a_polar_belt_in_millivolts_is_read_by_the_bundle_of_beats() -> None:
    truth = simulate(30, rate_hz=130.0, seed=5)
    uv = np.round(truth.samples[:, 0] * 1000).astype(int).tolist()
    decoder = BLE_PROTOCOLS["polar-ecg"].make_decoder(PolarEcgOptions(unit="mV"))
    blocks = []
    for i in range(0, len(uv) - 73, 73):
        blocks += decoder.feed(ble.polar_ecg(uv[i : i + 73], round((i + 73) / 130.0 * 1e9)), i)
    found = np.array([r.t_s for r in readings("ecg-beats", decoder.spec, blocks)])
    beats = truth.beat_samples[(truth.beat_samples > 130) & (truth.beat_samples < 28 * 130)] / 130.0
    assert len(beats) > 25
    assert all(np.min(np.abs(found - t)) < 0.15 for t in beats)


@pytest.mark.parametrize(
    ("bundle", "spec", "advice"),
    [
        ("ecg-beats", PROTOCOLS["cyton"].decoder("channel=EXG1").spec, "; say unit=mV in the source's URL"),
        ("ecg-beats", BLE_PROTOCOLS["polar-ecg"].make_decoder(PolarEcgOptions()).spec, "; say unit=mV in the source"),
        ("ecg-beats", PROTOCOLS["bitalino"].decoder("channel=A1").spec, "; say ecg=N, where the ECG sensor is on AN,"),
        (
            "ppg-respiration",
            PROTOCOLS["nonin7"].decoder().spec,
            "; say unit=NU and channel=NAME (one of PLETH, SPO2, HR) in the source's URL",
        ),
        (
            "ppg-respiration",
            PROTOCOLS["nonin7"].decoder("unit=NU").spec,
            "stream is in NU,%,bpm; the bundle ppg-respiration wants NU; say channel=NAME (one of PLETH, SPO2, HR) in",
        ),
        ("ppg-respiration", PROTOCOLS["contec"].decoder("channel=PLETH").spec, "; say unit=NU in the source's URL"),
        ("ppg-respiration", PROTOCOLS["csv"].decoder("rate_hz=50").spec, "; say its unit= and scale= in the source's"),
    ],
)
def test_the_message_of_a_wrong_unit_says_which_option_helps(bundle: str, spec: StreamSpec, advice: str) -> None:
    with pytest.raises(SettingsError) as refused:
        readings(bundle, spec, [])
    assert advice in str(refused.value)


@pytest.mark.parametrize(
    "spec", [StreamSpec(rate_hz=250.0, unit="mmHg"), PROTOCOLS["shimmer3"].decoder("layout=A:i16:1:g").spec]
)
def test_where_no_option_helps_none_is_named(spec: StreamSpec) -> None:
    with pytest.raises(SettingsError, match=r"wants mV$"):
        readings("ecg-beats", spec, [])


def test_lines_of_numbers_have_the_unit_that_they_are_said_to_have() -> None:
    decoder = PROTOCOLS["csv"].decoder("rate_hz=50&unit=NU&scale=0.5&channel=PLETH")
    (block,) = decoder.feed(b"0\n1\n2\n")
    assert (decoder.spec.unit, decoder.spec.channels) == ("NU", ("PLETH",))
    assert block.samples[:, 0].tolist() == [0.5, 1.0]
