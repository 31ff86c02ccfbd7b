"""Golden vectors: a stored signal and the readings every device must give for it, asked before a release serves."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass

import numpy as np

from edge_runtime.assemble import open_pipeline
from edge_runtime.contract.bundle import Bundle
from edge_runtime.contract.errors import BundleError
from edge_runtime.contract.signal import Block, Reading, StreamSpec
from edge_runtime.engine.engine import Engine

MICROVOLTS_PER_MV = 1000.0
_BLOCK = 64  # samples a block: not a divisor of the hop, so the check also cuts across steps


@dataclass(frozen=True, kw_only=True)
class GoldenResult:
    """How a device answered: beats wanted and given, and the largest differences."""

    wanted: int
    given: int
    worst_sample: int
    worst_confidence: float
    is_equal: bool
    is_passed: bool


def readings_of(bundle: Bundle, engine: Engine, signal_uv: np.ndarray, rate_hz: float) -> list[Reading]:
    """Stream int16 (n,) microvolts through the bundle's pipeline."""
    pipeline = open_pipeline(bundle, StreamSpec(rate_hz=rate_hz, unit=bundle.manifest.unit), engine)
    samples = (signal_uv.astype(np.float32) / np.float32(MICROVOLTS_PER_MV)).reshape(-1, 1)
    readings: list[Reading] = []
    for start in range(0, len(samples), _BLOCK):
        readings += pipeline.feed(Block(start=start, samples=samples[start : start + _BLOCK]))
    return readings + pipeline.finish()


def as_arrays(readings: list[Reading], classes: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Beats as arrays: sample int64, class int8, confidence float32."""
    beats = [r for r in readings if r.name == "beat"]
    return {
        "sample": np.array([r.sample for r in beats], np.int64),
        "label": np.array([classes.index(str(r.value)) for r in beats], np.int8),
        "confidence": np.array([r.confidence for r in beats], np.float32),
    }


def check(bundle: Bundle, engine: Engine) -> GoldenResult:
    """Answer the bundle's golden vectors; raises BundleError if the stored file is not what it should be."""
    m = bundle.manifest
    try:
        # From memory: numpy leaves a file open that turns out to be no archive.
        with np.load(io.BytesIO(bundle.file(m.golden.file).read_bytes()), allow_pickle=False) as stored:
            signal_uv = stored["signal_uv"]
            wanted = {k: stored[k] for k in ("sample", "label", "confidence")}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise BundleError(f"{bundle.file(m.golden.file)}: no golden vectors in it ({error})") from error
    given = as_arrays(readings_of(bundle, engine, signal_uv, m.golden.rate_hz), m.classes)
    n_wanted, n_given = len(wanted["sample"]), len(given["sample"])
    if n_wanted != n_given:
        return GoldenResult(
            wanted=n_wanted,
            given=n_given,
            worst_sample=-1,
            worst_confidence=1.0,
            is_equal=False,
            is_passed=False,
        )
    sample = int(np.abs(wanted["sample"] - given["sample"]).max(initial=0))
    confidence = float(np.abs(wanted["confidence"] - given["confidence"]).max(initial=0.0))
    same_labels = bool((wanted["label"] == given["label"]).all())
    return GoldenResult(
        wanted=n_wanted,
        given=n_given,
        worst_sample=sample,
        worst_confidence=confidence,
        is_equal=same_labels and sample == 0 and confidence == 0.0,
        is_passed=same_labels and sample <= m.golden.sample_tolerance and confidence <= m.golden.confidence_tolerance,
    )
