"""Sources by URL: options refused by name, playback in and out of time, files against oracles."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge_runtime.contract.errors import SettingsError, SourceError
from edge_runtime.contract.signal import Block
from edge_runtime.sensors import synthetic
from edge_runtime.sensors.source import SCHEMES, Source, open_source
from tests.fake_time import FakeTime


def joined(source: Source) -> tuple[np.ndarray, list[Block]]:
    blocks = list(source.blocks())
    source.close()
    assert [b.start for b in blocks] == [0, *(b.stop for b in blocks[:-1])]
    assert all(b.samples.dtype == np.float32 and b.samples.ndim == 2 for b in blocks)
    return np.concatenate([b.samples for b in blocks]), blocks


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("/dev/ttyUSB0", "SCHEME:PATH"),
        ("synthetic", "SCHEME:PATH"),
        ("blue:tooth", "npy, .*serial, .*synthetic, .*wfdb"),
        ("synthetic:?heart_rte=60", "heart_rte.*heart_rate, noise"),
        ("synthetic:?heart_rate=sixty", "heart_rate is 'sixty'"),
        ("synthetic:?heart_rate=nan", "heart_rate is 'nan'"),
        ("synthetic:?seed=1.5", "whole number"),
        ("synthetic:?seed=-1", "seed is -1"),
        ("synthetic:?pvc=0.1&pvc=0.2", "'pvc' is given twice"),
        ("synthetic:?pvc", "key=value"),
        ("synthetic:?speed=0", "speed is 0"),
        ("synthetic:?seconds=-3", "seconds is -3"),
        ("synthetic:60", "a path is given"),
        ("npy:x.npy", "rate_hz"),
        ("npy:x.npy?rate_hz=max", "rate_hz is inf"),
        ("npy:x.npy?rate_hz=360&scale=max", "scale is inf"),
        ("wfdb:100?chan=MLII", "chan.*channel, seconds, speed"),
        ("serial:///dev/x?rate_hz=250", "'protocol' is missing"),
        ("serial:///dev/x?protocol=csv", "'rate_hz' is missing"),
        ("serial:///dev/x?protocol=morse&rate_hz=250", "'morse'.*csv"),
        ("serial:///dev/x?protocol=csv&rate_hz=250&baud=1", "baud is 1"),
        ("serial:?protocol=csv&rate_hz=250", "no port"),
    ],
)
def test_a_wrong_url_is_refused_with_what_was_wanted(url: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words) as caught:
        open_source(url)
    assert "\n" not in str(caught.value)


def test_every_scheme_names_an_unknown_key() -> None:
    for scheme in SCHEMES:
        path = "" if scheme == "synthetic" else "x"
        with pytest.raises(SettingsError, match="'colour'"):
            open_source(f"{scheme}:{path}?colour=red")


def test_synthetic_is_the_simulator_and_says_so() -> None:
    source = open_source("synthetic:?heart_rate=80&pvc=0.1&pac=0.05&seed=3&patient=4&rate_hz=200&seconds=20")
    found, _ = joined(source)
    ecg = synthetic.simulate(20, rate_hz=200, seed=3, heart_rate_bpm=80, pvc=0.1, pac=0.05, patient=4)
    assert source.spec.simulated
    assert source.spec.rate_hz == 200
    np.testing.assert_allclose(found[:, 0], ecg.samples[:, 0], atol=1e-6)


def test_synthetic_ends_after_a_minute_out_of_time_and_never_in_time() -> None:
    assert len(joined(open_source("synthetic:"))[0]) == 60 * 250
    time = FakeTime()
    blocks = open_source("synthetic:", realtime=True, clock=time.clock, sleep=time.sleep).blocks()
    for _ in range(1200):
        last = next(blocks)
    assert last.stop == 1200 * 25


@pytest.mark.parametrize(("speed", "seconds"), [("", 4.0), ("&speed=2", 2.0), ("&speed=max", 0.0)])
def test_real_time_takes_its_time(speed: str, seconds: float) -> None:
    time = FakeTime()
    began_ns = time.now_ns
    url = f"synthetic:?seconds=4{speed}"
    _, blocks = joined(open_source(url, realtime=True, clock=time.clock, sleep=time.sleep))
    assert time.now_ns - began_ns == pytest.approx(seconds * 1e9, abs=10)
    if seconds:
        due = [began_ns + b.stop / 250 / 4 * seconds * 1e9 for b in blocks]
        assert [b.t_ns for b in blocks] == pytest.approx(due, abs=10)
    else:
        assert all(b.t_ns == 0 for b in blocks)


def test_a_slow_consumer_shows_as_delay() -> None:
    time = FakeTime()
    blocks = open_source("synthetic:?seconds=4", realtime=True, clock=time.clock, sleep=time.sleep).blocks()
    next(blocks)
    time.sleep(2.0)
    late = next(blocks)
    assert time.now_ns - late.t_ns == pytest.approx(1.9e9, abs=10)


def test_close_ends_the_blocks() -> None:
    source = open_source("synthetic:?seconds=max")
    blocks = source.blocks()
    next(blocks)
    source.close()
    assert list(blocks) == []


def test_integer_arrays_give_the_very_floats_that_training_saw(tmp_path: Path) -> None:
    raw = np.arange(-(2**15), 2**15).astype(np.int16)
    np.save(tmp_path / "all.npy", raw)
    found, _ = joined(open_source(f"npy:{tmp_path}/all.npy?rate_hz=360&scale=0.005&offset=1024"))
    # The arithmetic of host_tools.data.mitdb.load with the gain of 200 / mV of every mitdb record.
    np.testing.assert_array_equal(found[:, 0], ((raw.astype(np.int64) - 1024) / 200.0).astype(np.float32))


def test_float_arrays_keep_nan_and_columns_are_chosen(tmp_path: Path) -> None:
    table = np.array([[1.0, 2.0], [3.0, np.nan], [5.0, 6.0]])
    np.save(tmp_path / "t.npy", table)
    found, _ = joined(open_source(f"npy:{tmp_path}/t.npy?rate_hz=250&column=1&channel=MLII&seconds=max"))
    np.testing.assert_array_equal(found[:, 0], np.array([2, np.nan, 6], np.float32))


def test_what_is_no_array_of_samples_is_refused_by_name(tmp_path: Path) -> None:
    np.save(tmp_path / "text.npy", np.array(["a", "b"]))
    np.save(tmp_path / "empty.npy", np.zeros(0))
    np.save(tmp_path / "cube.npy", np.zeros((2, 2, 2)))
    np.savez(tmp_path / "archive.npz", a=np.zeros(3))
    (tmp_path / "rubbish.npy").write_bytes(b"rubbish")
    np.save(tmp_path / "cut.npy", np.zeros(1000))
    (tmp_path / "cut.npy").write_bytes((tmp_path / "cut.npy").read_bytes()[:500])
    for name in ("text.npy", "empty.npy", "cube.npy", "archive.npz", "rubbish.npy", "cut.npy", "missing.npy"):
        with pytest.raises(SourceError, match=name):
            open_source(f"npy:{tmp_path}/{name}?rate_hz=250")
    np.save(tmp_path / "one.npy", np.zeros(5))
    with pytest.raises(SettingsError, match="column is 1"):
        open_source(f"npy:{tmp_path}/one.npy?rate_hz=250&column=1")
