"""The query of a source of bytes -> its protocol's decoder and its port's settings."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlencode

from edge_runtime.contract.dataclass import dataclass
from edge_runtime.contract.errors import SettingsError
from edge_runtime.sensors.decoder import Decoder
from edge_runtime.sensors.options import in_range, parse_options
from edge_runtime.sensors.protocols import PROTOCOLS

PORT_KEYS = ("protocol", "baud")


@dataclass(frozen=True, kw_only=True)
class Wired:
    """A protocol with its options, as a URL gave them.

    query         the protocol's own options, for a capture's header
    decoder       makes a new decoder
    baud, serial  the port's settings, in pyserial's words; 0 for a radio
    start, stop   bytes that the device wants before it sends, and when nobody listens any more
    is_irregular  its rows come when something was measured, so their rate says nothing
    """

    name: str
    query: str
    decoder: Callable[[], Decoder]
    baud: int
    serial: Mapping[str, Any]
    start: bytes
    stop: bytes
    is_irregular: bool = False


def parse_wired(query: str, where: str, known: Mapping[str, Any] = PROTOCOLS) -> Wired:
    """What `protocol=NAME&key=value` names; raises SettingsError naming the protocol or the key, and what exists."""
    pairs = dict(parse_qsl(query, keep_blank_values=True))
    name = pairs.get("protocol", next(iter(known)))
    if name not in known:
        raise SettingsError(f"{where}: protocol is {name!r}; one of {', '.join(known)} wanted")
    protocol = known[name]
    found: Any = parse_options(_with_port(protocol.options, has_baud=protocol.baud > 0), query, where)
    given = getattr(found, "baud", None)
    baud = protocol.baud if given is None else given
    if protocol.baud:
        in_range(f"{where}: baud", baud, 50, 4_000_000)
    try:
        options = protocol.options(**{f.name: getattr(found, f.name) for f in dataclasses.fields(protocol.options)})
        protocol.make_decoder(options)  # refuses here what it refuses
    except SettingsError as error:
        raise SettingsError(f"{where}: {error}") from error
    return Wired(
        name=name,
        query=urlencode([(k, v) for k, v in pairs.items() if k not in PORT_KEYS]),
        decoder=lambda: protocol.make_decoder(options),
        baud=baud,
        serial=protocol.serial,
        start=protocol.start,
        stop=protocol.stop,
        is_irregular=protocol.is_irregular,
    )


def _with_port(kind: Any, *, has_baud: bool) -> type[Any]:
    """A protocol's options with the port's beside them, so that a message can name all keys."""
    hints = typing.get_type_hints(kind)
    fields: list[Any] = [("protocol", str)]
    if has_baud:
        fields.append(("baud", int | None, dataclasses.field(default=None)))
    for f in dataclasses.fields(kind):
        own = dataclasses.field(default=f.default, default_factory=f.default_factory)
        fields.append((f.name, hints[f.name], own))
    return dataclasses.make_dataclass("Options", fields, frozen=True, kw_only=True)
