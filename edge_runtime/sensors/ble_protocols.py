"""Bluetooth LE protocols by name: what to subscribe to, what to write to start, and notifications -> blocks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from edge_runtime.contract.signal import Block, Float32Array, StreamSpec
from edge_runtime.sensors import ble_payloads as payloads
from edge_runtime.sensors.decoder import Counts
from edge_runtime.sensors.options import chosen_columns, in_range, unit_of
from edge_runtime.sensors.sensor_block import SensorBlock

BASE = "0000{:04x}-0000-1000-8000-00805f9b34fb"
PMD_CONTROL, PMD_DATA = (f"fb005c{n}-02e7-f387-1cad-8acd2d8df0c8" for n in ("81", "82"))


@dataclass(frozen=True, kw_only=True)
class BleOptions:
    """What every protocol can be told.

    rate_hz  that the device was set to; 0 for the usual one
    channel  names such as `SPO2,HR`; all of them if empty
    """

    rate_hz: float = 0.0
    channel: str = ""


@dataclass(frozen=True, kw_only=True)
class PolarEcgOptions(BleOptions):
    """unit: of the samples."""

    unit: Literal["uV", "mV"] = "uV"


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Which columns of what a protocol gives are delivered."""

    spec: StreamSpec
    chosen: tuple[int, ...]

    def of(self, samples: Float32Array) -> Float32Array:
        """Those of float32 (n, all columns)."""
        return samples if self.chosen == tuple(range(samples.shape[1])) else samples[:, self.chosen]


class PolarDecoder:
    """PMD frames of one kind -> blocks; the device's own time stamps are the counter."""

    has_counter = True

    def __init__(self, kind: int, columns: Columns, scale: float = 1.0) -> None:
        self.spec, self._columns, self._kind, self._scale = columns.spec, columns, kind, np.float32(scale)
        self.reset()

    def reset(self) -> None:
        """Forget the stream and its counts."""
        self.counts = Counts()
        self._next = 0
        self._last: tuple[int, int] | None = None  # time of the last sample here, and on the device

    def found(self) -> str:
        """What was seen so far."""
        return f"{self.counts.good} frames"

    def feed(self, chunk: bytes, t_ns: int = 0) -> Sequence[Block]:
        """The block of one notification."""
        frame = payloads.polar(chunk)
        if frame is None or frame.kind != self._kind:
            self.counts.damaged += 1
            return []
        self.counts.good += 1
        n = len(frame.samples)
        if self._last is not None:
            ahead = (frame.t_ns - self._last[1]) * 1e-9 * self.spec.rate_hz
            if not 0.0 < ahead < 1e9:  # the device's clock was set: only arrival tells
                ahead = (t_ns - self._last[0]) * 1e-9 * self.spec.rate_hz
            # Frames that follow each other are some samples apart by their rate's error, never half a frame.
            missing = round(ahead) - n
            self._next += missing if missing > n // 2 else 0
        self._last = (t_ns, frame.t_ns)
        samples = self._columns.of(frame.samples * self._scale)
        block = SensorBlock(start=self._next, samples=samples, t_ns=t_ns, contact=np.ones(n, np.bool_))
        self._next += n
        return [block]


class NumbersDecoder:
    """One row for each notification, about one a second; a second without one is a gap."""

    has_counter = True

    def __init__(self, read: Callable[[bytes], tuple[list[float], bool] | None], columns: Columns) -> None:
        self.spec, self._columns, self._read = columns.spec, columns, read
        self.reset()

    def reset(self) -> None:
        """Forget the stream and its counts."""
        self.counts = Counts()
        self._next, self._last_ns = 0, 0

    def found(self) -> str:
        """What was seen so far."""
        return f"{self.counts.good} notifications"

    def feed(self, chunk: bytes, t_ns: int = 0) -> Sequence[Block]:
        """The row of one notification; NaN without contact."""
        found = self._read(chunk)
        if found is None:
            self.counts.damaged += 1
            return []
        values, has_contact = found
        if self.counts.good:
            self._next += max(1, round((t_ns - self._last_ns) * 1e-9 * self.spec.rate_hz))
        self.counts.good += 1
        self._last_ns = t_ns
        row: Float32Array = np.array([values if has_contact else [np.nan] * len(values)], np.float32)
        samples = self._columns.of(row)
        return [SensorBlock(start=self._next, samples=samples, t_ns=t_ns, contact=np.array([has_contact]))]


def _heart_rate(payload: bytes) -> tuple[list[float], bool] | None:
    found = payloads.heart_rate(payload)
    if found is None:
        return None
    return [float(found.bpm), found.rr_s[-1] if found.rr_s else np.nan], found.contact is not False


def _pulse_oximetry(payload: bytes) -> tuple[list[float], bool] | None:
    found = payloads.pulse_oximetry(payload)
    return None if found is None else ([found.spo2_percent, found.pulse_bpm], found.has_contact)


@dataclass(frozen=True, kw_only=True)
class BleProtocol:
    """What a source of notifications needs; the names that it shares with a wire protocol mean the same.

    baud      0: a radio has no such setting
    notify    characteristic to subscribe to
    control   characteristic that `start` and `stop` are written to, if any
    """

    name: str
    title: str
    make_decoder: Callable[[Any], Any]
    notify: str
    control: str = ""
    start: bytes = b""
    stop: bytes = b""
    is_irregular: bool = False
    options: type[BleOptions] = BleOptions
    baud: int = 0
    serial: Mapping[str, Any] = field(default_factory=dict)


def _columns(options: BleOptions, usual_hz: float, unit: str, channels: Sequence[str], **more: Any) -> Columns:
    """The columns that were asked for; `unit` is of all, or names each column's. SettingsError for one that is none."""
    names = [c for c in options.channel.split(",") if c] or channels
    units = unit.split(",") if "," in unit else [unit] * len(channels)
    chosen = chosen_columns(channels, names)
    in_range("rate_hz", options.rate_hz, 0.0, 1e5)
    spec = StreamSpec(
        rate_hz=options.rate_hz or usual_hz,
        unit=unit_of([units[i] for i in chosen]),
        channels=tuple(names),
        **more,
    )
    return Columns(spec=spec, chosen=tuple(chosen))


def _polar(kind: int, unit: str, channels: tuple[str, ...], usual_hz: float) -> Callable[[BleOptions], PolarDecoder]:
    return lambda options: PolarDecoder(kind, _columns(options, usual_hz, unit, channels))


def _polar_ecg(options: PolarEcgOptions) -> PolarDecoder:
    units = (("uV", "unit=uV"), ("mV", "unit=mV"))
    columns = _columns(options, 130.0, options.unit, ("ECG",), unit_options=units)
    return PolarDecoder(payloads.ECG, columns, 1.0 if options.unit == "uV" else 1e-3)


def _numbers(
    read: Callable[[bytes], tuple[list[float], bool] | None], unit: str, *channels: str
) -> Callable[[BleOptions], NumbersDecoder]:
    return lambda options: NumbersDecoder(read, _columns(options, 1.0, unit, channels))


def _pmd_start(kind: int, *settings: tuple[int, int, int]) -> bytes:
    """Request 02 of the control point with settings (type, value, its bytes): 0 rate, 1 bits, 2 range, 4 channels."""
    return bytes((2, kind)) + b"".join(bytes((t, 1)) + value.to_bytes(n, "little") for t, value, n in settings)


_ALL = (
    BleProtocol(
        name="heart-rate",
        title="heart rate (0x2A37)",
        make_decoder=_numbers(_heart_rate, "bpm,s", "HR", "RR"),
        notify=BASE.format(0x2A37),
        is_irregular=True,
    ),
    BleProtocol(
        name="pulse-oximeter",
        title="pulse oximeter, continuous (0x2A5F)",
        make_decoder=_numbers(_pulse_oximetry, "%,bpm", "SPO2", "HR"),
        notify=BASE.format(0x2A5F),
        is_irregular=True,
    ),
    BleProtocol(
        name="polar-ecg",
        title="Polar H10, ECG",
        make_decoder=_polar_ecg,
        options=PolarEcgOptions,
        notify=PMD_DATA,
        control=PMD_CONTROL,
        start=_pmd_start(payloads.ECG, (0, 130, 2), (1, 14, 2)),
        stop=bytes((3, payloads.ECG)),
    ),
    BleProtocol(
        name="polar-acc",
        title="Polar H10, acceleration",
        make_decoder=_polar(payloads.ACC, "mg", ("ACCX", "ACCY", "ACCZ"), 200.0),
        notify=PMD_DATA,
        control=PMD_CONTROL,
        start=_pmd_start(payloads.ACC, (0, 200, 2), (1, 16, 2), (2, 8, 2)),
        stop=bytes((3, payloads.ACC)),
    ),
    BleProtocol(
        name="polar-ppg",
        title="Polar Verity Sense, PPG",
        make_decoder=_polar(payloads.PPG, "count", ("PPG0", "PPG1", "PPG2", "AMBIENT"), 55.0),
        notify=PMD_DATA,
        control=PMD_CONTROL,
        start=_pmd_start(payloads.PPG, (0, 55, 2), (1, 22, 2), (4, 4, 1)),
        stop=bytes((3, payloads.PPG)),
    ),
)
BLE_PROTOCOLS = {p.name: p for p in _ALL}
