"""What goes wrong between a wearable and a gateway, as a seeded filter on bytes and a seeded schedule of events."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from edge_runtime.contract.errors import SettingsError
from edge_runtime.contract.strict import build

MAX_BURST_BYTES = 64


@dataclass(frozen=True, kw_only=True)
class Faults:
    """How often what happens.

    drop, flip, insert  chance of each byte: it is lost, one bit of it turns, a random byte comes before it
    burst               chance of each byte to begin a loss of 1 to 64 bytes
    stall               chance of each tenth of a second to begin 0.2 to 2 s of silence, whose bytes come at its end
    unplug              chance of each tenth of a second that the device goes away for 1 to 4 s
    leadoff             chance of each tenth of a second to begin 1 to 3 s without contact
    drift_ppm           how much faster than it promises the device runs
    wrap                1: the device's counter goes round after half a second
    """

    drop: float = 0.0
    flip: float = 0.0
    insert: float = 0.0
    burst: float = 0.0
    stall: float = 0.0
    unplug: float = 0.0
    leadoff: float = 0.0
    drift_ppm: float = 0.0
    wrap: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what is no chance."""
        for f in fields(self):
            value = getattr(self, f.name)
            if f.name == "drift_ppm":
                if not abs(value) <= 1e5:
                    raise SettingsError(f"drift_ppm is {value:g}; -100000 to 100000 wanted")
            elif not 0.0 <= value <= 1.0:
                raise SettingsError(f"{f.name} is {value:g}; 0 to 1 wanted")


def parse_faults(text: str) -> Faults:
    """`drop=0.001,flip=0.001,wrap` -> Faults; raises SettingsError naming the key and the keys that exist."""
    values: dict[str, object] = {}
    names = {f.name for f in fields(Faults)}
    for part in filter(None, text.split(",")):
        key, mark, number = part.partition("=")
        try:
            # A name that is none is refused below, whatever stands behind it; only `wrap` needs no number.
            values[key] = float(number) if key in names and (mark or key != "wrap") else 1.0
        except ValueError:
            raise SettingsError(f"--faults: {key} is {number!r}; a number wanted") from None
    return build(Faults, values, "--faults", SettingsError)


class ByteFaults:
    """Damages bytes; what becomes of each is the same however the stream is cut. `n_hit` counts damaged places."""

    def __init__(self, faults: Faults, seed: int) -> None:
        self._faults, self._seed = faults, seed
        self.reset()

    def reset(self) -> None:
        """Begin anew."""
        self._rng = np.random.default_rng([self._seed, 7])
        self._losing = self.n_hit = 0

    def feed(self, chunk: bytes) -> bytes:
        """The bytes that arrive."""
        f, out = self._faults, bytearray()
        for byte, (drop, flip, insert, burst, value) in zip(chunk, self._rng.random((len(chunk), 5)), strict=True):
            if burst < f.burst and not self._losing:
                self._losing = 1 + int(value * MAX_BURST_BYTES)
                self.n_hit += 1
            if self._losing:
                self._losing -= 1
                continue
            self.n_hit += (insert < f.insert) + (drop < f.drop) + (flip < f.flip)
            if insert < f.insert:
                out.append(int(value * 256))
            if drop >= f.drop:
                out.append(byte ^ (1 << int(value * 8)) if flip < f.flip else byte)
        return bytes(out)


@dataclass(frozen=True)
class Event:
    """What begins with a tenth of a second, and for how long; seconds, 0 for not at all."""

    stall_s: float
    unplug_s: float
    leadoff_s: float


class Events:
    """One event for each tenth of a second."""

    def __init__(self, faults: Faults, seed: int) -> None:
        self._faults, self._rng = faults, np.random.default_rng([seed, 8])
        self.last = Event(0.0, 0.0, 0.0)

    def take(self) -> Event:
        """The next one's."""
        f = self._faults
        stall, unplug, leadoff, a, b, c = self._rng.random(6).tolist()
        self.last = Event(
            0.2 + 1.8 * a if stall < f.stall else 0.0,
            1.0 + 3.0 * b if unplug < f.unplug else 0.0,
            1.0 + 2.0 * c if leadoff < f.leadoff else 0.0,
        )
        return self.last
