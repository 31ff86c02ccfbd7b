"""What a device said about one record, as it travels: its beats or its windows, the ledger, the time it took."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_runtime.contract.errors import ReportError
from edge_runtime.contract.packed import IntArray, pack, pack_confidences, unpack, unpack_confidences
from edge_runtime.contract.signal import AAMI_CLASSES, Ledger, Reading
from edge_runtime.contract.window_readings import WindowReadings, check_windows

NO_CLASS = "-"


@dataclass(frozen=True, kw_only=True)
class RecordResult:
    """What the device said about one record; made by `record_result`.

    windows      readings of windows; None, as are the beats empty, where the bundle is of the other kind
    samples      positions in the record's own samples: base64 of zlib of little-endian uint32
    classes      one letter per beat, N S V F Q; "-" where the beat could not be classified
    confidences  base64 of zlib of little-endian uint16 ten-thousandths
    max_delay_s  longest signal time from an R peak to the newest sample its reading needed
    """

    name: str
    rate_hz: float
    ledger: Ledger
    signal_s: float
    wall_s: float
    max_delay_s: float | None
    n_beats: int
    samples: str
    classes: str
    confidences: str
    windows: WindowReadings | None = None

    @property
    def real_time_factor(self) -> float:
        """Seconds of signal per second of work."""
        return self.signal_s / self.wall_s if self.wall_s > 0 else math.inf

    @property
    def beat_samples(self) -> IntArray:
        """Positions of the beats; int64 (n_beats,)."""
        return unpack(self.samples, "<u4", f"samples of {self.name}")

    @property
    def beat_classes(self) -> IntArray:
        """Classes as index into AAMI_CLASSES; an unclassified beat is a Q. int64 (n_beats,)."""
        return np.array([class_index(c) for c in self.classes], np.int64)

    @property
    def beat_confidences(self) -> NDArray[np.float64]:
        """Confidences; float64 (n_beats,)."""
        return unpack_confidences(self.confidences, f"confidences of {self.name}")


def class_index(letter: str) -> int:
    """Index into AAMI_CLASSES of a reading's class; what was not classified is a Q."""
    return AAMI_CLASSES.index("Q" if letter == NO_CLASS else letter)


def record_result(
    name: str,
    *,
    rate_hz: float,
    readings: Sequence[Reading],
    ledger: Ledger,
    wall_s: float,
    max_delay_s: float | None = None,
    windows: WindowReadings | None = None,
) -> RecordResult:
    """Result of one record from its readings, of which only beats are kept, and from what windows said."""
    beats = [r for r in readings if r.name == "beat"]
    return RecordResult(
        name=name,
        rate_hz=rate_hz,
        ledger=ledger,
        signal_s=ledger.received / rate_hz,
        wall_s=wall_s,
        max_delay_s=max_delay_s,
        n_beats=len(beats),
        samples=pack([r.sample for r in beats], "<u4"),
        classes="".join(NO_CLASS if r.value is None else str(r.value) for r in beats),
        confidences=pack_confidences(r.confidence for r in beats),
        windows=windows,
    )


def check_record(record: RecordResult, where: str) -> None:
    """Raise ReportError if the result contradicts itself."""
    unknown = set(record.classes) - {*AAMI_CLASSES, NO_CLASS}
    if unknown:
        raise ReportError(f"{where}: record {record.name}: unknown class {sorted(unknown)[0]!r}")
    lengths = {len(record.beat_samples), len(record.classes), len(record.beat_confidences)}
    if lengths != {record.n_beats}:
        raise ReportError(f"{where}: record {record.name}: {sorted(lengths)} beats; {record.n_beats} wanted")
    if record.windows is not None:
        check_windows(record.windows, f"{where}: record {record.name}")
    if not record.ledger.is_balanced:
        raise ReportError(f"{where}: record {record.name}: ledger does not balance ({record.ledger})")
