"""Recorded noise on training chunks, at a random signal-to-noise ratio.

From the first half of each record of nstdb in time; the stress test draws from the second.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from edge_runtime.contract.beats import BeatTiming
from edge_runtime.contract.preprocess import Conditioner, Conditioning
from edge_runtime.contract.signal import Block, Float32Array
from host_tools.data import nstdb
from host_tools.data.examples import SETTLING_S, Batch
from host_tools.data.noise import noise_amplitude, noise_gain, qrs_amplitude

SNR_DB = (0.0, 24.0)  # the range of the stress test
PEAK = 0.8  # a frame nearest to an R peak has a larger target than this; its neighbours have not, or hardly


def training_noise(root: Path, conditioning: Conditioning) -> list[Float32Array]:
    """Both signals of the three records, first half, on the model's grid, mV; raises SourceError."""
    signals = []
    for name in nstdb.NAMES:
        noise = nstdb.half(nstdb.load(root, name), "train")
        for column in range(noise.signals.shape[1]):
            stage = Conditioner(conditioning, noise.rate_hz)
            blocks = stage.feed(Block(start=0, samples=noise.signals[:, column : column + 1]))
            x = np.concatenate([b.samples[:, 0] for b in blocks])
            signals.append(np.asarray(x[int(SETTLING_S * conditioning.rate_hz) :], np.float32))
    return signals


def with_noise(
    batches: Iterable[Batch], noise: Sequence[Float32Array], share: float, timing: BeatTiming, seed: int
) -> Iterator[Batch]:
    """The batches with recorded noise on a `share` of their chunks, drawn with its own generator.

    noise  signals of at least a chunk's length, mV at the model's rate
    The signal's amplitude is that of the chunk's own QRS complexes; a chunk without one stays as it is.
    """
    rng = np.random.default_rng([seed, 1984])
    for batch in batches:
        x = batch.x.clone()
        for chunk, target in zip(x[:, 0], batch.frame_target, strict=True):
            if rng.uniform() < share:
                chunk += torch.from_numpy(_drawn(chunk.numpy(), target.numpy(), noise, timing, rng))
        yield replace(batch, x=x)


def _drawn(
    x: Float32Array,
    target: Float32Array,
    noise: Sequence[Float32Array],
    timing: BeatTiming,
    rng: np.random.Generator,
) -> Float32Array:
    """Noise for one chunk, scaled to its QRS complexes; zeros where it has none or the noise is silent."""
    signal = noise[int(rng.integers(len(noise)))]
    start = int(rng.integers(len(signal) - len(x) + 1))
    part, snr_db = signal[start : start + len(x)], float(rng.uniform(*SNR_DB))
    peaks = timing.sample_of(np.flatnonzero(target > PEAK).astype(float))
    amplitude, rms = qrs_amplitude(x, peaks, timing.rate_hz), noise_amplitude(part, timing.rate_hz)
    gain = noise_gain(amplitude, rms, snr_db) if amplitude > 0 and rms > 0 else 0.0
    return np.asarray(gain * part, np.float32)
