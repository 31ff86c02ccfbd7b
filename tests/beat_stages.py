"""The stages of beats, each with its food for the laws."""

from __future__ import annotations

import numpy as np
import tiny_models
from stage_cases import Case, read_only

from edge_runtime.assemble import TRUNK
from edge_runtime.contract.bundle import Bundle
from edge_runtime.contract.signal import Block, Float32Array, Frames
from edge_runtime.engine.engine import Engine, StreamingTrunk
from edge_runtime.sensors.synthetic import simulate
from edge_runtime.vitals.beats import BeatPicker
from edge_runtime.vitals.quality import SignalQuality
from edge_runtime.vitals.reader import EcgReader
from edge_runtime.vitals.recent import RecentSignal
from edge_runtime.vitals.support import BeatSupport

TIMING, CONDITIONING = tiny_models.TIMING, tiny_models.CONDITIONING


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
    """SignalQuality with the verb of a stage: shares before positions of the last two seconds, after each block."""

    def __init__(self) -> None:
        self._recent = RecentSignal(CONDITIONING.rate_hz)
        self._stage = SignalQuality(CONDITIONING.rate_hz, self._recent)

    def reset(self) -> None:
        self._stage.reset()
        self._recent.reset()

    interrupt = reset  # it has no counter; the pipeline tells it of gaps

    def feed(self, block: Block) -> list[float]:
        self._recent.watch(block)
        return [tuple(self._stage.share(stop) for stop in range(max(0, block.stop - 240), block.stop, 20))]


class Reader:
    """EcgReader as the pipeline calls it: the samples of some frames, then the frames."""

    def __init__(self) -> None:
        head, recent = Remembering(), RecentSignal(CONDITIONING.rate_hz)
        self._stage = EcgReader(
            BeatPicker(TIMING, 0.5, head.classify, head.forget),
            SignalQuality(CONDITIONING.rate_hz, recent),
            BeatSupport(CONDITIONING.rate_hz, 0.975),
            recent,
            ("N", "S", "V", "F"),
            lambda position: round(2 * position),
            250.0,
        )
        self.reset, self.interrupt = self._stage.reset, self._stage.interrupt

    def feed(self, item: tuple[Block, Frames]) -> list[object]:
        self._stage.watch(item[0])
        return list(self._stage.feed(item[1]))


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


def trunk(bundle: Bundle, engine: Engine) -> StreamingTrunk:
    m = bundle.manifest
    graph = m.graph(TRUNK)
    return StreamingTrunk(engine.load(bundle, graph), graph, m.hop_samples, m.timing.stride)
