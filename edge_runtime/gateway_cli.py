"""The command `edge-runtime gateway`: many wearables, one bundle, one process."""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING

from edge_runtime.command_line import Commands, bundle_command, positive
from edge_runtime.contract.dataclass import dataclass
from edge_runtime.contract.errors import EngineError, SettingsError
from edge_runtime.contract.strict import build

if TYPE_CHECKING:
    from edge_runtime.contract.bundle import Bundle
    from edge_runtime.contract.signal import Ledger
    from edge_runtime.gateway_service import M, S, Scores
    from edge_runtime.sensors.source import Source
    from edge_runtime.sinks.jsonlines import Sink

log = logging.getLogger(__name__)

EXAMPLES = """examples:
  edge-runtime gateway BUNDLE --streams ward.toml --json
  edge-runtime gateway BUNDLE bed1='serial:///dev/ttyUSB0?protocol=csv&rate_hz=250' bed2='tcp://10.0.0.7:7000?protocol=edge&rate_hz=125'
  edge-runtime gateway ~/.local/share/vitaledge/current --streams ward.toml --json --status 60

FILE.toml has a table of streams and, if wanted, other limits than these:
  queue_s = 4.0        samples of a stream that wait at most; what comes beyond is dropped and counted
  deadline_s = 0.02    how long a step waits for others that may join its engine call
  [streams]
  bed1 = "serial:///dev/ttyUSB0?protocol=csv&rate_hz=250"
  bed2 = "tcp://10.0.0.7:7000?protocol=edge&rate_hz=125"

Streams share the engine's calls where bundle and engine allow it (ecg-beats on ONNX Runtime); in all other cases each
has a pipeline of its own. Which way it goes is said at the start.
A new bundle takes over without a lost sample when `current` names another release, or on SIGHUP; one that does not
open, or reads signals another way, is refused and the old one goes on.
"""


@dataclass(frozen=True, kw_only=True)
class GatewaySettings:
    """The settings file: streams by name, and limits."""

    streams: dict[str, str] = field(default_factory=dict)
    queue_s: float = 4.0
    deadline_s: float = 0.02

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        if not 0.5 <= self.queue_s <= 600.0:
            raise SettingsError(f"queue_s is {self.queue_s:g}; 0.5 to 600 s wanted")
        if not 0.0 <= self.deadline_s <= 1.0:
            raise SettingsError(f"deadline_s is {self.deadline_s:g}; 0 to 1 s wanted")


def add_gateway(commands: Commands) -> None:
    """`edge-runtime gateway`."""
    command = bundle_command(commands, "gateway", run, "run many wearables in one process, until told to stop")
    command.epilog, command.spread = EXAMPLES, "sources"
    command.add_argument("sources", nargs="*", metavar="NAME=URL", help="a stream; or name them in a file")
    command.add_argument("--streams", type=Path, metavar="FILE", help="a TOML file of streams")
    command.add_argument(
        "--status",
        type=positive,
        default=0.0,
        metavar="S",
        help="a line on every stream's ledger and lag every S seconds (default: none)",
    )


def run(options: argparse.Namespace) -> int:
    """Run until told to stop; 1 if a stream broke."""
    from edge_runtime.sinks.named import NamedJsonLines, NamedTextLines

    settings = read_settings(options.streams, options.sources)
    sink = NamedJsonLines if options.json else NamedTextLines
    return _serve(options, settings, lambda name: sink(sys.stdout, name), options.status, log.info)


def follow(options: argparse.Namespace) -> int:
    """`edge-runtime run --follow`: one stream, whose lines need no name."""
    from edge_runtime.sinks.jsonlines import JsonLines
    from edge_runtime.sinks.text import TextLines

    sink = JsonLines if options.json else TextLines
    return _serve(options, GatewaySettings(streams={"stream": options.source}), lambda name: sink(sys.stdout), 0.0)


def _serve(
    options: argparse.Namespace,
    settings: GatewaySettings,
    make_sink: Callable[[str], Sink],
    status_s: float,
    tell: Callable[[str], None] = lambda text: None,
) -> int:
    """Run until told to stop; `tell` hears which way it goes."""
    from edge_runtime.contract.bundle import open_bundle
    from edge_runtime.gateway import Gateway
    from edge_runtime.gateway_ways import Ways, why_one_by_one
    from edge_runtime.one_by_one import OneByOne

    found, n_slots = open_bundle(options.bundle), len(settings.streams)
    ways = Ways(engine=options.engine, precision=options.precision, threads=options.threads, n_slots=n_slots)
    why = why_one_by_one(found.manifest, options.engine)
    if why is None:
        try:
            model = ways.together(found)
        except EngineError as error:
            if options.engine != "auto":
                raise
            why = str(error)
        else:
            tell(f"{found.id}: streams share the engine's calls")
            gateway = Gateway(model, n_slots=n_slots, queue_s=settings.queue_s, deadline_s=settings.deadline_s)
            return _run(options, settings, found, gateway, ways.together, make_sink, status_s)
    tell(f"{found.id}: a pipeline for each stream ({why})")
    piped = OneByOne(ways.one_by_one(found), n_slots=n_slots, queue_s=settings.queue_s)
    return _run(options, settings, found, piped, ways.one_by_one, make_sink, status_s)


def _run(
    options: argparse.Namespace,
    settings: GatewaySettings,
    found: Bundle,
    gateway: Scores[S, M],
    opened: Callable[[Bundle], M],
    make_sink: Callable[[str], Sink],
    status_s: float,
) -> int:
    import time

    from edge_runtime.gateway_service import GatewayService
    from edge_runtime.hot_swap import Watcher
    from edge_runtime.service import stop_on_signals, systemd_notifier
    from edge_runtime.streams import StreamNote, notes_folder

    def note(name: str, so_far: Callable[[], Ledger]) -> Callable[[], None]:
        made = StreamNote(f"{name}={settings.streams[name]}", found.id, notes_folder())
        made.follow(_SoFar(so_far=so_far))
        return made.write

    watcher = Watcher(options.bundle, found.path, opened, time.monotonic_ns)
    with stop_on_signals() as stop, _on_hangup(watcher.ask):
        service = GatewayService(
            gateway,
            {name: _opener(url) for name, url in settings.streams.items()},
            make_sink,
            stop=stop,
            next_model=watcher.next_model,
            make_note=note,
            status=_status_line(options.json) if status_s > 0 else None,
            status_s=status_s if status_s > 0 else 10.0,
            notify=systemd_notifier(),
        )
        service.run()
    return 1 if service.n_broken else 0


@dataclass(frozen=True, kw_only=True)
class _SoFar:
    """A stream of a gateway, as far as `info` asks for it."""

    so_far: Callable[[], Ledger]


def read_settings(file: Path | None, sources: list[str]) -> GatewaySettings:
    """Settings from a file and from NAME=URL arguments; raises SettingsError naming what is wrong."""
    value: dict[str, object] = {} if file is None else _toml(file)
    settings = build(GatewaySettings, value, str(file), SettingsError)
    streams = dict(settings.streams)
    for text in sources:
        name, mark, url = text.partition("=")
        if not (name and mark and url) or ":" in name:
            raise SettingsError(f"stream is {text!r}; NAME=URL wanted")
        if name in streams:
            raise SettingsError(f"stream {name} is named twice")
        streams[name] = url
    if not streams:
        raise SettingsError("no streams; NAME=URL or --streams FILE wanted")
    return GatewaySettings(streams=streams, queue_s=settings.queue_s, deadline_s=settings.deadline_s)


def _toml(file: Path) -> dict[str, object]:
    try:
        import tomllib
    except ImportError as error:
        raise SettingsError(f"{file}: reading TOML takes Python 3.11; name streams as NAME=URL") from error
    try:
        with file.open("rb") as stream:
            return tomllib.load(stream)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{file}: not TOML ({error})") from error


def _opener(url: str) -> Callable[[], Source]:
    from edge_runtime.sensors.source import open_source

    return lambda: open_source(url, realtime=True)


def _status_line(is_json: bool) -> Callable[[str, str, Ledger, float], None]:
    def tell(name: str, state: str, ledger: Ledger, lag_s: float) -> None:
        facts = {"stream": name, **ledger.to_json(), "name": "status", "state": state, "lag_s": round(lag_s, 3)}
        text = f"{name}: {state}, {ledger.scored} of {ledger.received} samples scored, {ledger.dropped} dropped, "
        text += f"{ledger.gap} missing, lag {lag_s:.1f} s"
        sys.stdout.write((json.dumps(facts) if is_json else text) + "\n")
        sys.stdout.flush()

    return tell


@contextlib.contextmanager
def _on_hangup(act: Callable[[], None]) -> Iterator[None]:
    before = signal.signal(signal.SIGHUP, lambda number, frame: act())
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)
