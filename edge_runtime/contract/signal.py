"""The values that travel along the device flow: stream description, block of samples, reading."""

from __future__ import annotations

from dataclasses import field, replace

import numpy as np
from numpy.typing import NDArray

from edge_runtime.contract.dataclass import dataclass

Float32Array = NDArray[np.float32]
Float64Array = NDArray[np.float64]

# AAMI EC57 heart-beat classes, in the order of every score vector of the task `ecg-beats`.
AAMI_CLASSES = ("N", "S", "V", "F", "Q")


@dataclass(frozen=True, kw_only=True)
class StreamSpec:
    """What a source delivers: sampling rate in Hz, physical unit, channel names in column order.

    unit_options  (unit, what in the source's URL gives it); the unit `*` stands for any
    """

    rate_hz: float
    unit: str = "mV"
    channels: tuple[str, ...] = ("ECG",)
    simulated: bool = False
    unit_options: tuple[tuple[str, str], ...] = ()

    def advice(self, unit: str) -> str:
        """The end of a message that another unit is wanted: what gives it; empty where nothing does."""
        units, options = self.unit.split(","), dict(self.unit_options)
        words = [] if unit in units else [options[u] for u in (unit, "*") if u in options][:1]
        if len(units) > 1 and (words or unit in units):
            words.append(f"channel=NAME (one of {', '.join(self.channels)})")
        return f"; say {' and '.join(words)} in the source's URL" if words else ""


@dataclass(frozen=True, kw_only=True, eq=False)
class Block:
    """Consecutive samples of one stream.

    start    counter of the first sample; a jump against the previous block is a gap
    samples  float32 (n, channels), physical units; NaN where the sensor had no value
    t_ns     monotonic time at which the newest sample arrived
    """

    start: int
    samples: Float32Array
    t_ns: int = 0

    def __init__(self, *, start: int, samples: Float32Array, t_ns: int = 0) -> None:
        """Written out, for several are made at every hop."""
        own = self.__dict__
        own["start"], own["samples"], own["t_ns"] = start, samples, t_ns

    @property
    def stop(self) -> int:
        """Counter one past the last sample."""
        return self.start + len(self.samples)


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One thing said about the patient or the stream.

    sample      position in the source's own samples
    t_s         the same in seconds since the source's sample 0
    value       beat class, heart rate...; None where the signal cannot support one
    confidence  probability of `value` in [0, 1]
    quality     share of usable signal in the seconds before it in [0, 1]
    t_ns        monotonic time at which the newest sample needed for it arrived (0: not a live stream)
    is_interpolated  whether some of the signal around it, or of its window, never arrived and was filled in
    """

    name: str
    sample: int
    t_s: float
    value: float | str | None
    confidence: float | None = None
    quality: float | None = None
    t_ns: int = field(default=0, compare=False)
    is_interpolated: bool = False

    def __init__(
        self,
        *,
        name: str,
        sample: int,
        t_s: float,
        value: float | str | None,
        confidence: float | None = None,
        quality: float | None = None,
        t_ns: int = 0,
        is_interpolated: bool = False,
    ) -> None:
        """Written out, for a gateway makes many at every hop."""
        own = self.__dict__
        own["name"], own["sample"], own["t_s"], own["value"] = name, sample, t_s, value
        own["confidence"], own["quality"], own["t_ns"] = confidence, quality, t_ns
        own["is_interpolated"] = is_interpolated

    def marked_interpolated(self) -> Reading:
        """The same, resting on samples that were filled in."""
        return replace(self, is_interpolated=True)

    def to_json(self) -> dict[str, object]:
        """The reading as one JSON object; a beat's value is called `class`."""
        line: dict[str, object] = {"name": self.name, "sample": self.sample, "t_s": round(self.t_s, 6)}
        value = round(self.value, 4) if isinstance(self.value, float) else self.value
        line["class" if self.name == "beat" else "value"] = value
        if self.confidence is not None:
            line["confidence"] = round(self.confidence, 4)
        if self.quality is not None:
            line["quality"] = round(self.quality, 3)
        if self.is_interpolated:
            line["interpolated"] = True
        return line


@dataclass(kw_only=True)
class Ledger:
    """Where every position of the source's sample counter went; `is_balanced` holds to the sample.

    received  positions from the first to the newest sample, those that never arrived included
    scored    positions that went through the model
    dropped   positions that arrived and could not be scored (not a number)
    gap       positions that never arrived

    interpolated  of those scored or dropped, positions that never arrived and were filled in, as the bundle says
    """

    received: int = 0
    scored: int = 0
    dropped: int = 0
    gap: int = 0
    interpolated: int = 0

    @property
    def is_balanced(self) -> bool:
        """Whether every received position is accounted for."""
        return self.received == self.scored + self.dropped + self.gap

    def to_json(self) -> dict[str, object]:
        """The ledger as one JSON object."""
        counts: dict[str, object] = {
            "name": "ledger",
            "received": self.received,
            "scored": self.scored,
            "dropped": self.dropped,
            "gap": self.gap,
        }
        return counts | ({"interpolated": self.interpolated} if self.interpolated else {})


@dataclass(frozen=True, kw_only=True, eq=False)
class Frames:
    """What a trunk said about consecutive frames.

    start   counter of the first sample they cover, at the model's rate; a jump is a gap
    scores  float32 (n, outputs), one row per frame; owned by the receiver
    t_ns    monotonic time at which the newest sample in them arrived
    """

    start: int
    scores: Float32Array
    t_ns: int = 0

    def __init__(self, *, start: int, scores: Float32Array, t_ns: int = 0) -> None:
        """Written out, for one is made at every hop."""
        own = self.__dict__
        own["start"], own["scores"], own["t_ns"] = start, scores, t_ns
