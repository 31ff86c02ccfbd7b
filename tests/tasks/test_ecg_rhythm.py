"""Rhythm of hand-held recordings: what is read, cut, divided, scored and exported."""

from __future__ import annotations

import csv
import lzma
import os
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score, recall_score

from edge_runtime.contract.errors import SettingsError, SourceError
from host_tools.data import cinc2017
from host_tools.data.cinc2017 import RhythmRecord
from host_tools.export.plain import export_plain
from host_tools.measure.logits import graph_logits, network_logits
from host_tools.nets.rhythm import STUDENT, TEACHER, RhythmNet, RhythmNetShape
from host_tools.tasks import ecg_rhythm
from host_tools.tasks.ecg_rhythm import WINDOW, EcgRhythm
from host_tools.tasks.task import Examples, check_folds

TINY = RhythmNetShape(stem=3, stages=((4, 2, 1), (5, 2, 2)), kernel=5, hidden=6)


@pytest.fixture(scope="module")
def root() -> Path:
    text = os.environ.get("VITALEDGE_DATA", "")
    if not text or not (Path(text) / "cinc2017").is_dir():
        pytest.skip("needs VITALEDGE_DATA, a folder with cinc2017/")
    return Path(text)


def write(root: Path, labels: str = "NAO~N") -> list[np.ndarray]:
    """A set of recordings of random units, whose differences run over the end of int16."""
    folder = root / "cinc2017"
    folder.mkdir()
    rng = np.random.default_rng(0)
    units = [rng.integers(-32768, 32768, 50 + 10 * i).astype(np.int16) for i in range(len(labels))]
    deltas = [np.diff(u, prepend=np.int16(0)).astype("<i2") for u in units]
    (folder / "signals_delta_i16.xz").write_bytes(lzma.compress(np.concatenate(deltas).tobytes()))
    start = 0
    with (folder / "records.csv").open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["record", "start", "n_samples", "label_v3", "label_zip", "crc32_int16le"])
        for i, u in enumerate(units):
            out.writerow([f"A{i:05d}", start, len(u), labels[i], "N", zlib.crc32(u.astype("<i2").tobytes())])
            start += len(u)
    return units


def test_recordings_come_back_in_millivolts_as_they_were_written(tmp_path: Path) -> None:
    units = write(tmp_path)
    records = cinc2017.load(tmp_path)
    assert [r.name for r in records] == [f"A{i:05d}" for i in range(5)]
    assert [r.label for r in records] == [0, 1, 2, 3, 0]
    for record, wanted in zip(records, units, strict=True):
        assert record.mv.dtype == np.float32
        np.testing.assert_array_equal(np.round(record.mv * 1000), wanted)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (",O,", ",X,", "A00002: label_v3 is 'X'"),
        ("A00001,50,60", "A00001,51,60", "A00001: crc32"),
        ("A00004,260,90", "A00004,260,9000", "A00004: samples 260 to 9260; the file holds 350"),
        ("A00003,180,80", "A00003,many,80", "A00003: invalid literal"),
        ("label_v3", "label_v4", "label_v3 wanted too"),
    ],
)
def test_a_damaged_table_is_refused_naming_the_recording(tmp_path: Path, old: str, new: str, said: str) -> None:
    write(tmp_path)
    table = tmp_path / "cinc2017" / "records.csv"
    text = table.read_text()
    assert old in text
    table.write_text(text.replace(old, new))
    with pytest.raises(SourceError, match=said):
        cinc2017.load(tmp_path)


def test_missing_and_cut_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="VITALEDGE_DATA"):
        EcgRhythm().folds(None)
    with pytest.raises(SourceError, match=r"records\.csv: no such file"):
        cinc2017.load(tmp_path)
    write(tmp_path)
    path = tmp_path / "cinc2017" / "signals_delta_i16.xz"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(SourceError, match=r"signals_delta_i16.xz: cannot be unpacked"):
        cinc2017.load(tmp_path)


def test_the_real_set_is_what_its_description_says(root: Path) -> None:
    """7,028 recordings, 68,381,523 samples; the reader compares every crc32 of the table."""
    records = cinc2017.load(root)
    assert len(records) == 7028
    assert sum(len(r.mv) for r in records) == 68_381_523
    with (root / "cinc2017" / "records.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [cinc2017.LABELS[r.label] for r in records] == [row["label_v3"] for row in rows]
    for i in (0, 3000, 7027):
        units = np.round(records[i].mv * 1000).astype("<i2")
        assert zlib.crc32(units.tobytes()) == int(rows[i]["crc32_int16le"])


# Windows.


def test_a_window_is_the_central_thirty_seconds_in_heights_of_its_beats() -> None:
    """A spike of 2 mV each second, one of 50 mV: the median height is 2 mV; the artefact is cut."""
    x = np.zeros(2 * WINDOW, np.float32)
    x[60::125] = 2.0
    x[WINDOW + 7] = -50.0
    w = ecg_rhythm.window(x)
    start = WINDOW // 2
    wanted = x[start : start + WINDOW] / 2.0
    wanted[wanted < -4] = -4.0
    np.testing.assert_allclose(w, wanted)
    assert w.min() == -4.0
    np.testing.assert_allclose(ecg_rhythm.window(x, 0.0), x[:WINDOW] / 2.0)
    np.testing.assert_allclose(ecg_rhythm.window(x, 1.0)[125:], x[WINDOW + 125 :] / 2.0)


def test_a_short_recording_is_followed_by_zeros_and_a_silent_one_stays_silent() -> None:
    w = ecg_rhythm.window(np.full(1000, 0.001, np.float32))
    assert w.shape == (WINDOW,)
    np.testing.assert_allclose(w[:1000], 0.001 / 0.05, rtol=1e-6)
    assert not w[1000:].any()


def recordings(n: int = 60) -> list[RhythmRecord]:
    rng = np.random.default_rng(1)
    seconds = [9, 30, 61]
    return [
        RhythmRecord(name=f"R{i}", mv=rng.standard_normal(300 * seconds[i % 3]).astype(np.float32), label=(i // 3) % 4)
        for i in range(n)
    ]


def test_folds_divide_recordings_and_long_ones_give_training_three_windows() -> None:
    records = recordings()
    folds = ecg_rhythm.divided(records)
    check_folds(EcgRhythm(), folds)
    label = {r.name: r.label for r in records}
    tested = np.concatenate([f.test.groups for f in folds])
    assert sorted(tested) == sorted(label)
    for fold in folds:
        everyone = set(fold.train.groups) | set(fold.validation.groups) | set(fold.test.groups)
        assert everyone == set(label)
        for part in (fold.train, fold.validation, fold.test):
            assert [label[g] for g in part.groups] == part.labels.tolist()
            assert part.inputs.shape[1:] == (1, WINDOW)
        for part, windows in ((fold.train, 3), (fold.validation, 1), (fold.test, 1)):
            names, counts = np.unique(part.groups, return_counts=True)
            for name, count in zip(names, counts, strict=True):
                assert count == (windows if int(name[1:]) % 3 == 2 else 1)


def test_the_same_division_comes_every_time() -> None:
    one, other = ecg_rhythm.divided(recordings()), ecg_rhythm.divided(recordings())
    assert [f.validation.groups.tolist() for f in one] == [f.validation.groups.tolist() for f in other]


# Score.


def test_the_score_is_the_mean_of_sklearns_f1_of_n_a_and_o() -> None:
    rng = np.random.default_rng(2)
    logits, labels = rng.standard_normal((300, 4)).astype(np.float32), rng.integers(0, 4, 300)
    examples = Examples(inputs=np.zeros((300, 1, 1), np.float32), labels=labels, groups=labels.astype(str))
    figures = EcgRhythm().score(logits, examples)
    each = f1_score(labels, logits.argmax(1), average=None)
    np.testing.assert_allclose([figures[f"f1_{c}"] for c in EcgRhythm.classes], each)
    assert figures["f1_nao"] == pytest.approx(each[:3].mean())
    assert figures["accuracy"] == pytest.approx((logits.argmax(1) == labels).mean())
    recalls = recall_score(labels, logits.argmax(1), average=None)
    np.testing.assert_allclose([figures[f"sensitivity_{c}"] for c in EcgRhythm.classes], recalls)


def test_a_class_that_is_neither_said_nor_true_has_no_f1() -> None:
    assert np.isnan(ecg_rhythm.class_f1(np.array([0, 1]), np.array([0, 0]), 2))


# Augmentation and networks.


def test_a_moved_ramp_is_a_ramp_of_another_speed() -> None:
    """Linear interpolation of a straight line is exact: inside, second differences vanish, speeds are 0.9 to 1.1."""
    ramp = 1000.0 + torch.arange(WINDOW).float().repeat(16, 1)[:, None]
    y = ecg_rhythm.moved(ramp, torch.Generator().manual_seed(0))[:, 0, 800:2500].double()
    speed = (y[:, -1] - y[:, 0]) / (y.shape[1] - 1)
    assert ((speed > 0.9) & (speed < 1.1)).all()
    assert speed.std() > 0.02
    np.testing.assert_allclose(torch.diff(y), speed[:, None].expand(-1, 1699), atol=2e-3)
    shift = y[:, 0] - 1000.0 - 800.0 * speed
    assert (shift.abs() <= 375.01).all()
    assert shift.std() > 100


def test_augmentation_keeps_the_shape_leaves_its_input_alone_and_follows_its_generator() -> None:
    x = torch.randn(8, 1, WINDOW, generator=torch.Generator().manual_seed(1))
    before = x.clone()
    one, other, third = (EcgRhythm().augment(x, torch.Generator().manual_seed(s)) for s in (3, 3, 4))
    assert one.shape == x.shape
    assert torch.equal(x, before)
    assert torch.equal(one, other)
    assert not torch.equal(one, third)


@pytest.mark.parametrize("samples", [WINDOW, 501])
def test_the_exported_network_says_what_torch_says(samples: int) -> None:
    torch.manual_seed(0)
    network = RhythmNet(TINY).eval()
    x = np.random.default_rng(0).standard_normal((3, 1, samples)).astype(np.float32)
    graph = export_plain(network, (1, samples))
    np.testing.assert_allclose(graph_logits(graph, x), network_logits(network, x), atol=1e-4)
    assert {n.op_type for n in graph.graph.node} >= {"Conv", "Gemm"}


def test_the_student_is_small_enough_for_its_file_and_the_teacher_many_times_larger() -> None:
    student, teacher = (sum(p.numel() for p in RhythmNet(s).parameters()) for s in (STUDENT, TEACHER))
    assert student < 100_000
    assert teacher > 10 * student
