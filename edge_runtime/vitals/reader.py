"""The readings of the task `ecg-beats`: beats with class, confidence and quality, in the source's own samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from edge_runtime.contract.signal import Block, Frames, Reading
from edge_runtime.vitals.beats import BeatPicker
from edge_runtime.vitals.quality import SignalQuality
from edge_runtime.vitals.recent import RecentSignal
from edge_runtime.vitals.support import BeatSupport


class EcgReader:
    """Stage: frames in, readings out; a beat that the signal does not support has no class.

    source_position  maps a position at the model's rate to the source's sample counter
    """

    def __init__(
        self,
        picker: BeatPicker,
        quality: SignalQuality,
        support: BeatSupport,
        recent: RecentSignal,
        classes: Sequence[str],
        source_position: Callable[[float], int],
        source_rate_hz: float,
    ) -> None:
        self._picker, self._quality, self._classes = picker, quality, tuple(classes)
        self._support, self._recent = support, recent
        self._source_position, self._source_rate_hz = source_position, source_rate_hz

    def reset(self) -> None:
        """Forget the stream and the patient."""
        self._picker.reset()
        self._quality.reset()
        self._support.reset()
        self._recent.reset()

    def interrupt(self) -> None:
        """Forget the unfinished past, not the patient."""
        self._picker.interrupt()
        self._quality.reset()
        self._recent.reset()

    def watch(self, block: Block) -> None:
        """Keep the signal, for when a beat asks for it."""
        self._recent.watch(block)

    def feed(self, frames: Frames) -> list[Reading]:
        """Beats that can be decided with these frames."""
        beats = self._picker.feed(frames)
        if not beats:
            return []
        readings = []
        for beat in beats:
            sample = max(0, self._source_position(beat.position))
            is_known = self._support.holds(beat.position, beat.seen, self._recent.between)
            is_known = is_known and not self._quality.is_broken(round(beat.position))
            readings.append(
                Reading(
                    name="beat",
                    sample=sample,
                    t_s=sample / self._source_rate_hz,
                    value=self._classes[beat.label] if is_known else None,
                    confidence=beat.confidence if is_known else None,
                    quality=self._quality.share(beat.seen) if is_known else 0.0,
                    t_ns=beat.t_ns,
                )
            )
        self._quality.forget(frames.start)
        return readings
