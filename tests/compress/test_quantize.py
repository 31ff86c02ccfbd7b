"""INT8: rounding no worse than half a step, zero where zero is, scales from training signals only."""

from __future__ import annotations

import numpy as np
import pytest
import tiny_models
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.contract.errors import SettingsError
from host_tools.compress.quantize import Calibration, Scale, calibrate, quantize_weight
from host_tools.export.onnx_trunk import write_trunk
from host_tools.export.program import INPUT, Add, Conv, Program, fold, run
from host_tools.export.verify import session


@settings(deadline=None, derandomize=True)
@given(scale=st.floats(1e-4, 10.0), zero_point=st.integers(0, 255), seed=st.integers(0, 99))
def test_a_round_trip_is_off_by_half_a_step_at_most(scale: float, zero_point: int, seed: int) -> None:
    s = Scale(scale=scale, zero_point=zero_point)
    low, high = -zero_point * scale, (255 - zero_point) * scale
    x = np.random.default_rng(seed).uniform(low, high, 500).astype(np.float32)
    q = s.quantize(x)
    assert q.dtype == np.uint8
    assert np.abs(s.dequantize(q) - x).max() <= 0.5 * scale * (1 + 1e-3)
    assert s.dequantize(s.quantize(np.zeros(1, np.float32)))[0] == 0.0
    beyond = s.quantize(np.array([low - 9 * scale, high + 9 * scale], np.float32))
    assert beyond.tolist() == [0, 255]
    np.testing.assert_array_equal(s.quantize(s.dequantize(q)), q)


def conv(weight: np.ndarray, **more: object) -> Conv:
    return Conv(name="c", input=INPUT, weight=weight.astype(np.float32), bias=np.zeros(len(weight), np.float32), **more)


def test_each_output_channel_of_a_weight_has_its_own_scale() -> None:
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((5, 3, 7)) * np.array([1e-3, 1.0, 10.0, 0.0, 100.0])[:, None, None]
    integers, scale = quantize_weight(conv(weight))
    assert integers.dtype == np.int8
    assert scale.dtype == np.float32
    assert np.isfinite(scale).all()
    assert (scale > 0).all()
    wanted = np.abs(weight).max(axis=(1, 2)) / 127
    np.testing.assert_allclose(scale[[0, 1, 2, 4]], wanted[[0, 1, 2, 4]], rtol=1e-6)
    assert not integers[3].any()
    assert np.abs(integers).max(axis=(1, 2)).tolist() == [127, 127, 127, 0, 127]
    assert (np.abs(integers * scale[:, None, None] - weight) <= 0.5 * scale[:, None, None] * (1 + 1e-3)).all()


@pytest.mark.parametrize("shape", [tiny_models.SHAPE, tiny_models.RESIDUAL], ids=["plain", "residual"])
def test_what_is_never_negative_has_zero_point_0(shape: tiny_models.BeatNetShape) -> None:
    program = fold(tiny_models.untrained_student(shape).trunk)
    scales = tiny_models.scales_of(program)
    assert set(scales) == {INPUT, *(o.name for o in program.operators)} - {program.output}
    assert scales[INPUT].zero_point > 0
    relu = {o.name for o in program.operators if isinstance(o, Add) or o.is_relu}
    assert {name for name, s in scales.items() if s.zero_point == 0} == relu


def test_an_empty_calibration_set_is_refused() -> None:
    with pytest.raises(SettingsError, match="calibration set is empty; training windows wanted"):
        calibrate(fold(tiny_models.untrained_student().trunk), [])


@pytest.mark.parametrize("level", [0.0, 1.0, -1.0])
def test_a_constant_signal_divides_by_nothing(level: float) -> None:
    program = fold(tiny_models.untrained_student().trunk)
    scales = calibrate(program, [np.full(1250, level, np.float32)])
    for name, scale in scales.items():
        assert np.isfinite(scale.scale), name
        assert scale.scale > 0, name
        assert 0 <= scale.zero_point <= 255, name
    x = np.full(125, level, np.float32)
    model, _ = write_trunk(program, "windowed", 125, scales)
    assert np.isfinite(session(model).run(None, {"x": x.reshape(1, 1, 1, -1)})[0]).all()


def test_a_layer_that_is_always_zero_still_has_a_scale() -> None:
    dead = Program(
        operators=(
            conv(np.zeros((3, 1, 25)), stride=5, history=20, is_relu=True),
            Conv(name="y", input="c", weight=np.ones((2, 3, 1), np.float32), bias=np.zeros(2, np.float32)),
        )
    )
    scales = calibrate(dead, [tiny_models.signal()])
    assert scales["c"].scale > 0
    model, graph = write_trunk(dead, "streaming", 25, scales)
    inputs = {t.name: np.zeros(t.shape, t.dtype) for t in graph.inputs}
    inputs |= {s.input: np.full(s.shape, s.initial, s.dtype) for s in graph.states}
    assert not session(model).run(None, inputs)[0].any()


@pytest.mark.parametrize("tail", [1.0, 4.0, 40.0])
def test_the_chosen_range_is_no_worse_than_any_shrunk_one(tail: float) -> None:
    rng = np.random.default_rng(0)
    x = np.concatenate((rng.standard_normal(699), [3.0 * tail])).astype(np.float32)
    seen = x[::7]  # what the calibration looks at
    identity = Program(operators=(conv(np.ones((1, 1, 1))), conv(np.ones((1, 1, 1)))))

    def error(s: Scale) -> float:
        return float(np.mean((s.dequantize(s.quantize(seen)) - seen) ** 2))

    chosen = error(calibrate(identity, [x])[INPUT])
    for smallest in np.linspace(0.3, 1.0, 36):
        assert chosen <= error(calibrate(identity, [x], Calibration(smallest=float(smallest), steps=1))[INPUT])


def test_int8_of_a_trained_student_keeps_20_db() -> None:
    """On a patient that was not used for calibration."""
    program = fold(tiny_models.trained_student().trunk)
    scales = calibrate(program, [tiny_models.conditioned()[1].x[:, 0].copy()])
    x = tiny_models.signal()
    model, _ = write_trunk(program, "windowed", len(x), scales)
    given = session(model).run(None, {"x": x.reshape(1, 1, 1, -1)})[0]
    wanted = run(program, x)[program.output].T
    sqnr_db = 10 * np.log10((wanted**2).sum() / ((given - wanted) ** 2).sum())
    assert sqnr_db > 20.0
