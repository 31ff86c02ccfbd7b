"""A teacher's word on whole records: soft labels for its students, and its own score."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from edge_runtime.contract.preprocess import Conditioning
from edge_runtime.contract.signal import Float32Array, Frames
from edge_runtime.vitals.beats import BeatPicker
from host_tools.data.examples import ConditionedRecord
from host_tools.data.records import EcgRecord
from host_tools.measure.score import RecordScore, score_record
from host_tools.nets.beats import N_CLASSES, Teacher


@torch.no_grad()
def soft_labels(teachers: Sequence[Teacher], record: ConditionedRecord) -> tuple[Float32Array, Float32Array]:
    """Logits of the teachers' mean probability at the annotated beats (beats, 4) and per frame (frames,)."""
    frames = _frames(teachers, record)
    at = np.clip(np.round(teachers[0].timing.frame_of(record.beats)), 0, frames[0].shape[-1] - 1)
    classes = _classes(teachers, frames, at.astype(np.int64), record.rhythm)
    return _logit(classes), _detection(frames)


@torch.no_grad()
def score_teacher(
    teachers: Sequence[Teacher],
    record: EcgRecord,
    conditioned: ConditionedRecord,
    conditioning: Conditioning,
    threshold: float,
) -> RecordScore:
    """Score the ensemble's own detections and classes on a whole record, as the student's are scored."""
    timing = teachers[0].timing
    frames = _frames(teachers, conditioned)
    rhythm: list[list[float]] = []

    def note(_: Float32Array, features: list[float]) -> Float32Array:
        rhythm.append(features)
        return np.ones(1, np.float32)

    # The device's own picker finds the beats; the teacher's scores are shifted to where it expects them.
    picker = BeatPicker(timing, threshold, note, lambda: None)
    tail = timing.detect_frames + timing.decide_frames
    scores = np.concatenate((np.full(timing.detect_frames, -20.0), _detection(frames), np.full(tail, -20.0)))
    beats = picker.feed(Frames(start=0, scores=scores.astype(np.float32)[:, None]))
    positions = np.array([b.position for b in beats])
    at = np.clip(np.round(timing.frame_of(positions)), 0, frames[0].shape[-1] - 1).astype(np.int64)
    classes = _classes(teachers, frames, at, np.array(rhythm, np.float32).reshape(len(beats), -1))
    return score_record(
        record.name,
        rate_hz=record.rate_hz,
        reference_samples=record.beat_samples,
        reference_classes=record.beat_classes,
        detected_samples=np.clip(
            np.round(positions * record.rate_hz / conditioning.rate_hz), 0, len(record.leads) - 1
        ).astype(np.int64),
        detected_classes=classes.argmax(axis=1) if len(beats) else np.zeros(0, np.int64),
        masked=record.masked,
    )


def _frames(teachers: Sequence[Teacher], record: ConditionedRecord) -> list[torch.Tensor]:
    device = next(teachers[0].parameters()).device
    x = torch.from_numpy(np.ascontiguousarray(record.x.T))[None].to(device)
    return [teacher.frames(x) for teacher in teachers]


def _detection(frames: Sequence[torch.Tensor]) -> Float32Array:
    p = torch.stack([torch.sigmoid(y[0, 0]) for y in frames]).mean(0).cpu().numpy()
    return _logit(np.stack((1.0 - p, p), axis=1))[:, 1] - _logit(np.stack((1.0 - p, p), axis=1))[:, 0]


def _classes(
    teachers: Sequence[Teacher], frames: Sequence[torch.Tensor], at: np.ndarray, rhythm: Float32Array
) -> Float32Array:
    """Mean probabilities float32 (beats, 4)."""
    if len(at) == 0:
        return np.zeros((0, N_CLASSES), np.float32)
    device = frames[0].device
    where, features = torch.from_numpy(at)[None].to(device), torch.from_numpy(rhythm)[None].to(device)
    logits = [t.classify(y, where, features)[0] for t, y in zip(teachers, frames, strict=True)]
    return np.asarray(torch.stack([z.softmax(-1) for z in logits]).mean(0).cpu().numpy(), np.float32)


def _logit(p: np.ndarray) -> Float32Array:
    return np.asarray(np.log(np.clip(p, 1e-6, 1.0)), np.float32)
