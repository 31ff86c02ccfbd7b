"""The six laws of a stage, for every stage of the device's flow and for the whole of it."""

from __future__ import annotations

import copy
from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np
import pytest
import tiny_models
from beat_stages import CONDITIONING, Watched, ecg, frames_case, reader_case, trunk
from stage_cases import Case, Item, blocks_case
from window_stages import WINDOWS, window_case

from edge_runtime.assemble import open_pipeline
from edge_runtime.contract.bundle import Bundle
from edge_runtime.contract.channels import EachConditioned
from edge_runtime.contract.preprocess import Conditioner
from edge_runtime.contract.signal import StreamSpec
from edge_runtime.engine.engine import Engine
from edge_runtime.engine.onnx import OnnxEngine
from edge_runtime.forms import open_form

RATES_HZ = (360.0, 250.0, 125.0, 130.0, 100.0)
NAMES = [
    "each channel conditioned at 360 Hz",
    *(f"conditioner at {rate:g} Hz" for rate in RATES_HZ),
    "trunk int8",
    "trunk fp32",
    "trunk litert int8",
    "trunk litert fp32",
    "pipeline litert int8 at 360 Hz",
    "beat picker",
    "reader",
    "signal quality",
    *(f"pipeline int8 at {rate:g} Hz" for rate in (360.0, 250.0)),
    "pipeline fp32 at 125 Hz",
    *WINDOWS,
]


@pytest.fixture(params=NAMES)
def case(request: pytest.FixtureRequest, engine: OnnxEngine) -> Case:
    name: str = request.param
    if name == "beat picker":
        return frames_case()
    if name == "reader":
        return reader_case()
    if name == "signal quality":
        flat = ecg(125.0)
        flat[700:800] = 0.0
        return blocks_case(Watched, flat, is_last_only=True)
    if name in WINDOWS:
        return window_case(name, request.getfixturevalue("window_bundles"), engine)
    rate_hz = float(name.split()[-2]) if name.endswith("Hz") else 125.0
    if name.startswith("each"):
        two = np.stack([ecg(rate_hz), ecg(rate_hz)[::-1]], axis=1)
        return blocks_case(lambda: EachConditioned(CONDITIONING, rate_hz, 2), two, first=17)
    if name.startswith("conditioner"):
        return blocks_case(lambda: Conditioner(CONDITIONING, rate_hz), ecg(rate_hz), first=17)
    bundle, runner = _in_form(request, name, engine)
    if name.startswith("trunk"):
        return blocks_case(lambda: trunk(bundle, runner), tiny_models.signal()[:1500])
    return blocks_case(
        lambda: open_pipeline(bundle, StreamSpec(rate_hz=rate_hz), runner), ecg(rate_hz), first=40, has_patient=True
    )


def _in_form(request: pytest.FixtureRequest, name: str, engine: OnnxEngine) -> tuple[Bundle, Engine]:
    """A bundle in one of its forms, and the engine for it."""
    precision = "int8" if "int8" in name else "fp32"
    if "litert" not in name:
        return request.getfixturevalue(f"{precision}_bundle"), engine
    return open_form(request.getfixturevalue("all_forms_bundle"), "litert", precision)


def arrays_of(value: Any) -> list[np.ndarray]:
    """The arrays inside an item or an output."""
    if isinstance(value, np.ndarray):
        return [value]
    if isinstance(value, tuple | list):
        return [a for v in value for a in arrays_of(v)]
    if is_dataclass(value):
        return [a for f in fields(value) for a in arrays_of(getattr(value, f.name))]
    return []


@pytest.mark.parametrize("sizes", [[1], [7], [25], [64, 3], [1, 2, 300], [1111]], ids=str)
def test_cutting_the_input_differently_changes_nothing(case: Case, sizes: list[int]) -> None:
    whole = case.run(case.make(), case.cut([case.length]))
    parts = case.run(case.make(), case.cut(sizes))
    assert whole
    assert parts == whole


def test_reset_forgets(case: Case) -> None:
    stage = case.make()
    first = case.run(stage, case.cut([50]))
    stage.reset()
    assert case.run(stage, case.cut([50])) == first
    # Also in the middle of things, with another signal before.
    stage.reset()
    for item in case.cut([33])[2:6]:
        stage.feed(item)
    stage.reset()
    assert case.run(stage, case.cut([50])) == first


def test_input_is_left_alone(case: Case) -> None:
    items = case.cut([90])
    assert not any(a.flags.writeable for a in arrays_of(items))
    before = copy.deepcopy(items)
    case.run(case.make(), items)
    for a, b in zip(arrays_of(items), arrays_of(before), strict=True):
        assert np.array_equal(a, b, equal_nan=True)


def test_what_was_returned_stays_and_shares_nothing_with_the_input(case: Case) -> None:
    stage, outputs, copies = case.make(), [], []
    items = [copy.deepcopy(item) for item in case.cut([90])]
    for item in items:
        new = stage.feed(item)
        outputs += new
        copies += copy.deepcopy(new)
        for a in arrays_of(new):
            assert not any(np.shares_memory(a, b) for b in arrays_of(item))
        for a in arrays_of(item):  # the sender uses its buffer again
            a.flags.writeable = True
            a[...] = np.float32(np.nan)
    stage.reset()
    undisturbed = case.make()
    wanted = [out for item in case.cut([90]) for out in undisturbed.feed(item)]
    assert case.flat(outputs)
    assert case.flat(outputs) == case.flat(copies) == case.flat(wanted)


def test_an_ignored_result_still_advances(case: Case) -> None:
    asked, ignored = case.make(), case.make()
    items = case.cut([110])
    for item in items[:4]:
        assert isinstance(asked.feed(item), list)
        ignored.feed(item)
    assert case.run(ignored, items[4:]) == case.run(asked, items[4:])


def moved(item: Item, by: int) -> Item:
    if isinstance(item, tuple):
        return tuple(moved(part, by) for part in item)
    return replace(item, start=item.start + by)


def test_no_window_spans_a_gap(case: Case) -> None:
    """Behind a gap all is as if the stream began there; before it, as if it ended there."""
    items = case.cut([45])
    middle = len(items) // 2
    # A multiple of every rate's grid, so that the second half falls on the same phases.
    by = 36000
    before, behind = items[:middle], [moved(item, by) for item in items[middle:]]
    stage = case.make()
    outputs = [out for item in before for out in stage.feed(item)]
    if hasattr(stage, "interrupt"):
        stage.interrupt()
    joined = case.flat(outputs) + case.run(stage, behind)
    alone = case.run(case.make(), before) + case.run(case.make(), behind)
    assert alone
    if case.has_patient:
        joined, alone = [_position(x) for x in joined], [_position(x) for x in alone]
    assert joined == alone


def _position(said: Any) -> float:
    return float(said.sample if hasattr(said, "sample") else said.position)
