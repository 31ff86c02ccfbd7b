"""A block whose sensor also says whether it touches the body and how good its signal is."""

from __future__ import annotations

from dataclasses import field

import numpy as np
from numpy.typing import NDArray

from edge_runtime.contract.dataclass import dataclass
from edge_runtime.contract.signal import Block, Float32Array

BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, eq=False)
class SensorBlock(Block):
    """Consecutive samples and what the sensor says about them.

    contact  bool (n,), False where a lead is off, a finger is out, a probe is open: there the samples are NaN
    quality  float32 (n,), 0 to 1, or None where the format has no word for it
    """

    contact: BoolArray = field(default_factory=lambda: np.zeros(0, np.bool_))
    quality: Float32Array | None = None

    def __init__(
        self,
        *,
        start: int,
        samples: Float32Array,
        t_ns: int = 0,
        contact: BoolArray | None = None,
        quality: Float32Array | None = None,
    ) -> None:
        """Written out, for one is made at every hop."""
        own = self.__dict__
        own["start"], own["samples"], own["t_ns"] = start, samples, t_ns
        own["contact"] = np.zeros(0, np.bool_) if contact is None else contact
        own["quality"] = quality
