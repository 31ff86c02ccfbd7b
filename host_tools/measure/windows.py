"""Records for bundles of windows, as arrays in files, and how right the readings of a bench are about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_runtime.contract.bundle import Bundle
from edge_runtime.contract.errors import SettingsError
from edge_runtime.contract.manifest import WindowManifest
from edge_runtime.contract.record_result import RecordResult
from edge_runtime.contract.signal import Float32Array
from host_tools.measure.intervals import Interval, bootstrap
from host_tools.measure.score import FloatArray

LABELS = ".labels.npy"
GOLDEN_READINGS = 700  # of the golden signal, repeated: enough calls for a p99


@dataclass(frozen=True, kw_only=True, eq=False)
class WindowRecord:
    """Samples of one recording, or rows of one table.

    samples  float32 (n, channels), in the bundle's unit
    labels   float64, one per reading in order of time: class index or number, NaN where nobody knows; None: no labels
    """

    name: str
    rate_hz: float
    unit: str
    channels: tuple[str, ...]
    samples: Float32Array
    labels: np.ndarray | None = None
    simulated: bool = False


def load_windows(bundle: Bundle, paths: Sequence[str]) -> list[WindowRecord]:
    """Records from .npy files (n,) or (n, channels) at the model's rate, labels from NAME.labels.npy beside them."""
    m = _windows(bundle)
    records = []
    for text in paths:
        path = Path(text)
        samples = np.asarray(_array(path), np.float32)
        samples = samples.reshape(len(samples), -1)
        if samples.shape[1] != m.n_channels:
            raise SettingsError(f"{path}: {samples.shape[1]} columns; the bundle {m.name} wants {m.n_channels}")
        labels = path.with_name(path.stem + LABELS)
        records.append(_record(m, path.stem, samples, m.rate_hz, _array(labels) if labels.is_file() else None))
    return records


def golden_windows(bundle: Bundle) -> list[WindowRecord]:
    """The bundle's own golden signal, repeated, for a bench without data."""
    m = _windows(bundle)
    with np.load(bundle.file(m.golden.file), allow_pickle=False) as stored:
        samples, n = stored["samples"], len(stored["sample"])
    repeated = np.tile(samples, (-(-GOLDEN_READINGS // max(n, 1)), 1))
    return [_record(m, "golden", repeated, m.golden.rate_hz, None, is_simulated=True)]


def score_windows(
    bundle: Bundle, results: Sequence[RecordResult], records: Sequence[WindowRecord]
) -> dict[str, Interval]:
    """How many windows got a value, and of those with a label: accuracy, or mean absolute error ("mae").

    The interval resamples records; where each window is a row of its own, it resamples rows.
    """
    m = _windows(bundle)
    is_number = m.window.output == "number"
    counts = []
    for record, result in zip(records, results, strict=True):
        said = np.zeros(0) if result.windows is None else result.windows.numbers
        labels = np.full(len(said), np.nan) if record.labels is None else record.labels.astype(np.float64)
        if labels.shape != said.shape:
            raise SettingsError(f"record {record.name}: {len(labels)} labels; {len(said)} readings were given")
        known = ~np.isnan(said) & ~np.isnan(labels)
        right = np.abs(said - labels) if is_number else (said == labels).astype(float)
        rows = np.stack([np.ones(len(said)), ~np.isnan(said), known, np.where(known, right, 0.0)], axis=1)
        counts += list(rows) if m.window.window_samples == 1 else [rows.sum(axis=0)]

    def figures(c: FloatArray) -> Mapping[str, FloatArray]:
        with np.errstate(invalid="ignore", divide="ignore"):
            return {"answered": c[:, 1] / c[:, 0], "mae" if is_number else "accuracy": c[:, 3] / c[:, 2]}

    return bootstrap(np.asarray(counts), figures)


def _windows(bundle: Bundle) -> WindowManifest:
    if not isinstance(bundle.manifest, WindowManifest):
        raise SettingsError(f"bundle {bundle.id}: task is {bundle.manifest.task}; one of windows wanted")
    return bundle.manifest


def _record(
    m: WindowManifest,
    name: str,
    samples: Float32Array,
    rate_hz: float,
    labels: np.ndarray | None,
    *,
    is_simulated: bool = False,
) -> WindowRecord:
    return WindowRecord(
        name=name,
        rate_hz=rate_hz,
        unit=m.unit,
        channels=m.window.channels,
        samples=samples,
        labels=labels,
        simulated=is_simulated,
    )


def _array(path: Path) -> np.ndarray:
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise SettingsError(f"{path}: cannot be read as an .npy array ({error})") from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "iuf" or array.ndim not in (1, 2) or not len(array):
        raise SettingsError(f"{path}: holds no array (n,) or (n, channels) of numbers")
    return array
