"""The declared delay against all cases there are."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edge_runtime.contract.beats import BeatTiming
from edge_runtime.contract.errors import SettingsError
from edge_runtime.contract.signal import Frames
from edge_runtime.vitals.beats import BeatPicker

TIMINGS = [
    BeatTiming(),
    BeatTiming(stride=4, detect_frames=5, neighbour_frames=3, decide_frames=11),
    BeatTiming(stride=1, detect_frames=20, neighbour_frames=10, decide_frames=55),
]


@pytest.mark.parametrize("timing", TIMINGS, ids=lambda t: f"stride {t.stride}")
@pytest.mark.parametrize("hop_frames", [1, 5, 25])
def test_the_declared_delay_is_the_worst_of_all_cases(timing: BeatTiming, hop_frames: int) -> None:
    """Every R peak position within two hops, at 1/4 sample; the reading comes when the hop of its decision ends."""
    hop, worst = hop_frames * timing.stride, 0.0
    for r in np.arange(10 * hop, 12 * hop, 0.25):
        frame = round((r - (timing.stride - 1)) / timing.stride)  # that whose last sample is nearest to R
        decided = (frame + timing.decide_frames + 1) * timing.stride  # samples seen by then
        newest = math.ceil(decided / hop) * hop - 1
        worst = max(worst, newest - r)
    assert worst <= timing.delay_samples(hop) < worst + 1.0


@pytest.mark.parametrize("timing", TIMINGS, ids=lambda t: f"stride {t.stride}")
def test_a_beat_is_given_exactly_when_declared_and_lies_where_its_score_peaked(timing: BeatTiming) -> None:
    frame = 40
    scores = np.full((frame + 100, 3), -9.0, np.float32)
    scores[frame + timing.detect_frames, 0] = 5.0
    scores[:, 1] = np.arange(len(scores))
    seen: list[float] = []

    def note(embedding: np.ndarray, _: list[float]) -> np.ndarray:
        seen.append(float(embedding[0]))
        return np.ones(1, np.float32)

    picker = BeatPicker(timing, 0.5, note, lambda: None)
    for i, row in enumerate(scores):
        beats = picker.feed(Frames(start=i * timing.stride, scores=row[None]))
        assert bool(beats) == (i == frame + timing.decide_frames)
        for beat in beats:
            assert beat.position == timing.sample_of(frame)
            assert timing.frame_of(beat.position) == frame
            assert beat.seen == (i + 1) * timing.stride
    assert seen == [frame + timing.embed_frames]


@pytest.mark.parametrize("shift", range(5))
def test_frames_that_begin_off_the_grid_move_the_beat_as_much(shift: int) -> None:
    timing = BeatTiming()
    scores = np.full((80, 3), -9.0, np.float32)
    scores[30, 0] = 5.0
    picker = BeatPicker(timing, 0.5, lambda e, r: np.ones(1, np.float32), lambda: None)
    (beat,) = picker.feed(Frames(start=1000 + shift, scores=scores))
    assert beat.position == 1000 + shift + timing.sample_of(30 - timing.detect_frames)


def test_on_a_plateau_the_first_frame_is_the_peak_and_there_is_one_beat() -> None:
    timing = BeatTiming()
    scores = np.full((80, 2), -9.0, np.float32)
    scores[30:33, 0] = 5.0
    picker = BeatPicker(timing, 0.5, lambda e, r: np.ones(1, np.float32), lambda: None)
    (beat,) = picker.feed(Frames(start=0, scores=scores))
    assert timing.frame_of(beat.position) == pytest.approx(30 - timing.detect_frames, abs=0.5)


@pytest.mark.parametrize("wrong", [{"decide_frames": 10}, {"stride": 0}, {"neighbour_frames": 0}, {"rate_hz": 0}])
def test_a_timing_that_cannot_be_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(SettingsError, match=next(iter(wrong))):
        BeatTiming(**wrong)
