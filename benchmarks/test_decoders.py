"""Decoders of wire protocols: frames a second, what damage costs beyond the damaged frames, and random bytes."""

from __future__ import annotations

import pickle
import time
from typing import Any

import numpy as np
import pytest

from edge_runtime.sensors.ble_protocols import BLE_PROTOCOLS
from edge_runtime.sensors.framed import FramedDecoder
from edge_runtime.sensors.options import parse_options
from edge_runtime.sensors.protocols import PROTOCOLS

WIRE = [name for name in PROTOCOLS if name != "csv"]
CHECKSUMMED = ("edge", "nonin2", "nonin7", "nonin13")
PER_READ = 32
LOST_SHARE = 1e-3
FLOOR_FRAMES_PER_S, FLOOR_LOST, FLOOR_FALSE = 0.5e6, 1.1, 1e-4
N_FRAMES = 60_000
NOTIFICATIONS = {
    "heart-rate": "164818047001",
    "pulse-oximeter": "0061004800",
    "polar-ecg": "00" + 8 * "11" + "00" + 10 * "010203",
    "polar-acc": "02" + 8 * "11" + "01" + 5 * "010002000300",
    "polar-ppg": "01" + 8 * "11" + "802C2D00C27700D3D2FF3D88FF0A01B2F0EE3411",
}
FUZZED = (*PROTOCOLS, *BLE_PROTOCOLS)
OF_UNIT = {"mV": (0.0, 1.0), "uV": (0.0, 300.0), "count": (60.0, 50.0), "bpm": (150.0, 20.0), "%": (92.0, 5.0)}
WHOLE = ("count", "bpm", "%", "1/min")


def decoder(name: str) -> FramedDecoder:
    """With the options of the protocol's example."""
    made = PROTOCOLS[name].decoder(PROTOCOLS[name].example)
    assert isinstance(made, FramedDecoder)
    return made


def stream(name: str, n: int) -> bytes:
    """Frames of noisy waves and of numbers that change."""
    spec = decoder(name).spec
    units = spec.unit.split(",") if "," in spec.unit else [spec.unit] * len(spec.channels)
    rng, t = np.random.default_rng(1), np.arange(n) / 40
    columns = []
    for unit, channel in zip(units, spec.channels, strict=True):
        middle, size = OF_UNIT.get(unit, (20.0, 3.0))
        middle, size = (7.0, 7.0) if channel in ("BAR", "DIGITAL") else (middle, size)
        middle, size = (30.0, 30.0) if channel in ("A5", "A6") else (middle, size)
        wave = middle + size * np.clip(0.7 * np.sin(t) + 0.2 * rng.standard_normal(n), -1, 1)
        columns.append(np.round(wave) if unit in WHOLE else wave)
    return PROTOCOLS[name].encode(np.stack(columns, axis=1).astype(np.float32), 0)


def reads(data: bytes, size: int) -> list[bytes]:
    """As they come from a port."""
    return [data[i : i + size] for i in range(0, len(data), size)]


def without_some(data: bytes) -> tuple[bytes, np.ndarray]:
    """The bytes that are left when one in a thousand is lost, and which they are."""
    kept = np.flatnonzero(np.random.default_rng(2).random(len(data)) >= LOST_SHARE)
    return np.frombuffer(data, np.uint8)[kept].tobytes(), kept


@pytest.mark.parametrize("is_damaged", [False, True], ids=["whole", "damaged"])
def test_frames_of_33_bytes_32_a_read(benchmark: Any, is_damaged: bool) -> None:
    """Cyton; one call is one read: search, checks, samples in uV, positions."""
    data = stream("cyton", 64_000)
    data = without_some(data)[0] if is_damaged else data
    stage, chunks = decoder("cyton"), iter(reads(data, 33 * PER_READ))
    benchmark.pedantic(lambda: stage.feed(next(chunks)), rounds=1800, iterations=1, warmup_rounds=50)
    seconds = np.array(benchmark.stats.stats.data)
    for p in (50, 95, 99):
        benchmark.extra_info[f"p{p}_us"] = round(float(np.percentile(seconds, p)) * 1e6, 2)
    per_s = PER_READ / float(np.median(seconds))
    benchmark.extra_info["frames_per_s"] = round(per_s)
    if not is_damaged:
        assert per_s >= FLOOR_FRAMES_PER_S


@pytest.mark.parametrize("name", WIRE)
def test_what_one_lost_byte_in_a_thousand_costs(benchmark: Any, name: str) -> None:
    """Frames not delivered for each that was damaged; frames delivered that were never sent like that."""
    data = stream(name, N_FRAMES)
    found = benchmark.pedantic(lambda: _costs(name, data), rounds=1, iterations=1)
    benchmark.extra_info.update(found)
    assert found["lost_per_damaged"] <= FLOOR_LOST
    assert found["false_per_frame"] <= (0.0 if name in CHECKSUMMED else FLOOR_FALSE)


def _costs(name: str, data: bytes) -> dict[str, float]:
    size = len(data) // N_FRAMES
    bad, kept = without_some(data)
    is_whole = np.bincount(kept // size, minlength=N_FRAMES) == size
    begins = set(np.searchsorted(kept, np.flatnonzero(is_whole) * size).tolist())
    finder = decoder(name).finder
    at, right, wrong = 0, 0, 0
    for chunk in reads(bad, size * PER_READ):
        for run in finder.feed(chunk):
            at += run.skipped
            offsets = range(at, at + len(run.rows) * size, size)
            hits = sum(offset in begins for offset in offsets)
            right, wrong, at = right + hits, wrong + len(offsets) - hits, at + len(run.rows) * size
    n_damaged = int((~is_whole).sum())
    n_waiting = finder.waiting_bytes // size
    return {
        "frames": N_FRAMES,
        "damaged": n_damaged,
        "lost_per_damaged": round((N_FRAMES - n_waiting - right) / n_damaged, 4),
        "false_per_frame": wrong / N_FRAMES,
    }


@pytest.mark.parametrize("name", FUZZED)
def test_ten_million_fuzzed_bytes(benchmark: Any, name: str) -> None:
    """No crash, no hang, no growth; what is believed of them is counted."""
    begun = time.perf_counter()
    stage = benchmark.pedantic(fuzzed, args=(name, 10_000_000), rounds=1, iterations=1)
    benchmark.extra_info.update(good=stage.counts.good, kept_bytes=kept_bytes(stage))
    assert time.perf_counter() - begun < 600


def fuzzed(name: str, n: int) -> Any:
    """A decoder after n bytes: half of them random, half frames of which one byte in fifty was hit.

    Raises AssertionError if it holds on to more at the end than after a tenth.
    """
    rng, seed = np.random.default_rng(3), fuzz_seed(name)
    size = len(seed) if name in BLE_PROTOCOLS else 1000  # a notification comes whole
    half = n // 2 // size * size
    frames = np.resize(np.frombuffer(seed, np.uint8), half)
    hit = rng.random(len(frames)) < 0.02
    frames[hit] = rng.integers(0, 256, int(hit.sum()), np.uint8)
    chunks = reads(rng.integers(0, 256, half, np.uint8).tobytes() + frames.tobytes(), size)
    protocol: Any = PROTOCOLS[name] if name in PROTOCOLS else BLE_PROTOCOLS[name]
    stage = protocol.make_decoder(parse_options(protocol.options, getattr(protocol, "example", ""), name))
    allowed = 0
    for i, chunk in enumerate(chunks):
        stage.feed(chunk, i * 10**7)
        if i == len(chunks) // 10:
            allowed = kept_bytes(stage) + 4096  # a line or a frame that is not whole yet
    assert kept_bytes(stage) <= allowed
    return stage


def fuzz_seed(name: str) -> bytes:
    """A stretch of good bytes; of Bluetooth, one notification."""
    if name in PROTOCOLS and name != "csv":
        return stream(name, 2000)
    if name == "csv":
        return b"".join(b"%d,%d\n" % (i, i % 97) for i in range(2000))
    return bytes.fromhex(NOTIFICATIONS[name])


def kept_bytes(stage: Any) -> int:
    """Size of what a decoder holds on to; its format and its columns are fixed."""
    inner = [vars(getattr(stage, n)) for n in ("finder", "_lines") if hasattr(stage, n)]
    held = (v for state in (vars(stage), *inner) for v in state.values())
    return len(pickle.dumps([v for v in held if isinstance(v, bytes | int | float | tuple | list)]))
