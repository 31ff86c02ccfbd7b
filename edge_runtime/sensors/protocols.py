"""Binary wire protocols by name: the port's settings, the options, the decoder, and bytes for a simulation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from edge_runtime.contract.signal import Float32Array
from edge_runtime.sensors.csvprotocol import CsvDecoder, CsvOptions
from edge_runtime.sensors.decoder import Decoder
from edge_runtime.sensors.encoders import rows
from edge_runtime.sensors.framed import FramedDecoder, WireFormat
from edge_runtime.sensors.options import in_range, parse_options
from edge_runtime.sensors.wire.bitalino import Bitalino, BitalinoOptions
from edge_runtime.sensors.wire.cyton import Cyton, CytonOptions
from edge_runtime.sensors.wire.edge_frame import EdgeFrame, EdgeFrameOptions
from edge_runtime.sensors.wire.fingertip import BerryOptions, ContecOptions, berry, contec
from edge_runtime.sensors.wire.healthypi import HealthyPi3, HealthyPi3Options, HealthyPi5, HealthyPi5Options
from edge_runtime.sensors.wire.nonin import Nonin8, Nonin13, NoninOptions, NoninWave, SlowNoninOptions
from edge_runtime.sensors.wire.options import WireOptions
from edge_runtime.sensors.wire.shimmer3 import Shimmer3, Shimmer3Options

Options = TypeVar("Options", bound=WireOptions)


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """One wire protocol.

    options       dataclass of what a URL may say
    make_decoder  from such options
    example       the URL's options without which the protocol cannot be used, if any
    encode        float32 (n, channels) as the decoder of `example` gives them, the first frame's number -> bytes
    baud, serial  the port's settings, in pyserial's words
    start, stop   bytes that the device wants before it sends, and when nobody listens any more
    is_irregular  its rows come when something was measured, so their rate says nothing
    """

    name: str
    title: str
    options: type[Any]
    make_decoder: Callable[[Any], Decoder]
    encode: Callable[[Float32Array, int], bytes]
    example: str = ""
    baud: int = 115200
    serial: Mapping[str, Any] = field(default_factory=dict)
    start: bytes = b""
    stop: bytes = b""
    is_irregular: bool = False

    def decoder(self, query: str = "") -> Decoder:
        """A decoder with the options of a URL, such as `rate_hz=250&channel=ECG`."""
        return self.make_decoder(parse_options(self.options, query, self.name))


def _wire(make: Callable[[Options], WireFormat]) -> Callable[[Options], Decoder]:
    def make_decoder(options: Options) -> Decoder:
        in_range("rate_hz", options.rate_hz, 0.01, 1e5)
        return FramedDecoder(make(options), [c for c in options.channel.split(",") if c])

    return make_decoder


_ALL = (
    Protocol(
        name="csv",
        title="lines of numbers",
        options=CsvOptions,
        make_decoder=CsvDecoder,
        encode=rows.csv,
        example="rate_hz=250",
    ),
    Protocol(
        name="cyton",
        title="OpenBCI Cyton",
        options=CytonOptions,
        make_decoder=_wire(Cyton),
        encode=rows.cyton,
        start=b"b",
        stop=b"s",
    ),
    Protocol(
        name="edge",
        title="the project's own frame",
        options=EdgeFrameOptions,
        make_decoder=_wire(EdgeFrame),
        encode=rows.edge_frame,
        example="rate_hz=250&columns=ECG,RESP&type=i24&scale=0.0001",
    ),
    Protocol(
        name="healthypi3",
        title="ProtoCentral HealthyPi v3",
        options=HealthyPi3Options,
        make_decoder=_wire(HealthyPi3),
        encode=rows.healthypi3,
    ),
    Protocol(
        name="healthypi5",
        title="ProtoCentral HealthyPi 5",
        options=HealthyPi5Options,
        make_decoder=_wire(HealthyPi5),
        encode=rows.healthypi5,
        example="rate_hz=125",
    ),
    Protocol(
        name="nonin2",
        title="Nonin, data format 2",
        options=NoninOptions,
        make_decoder=_wire(lambda o: NoninWave(o, 2)),
        encode=lambda values, first: rows.nonin_wave(values, first, 2),
        baud=9600,
    ),
    Protocol(
        name="nonin7",
        title="Nonin, data format 7",
        options=NoninOptions,
        make_decoder=_wire(lambda o: NoninWave(o, 7)),
        encode=lambda values, first: rows.nonin_wave(values, first, 7),
        baud=9600,
    ),
    Protocol(
        name="nonin8",
        title="Nonin, data format 8",
        options=SlowNoninOptions,
        make_decoder=_wire(Nonin8),
        encode=rows.nonin_8,
        baud=9600,
    ),
    Protocol(
        name="nonin13",
        title="Nonin, data format 13 (spot checks)",
        options=SlowNoninOptions,
        make_decoder=_wire(Nonin13),
        encode=rows.nonin_13,
        baud=9600,
        is_irregular=True,
    ),
    Protocol(
        name="contec",
        title="Contec CMS50D+ (old)",
        options=ContecOptions,
        make_decoder=_wire(contec),
        encode=rows.fingertip,
        baud=19200,
        serial={"parity": "O"},
        start=b"\xf5\xf5",
        stop=b"\xf6\xf6\xf6",
    ),
    Protocol(
        name="berry",
        title="Berry BM1000",
        options=BerryOptions,
        make_decoder=_wire(berry),
        encode=rows.fingertip,
    ),
    Protocol(
        name="bitalino",
        title="BITalino",
        options=BitalinoOptions,
        make_decoder=_wire(Bitalino),
        encode=rows.bitalino,
    ),
    Protocol(
        name="shimmer3",
        title="Shimmer3",
        options=Shimmer3Options,
        make_decoder=_wire(Shimmer3),
        encode=rows.shimmer3,
        start=b"\x07",
        stop=b"\x20",
    ),
)
PROTOCOLS = {p.name: p for p in _ALL}
