"""Augmentation: premature atrial beats made from a patient's own normal beats, for patients who have none.

Few patients of a training set have many, so a model learns those patients. A premature atrial beat is a normally
conducted beat that comes early, with another P wave: part of the diastole before a normal beat is cut out, its P
wave is changed, and it is labelled S.
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
    edit = _Edit(record)
    in_run = False
    for i in _eligible(record, how.irregular):
        in_run = rng.uniform() < (how.run_share if in_run else how.share)
        if in_run:
            in_run = edit.move_forward(int(i), float(rng.uniform(how.earliest, how.latest)), 0.12, rng)
        if in_run:
            edit.change_p_wave(int(i), float(rng.uniform(-0.8, 1.2)))
            edit.classes[i] = S
    return edit.result()


class _Edit:
    """A copy of a record that is being changed."""

    def __init__(self, record: EcgRecord) -> None:
        self._record, self._rate = record, record.rate_hz
        self._leads, self._keep = record.leads.copy(), np.ones(len(record.leads), bool)
        self.classes = record.beat_classes.copy()

    def move_forward(self, i: int, share: float, least: float, rng: np.random.Generator) -> bool:
        """Shorten the interval before beat i to about `share`; False if less than `least` of it can be cut."""
        before, beat = int(self._record.beat_samples[i - 1]), int(self._record.beat_samples[i])
        first, last = before + int(T_END_S * self._rate), beat - int(P_START_S * self._rate)
        cut = min(int((1.0 - share) * (beat - before)), last - first)
        if cut < max(1.0, least * (beat - before)):
            return False
        start = int(rng.integers(first, last - cut + 1))
        _fade(self._leads, start, cut, int(JOINT_S * self._rate))
        self._keep[start : start + cut] = False
        return True

    def change_p_wave(self, i: int, gain: float) -> None:
        """Multiply what rises above a straight line before beat i's QRS."""
        beat = int(self._record.beat_samples[i])
        start, stop = beat - int(P_START_S * self._rate), beat - int(P_END_S * self._rate)
        line = np.linspace(self._leads[start], self._leads[stop], stop - start)
        self._leads[start:stop] = line + gain * (self._leads[start:stop] - line)

    def result(self) -> EcgRecord:
        """The changed record, without what was cut out."""
        moved = np.concatenate(([0], np.cumsum(self._keep)))
        return replace(
            self._record,
            leads=self._leads[self._keep],
            beat_samples=moved[self._record.beat_samples],
            beat_classes=self.classes,
            masked=moved[np.minimum(self._record.masked, len(self._keep))],
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


def _fade(leads: np.ndarray, start: int, cut: int, width: int) -> None:
    """Before the cut, go over to what lies before its end, so that the joint is continuous."""
    share = np.linspace(0.0, 1.0, width)[:, None]
    after = leads[start + cut - width : start + cut]
    leads[start - width : start] = (1 - share) * leads[start - width : start] + share * after
