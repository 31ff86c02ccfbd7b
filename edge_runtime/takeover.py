"""Another bundle takes over one stream: its pipeline runs beside the old one until it has seen enough of the signal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from edge_runtime.contract.bundle import Bundle
from edge_runtime.contract.errors import BundleError
from edge_runtime.contract.manifest import BeatManifest, WindowManifest
from edge_runtime.contract.signal import Block, Ledger, Reading
from edge_runtime.pipeline import Pipeline

LEAST_WARM_S = 10.0  # of signal that a beat model has seen before it speaks, so that it knows the patient's rhythm
HOP_S = 1.0  # and for what waits in a hop
SHARED = ("task", "unit", "n_channels", "classes")


def refuse_other_words(old: Bundle, new: Bundle) -> None:
    """Raise BundleError if a bundle's readings would mean something else, or it wants another signal."""
    for name in SHARED:
        was, wanted = getattr(new.manifest, name), getattr(old.manifest, name)
        if was != wanted:
            raise BundleError(
                f"bundle {new.manifest.name}: {name} is {was}; the running bundle has {wanted}, so restart"
            )


def warm_s(bundle: Bundle) -> float:
    """How much signal a model's first reading that counts rests on."""
    m = bundle.manifest
    if isinstance(m, BeatManifest):
        return max(LEAST_WARM_S, m.receptive_field_samples / m.conditioning.rate_hz) + HOP_S
    if isinstance(m, WindowManifest):
        return m.window.window_samples / m.window.rate_hz + HOP_S
    return LEAST_WARM_S


class Takeover:
    """A pipeline that hears a stream and is not heard yet.

    n_wanted  samples until it `is_warm`
    """

    def __init__(self, pipeline: Pipeline, n_wanted: int) -> None:
        self.pipeline = pipeline
        self._n_wanted = n_wanted
        self._said: list[Reading] = []

    def feed(self, block: Block) -> bool:
        """Take in a block; whether it has seen enough now. Raises SourceError like a pipeline."""
        self._said += self.pipeline.feed(block)
        self._n_wanted -= len(block.samples)
        return self._n_wanted <= 0

    def unsaid(self, least: int) -> list[Reading]:
        """Its readings of samples from `least` on; the others are forgotten."""
        self._said = [r for r in self._said if r.sample >= least]
        return list(self._said)


def joined(old: Pipeline, new: Pipeline) -> Ledger:
    """What is to be added to the new pipeline's ledger so that it goes on where the old one's ends.

    Both heard the last of the signal. What the new one has not scored yet counts as not scored.
    """
    was, counted, late = old.so_far(), new.so_far(), waiting(new) - waiting(old)
    return replace(
        was,
        received=was.received - counted.received,
        scored=was.scored - late - counted.scored,
        dropped=was.dropped + late - counted.dropped,
        gap=was.gap - counted.gap,
        interpolated=was.interpolated - counted.interpolated,
    )


def waiting(pipeline: Pipeline) -> int:
    """Samples that came and are not scored yet."""
    return pipeline.so_far().dropped - pipeline.ledger.dropped


def total(ledgers: Sequence[Ledger]) -> Ledger:
    """The sum."""
    now = Ledger()
    for found in ledgers:
        now.received += found.received
        now.scored += found.scored
        now.dropped += found.dropped
        now.gap += found.gap
        now.interpolated += found.interpolated
    return now
