"""Bundle + engine + stream -> pipeline: the one place that knows which stages make a task."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from edge_runtime.contract.bundle import Bundle
from edge_runtime.contract.errors import SettingsError
from edge_runtime.contract.manifest import Graph
from edge_runtime.contract.preprocess import Conditioner
from edge_runtime.contract.signal import Float32Array, Frames, Reading, StreamSpec
from edge_runtime.engine.engine import Engine, Stepper, StreamingTrunk
from edge_runtime.pipeline import Pipeline
from edge_runtime.vitals.beats import BeatPicker
from edge_runtime.vitals.quality import SignalQuality
from edge_runtime.vitals.reader import EcgReader

TRUNK, HEAD = "trunk", "head"


def open_engine(threads: int = 1) -> Engine:
    """The inference engine of this device; raises EngineError if none is installed."""
    from edge_runtime.engine.onnx import OnnxEngine

    return OnnxEngine(threads)


def open_pipeline(
    bundle: Bundle,
    spec: StreamSpec,
    engine: Engine,
    on_frames: Callable[[Frames, Sequence[Reading]], None] | None = None,
) -> Pipeline:
    """A pipeline for one stream; raises SettingsError if the stream does not suit the bundle."""
    m = bundle.manifest
    if spec.unit != m.unit:
        raise SettingsError(f"stream is in {spec.unit}; the bundle {m.name} wants {m.unit}")
    condition = Conditioner(m.conditioning, spec.rate_hz)
    trunk = m.graph(TRUNK)
    score = StreamingTrunk(engine.load(bundle, trunk), trunk, m.hop_samples, m.timing.stride)
    head = HeadCaller(engine.load(bundle, m.graph(HEAD)), m.graph(HEAD))
    picker = BeatPicker(m.timing, m.detection_threshold, head.classify, head.reset)
    read = EcgReader(picker, SignalQuality(m.conditioning.rate_hz), m.classes, condition.source_position, spec.rate_hz)
    return Pipeline(
        condition,
        score,
        read,
        rate_hz=spec.rate_hz,
        channel=spec.channels[0],
        hop_samples=m.hop_samples,
        delay_s=(m.delay_samples + m.hop_samples) / m.conditioning.rate_hz,
        on_frames=on_frames,
    )


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
