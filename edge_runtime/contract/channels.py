"""Samples of several channels -> the model's samples: each channel conditioned, or all as they are."""

from __future__ import annotations

import numpy as np

from edge_runtime.contract.errors import NotNumbers
from edge_runtime.contract.preprocess import Conditioner, Conditioning, check_finite
from edge_runtime.contract.signal import Block


class EachConditioned:
    """Stage: blocks (n, channels) in, conditioned blocks on one grid out; a Conditioner for each channel."""

    def __init__(self, conditioning: Conditioning, source_rate_hz: float, n_channels: int) -> None:
        self._stages = [Conditioner(conditioning, source_rate_hz) for _ in range(n_channels)]
        first = self._stages[0]
        self.source_position, self.source_sample_at = first.source_position, first.source_sample_at
        self.source_samples_before = first.source_samples_before

    def reset(self) -> None:
        """Forget the stream."""
        for stage in self._stages:
            stage.reset()

    def feed(self, block: Block) -> list[Block]:
        """Condition one block; raises NotNumbers, and takes nothing, if a sample is not finite."""
        check_finite(block.samples)
        parts = [
            stage.feed(Block(start=block.start, samples=block.samples[:, i : i + 1], t_ns=block.t_ns))
            for i, stage in enumerate(self._stages)
        ]
        return _joined(parts)

    def finish(self, seconds: float) -> list[Block]:
        """Go on with the last values for `seconds`."""
        return _joined([stage.finish(seconds) for stage in self._stages])


class AsTheyAre:
    """Stage: the source's samples are the model's.

    takes_missing  NaN and all
    """

    def __init__(self, takes_missing: bool) -> None:
        self._takes_missing = takes_missing

    def reset(self) -> None:
        """Nothing is remembered."""

    def feed(self, block: Block) -> list[Block]:
        """The block, in memory of its own; raises NotNumbers if it holds what the model does not take."""
        if not self._takes_missing:
            check_finite(block.samples)
        elif np.isinf(block.samples).any():
            raise NotNumbers
        return [Block(start=block.start, samples=block.samples.copy(), t_ns=block.t_ns)] if len(block.samples) else []

    def finish(self, seconds: float) -> list[Block]:
        """Nothing waits for look-ahead, and no value is held."""
        return []

    def source_position(self, out_sample: float) -> int:
        """Source counter nearest to an output sample."""
        return round(out_sample)

    def source_sample_at(self, out_sample: int) -> int:
        """The same counter."""
        return out_sample

    def source_samples_before(self, out_sample: int) -> int:
        """The same counter."""
        return out_sample


def _joined(parts: list[list[Block]]) -> list[Block]:
    """Blocks of single channels side by side; all channels have the same starts and lengths."""
    return [
        Block(start=blocks[0].start, samples=np.concatenate([b.samples for b in blocks], axis=1), t_ns=blocks[0].t_ns)
        for blocks in zip(*parts, strict=True)
    ]
