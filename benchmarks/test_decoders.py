"""Decoders of wire protocols: frames a second, what damage costs beyond the damaged frames, and random bytes."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

from edge_runtime.sensors.framed import FramedDecoder
from edge_runtime.sensors.protocols import PROTOCOLS

WIRE = [name for name in PROTOCOLS if name != "csv"]
CHECKSUMMED = ("edge", "nonin2", "nonin7", "nonin13")
PER_READ = 32
LOST_SHARE = 1e-3
FLOOR_FRAMES_PER_S, FLOOR_LOST, FLOOR_FALSE = 0.5e6, 1.1, 1e-4
N_FRAMES = 60_000
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


@pytest.mark.parametrize("name", WIRE)
def test_a_million_random_bytes(benchmark: Any, name: str) -> None:
    """No crash, no hang, no growth; what is believed among them is counted."""
    data = np.random.default_rng(3).integers(0, 256, 1_000_000, np.uint8).tobytes()
    stage = decoder(name)

    def feed() -> int:
        most = 0
        for chunk in reads(data, 1000):
            stage.feed(chunk)
            most = max(most, stage.finder.waiting_bytes)
        return most

    begun = time.perf_counter()
    most = benchmark.pedantic(feed, rounds=1, iterations=1)
    benchmark.extra_info.update(good=stage.counts.good, most_waiting_bytes=most)
    assert most <= 512
    assert time.perf_counter() - begun < 120
