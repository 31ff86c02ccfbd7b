"""Bundle + engine + stream -> pipeline: the one place that knows which stages make a task."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from edge_runtime.contract.bundle import Bundle
from edge_runtime.contract.channels import AsTheyAre, EachConditioned
from edge_runtime.contract.errors import EngineError, SettingsError
from edge_runtime.contract.manifest import (
    FIRST_ENGINE,
    BeatManifest,
    EngineName,
    Graph,
    Manifest,
    WindowManifest,
    beats_of,
)
from edge_runtime.contract.preprocess import Conditioner
from edge_runtime.contract.signal import Float32Array, Frames, Reading, StreamSpec
from edge_runtime.engine.engine import Engine, Stepper, StreamingTrunk
from edge_runtime.engine.windows import Windower
from edge_runtime.pipeline import Pipeline
from edge_runtime.vitals.beats import BeatPicker
from edge_runtime.vitals.quality import SignalQuality
from edge_runtime.vitals.reader import EcgReader
from edge_runtime.vitals.recent import RecentSignal
from edge_runtime.vitals.sensor_word import BeatWord, SensorWord
from edge_runtime.vitals.support import BeatSupport
from edge_runtime.vitals.windows import WindowReader

TRUNK, HEAD = "trunk", "head"
BEAT_SPAN_S = 1.0  # of signal that a beat rests on

OnFrames = Callable[[Frames, Sequence[Reading]], None]


def open_engine(
    threads: int = 1,
    name: EngineName = FIRST_ENGINE,
    *,
    provider: str = "cpu",
    allow_fallback: bool = False,
    cache: Path | None = None,
) -> Engine:
    """An inference engine; raises EngineError if it is not installed, or has no such provider.

    provider        cpu, xnnpack, cuda or tensorrt, of ONNX Runtime
    allow_fallback  the CPU may run what the provider cannot
    cache           folder for graphs as this device optimized them; None keeps none
    """
    if name == "litert":
        if provider != "cpu":
            raise EngineError(f"provider is {provider!r}; LiteRT chooses its own, so use --engine onnxruntime")
        from edge_runtime.engine.tflite import LiteRtEngine

        return LiteRtEngine(threads)
    from edge_runtime.engine.onnx import OnnxEngine, model_cache

    kept = None if cache is None else model_cache(cache)
    return OnnxEngine(threads, provider, allow_fallback=allow_fallback, cache=kept)


def open_pipeline(
    bundle: Bundle,
    spec: StreamSpec,
    engine: Engine,
    on_frames: OnFrames | None = None,
) -> Pipeline:
    """A pipeline for one stream; raises SettingsError if the stream does not suit the bundle."""
    m = bundle.manifest
    if spec.unit != m.unit:
        raise SettingsError(f"stream is in {spec.unit}; the bundle {m.name} wants {m.unit}{spec.advice(m.unit)}")
    if len(spec.channels) != m.n_channels:
        raise SettingsError(
            f"stream has {len(spec.channels)} channels ({', '.join(spec.channels)}); the bundle {m.name} wants "
            f"{m.n_channels}"
        )
    if isinstance(m, WindowManifest):
        return _windows(m, bundle, spec, engine, on_frames)
    return _beats(beats_of(m), bundle, spec, engine, on_frames)


def _beats(m: BeatManifest, bundle: Bundle, spec: StreamSpec, engine: Engine, on_frames: OnFrames | None) -> Pipeline:
    condition = Conditioner(m.conditioning, spec.rate_hz)
    trunk = m.graph(TRUNK)
    score = StreamingTrunk(engine.load(bundle, trunk), trunk, m.hop_samples, m.timing.stride)
    head = HeadCaller(engine.load(bundle, m.graph(HEAD)), m.graph(HEAD))
    picker = BeatPicker(m.timing, m.detection_threshold, head.classify, head.reset)
    recent = RecentSignal(m.conditioning.rate_hz)
    read = EcgReader(
        picker,
        SignalQuality(m.conditioning.rate_hz, recent),
        BeatSupport(m.conditioning.rate_hz, 1.0 - condition.alpha),
        recent,
        m.classes,
        condition.source_position,
        spec.rate_hz,
    )
    make = _pipeline(m, spec, BEAT_SPAN_S, m.delay_samples / m.conditioning.rate_hz)
    return make(
        condition,
        score,
        read,
        rate_hz=spec.rate_hz,
        channels=spec.channels,
        row_samples=m.timing.stride,
        # Up to one hop fills the last step.
        delay_s=(m.delay_samples + m.hop_samples) / m.conditioning.rate_hz,
        word=BeatWord(spec.rate_hz, BEAT_SPAN_S),
        on_frames=on_frames,
    )


def _windows(
    m: WindowManifest, bundle: Bundle, spec: StreamSpec, engine: Engine, on_frames: OnFrames | None
) -> Pipeline:
    w, graph = m.window, m.step_graph
    condition: EachConditioned | AsTheyAre
    if m.conditioning is not None:
        condition = EachConditioned(m.conditioning, spec.rate_hz, m.n_channels)
    elif spec.rate_hz == w.rate_hz:
        condition = AsTheyAre(takes_missing=w.missing == "in graph")
    else:
        raise SettingsError(f"stream rate is {spec.rate_hz:g} Hz; the bundle {m.name} wants {w.rate_hz:g} Hz")
    make = _pipeline(m, spec, w.window_samples / w.rate_hz, 0.0)
    return make(
        condition,
        Windower(engine.load(bundle, graph), graph, m.n_channels, w.window_samples, m.hop_samples),
        WindowReader(w, m.classes, condition.source_sample_at, spec.rate_hz),
        rate_hz=spec.rate_hz,
        channels=spec.channels,
        row_samples=w.window_samples,
        delay_s=0.0,  # a window speaks of its last sample; what is shorter than a window is not filled up
        takes_missing=w.missing == "in graph",
        word=SensorWord(spec.rate_hz, w.window_samples / w.rate_hz),
        on_frames=on_frames,
    )


def _pipeline(m: Manifest, spec: StreamSpec, back_s: float, ahead_s: float) -> Callable[..., Pipeline]:
    """The usual pipeline, or one that fills short gaps; readings rest on so many seconds around them."""
    n = round(m.fill_gap_s * spec.rate_hz)
    if n == 0:
        return Pipeline
    from edge_runtime.filling import FillingPipeline

    back, ahead = math.ceil(back_s * spec.rate_hz), math.ceil(ahead_s * spec.rate_hz)
    return partial(FillingPipeline, fill_samples=n, looks_back=back, looks_ahead=ahead)


class HeadCaller:
    """The graph that runs once per beat, with its memory over beats."""

    def __init__(self, stepper: Stepper, graph: Graph) -> None:
        self._stepper = stepper
        self._embedding = stepper.inputs[graph.inputs[0].name].reshape(-1)
        self._rhythm = stepper.inputs[graph.inputs[1].name].reshape(-1)
        self._scores = stepper.outputs[graph.outputs[0].name].reshape(-1)

    def classify(self, embedding: Float32Array, rhythm: list[float]) -> Float32Array:
        """Probabilities float32 (classes,) of the next beat."""
        self._embedding[:] = embedding
        self._rhythm[:] = rhythm
        self._stepper.step()
        return np.array(self._scores, np.float32)

    def reset(self) -> None:
        """Forget the patient."""
        self._stepper.reset()
