"""Augmentation: premature atrial beats for patients who have few, so that a model does not learn the patients
who have many.

A premature atrial beat is a normally conducted beat that comes early, with another P wave: normal beats of a
regular rhythm are moved forward by cutting out part of the preceding diastole, their P waves are changed, and
they are labelled S.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from host_tools.data.records import EcgRecord

N, S = 0, 1
JOINT_S = 0.04  # both sides of a cut are faded into each other over this time
T_END_S, P_START_S, P_END_S = 0.30, 0.20, 0.06  # after the last R; before the next R


@dataclass(frozen=True, kw_only=True)
class Premature:
    """How many and how early.

    share        chance that an eligible normal beat starts an episode
    run_share    chance that an episode goes on with each further beat
    earliest, latest  new RR interval as a share of the old one
    irregular    beats whose last RR intervals vary more than this (standard deviation / mean) are left alone
    """

    share: float = 0.05
    run_share: float = 0.35
    earliest: float = 0.5
    latest: float = 0.85
    irregular: float = 0.12


def with_premature_beats(record: EcgRecord, rng: np.random.Generator, how: Premature | None = None) -> EcgRecord:
    """The record with some of its normal beats moved forward and labelled S; shorter by what was cut out."""
    how = how or Premature()
    rate = record.rate_hz
    leads, keep = record.leads.copy(), np.ones(len(record.leads), bool)
    classes = record.beat_classes.copy()
    in_run = False
    for i in _eligible(record, how.irregular):
        in_run = rng.uniform() < (how.run_share if in_run else how.share)
        if not in_run:
            continue
        before, beat = int(record.beat_samples[i - 1]), int(record.beat_samples[i])
        cut = int((1.0 - rng.uniform(how.earliest, how.latest)) * (beat - before))
        first, last = before + int(T_END_S * rate), beat - int(P_START_S * rate)
        cut = min(cut, last - first)
        if cut < 0.12 * (beat - before):
            in_run = False
            continue
        _reshape_p_wave(leads, beat, rate, float(rng.uniform(-0.8, 1.2)))
        start = int(rng.integers(first, last - cut + 1))
        _fade(leads, start, cut, int(JOINT_S * rate))
        keep[start : start + cut] = False
        classes[i] = S
    moved = np.concatenate(([0], np.cumsum(keep)))
    return replace(
        record,
        leads=leads[keep],
        beat_samples=moved[record.beat_samples],
        beat_classes=classes,
        masked=moved[np.minimum(record.masked, len(keep))],
    )


def _eligible(record: EcgRecord, irregular: float) -> np.ndarray:
    """Normal beats after normal beats in a regular rhythm of 40 to 120 a minute."""
    rr = np.diff(record.beat_samples) / record.rate_hz
    out = []
    for i in range(9, len(record.beat_samples)):
        recent = rr[i - 9 : i]
        calm = recent.std() < irregular * recent.mean() and 0.5 < rr[i - 1] < 1.5
        if calm and record.beat_classes[i] == N and record.beat_classes[i - 1] == N:
            out.append(i)
    return np.array(out, np.int64)


def _reshape_p_wave(leads: np.ndarray, beat: int, rate: float, gain: float) -> None:
    start, stop = beat - int(P_START_S * rate), beat - int(P_END_S * rate)
    line = np.linspace(leads[start], leads[stop], stop - start)
    leads[start:stop] = line + gain * (leads[start:stop] - line)


def _fade(leads: np.ndarray, start: int, cut: int, width: int) -> None:
    """Before the cut, go over to what lies before its end, so that the joint is continuous."""
    share = np.linspace(0.0, 1.0, width)[:, None]
    after = leads[start + cut - width : start + cut]
    leads[start - width : start] = (1 - share) * leads[start - width : start] + share * after
