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
from host_tools.nets.beats import N_CLASSES, BeatNet


@torch.no_grad()
def soft_labels(teachers: Sequence[BeatNet], record: ConditionedRecord) -> tuple[Float32Array, Float32Array]:
    """Logits of the teachers' mean probability at the annotated beats (beats, 4) and per frame (frames,)."""
    outputs = _outputs(teachers, record)
    timing = teachers[0].timing
    at = np.round(timing.frame_of(record.beats)).astype(np.int64)
    detection = _detection(outputs)
    aligned = np.concatenate((detection[timing.detect_frames :], np.repeat(detection[-1:], timing.detect_frames)))
    return _log(_classes(teachers, outputs, at, record.rhythm)), aligned


@torch.no_grad()
def score_teacher(
    teachers: Sequence[BeatNet],
    record: EcgRecord,
    conditioned: ConditionedRecord,
    conditioning: Conditioning,
    threshold: float,
) -> RecordScore:
    """Score the ensemble's own detections and classes on a whole record, as the student's are scored."""
    timing = teachers[0].timing
    outputs = _outputs(teachers, conditioned)
    rhythm: list[list[float]] = []

    def note(_: Float32Array, features: list[float]) -> Float32Array:
        rhythm.append(features)
        return np.ones(1, np.float32)

    # The device's own picker finds the beats, so that teacher and student differ in their scores only.
    picker = BeatPicker(timing, threshold, note, lambda: None)
    scores = np.concatenate((_detection(outputs), np.full(timing.decide_frames, -20.0, np.float32)))
    beats = picker.feed(Frames(start=0, scores=scores[:, None]))
    positions = np.array([b.position for b in beats])
    at = np.round(timing.frame_of(positions)).astype(np.int64)
    classes = _classes(teachers, outputs, at, np.array(rhythm, np.float32).reshape(len(beats), -1))
    samples = np.round(positions * record.rate_hz / conditioning.rate_hz)
    return score_record(
        record.name,
        rate_hz=record.rate_hz,
        reference_samples=record.beat_samples,
        reference_classes=record.beat_classes,
        detected_samples=np.clip(samples, 0, len(record.leads) - 1).astype(np.int64),
        detected_classes=classes.argmax(axis=1),
        masked=record.masked,
    )


def _outputs(teachers: Sequence[BeatNet], record: ConditionedRecord) -> list[torch.Tensor]:
    """Each teacher's trunk over the whole record; (1, 1 + embedding, frames)."""
    device = next(teachers[0].parameters()).device
    x = torch.from_numpy(np.ascontiguousarray(record.x[:, 0]))[None, None].to(device)
    return [teacher.trunk(x) for teacher in teachers]


def _detection(outputs: Sequence[torch.Tensor]) -> Float32Array:
    """Logit of the mean detection probability; float32 (frames,), each speaking of `detect_frames` ago."""
    p = torch.stack([torch.sigmoid(y[0, 0].double()) for y in outputs]).mean(0).cpu().numpy()
    return np.asarray(_log(p) - _log(1.0 - p), np.float32)


def _classes(
    teachers: Sequence[BeatNet], outputs: Sequence[torch.Tensor], at: np.ndarray, rhythm: Float32Array
) -> Float32Array:
    """Mean probabilities float32 (beats, 4) of beats whose R peaks lie at frames `at`."""
    if len(at) == 0:
        return np.zeros((0, N_CLASSES), np.float32)
    device = outputs[0].device
    features = torch.from_numpy(rhythm)[None].to(device)
    read = torch.from_numpy(np.clip(at + teachers[0].timing.embed_frames, 0, outputs[0].shape[-1] - 1)).to(device)
    logits = [t.head(y[:, 1:, read].transpose(1, 2), features)[0] for t, y in zip(teachers, outputs, strict=True)]
    return np.asarray(torch.stack([z.softmax(-1) for z in logits]).mean(0).cpu().numpy(), np.float32)


def _log(p: np.ndarray) -> Float32Array:
    return np.asarray(np.log(np.clip(p, 1e-6, 1.0)), np.float32)
