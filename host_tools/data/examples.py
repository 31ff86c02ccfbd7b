"""Labelled records -> conditioned records -> batches of chunks, through the device's own conditioning."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from edge_runtime.contract.beats import BeatTiming
from edge_runtime.contract.errors import SettingsError
from edge_runtime.contract.preprocess import Conditioner, Conditioning
from edge_runtime.contract.rhythm import N_FEATURES, RhythmContext
from edge_runtime.contract.signal import Block, Float32Array
from host_tools.data.records import EcgRecord

SETTLING_S = 2.0  # the first seconds of a record or chunk are neither trained nor sampled
IGNORED = -1


@dataclass(frozen=True, kw_only=True, eq=False)
class ConditionedRecord:
    """A record on the model's own grid.

    x        float32 (n, 2), mV at the model's rate; column 1 is zero where there is one lead
    beats    float64 (beats,), R peaks in samples of that rate
    classes  int64 (beats,), 0..3 for N S V F; IGNORED for Q and masked stretches
    rhythm   float32 (beats, 8), causal rhythm features
    masked   bool (frames,), frames without a detection target
    """

    name: str
    x: Float32Array
    beats: np.ndarray
    classes: np.ndarray
    rhythm: Float32Array
    masked: np.ndarray
    teacher_beats: Float32Array | None = None
    teacher_frames: Float32Array | None = None


def condition(
    record: EcgRecord, timing: BeatTiming, conditioning: Conditioning, stretch: float = 1.0
) -> ConditionedRecord:
    """Run a record through the device's conditioning; `stretch` > 1 plays it slower (augmentation)."""
    rate = record.rate_hz * stretch
    columns: list[Float32Array] = []
    for lead in range(2):
        if lead >= record.leads.shape[1]:
            columns.append(np.zeros_like(columns[0]))
            continue
        stage = Conditioner(conditioning, rate)
        blocks = stage.feed(Block(start=0, samples=record.leads[:, lead : lead + 1]))
        columns.append(np.concatenate([b.samples[:, 0] for b in blocks]))
    x = np.stack(columns, axis=1)
    beats = record.beat_samples * (conditioning.rate_hz / rate)
    masked = np.zeros(len(x) // timing.stride, bool)
    classes = np.where(record.beat_classes == 4, IGNORED, record.beat_classes)
    for start, stop in record.masked * (conditioning.rate_hz / rate):
        masked[int(start / timing.stride) : int(stop / timing.stride) + 1] = True
        classes[(beats >= start) & (beats <= stop)] = IGNORED
    return ConditionedRecord(
        name=record.name,
        x=x,
        beats=beats,
        classes=classes,
        rhythm=rhythm_features(beats / conditioning.rate_hz, timing.look_ahead_s),
        masked=masked,
    )


def rhythm_features(beat_s: np.ndarray, look_ahead_s: float) -> Float32Array:
    """Causal rhythm features of every beat of a record, as the device computes them; float32 (beats, 8)."""
    context = RhythmContext(look_ahead_s)
    rows = np.zeros((len(beat_s), N_FEATURES), np.float32)
    for i, t in enumerate(beat_s):
        following = beat_s[i + 1] if i + 1 < len(beat_s) and beat_s[i + 1] - t < look_ahead_s else None
        rows[i] = context.features(float(t), None if following is None else float(following))
    return rows


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Chunks for one training step.

    x             float32 (b, 1, samples)
    frame_target  float32 (b, frames), Gaussian around each R peak
    frame_weight  float32 (b, frames), 0 where masked
    beat_frame    int64 (b, beats), frame of the R peak; padded with 0
    beat_class    int64 (b, beats), IGNORED where padded or masked
    rhythm        float32 (b, beats, 8)
    teacher_beats   float32 (b, beats, classes) logits, or None
    teacher_frames  float32 (b, frames) logits, or None
    """

    x: torch.Tensor
    frame_target: torch.Tensor
    frame_weight: torch.Tensor
    beat_frame: torch.Tensor
    beat_class: torch.Tensor
    rhythm: torch.Tensor
    teacher_beats: torch.Tensor | None = None
    teacher_frames: torch.Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How chunks are drawn and disturbed.

    focus  share of chunks centred on a beat of class N S V F; the rest is uniform
    """

    chunk_s: float = 30.0
    chunks: int = 16
    focus: tuple[float, float, float, float] = (0.0, 0.3, 0.2, 0.1)
    gain: float = 0.25
    noise_probability: float = 0.5
    noise_mv: float = 0.15
    lead_swap: float = 0.15
    lead_mix: float = 0.15
    rhythm_jitter: float = 0.05
    frame_jitter: int = 1


Noise = Callable[[int, np.random.Generator], Float32Array]


def coloured_noise(n: int, rng: np.random.Generator) -> Float32Array:
    """Unit-variance mixture of wander and muscle-like noise; float32 (n,)."""
    white = rng.standard_normal(n)
    wander = np.cumsum(rng.standard_normal(n))
    wander -= np.linspace(wander[0], wander[-1], n)
    share = rng.uniform()
    mixed = share * wander / (wander.std() + 1e-9) + (1 - share) * white
    return np.asarray(mixed / (mixed.std() + 1e-9), np.float32)


class ChunkSampler:
    """Endless batches of chunks from conditioned records, drawn with its own generator."""

    def __init__(
        self,
        records: Sequence[ConditionedRecord],
        timing: BeatTiming,
        rate_hz: int,
        sampling: Sampling,
        seed: int,
        noise: Noise = coloured_noise,
    ) -> None:
        self._records = list(records)
        self._timing, self._sampling, self._noise = timing, sampling, noise
        self._rng = np.random.default_rng(seed)
        self._n = int(sampling.chunk_s * rate_hz) // timing.stride * timing.stride
        self._settling = int(SETTLING_S * rate_hz)
        for record in self._records:
            if len(record.x) < self._n:
                raise SettingsError(
                    f"record {record.name} lasts {len(record.x) / rate_hz:.1f} s; at least one chunk of "
                    f"{sampling.chunk_s:g} s wanted"
                )
        # A record's chance to be the home of a focused chunk grows with the square root of its beats of
        # that class, capped, so that one patient does not stand for the class.
        self._by_class: list[np.ndarray | None] = []
        for c in range(4):
            counts = np.array([np.sum(r.classes == c) for r in self._records], float)
            weight = np.sqrt(np.minimum(counts, 200))
            self._by_class.append(weight / weight.sum() if weight.sum() else None)

    def __iter__(self) -> Iterator[Batch]:
        """Go on for ever."""
        while True:
            yield self._batch([self._draw() for _ in range(self._sampling.chunks)])

    def _draw(self) -> tuple[ConditionedRecord, int]:
        rng, u = self._rng, self._rng.uniform()
        for c, share in enumerate(self._sampling.focus):
            weights = self._by_class[c]
            if u < share and weights is not None:
                record = self._records[rng.choice(len(self._records), p=weights)]
                beat = record.beats[rng.choice(np.flatnonzero(record.classes == c))]
                start = int(beat - rng.uniform(0.15, 0.95) * self._n)
                return record, self._clip(start, record)
            u -= share
        record = self._records[rng.integers(len(self._records))]
        return record, self._clip(int(rng.integers(0, max(1, len(record.x) - self._n))), record)

    def _clip(self, start: int, record: ConditionedRecord) -> int:
        stride = self._timing.stride
        return max(0, min(start, len(record.x) - self._n)) // stride * stride

    def _batch(self, drawn: list[tuple[ConditionedRecord, int]]) -> Batch:
        stride, n, b = self._timing.stride, self._n, len(drawn)
        frames = n // stride
        x = np.zeros((b, 1, n), np.float32)
        target, weight = np.zeros((b, frames), np.float32), np.zeros((b, frames), np.float32)
        rows = [np.flatnonzero((r.beats >= s) & (r.beats < s + n - 1)) for r, s in drawn]
        width = max(1, *(len(i) for i in rows))
        beat_frame, rhythm = np.zeros((b, width), np.int64), np.zeros((b, width, N_FEATURES), np.float32)
        beat_class = np.full((b, width), IGNORED, np.int64)
        has_teacher = all(r.teacher_beats is not None for r, _ in drawn)
        soft_beats, soft_frames = np.zeros((b, width, 4), np.float32), np.zeros((b, frames), np.float32)
        for j, (record, start) in enumerate(drawn):
            x[j, 0] = self._signal(record, start)
            position = self._timing.frame_of(record.beats[rows[j]] - start)
            frame = np.arange(frames)[:, None]
            if len(position):
                target[j] = np.exp(-0.5 * ((frame - position[None, :]) / 0.8) ** 2).max(axis=1)
            weight[j] = ~record.masked[start // stride : start // stride + frames]
            m = len(rows[j])
            beat_frame[j, :m] = np.clip(np.round(position), 0, frames - 1)
            late_enough = record.beats[rows[j]] >= start + self._settling
            beat_class[j, :m] = np.where(late_enough, record.classes[rows[j]], IGNORED)
            rhythm[j, :m] = record.rhythm[rows[j]]
            if record.teacher_beats is not None and record.teacher_frames is not None:
                soft_beats[j, :m] = record.teacher_beats[rows[j]]
                soft_frames[j] = record.teacher_frames[start // stride : start // stride + frames]
        weight[:, : self._settling // stride] = 0.0
        rhythm[:, :, :7] += self._rng.normal(0, self._sampling.rhythm_jitter, rhythm[:, :, :7].shape)
        shift = self._rng.integers(-self._sampling.frame_jitter, self._sampling.frame_jitter + 1, beat_frame.shape)
        return Batch(
            x=torch.from_numpy(x),
            frame_target=torch.from_numpy(target),
            frame_weight=torch.from_numpy(weight),
            beat_frame=torch.from_numpy(np.clip(beat_frame + shift, 0, frames - 1)),
            beat_class=torch.from_numpy(beat_class),
            rhythm=torch.from_numpy(rhythm),
            teacher_beats=torch.from_numpy(soft_beats) if has_teacher else None,
            teacher_frames=torch.from_numpy(soft_frames) if has_teacher else None,
        )

    def _signal(self, record: ConditionedRecord, start: int) -> Float32Array:
        rng, how = self._rng, self._sampling
        first, second = record.x[start : start + self._n].T
        u = rng.uniform() if second.any() else 1.0
        if u < how.lead_swap:
            x = second.copy()
        elif u < how.lead_swap + how.lead_mix:
            share = np.float32(rng.uniform(0, 0.6))
            x = (1 - share) * first + share * second
        else:
            x = first.copy()
        x *= np.float32(np.exp(rng.normal(0, how.gain)))
        if rng.uniform() < how.noise_probability:
            x += np.float32(how.noise_mv * rng.uniform()) * self._noise(self._n, rng)
        return np.asarray(x, np.float32)


def with_teacher(record: ConditionedRecord, beats: Float32Array, frames: Float32Array) -> ConditionedRecord:
    """The record with stored soft labels: logits float32 (beats, 4) and float32 (frames,)."""
    return replace(record, teacher_beats=beats, teacher_frames=frames)
