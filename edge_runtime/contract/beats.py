"""When a beat model's outputs speak of which sample: frames, delays and look-ahead of the task `ecg-beats`."""

from __future__ import annotations

from typing import TypeVar

import numpy as np

from edge_runtime.contract.dataclass import dataclass
from edge_runtime.contract.errors import SettingsError

T = TypeVar("T", float, np.ndarray)


@dataclass(frozen=True, kw_only=True)
class BeatTiming:
    """Timing of a model that detects beats per frame and classifies each once; travels in the manifest.

    stride            samples per frame; frame j has seen samples up to stride * (j + 1) - 1
    detect_frames     detection score j speaks of an R peak at frame j - detect_frames
    neighbour_frames  a detection is the largest score within this many frames on each side
    decide_frames     the beat is classified this many frames after its R peak
    """

    rate_hz: int = 125
    stride: int = 5
    detect_frames: int = 6
    neighbour_frames: int = 4
    decide_frames: int = 18

    def __post_init__(self) -> None:
        """Refuse what cannot be: a beat is classified after it was detected for certain."""
        if min(self.rate_hz, self.stride, self.neighbour_frames) < 1 or self.detect_frames < 0:
            raise SettingsError(f"{self}: rate_hz, stride and neighbour_frames of 1 or more wanted")
        if self.decide_frames <= self.embed_frames:
            raise SettingsError(
                f"timing.decide_frames is {self.decide_frames}; more than detect_frames + neighbour_frames = "
                f"{self.embed_frames} wanted"
            )

    @property
    def embed_frames(self) -> int:
        """A beat's embedding is read this many frames after its R peak, when the detection is certain."""
        return self.detect_frames + self.neighbour_frames

    @property
    def look_ahead_s(self) -> float:
        """How far a following beat may lie behind this one and still be known at the decision, in seconds."""
        return (self.decide_frames - self.embed_frames) * self.stride / self.rate_hz

    def delay_samples(self, hop_samples: int) -> int:
        """Most samples from an R peak to its reading: rounding to a frame, decision, wait for the hop's end."""
        return (self.stride + 1) // 2 + self.decide_frames * self.stride + hop_samples - self.stride

    def frame_of(self, sample: T) -> T:
        """Fractional frame of a sample position (scalar or array)."""
        return (sample - (self.stride - 1)) / self.stride

    def sample_of(self, frame: T) -> T:
        """Sample position of a (fractional) frame."""
        return frame * self.stride + (self.stride - 1)
