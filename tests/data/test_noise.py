"""Noise of the stress test: amplitudes and levels of hand-made signals, where it is added, and on training chunks."""

from __future__ import annotations

import math
import os
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import tiny_models
import torch
import wfdb

from edge_runtime.contract.errors import SourceError
from host_tools.data import nstdb
from host_tools.data.examples import Batch, ChunkSampler, Sampling
from host_tools.data.noise import (
    added_noise,
    noise_amplitude,
    noise_gain,
    noisy_spans,
    qrs_amplitude,
)
from host_tools.data.noise_chunks import training_noise, with_noise
from host_tools.data.sets import ROOT_VARIABLE

RATE_HZ = 360.0
TIMING, CONDITIONING = tiny_models.TIMING, tiny_models.CONDITIONING


def write_noise(root: Path, seed: int = 0, n: int = 7200) -> None:
    """The three records, 20 s each, in the database's own format."""
    (root / "nstdb").mkdir(parents=True)
    rng = np.random.default_rng(seed)
    for name in nstdb.NAMES:
        signal = rng.integers(-400, 400, (n, 2))
        wfdb.wrsamp(
            name, fs=360, units=["mV"] * 2, sig_name=["noise1", "noise2"], d_signal=signal, fmt=["212"] * 2,
            adc_gain=[200.0] * 2, baseline=[0] * 2, write_dir=str(root / "nstdb"),
        )  # fmt: skip


# Amplitudes, by hand.


def test_the_qrs_amplitude_is_the_peak_to_peak_within_50_ms() -> None:
    x, beats = np.zeros(4000, np.float32), np.arange(500, 3600, 400)
    x[beats + 18], x[beats - 18] = 1.5, -0.5  # 18 samples are 50 ms at 360 Hz
    x[beats + 19], x[beats - 19] = 9.0, -9.0  # just outside
    assert qrs_amplitude(x, beats, RATE_HZ) == pytest.approx(2.0)


def test_complexes_at_the_record_s_edge_are_skipped() -> None:
    x = np.zeros(1000, np.float32)
    x[0], x[500] = 7.0, 1.0
    assert qrs_amplitude(x, np.array([0, 500, 999]), RATE_HZ) == pytest.approx(1.0)
    assert math.isnan(qrs_amplitude(x, np.array([0, 999]), RATE_HZ))


def test_the_largest_and_smallest_5_percent_are_left_out_and_only_300_are_measured() -> None:
    n, wild = 320, 15  # 5 % of 300
    heights = np.full(n, 2.0)
    heights[:wild], heights[wild : 2 * wild], heights[300:] = 50.0, 0.1, 1000.0
    beats = 100 + 100 * np.arange(n)
    x = np.zeros(beats[-1] + 100, np.float32)
    x[beats] = heights
    assert qrs_amplitude(x, beats, RATE_HZ) == pytest.approx(2.0)
    x[beats[2 * wild]] = 50.0  # one more than is left out
    assert qrs_amplitude(x, beats, RATE_HZ) == pytest.approx((269 * 2.0 + 50.0) / 270)


def test_the_noise_amplitude_is_the_rms_about_each_second_s_mean() -> None:
    t = np.arange(int(20 * RATE_HZ)) / RATE_HZ
    x = np.sqrt(2.0) * 0.3 * np.sin(2 * np.pi * 5 * t) + np.floor(t)  # a level of its own in every second
    assert noise_amplitude(x.astype(np.float32), RATE_HZ) == pytest.approx(0.3, rel=1e-5)
    assert math.isnan(noise_amplitude(x[:300], RATE_HZ))


@pytest.mark.parametrize("snr_db", [24.0, 6.0, 0.0, -6.0])
def test_a_sinusoid_in_white_noise_has_the_ratio_that_was_asked_for(snr_db: float) -> None:
    """For a sinusoid the definition by peak-to-peak amplitude is the plain ratio of mean squares."""
    rng = np.random.default_rng(0)
    t = np.arange(int(300 * RATE_HZ)) / RATE_HZ
    signal, noise = 0.7 * np.sin(2 * np.pi * 10 * t), rng.standard_normal(len(t))
    beats = np.arange(1000, len(t) - 1000, 360)
    gain = noise_gain(qrs_amplitude(signal, beats, RATE_HZ), noise_amplitude(noise, RATE_HZ), snr_db)
    found = 10 * np.log10(np.mean(signal**2) / np.mean((gain * noise) ** 2))
    assert found == pytest.approx(snr_db, abs=0.1)


# Where it is added.


def test_a_record_of_half_an_hour_is_noisy_from_minutes_5_9_13_17_21_25_and_29_on() -> None:
    spans = noisy_spans(650_000, RATE_HZ)
    minutes = [(5, 7), (9, 11), (13, 15), (17, 19), (21, 23), (25, 27)]
    assert spans[:-1].tolist() == [[21600 * a, 21600 * b] for a, b in minutes]
    assert spans[-1].tolist() == [21600 * 29, 650_000]
    assert noisy_spans(100_000, RATE_HZ).size == 0


def test_noise_is_added_in_its_spans_and_leaves_no_step() -> None:
    noise = np.random.default_rng(1).standard_normal(100).astype(np.float32)
    spans, n, start = np.array([[30, 60], [90, 150]]), 170, 95
    found = added_noise(noise, 2.0, spans, n, start)
    beside = [float(noise[(start + i) % 100]) for i in range(n)]
    wanted, level = [], 0.0  # sample by sample: gain times noise, minus an offset set anew at every change
    for i in range(n):
        is_noisy = any(a <= i < b for a, b in spans.tolist())
        if is_noisy and (start + i) % 100:
            level += 2.0 * (beside[i] - beside[i - 1])
        wanted.append(level)
    np.testing.assert_allclose(found, wanted, atol=1e-9)
    assert not found[:30].any()
    assert np.ptp(found[60:90]) == 0
    inside = found[91:105] - found[90]  # read from one end of the noise to where it begins again
    np.testing.assert_allclose(inside, 2.0 * (np.array(beside[91:105]) - beside[90]), atol=1e-6)


# The records.


def test_noise_is_read_in_millivolts_and_its_halves_share_no_sample(tmp_path: Path) -> None:
    write_noise(tmp_path)
    noise = nstdb.load(tmp_path, "em")
    raw = wfdb.rdrecord(str(tmp_path / "nstdb" / "em"), physical=True)
    np.testing.assert_allclose(noise.signals, raw.p_signal, atol=1e-6)
    first, second = nstdb.half(noise, "train"), nstdb.half(noise, "test")
    np.testing.assert_array_equal(np.concatenate([first.signals, second.signals]), noise.signals)
    assert len(first.signals) == len(second.signals) == 3600


def test_missing_and_damaged_noise_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"em\.hea: no such file.*data fetch nstdb"):
        nstdb.load(tmp_path, "em")
    write_noise(tmp_path)
    place = tmp_path / "nstdb" / "em.dat"
    content = bytearray(place.read_bytes())
    content[3000] ^= 1
    place.write_bytes(content)
    with pytest.raises(SourceError, match=r"em\.dat: checksums are"):
        nstdb.load(tmp_path, "em")


def test_the_real_noise_is_as_loud_as_its_description_says() -> None:
    root = Path(os.environ.get(ROOT_VARIABLE, ""))
    if not os.environ.get(ROOT_VARIABLE) or not (root / "nstdb").is_dir():
        pytest.skip(f"needs {ROOT_VARIABLE}, a folder with nstdb/ (`vitaledge data fetch nstdb`)")
    for name, wanted in {"bw": (0.466, 0.178), "em": (0.730, 0.205), "ma": (0.193, 0.192)}.items():
        noise = nstdb.load(root, name)
        np.testing.assert_allclose(noise.signals.std(axis=0, dtype=np.float64), wanted, atol=6e-4)
        assert noise.signals.shape == (650_000, 2)


# Training chunks.


def batches(seed: int = 0, n: int = 3) -> list[Batch]:
    sampling = Sampling(chunk_s=10.0, chunks=6)
    return list(islice(ChunkSampler(tiny_models.conditioned(), TIMING, CONDITIONING.rate_hz, sampling, seed), n))


def white(n: int = 3000, seed: int = 3) -> list[np.ndarray]:
    return [np.random.default_rng(seed).standard_normal(n).astype(np.float32)]


def test_a_share_of_chunks_gets_noise_of_0_to_24_db() -> None:
    before = batches(n=20)
    after = list(with_noise(before, white(), 0.3, TIMING, 0))
    n_noisy, ratios = 0, []
    for old, new in zip(before, after, strict=True):
        for x, y, target in zip(old.x[:, 0].numpy(), new.x[:, 0].numpy(), old.frame_target.numpy(), strict=True):
            noise = y - x
            if not noise.any():
                continue
            n_noisy += 1
            peaks = np.flatnonzero((target[1:-1] >= target[:-2]) & (target[1:-1] > target[2:])) + 1
            at = [5 * j + 4 for j in peaks if 8 <= 5 * j + 4 < len(x) - 8]  # 50 ms are 6 samples at 125 Hz
            height = np.median([np.ptp(x[i - 6 : i + 7]) for i in at])
            ratios.append(10 * np.log10(height**2 / 8 / noise.var()))
    assert 20 <= n_noisy <= 52  # 120 chunks: 36, give or take three standard deviations
    assert -2.5 < min(ratios) < 5
    assert 19 < max(ratios) < 26.5
    assert np.median(ratios) == pytest.approx(12, abs=4)


def test_nothing_else_of_a_batch_changes_and_the_seed_decides() -> None:
    (old,), (new,) = batches(n=1), list(with_noise(batches(n=1), white(), 1.0, TIMING, 0))
    (again,), (other,) = (list(with_noise(batches(n=1), white(), 1.0, TIMING, seed)) for seed in (0, 1))
    assert (old.x != new.x).any()
    assert torch.equal(new.x, again.x)
    assert not torch.equal(new.x, other.x)
    for name in ("frame_target", "frame_weight", "beat_frame", "beat_class", "rhythm"):
        assert torch.equal(getattr(old, name), getattr(new, name))
    untouched = next(iter(with_noise([old], white(), 0.0, TIMING, 0)))
    assert torch.equal(untouched.x, old.x)


def test_a_chunk_without_a_beat_stays_as_it_is() -> None:
    (old,) = batches(n=1)
    silent = replace(old, frame_target=torch.zeros_like(old.frame_target))
    assert torch.equal(next(iter(with_noise([silent], white(), 1.0, TIMING, 0))).x, old.x)


def test_training_noise_is_of_the_first_half_alone(tmp_path: Path) -> None:
    for folder, loud in (("a", 1), ("b", 3)):
        write_noise(tmp_path / folder)
        for name in nstdb.NAMES:  # the second half is another in the second folder
            place = str(tmp_path / folder / "nstdb" / name)
            signal = wfdb.rdrecord(place, physical=False).d_signal
            signal[3600:] = signal[3600:] * loud // 2
            wfdb.wrsamp(
                name, fs=360, units=["mV"] * 2, sig_name=["noise1", "noise2"], d_signal=signal, fmt=["212"] * 2,
                adc_gain=[200.0] * 2, baseline=[0] * 2, write_dir=str(Path(place).parent),
            )  # fmt: skip
    one, other = (training_noise(tmp_path / folder, CONDITIONING) for folder in ("a", "b"))
    assert len(one) == 6
    assert all(7 * 125 < len(x) < 8 * 125 + 1 for x in one)  # 10 s without the filter's first 2 s
    for x, y in zip(one, other, strict=True):
        np.testing.assert_array_equal(x, y)
