"""Golden vectors: a stored signal and the readings every device must give for it, asked before a release serves."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edge_runtime.assemble import open_pipeline
from edge_runtime.contract.bundle import Bundle
from edge_runtime.contract.errors import BundleError
from edge_runtime.contract.manifest import Form, WindowManifest
from edge_runtime.contract.signal import Block, Float32Array, Reading, StreamSpec
from edge_runtime.engine.engine import Engine
from edge_runtime.pipeline import Pipeline

MICROVOLTS_PER_MV = 1000.0
NO_CLASS = -1  # label of a beat that its signal does not support
SIGNALS = ("samples", "signal_uv")
_BLOCK = 64  # samples a block: not a divisor of the hop, so the check also cuts across steps


@dataclass(frozen=True, kw_only=True)
class GoldenResult:
    """How a device answered: readings wanted and given, and the largest differences.

    worst_value  of numbers; None where readings are classes, of which none may differ
    """

    wanted: int
    given: int
    worst_sample: int
    worst_confidence: float
    worst_value: float | None
    is_equal: bool
    is_passed: bool


def stream_spec(bundle: Bundle, rate_hz: float) -> StreamSpec:
    """A stream as the bundle wants it."""
    m = bundle.manifest
    channels = m.window.channels if isinstance(m, WindowManifest) else ("ECG",)
    return StreamSpec(rate_hz=rate_hz, unit=m.unit, channels=channels)


def readings_of(bundle: Bundle, engine: Engine, samples: Float32Array, rate_hz: float) -> list[Reading]:
    """Stream samples float32 (n, channels) through the bundle's pipeline."""
    return stream(open_pipeline(bundle, stream_spec(bundle, rate_hz), engine), samples, (_BLOCK,))


def stream(pipeline: Pipeline, samples: Float32Array, sizes: Sequence[int]) -> list[Reading]:
    """All readings of samples float32 (n, channels) that come in blocks whose sizes repeat."""
    readings: list[Reading] = []
    start = i = 0
    while start < len(samples):
        size = sizes[i % len(sizes)]
        readings += pipeline.feed(Block(start=start, samples=samples[start : start + size]))
        start, i = start + size, i + 1
    return readings + pipeline.finish()


def from_microvolts(signal_uv: np.ndarray) -> Float32Array:
    """Stored int16 (n,) microvolts as samples float32 (n, 1) mV."""
    return (signal_uv.astype(np.float32) / np.float32(MICROVOLTS_PER_MV)).reshape(-1, 1)


def as_arrays(readings: list[Reading], classes: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Beats as arrays: sample int64, label int8 (NO_CLASS for none), confidence float32."""
    beats = [r for r in readings if r.name == "beat"]
    return {
        "sample": np.array([r.sample for r in beats], np.int64),
        "label": np.array([NO_CLASS if r.value is None else classes.index(str(r.value)) for r in beats], np.int8),
        "confidence": np.array([r.confidence for r in beats], np.float32),
    }


def window_arrays(readings: list[Reading], classes: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Readings as arrays: sample int64; value float64, a number or the class's index, NaN for none; confidence."""
    return {
        "sample": np.array([r.sample for r in readings], np.int64),
        "value": np.array([_value(r.value, classes) for r in readings], np.float64),
        "confidence": np.array([r.confidence for r in readings], np.float32),
    }


def _value(value: float | str | None, classes: tuple[str, ...]) -> float:
    if value is None:
        return float("nan")
    return float(classes.index(value)) if isinstance(value, str) else value


def answers(bundle: Bundle, engine: Engine) -> dict[str, np.ndarray]:
    """What a device says to the stored signal, as the arrays that are stored with it."""
    readings = _readings(bundle, engine, signal(bundle))
    return (window_arrays if isinstance(bundle.manifest, WindowManifest) else as_arrays)(
        readings, bundle.manifest.classes
    )


def signal(bundle: Bundle) -> Float32Array:
    """The stored signal as samples float32 (n, channels); raises BundleError if it is not that."""
    m = bundle.manifest
    if not isinstance(m, WindowManifest):
        return from_microvolts(_load(bundle, "signal_uv")["signal_uv"])
    samples = _load(bundle, "samples")["samples"]
    if samples.dtype != np.float32 or samples.ndim != 2 or samples.shape[1] != m.n_channels:
        raise BundleError(
            f"{bundle.file(m.golden.file)}: samples are {samples.dtype} {samples.shape}; float32 (n, "
            f"{m.n_channels}) wanted"
        )
    return np.asarray(samples, np.float32)


def stored_name(form: Form | None, name: str) -> str:
    """Name of an array in the file: each form has answers of its own to the one signal."""
    return name if form is None or name in SIGNALS else f"{form.name} {name}"


def check(bundle: Bundle, engine: Engine) -> GoldenResult:
    """Answer the bundle's golden vectors; raises BundleError if the stored file is not what it should be."""
    m = bundle.manifest
    if isinstance(m, WindowManifest):
        return _compare_windows(m, _load(bundle, "sample", "value", "confidence"), answers(bundle, engine))
    stored = _load(bundle, "sample", "label", "confidence")
    given = answers(bundle, engine)
    if len(stored["sample"]) != len(given["sample"]):
        return _other_count(stored, given)
    sample, confidence = _worst(stored, given, "sample"), _worst(stored, given, "confidence")
    same_labels = bool((stored["label"] == given["label"]).all())
    return GoldenResult(
        wanted=len(stored["sample"]),
        given=len(given["sample"]),
        worst_sample=int(sample),
        worst_confidence=confidence,
        worst_value=None,
        is_equal=same_labels and sample == 0 and confidence == 0.0,
        is_passed=same_labels and sample <= m.golden.sample_tolerance and confidence <= m.golden.confidence_tolerance,
    )


def _compare_windows(m: WindowManifest, wanted: dict[str, np.ndarray], given: dict[str, np.ndarray]) -> GoldenResult:
    if len(wanted["sample"]) != len(given["sample"]):
        return _other_count(wanted, given)
    g, is_number = m.golden, m.window.output == "number"
    sample, confidence = _worst(wanted, given, "sample"), _worst(wanted, given, "confidence")
    none = np.isnan(wanted["value"]), np.isnan(given["value"])
    # Whether there is a value may depend on rounding where the confidence is as good as the limit.
    is_close = np.abs(wanted["confidence"] - m.window.refuse_below) <= g.confidence_tolerance
    both = ~none[0] & ~none[1]
    value = float(np.abs(wanted["value"] - given["value"])[both].max(initial=0.0))
    is_passed = (
        bool((is_close | (none[0] == none[1])).all())
        and value <= (g.value_tolerance if is_number else 0.0)
        and sample <= g.sample_tolerance
        and confidence <= g.confidence_tolerance
    )
    return GoldenResult(
        wanted=len(wanted["sample"]),
        given=len(given["sample"]),
        worst_sample=int(sample),
        worst_confidence=confidence,
        worst_value=value if is_number else None,
        is_equal=is_passed and bool((none[0] == none[1]).all()) and sample == 0 and confidence == 0.0 and value == 0.0,
        is_passed=is_passed,
    )


def _readings(bundle: Bundle, engine: Engine, samples: Float32Array) -> list[Reading]:
    return readings_of(bundle, engine, samples, bundle.manifest.golden.rate_hz)


def _load(bundle: Bundle, *names: str) -> dict[str, np.ndarray]:
    path = bundle.file(bundle.manifest.golden.file)
    try:
        # From memory: numpy leaves a file open that turns out to be no archive.
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as stored:
            return {name: stored[stored_name(bundle.form, name)] for name in names}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise BundleError(f"{path}: no golden vectors in it ({error})") from error


def _worst(wanted: dict[str, np.ndarray], given: dict[str, np.ndarray], name: str) -> float:
    """The largest difference; a beat without a class has no confidence, which one side alone must not say."""
    missing = np.isnan(wanted[name]), np.isnan(given[name])
    if (missing[0] != missing[1]).any():
        return float("inf")
    return float(np.abs(wanted[name] - given[name])[~missing[0]].max(initial=0))


def _other_count(wanted: dict[str, np.ndarray], given: dict[str, np.ndarray]) -> GoldenResult:
    return GoldenResult(
        wanted=len(wanted["sample"]),
        given=len(given["sample"]),
        worst_sample=-1,
        worst_confidence=1.0,
        worst_value=None,
        is_equal=False,
        is_passed=False,
    )
