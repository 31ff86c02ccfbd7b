"""Labelled records through the device's own pipeline, and the score of what it printed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edge_runtime.assemble import open_pipeline
from edge_runtime.bench import scaled
from edge_runtime.contract.bundle import Bundle
from edge_runtime.contract.errors import EdgeError
from edge_runtime.contract.record_result import NO_CLASS, class_index
from edge_runtime.contract.signal import Block, Ledger, Reading, StreamSpec
from edge_runtime.engine.engine import Engine
from host_tools.data.records import EcgRecord
from host_tools.measure.score import RecordScore, score_record
from host_tools.measure.target import MICROVOLT, microvolts

BLOCK_S = 1.0


@dataclass(frozen=True, kw_only=True)
class Streamed:
    """What a pipeline said about one record."""

    readings: tuple[Reading, ...]
    ledger: Ledger


def stream_record(bundle: Bundle, engine: Engine, record: EcgRecord) -> Streamed:
    """Feed a record's first lead to a fresh pipeline; raises EdgeError if the ledger does not balance."""
    spec = StreamSpec(rate_hz=record.rate_hz, channels=record.lead_names[:1], simulated=record.simulated)
    pipeline = open_pipeline(bundle, spec, engine)
    size = int(BLOCK_S * record.rate_hz)
    samples = scaled(microvolts(record), MICROVOLT)  # the same numbers a device is sent
    readings: list[Reading] = []
    for start in range(0, len(samples), size):
        readings += pipeline.feed(Block(start=start, samples=samples[start : start + size]))
    readings += pipeline.finish()
    if not pipeline.ledger.is_balanced or pipeline.ledger.received != len(record.leads):
        raise EdgeError(f"record {record.name}: ledger does not balance ({pipeline.ledger})")
    return Streamed(readings=tuple(readings), ledger=pipeline.ledger)


def score_readings(record: EcgRecord, readings: Sequence[Reading]) -> RecordScore:
    """Score beats, given in the record's own samples, against its annotations; without a class they count as Q."""
    beats = [r for r in readings if r.name == "beat"]
    return score_record(
        record.name,
        rate_hz=record.rate_hz,
        reference_samples=record.beat_samples,
        reference_classes=record.beat_classes,
        detected_samples=np.array([r.sample for r in beats], np.int64),
        detected_classes=np.array(
            [class_index(NO_CLASS if r.value is None else str(r.value)) for r in beats], np.int64
        ),
        masked=record.masked,
    )
