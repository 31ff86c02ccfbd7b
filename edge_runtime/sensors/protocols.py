"""Wire protocols by name: the port's settings, the options, the decoder, and bytes for a simulation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import field
from typing import TYPE_CHECKING, Any

from edge_runtime.contract.dataclass import dataclass
from edge_runtime.contract.signal import Float32Array
from edge_runtime.sensors.decoder import Decoder
from edge_runtime.sensors.options import in_range, parse_options

if TYPE_CHECKING:
    from edge_runtime.sensors.framed import WireFormat


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


def _wire(make: Callable[[Any], WireFormat]) -> Callable[[Any], Decoder]:
    def make_decoder(options: Any) -> Decoder:
        from edge_runtime.sensors.framed import FramedDecoder

        in_range("rate_hz", options.rate_hz, 0.01, 1e5)
        return FramedDecoder(make(options), [c for c in options.channel.split(",") if c])

    return make_decoder


class _Encoder:
    """A function of encoders/rows.py, which only a simulation needs."""

    def __init__(self, name: str, *more: int) -> None:
        self._name, self._more = name, more

    def __call__(self, values: Float32Array, first: int) -> bytes:
        from edge_runtime.sensors.encoders import rows

        encode: Callable[..., bytes] = getattr(rows, self._name)
        return encode(values, first, *self._more)


def _csv() -> Protocol:
    from edge_runtime.sensors.csvprotocol import CsvDecoder, CsvOptions

    return Protocol(
        name="csv",
        title="lines of numbers",
        options=CsvOptions,
        make_decoder=CsvDecoder,
        encode=_Encoder("csv"),
        example="rate_hz=250",
    )


def _cyton() -> Protocol:
    from edge_runtime.sensors.wire.cyton import Cyton, CytonOptions

    return Protocol(
        name="cyton",
        title="OpenBCI Cyton",
        options=CytonOptions,
        make_decoder=_wire(Cyton),
        encode=_Encoder("cyton"),
        start=b"b",
        stop=b"s",
    )


def _edge() -> Protocol:
    from edge_runtime.sensors.wire.edge_frame import EdgeFrame, EdgeFrameOptions

    return Protocol(
        name="edge",
        title="the project's own frame",
        options=EdgeFrameOptions,
        make_decoder=_wire(EdgeFrame),
        encode=_Encoder("edge_frame"),
        example="rate_hz=250&columns=ECG,RESP&type=i24&scale=0.0001",
    )


def _healthypi3() -> Protocol:
    from edge_runtime.sensors.wire.healthypi import HealthyPi3, HealthyPi3Options

    return Protocol(
        name="healthypi3",
        title="ProtoCentral HealthyPi v3",
        options=HealthyPi3Options,
        make_decoder=_wire(HealthyPi3),
        encode=_Encoder("healthypi3"),
    )


def _healthypi5() -> Protocol:
    from edge_runtime.sensors.wire.healthypi import HealthyPi5, HealthyPi5Options

    return Protocol(
        name="healthypi5",
        title="ProtoCentral HealthyPi 5",
        options=HealthyPi5Options,
        make_decoder=_wire(HealthyPi5),
        encode=_Encoder("healthypi5"),
        example="rate_hz=125",
    )


def _nonin2() -> Protocol:
    from edge_runtime.sensors.wire.nonin import NoninOptions, NoninWave

    return Protocol(
        name="nonin2",
        title="Nonin, data format 2",
        options=NoninOptions,
        make_decoder=_wire(lambda o: NoninWave(o, 2)),
        encode=_Encoder("nonin_wave", 2),
        baud=9600,
    )


def _nonin7() -> Protocol:
    from edge_runtime.sensors.wire.nonin import NoninOptions, NoninWave

    return Protocol(
        name="nonin7",
        title="Nonin, data format 7",
        options=NoninOptions,
        make_decoder=_wire(lambda o: NoninWave(o, 7)),
        encode=_Encoder("nonin_wave", 7),
        baud=9600,
    )


def _nonin8() -> Protocol:
    from edge_runtime.sensors.wire.nonin import Nonin8, SlowNoninOptions

    return Protocol(
        name="nonin8",
        title="Nonin, data format 8",
        options=SlowNoninOptions,
        make_decoder=_wire(Nonin8),
        encode=_Encoder("nonin_8"),
        baud=9600,
    )


def _nonin13() -> Protocol:
    from edge_runtime.sensors.wire.nonin import Nonin13, SlowNoninOptions

    return Protocol(
        name="nonin13",
        title="Nonin, data format 13 (spot checks)",
        options=SlowNoninOptions,
        make_decoder=_wire(Nonin13),
        encode=_Encoder("nonin_13"),
        baud=9600,
        is_irregular=True,
    )


def _contec() -> Protocol:
    from edge_runtime.sensors.wire.fingertip import ContecOptions, contec

    return Protocol(
        name="contec",
        title="Contec CMS50D+ (old)",
        options=ContecOptions,
        make_decoder=_wire(contec),
        encode=_Encoder("fingertip"),
        baud=19200,
        serial={"parity": "O"},
        start=b"\xf5\xf5",
        stop=b"\xf6\xf6\xf6",
    )


def _berry() -> Protocol:
    from edge_runtime.sensors.wire.fingertip import BerryOptions, berry

    return Protocol(
        name="berry",
        title="Berry BM1000",
        options=BerryOptions,
        make_decoder=_wire(berry),
        encode=_Encoder("fingertip"),
    )


def _bitalino() -> Protocol:
    from edge_runtime.sensors.wire.bitalino import Bitalino, BitalinoOptions

    return Protocol(
        name="bitalino",
        title="BITalino",
        options=BitalinoOptions,
        make_decoder=_wire(Bitalino),
        encode=_Encoder("bitalino"),
    )


def _shimmer3() -> Protocol:
    from edge_runtime.sensors.wire.shimmer3 import Shimmer3, Shimmer3Options

    return Protocol(
        name="shimmer3",
        title="Shimmer3",
        options=Shimmer3Options,
        make_decoder=_wire(Shimmer3),
        encode=_Encoder("shimmer3"),
        start=b"\x07",
        stop=b"\x20",
    )


class _Known(Mapping[str, Protocol]):
    """Protocols by name; each one's files are imported when it is first asked for."""

    def __init__(self, makers: Mapping[str, Callable[[], Protocol]]) -> None:
        self._makers, self._made = makers, dict[str, Protocol]()

    def __getitem__(self, name: str) -> Protocol:
        if name not in self._made:
            self._made[name] = self._makers[name]()
        return self._made[name]

    def __contains__(self, name: object) -> bool:
        return name in self._makers

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)


PROTOCOLS: Mapping[str, Protocol] = _Known(
    {
        "csv": _csv,
        "cyton": _cyton,
        "edge": _edge,
        "healthypi3": _healthypi3,
        "healthypi5": _healthypi5,
        "nonin2": _nonin2,
        "nonin7": _nonin7,
        "nonin8": _nonin8,
        "nonin13": _nonin13,
        "contec": _contec,
        "berry": _berry,
        "bitalino": _bitalino,
        "shimmer3": _shimmer3,
    }
)
