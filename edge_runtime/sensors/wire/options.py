"""What every wire protocol can be told in a source's URL."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class WireOptions:
    """The sampling rate, and which channels to deliver.

    channel  names from the protocol's table, such as `PLETH,HR`; all of them if empty
    """

    rate_hz: float
    channel: str = ""


@dataclass(frozen=True, kw_only=True)
class PulseWaveOptions(WireOptions):
    """unit: of PLETH; `count`, or `NU` for the share of the format's full scale."""

    unit: Literal["count", "NU"] = "count"

    def counts_per_unit(self, full_scale: float) -> float:
        """What counts are divided by, in a format with this full scale."""
        return 1.0 if self.unit == "count" else full_scale


PULSE_WAVE_UNITS = (("count", "unit=count"), ("NU", "unit=NU"))
