"""Patients per core: the arithmetic by hand, the measurement by what it must add up to."""

from __future__ import annotations

import pytest

from edge_runtime.contract.bundle import Bundle
from edge_runtime.engine.onnx import OnnxEngine
from host_tools.capacity import CORES, Measured, capacities, measure, to_markdown


def test_the_table_is_the_arithmetic() -> None:
    measured = Measured(engine_s=2e-6, overhead_s=10e-6, macs=144_000, steps_per_s=5.0)
    found = {c.core.device: c for c in capacities(measured, share_of_peak=0.25)}
    # Pi 4: 1.8 GHz x 8 = 14.4 G products a second: 10 us at the peak, 40 us at a quarter of it, and 10 us x 4.6 more.
    assert found["Raspberry Pi 4"].at_peak == int(0.7 / (5 * (10e-6 + 46e-6)))
    assert found["Raspberry Pi 4"].likely == int(0.7 / (5 * (40e-6 + 46e-6)))
    text = to_markdown(measured, list(found.values()), 0.25)
    assert all(core.device in text for core in CORES)
    assert "2.0 us of engine and 10.0 us of all else" in text


def test_the_measurement_is_of_the_bundle(int8_bundle: Bundle, engine: OnnxEngine) -> None:
    ticks = iter(range(0, 10**12, 640_000))  # every look at this clock is 0.64 ms later: 10 us a stream
    measured = measure(int8_bundle, engine, lambda: next(ticks))
    assert measured.engine_s == pytest.approx(10e-6)
    assert measured.overhead_s == pytest.approx(0.0, abs=1e-9)
    assert measured.macs == int8_bundle.manifest.graph("trunk").macs
    assert measured.steps_per_s == 5.0
