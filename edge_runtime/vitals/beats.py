"""Scores per frame -> beats: detection by local maximum, then one classification per beat."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edge_runtime.contract.beats import BeatTiming
from edge_runtime.contract.dataclass import dataclass
from edge_runtime.contract.rhythm import RhythmContext
from edge_runtime.contract.signal import Float32Array, Frames

# float32 (embedding,), rhythm features -> probabilities float32 (classes,); keeps its own memory over beats.
Classify = Callable[[Float32Array, list[float]], Float32Array]


@dataclass(frozen=True, kw_only=True)
class Beat:
    """A classified beat, in samples of the model's rate.

    position  of the R peak, fractional
    seen      counter below which samples were seen when it was decided
    """

    position: float
    seen: int
    label: int
    confidence: float
    t_ns: int


@dataclass(frozen=True, kw_only=True)
class _Detection:
    frame: int
    position: float
    embedding: Float32Array


class BeatPicker:
    """Stage: frames in, beats out, each `decide_frames` after its R peak, in order of time.

    Column 0 of the scores is the detection logit, the other columns are the embedding.
    """

    def __init__(self, timing: BeatTiming, threshold: float, classify: Classify, forget: Callable[[], None]) -> None:
        self._timing, self._classify, self._forget = timing, classify, forget
        self._logit = float(np.log(threshold / (1.0 - threshold)))
        self._rhythm = RhythmContext(timing.look_ahead_s)
        self.reset()

    def reset(self) -> None:
        """Forget the stream and the patient."""
        self._forget()
        self._rhythm.reset()
        self.interrupt()

    def interrupt(self) -> None:
        """Forget the unfinished past, not the patient: what follows is not adjacent to what came before."""
        self._rhythm.interrupt()
        self._offset = 0
        self._recent: list[float] = []
        self._waiting: list[_Detection] = []

    def feed(self, frames: Frames) -> list[Beat]:
        """Beats that can be decided with these frames; frames must follow on since the last `interrupt`."""
        beats: list[Beat] = []
        recent, waiting = self._recent, self._waiting
        span = 2 * self._timing.neighbour_frames + 1
        scores = frames.scores[:, 0].tolist()
        if not waiting and max(scores) < self._logit and (not recent or max(recent) < self._logit):
            recent += scores  # most hops: no beat is near
            del recent[:-span]
            return beats
        # A segment may begin at any sample, so its frames need not lie on multiples of the stride.
        first, self._offset = divmod(frames.start, self._timing.stride)
        middle = self._timing.neighbour_frames
        for now, score in enumerate(scores, first):
            recent.append(score)
            if len(recent) > span:
                del recent[0]
            if len(recent) == span and recent[middle] >= self._logit:
                self._detect(now, frames.scores[now - first, 1:])
            while waiting and now >= waiting[0].frame + self._timing.decide_frames:
                beats.append(self._decide((now + 1) * self._timing.stride + self._offset, frames.t_ns))
        return beats

    def _detect(self, now: int, embedding: Float32Array) -> None:
        recent, middle = self._recent, self._timing.neighbour_frames
        peak = recent[middle]
        # On a plateau the first frame is the peak.
        if max(recent[:middle]) >= peak or max(recent[middle + 1 :]) > peak:
            return
        before, after = recent[middle - 1], recent[middle + 1]
        curvature = before - 2.0 * peak + after
        offset = 0.5 * (before - after) / curvature if curvature < 0 else 0.0
        frame = now - self._timing.embed_frames
        position = self._timing.sample_of(frame + min(max(offset, -0.5), 0.5)) + self._offset
        self._waiting.append(_Detection(frame=frame, position=position, embedding=embedding.copy()))

    def _decide(self, seen: int, t_ns: int) -> Beat:
        beat = self._waiting.pop(0)
        rate = self._timing.rate_hz
        following = None
        if self._waiting and self._waiting[0].position - beat.position < self._timing.look_ahead_s * rate:
            following = self._waiting[0].position / rate
        rhythm = self._rhythm.features(beat.position / rate, following)
        probabilities = self._classify(beat.embedding, rhythm)
        label = int(probabilities.argmax())
        return Beat(position=beat.position, seen=seen, label=label, confidence=float(probabilities[label]), t_ns=t_ns)
