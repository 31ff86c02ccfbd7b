"""Short gaps are filled only where the bundle says so, by a straight line, and whatever rests on one says so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.assemble import open_engine, open_pipeline
from edge_runtime.contract.bundle import Bundle, open_bundle
from edge_runtime.contract.errors import BundleError
from edge_runtime.contract.manifest import from_json, to_json
from edge_runtime.contract.signal import Block, Reading, StreamSpec
from edge_runtime.filling import FillingPipeline
from edge_runtime.pipeline import Pipeline
from edge_runtime.sensors.synthetic import simulate

BUNDLE = Path(__file__).parents[1] / "deploy" / "bundles" / "ecg-beats"
RATE_HZ = 250.0
LOST = [(2000, 2005), (3000, 3025), (5000, 5060)]  # 20, 100, 240 ms


def filled(fill_gap_s: float) -> Bundle:
    bundle = open_bundle(BUNDLE)
    return replace(bundle, manifest=replace(bundle.manifest, fill_gap_s=fill_gap_s))


def played(bundle: Bundle, samples: np.ndarray, size: int = 50) -> tuple[list[Reading], Pipeline]:
    """All but the lost ones, in blocks."""
    pipeline = open_pipeline(bundle, StreamSpec(rate_hz=RATE_HZ), open_engine())
    edges, readings = [0, *(e for pair in LOST for e in pair), len(samples)], []
    for begin, end in zip(edges[::2], edges[1::2], strict=True):
        for at in range(begin, end, size):
            readings += pipeline.feed(Block(start=at, samples=samples[at : min(at + size, end)]))
    return readings + pipeline.finish(), pipeline


def test_usually_no_gap_is_filled() -> None:
    readings, pipeline = played(open_bundle(BUNDLE), simulate(30, rate_hz=RATE_HZ, seed=3).samples[:, :1])
    assert type(pipeline) is Pipeline
    assert (pipeline.ledger.gap, pipeline.ledger.interpolated) == (90, 0)
    assert not any(r.is_interpolated for r in readings)
    assert "interpolated" not in pipeline.ledger.to_json()


@pytest.mark.parametrize("size", [1, 50, 10_000])
def test_what_is_filled_is_numpys_straight_line_and_marked(size: int) -> None:
    samples = simulate(30, rate_hz=RATE_HZ, seed=3).samples[:, :1]
    readings, pipeline = played(filled(0.1), samples, size)
    assert isinstance(pipeline, FillingPipeline)
    by_hand = samples.copy()
    for begin, end in LOST[:2]:
        at = np.arange(begin, end)
        by_hand[begin:end, 0] = np.interp(at, [begin - 1, end], [samples[begin - 1, 0], samples[end, 0]])
    plain = open_pipeline(open_bundle(BUNDLE), StreamSpec(rate_hz=RATE_HZ), open_engine())
    wanted = plain.feed(Block(start=0, samples=by_hand[:5000]))
    wanted += plain.feed(Block(start=5060, samples=by_hand[5060:])) + plain.finish()
    assert [(r.sample, r.value) for r in readings] == [(r.sample, r.value) for r in wanted]
    ledger = pipeline.ledger
    assert (ledger.gap, ledger.interpolated, ledger.received) == (60, 30, 7500)  # the longest gap stays one
    assert ledger.is_balanced
    assert ledger.to_json()["interpolated"] == 30
    # A second behind a filled sample, and as far before it as a beat looks ahead.
    ahead = open_bundle(BUNDLE).manifest.delay_samples * 2  # type: ignore[attr-defined]
    for r in readings:
        near = any(begin <= r.sample + ahead and end > r.sample - 250 for begin, end in LOST[:2])
        assert r.is_interpolated == near
        assert ("interpolated" in r.to_json()) == near
    assert 2 < sum(r.is_interpolated for r in readings) < len(readings) - 10


def test_no_line_is_drawn_to_a_sample_that_is_not_a_number() -> None:
    samples = simulate(30, rate_hz=RATE_HZ, seed=3).samples[:, :1].copy()
    samples[1999] = samples[3025] = np.nan
    _, pipeline = played(filled(0.1), samples)
    assert (pipeline.ledger.gap, pipeline.ledger.interpolated, pipeline.ledger.is_balanced) == (90, 0, True)


def test_the_manifest_says_so_only_where_it_is_wanted_and_not_for_long_gaps() -> None:
    manifest = open_bundle(BUNDLE).manifest
    assert "fill_gap_s" not in to_json(manifest)
    assert from_json(to_json(replace(manifest, fill_gap_s=0.2)), "x").fill_gap_s == 0.2
    with pytest.raises(BundleError, match=r"fill_gap_s is 3; 0 to 0\.5 wanted"):
        from_json(to_json(replace(manifest, fill_gap_s=3.0)), "x")
