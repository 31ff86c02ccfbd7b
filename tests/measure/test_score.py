"""The scorer against hand-made cases, wfdb's comparator and a real record."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from host_tools.measure.score import FIGURES, NONE, figures, gross, match, score_record, timing_error

N, S, V, F, Q = range(5)

pytestmark = pytest.mark.filterwarnings("ignore:The inplace keyword")  # wfdb with pandas 3.1


def score(reference, detected, *, rate_hz=1000.0, masked=(), tolerance_s=0.150):
    """Score lists of (sample, class)."""
    return score_record(
        "hand",
        rate_hz=rate_hz,
        reference_samples=[s for s, _ in reference],
        reference_classes=[c for _, c in reference],
        detected_samples=[s for s, _ in detected],
        detected_classes=[c for _, c in detected],
        masked=masked,
        tolerance_s=tolerance_s,
    )


def test_a_perfect_record_has_perfect_figures():
    beats = [(1000 * i, c) for i, c in enumerate([N, N, S, V, F, N])]
    result = figures(score(beats, beats).counts)
    assert set(result) == set(FIGURES)
    assert {name: float(value) for name, value in result.items()} == dict.fromkeys(FIGURES, 1.0)


def test_every_kind_of_error_lands_in_its_own_cell():
    reference = [(1000, N), (2000, N), (3000, S), (4000, V), (5000, V), (6000, F), (7000, Q)]
    detected = [(1010, N), (3000, N), (4000, V), (5000, S), (5500, V), (6000, V), (7000, V)]
    counts = score(reference, detected).counts
    wanted = np.zeros((6, 6), int)
    wanted[N, N] = wanted[N, NONE] = wanted[S, N] = wanted[V, V] = wanted[V, S] = 1
    wanted[NONE, V] = wanted[F, V] = wanted[Q, V] = 1
    assert counts.tolist() == wanted.tolist()
    result = figures(counts)
    assert result["detection_se"] == pytest.approx(6 / 7)
    assert result["detection_ppv"] == pytest.approx(6 / 7)
    assert result["n_se"] == pytest.approx(1 / 2)  # the missed N counts
    assert result["n_ppv"] == pytest.approx(1 / 2)
    assert result["v_se"] == pytest.approx(1 / 2)
    assert result["v_ppv"] == pytest.approx(1 / 3)  # F called V and the false detection count, Q does not
    assert result["v_f1"] == pytest.approx(2 * (1 / 2) * (1 / 3) / (1 / 2 + 1 / 3))
    assert result["s_f1"] == 0.0
    assert result["macro_f1"] == pytest.approx((1 / 2 + 0 + 2 / 5) / 3)


def test_the_tolerance_is_150_ms_inclusive():
    assert score([(1000, N)], [(1054, N)], rate_hz=360.0).counts[N, N] == 1
    assert score([(1000, N)], [(946, N)], rate_hz=360.0).counts[N, N] == 1
    assert score([(1000, N)], [(1055, N)], rate_hz=360.0).counts[N, N] == 0


def test_two_detections_of_one_beat_are_one_hit_and_one_false_detection():
    counts = score([(1000, V)], [(960, N), (1010, V)]).counts
    assert counts[V, V] == 1
    assert counts[NONE, N] == 1
    assert counts.sum() == 2


def test_the_closest_pair_is_taken_first():
    # 130 belongs to 140, although giving it to 0 would let 270 match too.
    assert match([0, 140], [130, 270], 150).tolist() == [[1, 0]]


def test_ties_go_to_the_earlier_beats():
    assert match([0, 200], [100], 150).tolist() == [[0, 0]]
    assert match([100], [0, 200], 150).tolist() == [[0, 0]]


def test_nothing_is_counted_inside_a_masked_span():
    reference = [(1000, N), (1520, V), (2000, V), (3000, N)]
    detected = [(1000, N), (1700, V), (2000, V), (2300, V), (3000, N)]
    counts = score(reference, detected, masked=[[1500, 2500]]).counts
    assert counts[N, N] == 2
    assert counts.sum() == 2


def test_a_beat_at_the_edge_of_a_masked_span_still_finds_its_detection():
    counts = score([(1495, N)], [(1505, N)], masked=[[1500, 2500]]).counts
    assert counts[N, N] == 1
    assert counts.sum() == 1


def test_a_record_without_beats_has_no_figures():
    result = figures(score([], []).counts)
    assert all(np.isnan(value) for value in result.values())


def test_a_class_that_was_never_called_has_no_predictivity_and_f1_zero():
    result = figures(score([(1000, V), (2000, N)], [(1000, N), (2000, N)]).counts)
    assert np.isnan(result["v_ppv"])
    assert result["v_f1"] == 0.0


def test_records_are_summed_before_dividing():
    small = score([(1000, V)], [])
    large = score([(1000 * i, V) for i in range(9)], [(1000 * i, V) for i in range(9)])
    assert figures(gross([small, large]))["v_se"] == pytest.approx(9 / 10)


def test_figures_keep_leading_axes():
    a, b = score([(1000, V)], []).counts, score([(1000, V)], [(1000, V)]).counts
    assert figures(np.stack([a, b]))["v_se"].tolist() == [0.0, 1.0]


def test_timing_error_is_in_milliseconds():
    one = score([(0, N), (500, N), (1000, N)], [(1, N), (502, N), (997, N)], rate_hz=500.0)
    error = timing_error([one])
    assert (error.n, error.median_ms) == (3, 4.0)
    assert error.offset_ms == 2.0
    assert error.p95_ms == pytest.approx(np.percentile([2, 4, 6], 95))
    assert timing_error([]) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"reference_samples": [5, 3]}, "reference beats: samples do not ascend"),
        ({"detected_classes": [0, 5]}, "detected beats: classes from 0 to 5; 0 to 4 wanted"),
        ({"detected_classes": [0]}, "detected beats: 1 classes for 2 samples"),
    ],
)
def test_wrong_input_is_refused(change, message):
    good = {
        "rate_hz": 360.0,
        "reference_samples": [3, 5],
        "reference_classes": [0, 0],
        "detected_samples": [3, 5],
        "detected_classes": [0, 0],
    }
    with pytest.raises(ValueError, match=message):
        score_record("100", **{**good, **change})


def against_wfdb(reference, detected, tolerance):
    """Matched pairs by wfdb, whose window is exclusive."""
    from wfdb.processing import compare_annotations

    c = compare_annotations(np.asarray(reference), np.asarray(detected), tolerance + 1)
    return list(zip(c.matched_ref_inds.tolist(), c.matched_test_inds.tolist(), strict=True))


@settings(max_examples=200, deadline=None)
@given(
    gaps=st.lists(st.integers(109, 400), min_size=2, max_size=30),
    shifts=st.lists(st.integers(-60, 60), min_size=30, max_size=30),
    keep=st.lists(st.booleans(), min_size=30, max_size=30),
    extras=st.lists(st.integers(0, 4000), max_size=4),
)
def test_matches_equal_those_of_wfdb_where_beats_are_further_apart_than_two_tolerances(gaps, shifts, keep, extras):
    reference = np.cumsum(gaps)
    detected = [r + s for r, s, k in zip(reference.tolist(), shifts, keep, strict=False) if k]
    detected = sorted(set(detected) | {e for e in extras if min(abs(reference - e)) > 60})
    if not detected:
        return
    ours = [tuple(p) for p in match(reference, detected, 54).tolist()]
    theirs = against_wfdb(reference, detected, 54)
    # Equally close pairs may be chosen differently; what is counted may not.
    assert [r for r, _ in ours] == [r for r, _ in theirs]
    distance = [abs(reference[r] - detected[d]) for r, d in ours]
    assert distance == [abs(reference[r] - detected[d]) for r, d in theirs]


@pytest.mark.skipif("VITALEDGE_DATA" not in os.environ, reason="needs VITALEDGE_DATA, the folder that holds mitdb/")
@pytest.mark.parametrize("name", ["100", "208", "233"])
def test_detection_on_a_real_record_equals_wfdb(name):
    from wfdb import rdann
    from wfdb.processing import compare_annotations

    from host_tools.data.mitdb import AAMI_OF_SYMBOL

    notes = rdann(str(Path(os.environ["VITALEDGE_DATA"]) / "mitdb" / name), "atr")
    is_beat = np.array([s in AAMI_OF_SYMBOL for s in notes.symbol])
    reference = notes.sample[is_beat]
    classes = [AAMI_OF_SYMBOL[s] for s in notes.symbol if s in AAMI_OF_SYMBOL]
    # A detector with jitter, misses and false detections.
    rng = np.random.default_rng(7)
    jittered = reference + rng.normal(0, 15, len(reference)).round().astype(int)
    detected = np.unique(np.append(jittered[rng.uniform(size=len(reference)) < 0.97], rng.integers(0, 650_000, 60)))
    ours = score_record(
        name,
        rate_hz=360.0,
        reference_samples=reference,
        reference_classes=classes,
        detected_samples=detected,
        detected_classes=np.zeros(len(detected), int),
    )
    theirs = compare_annotations(reference, detected, 55)
    assert len(ours.pairs) == theirs.tp
    result = figures(ours.counts)
    assert result["detection_se"] == pytest.approx(theirs.sensitivity)
    assert result["detection_ppv"] == pytest.approx(theirs.positive_predictivity)
