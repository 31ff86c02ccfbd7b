"""The six laws of a stage, for every stage of the device's flow and for the whole of it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import numpy as np
import pytest
import tiny_models
import tiny_windows

from edge_runtime import golden
from edge_runtime.assemble import TRUNK, open_pipeline
from edge_runtime.contract.bundle import Bundle
from edge_runtime.contract.channels import AsTheyAre, EachConditioned
from edge_runtime.contract.preprocess import Conditioner
from edge_runtime.contract.signal import Block, Float32Array, Frames, StreamSpec
from edge_runtime.engine.engine import Engine, StreamingTrunk
from edge_runtime.engine.onnx import OnnxEngine
from edge_runtime.engine.windows import Windower
from edge_runtime.forms import open_form
from edge_runtime.sensors.synthetic import simulate
from edge_runtime.vitals.beats import BeatPicker
from edge_runtime.vitals.quality import SignalQuality
from edge_runtime.vitals.reader import EcgReader
from edge_runtime.vitals.recent import RecentSignal
from edge_runtime.vitals.support import BeatSupport
from edge_runtime.vitals.windows import WindowReader

TIMING, CONDITIONING = tiny_models.TIMING, tiny_models.CONDITIONING
RATES_HZ = (360.0, 250.0, 125.0, 130.0, 100.0)
Item = Any


class Remembering:
    """Classifies with a memory over beats, as the head does, so that what it was told and when shows."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        self._mean = np.zeros(4, np.float32)

    def classify(self, embedding: Float32Array, rhythm: list[float]) -> Float32Array:
        self._mean = np.float32(0.5) * (self._mean + embedding + np.float32(sum(rhythm)))
        p = np.exp(self._mean - self._mean.max())
        return np.asarray(p / p.sum(), np.float32)


class Watched:
    """SignalQuality with the verb of a stage: the shares before every position so far, asked after each block."""

    def __init__(self) -> None:
        self._stage = SignalQuality(CONDITIONING.rate_hz)
        self.reset = self.interrupt = self._stage.reset  # it has no counter; the pipeline tells it of gaps

    def feed(self, block: Block) -> list[float]:
        self._stage.watch(block)
        return [tuple(self._stage.share(stop) for stop in range(0, block.stop, 40))]


class Reader:
    """EcgReader as the pipeline calls it: the samples of some frames, then the frames."""

    def __init__(self) -> None:
        head = Remembering()
        self._stage = EcgReader(
            BeatPicker(TIMING, 0.5, head.classify, head.forget),
            SignalQuality(CONDITIONING.rate_hz),
            BeatSupport(CONDITIONING.rate_hz, 0.975),
            RecentSignal(CONDITIONING.rate_hz),
            ("N", "S", "V", "F"),
            lambda position: round(2 * position),
            250.0,
        )
        self.reset, self.interrupt = self._stage.reset, self._stage.interrupt

    def feed(self, item: tuple[Block, Frames]) -> list[object]:
        self._stage.watch(item[0])
        return list(self._stage.feed(item[1]))


@dataclass(frozen=True)
class Case:
    """A stage and its food.

    make    gives a new stage
    length  of the input, in samples or frames
    piece   (start, stop) -> one item that holds that part of the input
    unit    what a cut must be a multiple of
    has_patient  the stage keeps the patient across a gap, so only positions are compared behind one
    is_last_only only the last output is comparable, because each item gives one
    has_end  what waits is asked for at the end
    """

    make: Callable[[], Any]
    length: int
    piece: Callable[[int, int], Item]
    has_patient: bool = False
    is_last_only: bool = False
    has_end: bool = False

    def cut(self, sizes: Sequence[int]) -> list[Item]:
        """The whole input in pieces whose sizes repeat."""
        items, start, i = [], 0, 0
        while start < self.length:
            stop = min(self.length, start + sizes[i % len(sizes)])
            items.append(self.piece(start, stop))
            start, i = stop, i + 1
        return items

    def run(self, stage: Any, items: Sequence[Item]) -> list[object]:
        """All outputs, comparable."""
        outputs = [out for item in items for out in stage.feed(item)]
        finish = getattr(stage, "finish", None) if self.has_patient or self.has_end else None
        return self.flat(outputs + (finish() if finish else []))

    def flat(self, outputs: Sequence[Any]) -> list[object]:
        """One entry a sample, row, beat or value."""
        if self.is_last_only:
            return list(outputs[-1:])
        return [entry for out in outputs for entry in _entries(out)]


def _entries(out: Any) -> list[object]:
    if isinstance(out, Block):
        return [(out.start + i, tuple(row)) for i, row in enumerate(out.samples.tolist())]
    if isinstance(out, Frames):
        return [(out.start + i * TIMING.stride, tuple(row)) for i, row in enumerate(out.scores.tolist())]
    return [out]


def arrays_of(value: Any) -> list[np.ndarray]:
    """The arrays inside an item or an output."""
    if isinstance(value, np.ndarray):
        return [value]
    if isinstance(value, tuple | list):
        return [a for v in value for a in arrays_of(v)]
    if is_dataclass(value):
        return [a for f in fields(value) for a in arrays_of(getattr(value, f.name))]
    return []


def read_only(array: np.ndarray) -> np.ndarray:
    view = array.copy()
    view.flags.writeable = False
    return view


def blocks_case(make: Callable[[], Any], samples: Float32Array, first: int = 0, **more: bool) -> Case:
    frozen = read_only(samples.reshape(len(samples), -1))
    return Case(make, len(frozen), lambda a, b: Block(start=first + a, samples=frozen[a:b]), **more)


def ecg(rate_hz: float, seconds: float = 12.0) -> Float32Array:
    found = simulate(seconds, rate_hz=rate_hz, seed=3, heart_rate_bpm=80, pvc=0.2, pac=0.1, patient=1)
    return found.samples[:, 0].copy()


def scores(frames: int) -> Float32Array:
    """Detection logits with a peak every 0.4 to 1 s, and embeddings."""
    rng = np.random.default_rng(5)
    x = rng.normal(0.0, 0.3, (frames, 5)).astype(np.float32)
    x[:, 0] -= 3.0
    at = np.cumsum(rng.integers(10, 25, frames // 12))
    x[at[at < frames], 0] += 6.0
    return x


def frames_case() -> Case:
    frozen = read_only(scores(300))
    head = Remembering()

    def piece(a: int, b: int) -> Frames:
        return Frames(start=a * TIMING.stride, scores=frozen[a:b])

    return Case(lambda: BeatPicker(TIMING, 0.5, head.classify, head.forget), 300, piece, has_patient=True)


def reader_case() -> Case:
    frozen, samples = read_only(scores(300)), read_only(ecg(125.0).reshape(-1, 1))
    n = TIMING.stride

    def piece(a: int, b: int) -> tuple[Block, Frames]:
        return (
            Block(start=a * n, samples=samples[a * n : b * n]),
            Frames(start=a * n, scores=frozen[a:b]),
        )

    return Case(Reader, 300, piece, has_patient=True)


def window_reader_case(bundle: Bundle) -> Case:
    """Items of one window each, as the pipeline calls it: a hop of samples, then the window that ends with it."""
    w, hop = bundle.manifest.window, bundle.manifest.hop_samples
    n = 12
    samples = read_only(np.concatenate([tiny_windows.rate().given.samples] * 2)[: w.window_samples + n * hop])
    logits = read_only(np.random.default_rng(2).standard_normal((n, len(w.values))).astype(np.float32) * 3)

    def item(i: int) -> tuple[Block, Frames]:
        begin = 0 if i == 0 else w.window_samples + (i - 1) * hop
        return (
            Block(start=begin, samples=samples[begin : w.window_samples + i * hop]),
            Frames(start=i * hop, scores=logits[i : i + 1]),
        )

    class Several:
        """Takes several windows in one item; a window that was not seen from its begin has no samples."""

        def __init__(self) -> None:
            self._stage = WindowReader(w, (), lambda position: 2 * position, 100.0)
            self.reset, self.interrupt = self._stage.reset, self._stage.interrupt

        def feed(self, items: tuple[tuple[Block, Frames], ...]) -> list[object]:
            said: list[object] = []
            for block, frames in items:
                self._stage.watch(block)
                said += self._stage.feed(frames)
            return said

    return Case(Several, n, lambda a, b: tuple(item(i) for i in range(a, b)))


def windower(bundle: Bundle, engine: OnnxEngine) -> Windower:
    m = bundle.manifest
    graph = m.step_graph
    return Windower(engine.load(bundle, graph), graph, m.n_channels, m.window.window_samples, m.hop_samples)


def window_case(name: str, bundles: dict[str, Bundle], engine: OnnxEngine) -> Case:
    kind = name.split()[-1]
    given, bundle = tiny_windows.KINDS[kind]().given, bundles[kind]
    if name.startswith("window reader"):
        return window_reader_case(bundle)
    if name.startswith("windower"):
        return blocks_case(lambda: windower(bundle, engine), given.samples, first=3)
    if name.startswith("as they are"):
        return blocks_case(AsTheyAre, given.samples, first=3)
    return blocks_case(
        lambda: open_pipeline(bundle, golden.stream_spec(bundle, given.rate_hz), engine),
        given.samples,
        first=40,
        has_end=True,
    )


WINDOWS = [
    "as they are rate",
    "windower rhythm",
    "windower rate",
    "window reader rate",
    "pipeline rhythm",
    "pipeline rate",
    "pipeline table",
]
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


def trunk(bundle: Bundle, engine: Engine) -> StreamingTrunk:
    m = bundle.manifest
    graph = m.graph(TRUNK)
    return StreamingTrunk(engine.load(bundle, graph), graph, m.hop_samples, m.timing.stride)


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
