"""What a device said about the windows of one record, as it travels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_runtime.contract.errors import ReportError
from edge_runtime.contract.packed import IntArray, pack, pack_confidences, unpack, unpack_confidences
from edge_runtime.contract.signal import Reading

NO_VALUE = -(2**31)
VALUE_STEPS = 1000  # numbers travel as whole thousandths


@dataclass(frozen=True, kw_only=True)
class WindowReadings:
    """What the device said about the windows of one record, in order of time; made by `window_readings`.

    labels       the classes; empty if the values are numbers
    samples      of the windows' ends, in the record's own samples: base64 of zlib of little-endian uint32
    values       indices of classes, or thousandths of numbers; -2**31 for none: the same of int32
    confidences  the same of uint16 ten-thousandths
    """

    labels: tuple[str, ...]
    n: int
    samples: str
    values: str
    confidences: str

    @property
    def at(self) -> IntArray:
        """Positions; int64 (n,)."""
        return unpack(self.samples, "<u4", "samples of windows")

    @property
    def numbers(self) -> NDArray[np.float64]:
        """Indices of classes, or numbers; NaN where there is none. float64 (n,)."""
        whole = unpack(self.values, "<i4", "values of windows")
        return np.where(whole == NO_VALUE, np.nan, whole / (1 if self.labels else VALUE_STEPS))

    @property
    def sure(self) -> NDArray[np.float64]:
        """Confidences; float64 (n,)."""
        return unpack_confidences(self.confidences, "confidences of windows")


def window_readings(readings: Sequence[Reading], classes: tuple[str, ...]) -> WindowReadings:
    """Readings of windows as they travel."""
    whole = [
        NO_VALUE
        if r.value is None
        else classes.index(r.value)
        if isinstance(r.value, str)
        else max(NO_VALUE + 1, min(-NO_VALUE - 1, round(r.value * VALUE_STEPS)))
        for r in readings
    ]
    return WindowReadings(
        labels=classes,
        n=len(readings),
        samples=pack([r.sample for r in readings], "<u4"),
        values=pack(whole, "<i4"),
        confidences=pack_confidences(r.confidence for r in readings),
    )


def check_windows(windows: WindowReadings, where: str) -> None:
    """Raise ReportError if the readings contradict each other."""
    lengths = {len(windows.at), len(windows.numbers), len(windows.sure)}
    if lengths != {windows.n}:
        raise ReportError(f"{where}: {sorted(lengths)} readings; {windows.n} wanted")
    known = windows.numbers[~np.isnan(windows.numbers)]
    if windows.labels and len(known) and not 0 <= known.min() <= known.max() < len(windows.labels):
        raise ReportError(f"{where}: class {known.max():g}; 0 to {len(windows.labels) - 1} wanted")
