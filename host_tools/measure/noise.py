"""The noise stress test of the task `ecg-beats`: noisy records through the device's pipeline, scored.

Electrode-motion noise (record `em` of nstdb, its second half in time) is added from minute 5 on in stretches of two
minutes, noisy and clean in turns. The classic test is on records 118 and 119; they hold few ectopic beats and are
training records of this project, so the same is done to the test records, each with the noise from another point on.

Source: Moody, Muldrow and Mark, "A noise stress test for arrhythmia detectors", Computers in Cardiology 11, 1984.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from edge_runtime.assemble import open_engine
from edge_runtime.contract.bundle import open_bundle
from edge_runtime.contract.errors import SettingsError
from edge_runtime.contract.manifest import beats_of
from edge_runtime.contract.signal import AAMI_CLASSES
from host_tools.chain import Ticker
from host_tools.data import nstdb
from host_tools.data.noise import added_noise, noise_amplitude, noise_gain, noisy_spans, qrs_amplitude
from host_tools.data.records import EcgRecord
from host_tools.data.sets import DataSet, open_data_set
from host_tools.measure.cells import NONE
from host_tools.measure.intervals import Interval
from host_tools.measure.score import RecordScore
from host_tools.measure.streaming import score_readings, stream_record
from host_tools.measure.study import RecordCounts, accuracy

SCHEMA = 1
NOISE = "em"
CLASSIC = ("118", "119")
SHOWN = ("detection_se", "detection_ppv", "v_se", "v_ppv", "s_f1")
VENTRICULAR = [AAMI_CLASSES.index(c) for c in ("V", "F")]
WHOLE, NOISY = "from minute 5 on", "noisy stretches only"
PARTS = (WHOLE, NOISY)


@dataclass(frozen=True, kw_only=True)
class StressLine:
    """What became of the beats of some records at one level.

    part    the stretches whose beats are scored; one of PARTS
    snr_db  None: without noise, scored on the same stretches
    """

    test: str
    part: str
    snr_db: float | None
    figures: dict[str, Interval]
    records: tuple[RecordCounts, ...]


@dataclass(frozen=True, kw_only=True)
class Stress:
    """A whole stress test with its conditions.

    models  sha256 of each graph's file, which stays the same where only a bundle's card or golden vectors change
    """

    schema: int
    bundle: str
    models: dict[str, str]
    noise: str
    seed: int
    lines: tuple[StressLine, ...]

    def to_json(self) -> str:
        """One JSON document."""
        return json.dumps(asdict(self), indent=1) + "\n"

    def to_text(self) -> str:
        """The table, one line per level; figures in percent with their 95 % intervals."""
        text = [f"{self.bundle}, noise {self.noise}, seed {self.seed}"]
        before: tuple[str, str] | None = None
        for line in self.lines:
            if (line.test, line.part) != before:
                before = (line.test, line.part)
                note = line.figures[SHOWN[0]].note
                text += ["", f"{line.test}, {line.part}{f' ({note})' if note else ''}", _row("SNR", HEADS)]
            level = "clean" if line.snr_db is None else f"{line.snr_db:g} dB"
            text.append(_row(level, [_cell(line.figures[k]) for k in SHOWN]))
        return "\n".join(text)


HEADS = ("detection Se", "detection P+", "V Se", "V P+", "S F1")


def stress_bundle(
    path: Path, root: Path | None, levels_db: Sequence[float], *, seed: int = 0, tick: Ticker = lambda *_: None
) -> Stress:
    """Run the test on a bundle of `ecg-beats`; raises an EdgeError naming what is missing or cannot be.

    seed  draws where the noise begins for each of the test records
    """
    if not levels_db or not all(map(math.isfinite, levels_db)):
        raise SettingsError(f"signal-to-noise ratios are {list(levels_db)}; one or more numbers (dB) wanted")
    bundle = open_bundle(path)
    beats_of(bundle.manifest)
    data, engine = open_data_set("mitdb", root), open_engine()
    noise = nstdb.half(nstdb.load(root or Path(), NOISE), "test")
    tests = {"records 118 and 119": CLASSIC, "DS2 without 202": data.split.test}
    levels, lines = (None, *levels_db), []
    n, done = len(levels) * sum(map(len, tests.values())), 0
    for title, names in tests.items():
        found: dict[tuple[str, float | None], list[RecordScore]] = {(p, s): [] for p in PARTS for s in levels}
        for record, start in _records(data, names, noise, seed if names != CLASSIC else None):
            for snr_db in levels:
                noisy = record if snr_db is None else noisy_record(record, noise, snr_db, start)
                readings = stream_record(bundle, engine, noisy).readings
                for part in PARTS:
                    found[part, snr_db].append(score_readings(scored_part(noisy, part), readings))
                done += 1
                tick(done, n, f"{record.name}, {'clean' if snr_db is None else f'{snr_db:g} dB'}")
        lines += [_line(title, part, snr_db, scores) for (part, snr_db), scores in found.items()]
    return Stress(
        schema=SCHEMA,
        bundle=bundle.id,
        models={graph.file: bundle.manifest.files[graph.file] for graph in bundle.manifest.graphs},
        noise=f"nstdb {NOISE}, second half",
        seed=seed,
        lines=tuple(lines),
    )


def noisy_record(record: EcgRecord, noise: nstdb.NoiseRecord, snr_db: float, start: int = 0) -> EcgRecord:
    """The record's first lead with noise in the stretches of the test; `nst` pairs it with the first noise signal.

    start  sample of the noise beside the record's first
    Raises SettingsError for a record of another rate, or without a QRS complex or noise to measure.
    """
    if noise.rate_hz != record.rate_hz:
        raise SettingsError(
            f"record {record.name} has {record.rate_hz:g} Hz; that of the noise, {noise.rate_hz:g} Hz, wanted"
        )
    lead, signal = record.leads[:, 0], noise.signals[:, 0]
    normal = record.beat_samples[~np.isin(record.beat_classes, VENTRICULAR)]
    amplitude, rms = qrs_amplitude(lead, normal, record.rate_hz), noise_amplitude(signal, noise.rate_hz)
    if not (amplitude > 0 and rms > 0):
        raise SettingsError(
            f"record {record.name}: QRS amplitude is {amplitude:g} mV, noise {rms:g} mV; more than 0 wanted"
        )
    spans = noisy_spans(len(lead), record.rate_hz)
    added = added_noise(signal, noise_gain(amplitude, rms, snr_db), spans, len(lead), start)
    return replace(record, leads=(lead + added).astype(np.float32)[:, None], lead_names=record.lead_names[:1])


def scored_part(record: EcgRecord, part: str) -> EcgRecord:
    """The record with all but one of PARTS masked, on top of what is masked already."""
    n = len(record.leads)
    noisy = noisy_spans(n, record.rate_hz)
    kept = noisy if part == NOISY else np.array([[noisy[0, 0], n]] if len(noisy) else [], np.int64).reshape(-1, 2)
    edges = np.array([0, *kept.ravel(), n], np.int64).reshape(-1, 2)
    return replace(record, masked=np.concatenate([record.masked, edges]))


def _records(
    data: DataSet, names: Sequence[str], noise: nstdb.NoiseRecord, seed: int | None
) -> Iterator[tuple[EcgRecord, int]]:
    """Records and where their noise begins: at its start, or with a seed at a point of their own."""
    for name in names:
        drawn = 0 if seed is None else int(np.random.default_rng([seed, int(name)]).integers(len(noise.signals)))
        yield data.load(name), drawn


def _line(test: str, part: str, snr_db: float | None, scores: Sequence[RecordScore]) -> StressLine:
    found = accuracy(test, scores)
    return StressLine(test=test, part=part, snr_db=snr_db, figures=found.intervals(), records=found.records)


def _row(first: str, cells: Sequence[str]) -> str:
    return f"  {first:6}" + "".join(f"{cell:>22}" for cell in cells)


def _cell(found: Interval) -> str:
    if found.value is None:
        return NONE
    if found.low is None or found.high is None:
        return f"{100 * found.value:.2f}"
    return f"{100 * found.value:.2f} [{100 * found.low:.1f}, {100 * found.high:.1f}]"
