"""Which protocol is speaking on a port: listen, let every decoder try, and say how well each fared."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_runtime.contract.errors import SourceError
from edge_runtime.sensors.ble_protocols import BLE_PROTOCOLS
from edge_runtime.sensors.framed import FramedDecoder
from edge_runtime.sensors.protocols import PROTOCOLS, Protocol
from edge_runtime.sensors.serial import SerialLink, link_to, open_port, port_name, set_latency_timer

LISTEN_S, LONGER_S = 3.0, 7.0
MIN_FRAMES, MIN_CHECKED_FRAMES, MIN_SHARE = 5, 1, 0.5
SLICE_S = 0.5
BY_ID = Path("/dev/serial/by-id")

Chunk = tuple[int, bytes]
Settings = tuple[int, tuple[tuple[str, Any], ...]]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """How one protocol fared with some bytes.

    good, damaged  frames or lines
    explained      share of the bytes that lie in frames, 0 to 1; NaN for csv, whose lines are not counted in bytes
    enough         frames that it takes to believe it: one where each has a header, an end and a checksum or as much
    rate_hz        samples a second that arrived; NaN where too few did
    """

    protocol: str
    title: str
    baud: int
    n_bytes: int
    good: int
    damaged: int
    explained: float
    enough: int
    rate_hz: float

    @property
    def score(self) -> float:
        """Share of frames that are good, times the share of bytes that frames explain."""
        frames = self.good + self.damaged
        share = self.good / frames if frames else 0.0
        return share * (1.0 if math.isnan(self.explained) else self.explained)

    @property
    def is_speaking(self) -> bool:
        """Whether enough holds to believe it."""
        return self.good >= self.enough and self.score >= MIN_SHARE

    @property
    def is_promising(self) -> bool:
        """Whether all that speaks against it is that few frames came: slow devices send one a second."""
        return 0 < self.good < self.enough and self.damaged == 0 and self.score >= MIN_SHARE

    def to_json(self) -> dict[str, object]:
        """One JSON object."""
        return {
            "protocol": self.protocol,
            "title": self.title,
            "baud": self.baud,
            "bytes": self.n_bytes,
            "good": self.good,
            "damaged": self.damaged,
            "explained": None if math.isnan(self.explained) else round(self.explained, 4),
            "rate_hz": None if math.isnan(self.rate_hz) else round(self.rate_hz, 2),
            "is_speaking": self.is_speaking,
        }


def probe(
    name: str,
    *,
    baud: int | None = None,
    seconds: float = LISTEN_S,
    clock: Callable[[], int],
    open_link: Callable[[str, int, Mapping[str, Any], bytes, bytes], SerialLink] | None = None,
) -> list[Verdict]:
    """Listen `seconds` at every setting that a known protocol has, or only at `baud`; the best verdict first.

    Where good frames came, only too few to believe them, it listens up to LONGER_S longer.
    `name` is a port's, or the URL of a source on it. A device that must be told to start is told so, once for each
    protocol that has such a command. Stops at the first setting at which somebody speaks. Raises SourceError if the
    port cannot be opened.
    """
    opened, name = open_link or _opened, port_name(name)
    set_latency_timer(name)
    found: list[Verdict] = []
    for (speed, serial), protocols in _by_settings(baud).items():
        for start, stop in sorted({(p.start, p.stop) for p in protocols}):
            told = [p for p in protocols if p.start in (b"", start)]
            link = opened(name, speed, dict(serial), start, stop)
            try:
                found += _verdicts(name, link, seconds, clock, told, speed)
            finally:
                link.close()
            if any(v.is_speaking for v in found):
                return ranked(found)
    return ranked(found)


def _verdicts(
    name: str, link: SerialLink, seconds: float, clock: Callable[[], int], protocols: Sequence[Protocol], baud: int
) -> list[Verdict]:
    """How protocols fare at one setting."""
    begun_ns = clock()
    chunks = _heard(name, link, seconds, clock)
    found = [judged(p, chunks, baud) for p in protocols]
    while clock() - begun_ns < (seconds + LONGER_S) * 1e9:
        if any(v.is_speaking for v in found) or not any(v.is_promising for v in found):
            break
        chunks += _heard(name, link, SLICE_S, clock)
        found = [judged(p, chunks, baud) for p in protocols]
    return found


def ranked(found: Sequence[Verdict]) -> list[Verdict]:
    """Each protocol's best verdict; binary frames before lines, then by score."""
    best: dict[str, Verdict] = {}
    for v in sorted(found, key=lambda v: (v.is_speaking, v.score, v.good), reverse=True):
        best.setdefault(v.protocol, v)
    return list(best.values())


def judged(protocol: Protocol, chunks: Sequence[Chunk], baud: int) -> Verdict:
    """How a protocol's decoder, with the options of its example, fares with chunks (arrival in ns, bytes)."""
    decoder = protocol.decoder(protocol.example)
    blocks = [b for t_ns, chunk in chunks for b in decoder.feed(chunk, t_ns)]
    n_bytes, counts = sum(len(c) for _, c in chunks), decoder.counts
    is_text = protocol.name == "csv"
    is_checked = isinstance(decoder, FramedDecoder) and decoder.is_checked
    explained = math.nan if is_text else 1.0 - min(n_bytes, counts.skipped + _waiting(decoder)) / max(1, n_bytes)
    return Verdict(
        protocol=protocol.name,
        title=protocol.title,
        baud=baud,
        n_bytes=n_bytes,
        good=counts.good,
        damaged=counts.damaged,
        explained=explained,
        enough=MIN_CHECKED_FRAMES if is_checked else MIN_FRAMES,
        rate_hz=_rate_hz(blocks),
    )


def _rate_hz(blocks: Sequence[Any]) -> float:
    """Samples behind the first block's, by arrival."""
    seconds = (blocks[-1].t_ns - blocks[0].t_ns) * 1e-9 if len(blocks) > 1 else 0.0
    return (blocks[-1].stop - blocks[0].stop) / seconds if seconds > 0.1 else math.nan


def _waiting(decoder: object) -> int:
    return int(getattr(decoder, "waiting_bytes", 0))


def _by_settings(baud: int | None) -> dict[Settings, list[Protocol]]:
    """Protocols by the port's settings, the commonest first."""
    found: dict[Settings, list[Protocol]] = {}
    for p in PROTOCOLS.values():
        found.setdefault((baud or p.baud, tuple(sorted(p.serial.items()))), []).append(p)
    return dict(sorted(found.items(), key=lambda item: -len(item[1])))


def _opened(name: str, baud: int, settings: Mapping[str, Any], start: bytes, stop: bytes) -> SerialLink:
    return link_to(name, open_port(name, baud, settings), start, stop)


def _heard(name: str, link: SerialLink, seconds: float, clock: Callable[[], int]) -> list[Chunk]:
    """What arrives in that time."""
    chunks: list[Chunk] = []
    until_ns = clock() + round(seconds * 1e9)
    while clock() < until_ns:
        try:
            chunk = link.read()
        except (OSError, TypeError) as error:
            raise SourceError(f"{name}: the port went away ({error}); plug the sensor in again") from error
        if chunk:
            chunks.append((clock(), chunk))
    return chunks


def ports(by_id: Path = BY_ID) -> list[dict[str, object]]:
    """Serial ports of this machine: the name that stays, the name of now, and what the adapter says of itself."""
    from edge_runtime.sensors.serial import listed_ports

    stable = {str(link.resolve()): str(link) for link in sorted(by_id.glob("*"))} if by_id.is_dir() else {}
    return [
        {"port": stable.get(device, device), "device": device, "is_stable": device in stable} | more
        for device, more in listed_ports()
    ]


def protocols() -> list[dict[str, object]]:
    """The protocols this runtime speaks, as their usual options describe them; those without a baud are Bluetooth's."""
    found: list[dict[str, object]] = []
    for p in PROTOCOLS.values():
        spec = p.decoder(p.example).spec
        found.append(
            {
                "protocol": p.name,
                "title": p.title,
                "baud": p.baud,
                "rate_hz": spec.rate_hz,
                "unit": spec.unit,
                "channels": list(spec.channels),
                "example": p.example,
            }
        )
    for ble in BLE_PROTOCOLS.values():
        spec = ble.make_decoder(ble.options()).spec
        found.append(
            {
                "protocol": ble.name,
                "title": ble.title,
                "baud": None,
                "rate_hz": spec.rate_hz,
                "unit": spec.unit,
                "channels": list(spec.channels),
                "example": "",
            }
        )
    return found
