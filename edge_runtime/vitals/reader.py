"""The readings of the task `ecg-beats`: beats with class, confidence and quality, in the source's own samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from edge_runtime.contract.signal import Block, Frames, Reading
from edge_runtime.vitals.beats import BeatPicker
from edge_runtime.vitals.quality import SignalQuality


class EcgReader:
    """Stage: frames in, readings out.

    source_position  maps a position at the model's rate to the source's sample counter
    """

    def __init__(
        self,
        picker: BeatPicker,
        quality: SignalQuality,
        classes: Sequence[str],
        source_position: Callable[[float], int],
        source_rate_hz: float,
    ) -> None:
        self._picker, self._quality, self._classes = picker, quality, tuple(classes)
        self._source_position, self._source_rate_hz = source_position, source_rate_hz

    def reset(self) -> None:
        """Forget the stream and the patient."""
        self._picker.reset()
        self._quality.reset()

    def interrupt(self) -> None:
        """Forget the unfinished past, not the patient."""
        self._picker.interrupt()
        self._quality.reset()

    def watch(self, block: Block) -> None:
        """Judge the signal's quality."""
        self._quality.watch(block)

    def feed(self, frames: Frames) -> list[Reading]:
        """Beats that can be decided with these frames."""
        readings = []
        for beat in self._picker.feed(frames):
            sample = max(0, self._source_position(beat.position))
            readings.append(
                Reading(
                    name="beat",
                    sample=sample,
                    t_s=sample / self._source_rate_hz,
                    value=self._classes[beat.label],
                    confidence=beat.confidence,
                    quality=self._quality.share(beat.seen),
                    t_ns=beat.t_ns,
                )
            )
        self._quality.forget(frames.start)
        return readings
