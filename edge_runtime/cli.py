"""The device's command line: run, gateway, replay, bench, check, info, sources, probe, simulate."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from edge_runtime import __version__
from edge_runtime.contract.errors import EdgeError, one_line

if TYPE_CHECKING:
    from edge_runtime.contract.bundle import Bundle
    from edge_runtime.contract.manifest import Manifest
    from edge_runtime.contract.signal import StreamSpec
    from edge_runtime.engine.engine import Engine
    from edge_runtime.pipeline import Pipeline
    from edge_runtime.sensors.bytestream import Recorder

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
EXAMPLES = """examples:
  edge-runtime check BUNDLE
  edge-runtime replay BUNDLE 'synthetic:?heart_rate=72&pvc=0.05' --json
  edge-runtime replay BUNDLE 'wfdb:mitdb/100?channel=MLII'
  edge-runtime run BUNDLE 'serial:///dev/ttyUSB0?protocol=csv&rate_hz=250'
  edge-runtime bench BUNDLE RECORDS --out report.json
"""
INTERRUPTED = 128 + 2  # as shells tell it of what SIGINT ended
SOURCE = (
    "where samples come from: SCHEME:PATH?key=value&key=value in quotes; schemes are serial, tcp, stdin, ble, "
    "replay, csv, edf, wfdb, npy, synthetic"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, act, and turn expected failures into one line and exit code 1."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    asked = words[0] if words and words[0] in COMMANDS else None
    options = _parser(asked).parse_args(words)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stderr)
    try:
        return int(options.act(options))
    except EdgeError as error:
        sys.stderr.write(f"edge-runtime: {error}\n")
        return 1
    except BrokenPipeError:
        return 1
    except OSError as error:
        sys.stderr.write(f"edge-runtime: {one_line(error)}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("edge-runtime: interrupted\n")
        return INTERRUPTED


class _Help(argparse.RawDescriptionHelpFormatter):
    """At the terminal's width; argparse itself would load `shutil` and its archive formats for that, at every start."""

    def __init__(self, prog: str) -> None:
        try:
            columns = int(os.environ.get("COLUMNS", "0")) or os.get_terminal_size().columns
        except (OSError, ValueError):
            columns = 80
        super().__init__(prog, width=max(40, columns - 2))


def _parser(asked: str | None = None) -> argparse.ArgumentParser:
    """Of all commands; of one only if it is asked for, for each takes time at every start."""
    parser = argparse.ArgumentParser(
        prog="edge-runtime",
        description="Turn a wearable's samples into readings.",
        epilog=EXAMPLES,
        formatter_class=_Help,
    )
    parser.add_argument("--version", action="version", version=f"edge-runtime {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, add in COMMANDS.items():
        if asked in (None, name):
            add(commands)
    return parser


def _add_run(commands: Commands) -> None:
    run = _command(
        commands,
        "run",
        _run,
        "read a live source until told to stop; reconnect when it is lost",
        "edge-runtime run BUNDLE 'serial:///dev/ttyUSB0?protocol=csv&rate_hz=250' --json",
        "edge-runtime run BUNDLE 'synthetic:?heart_rate=72'",
    )
    run.add_argument("source", help=SOURCE)
    run.add_argument("--capture", type=Path, metavar="FILE", help="take the wearable's bytes down (replay:FILE plays)")
    run.add_argument("--wait", action="store_true", help="wait for a source that is not there yet, too")
    run.add_argument(
        "--follow", action="store_true", help="go on with a newer bundle when `current` names one, or on SIGHUP"
    )


def _add_gateway(commands: Commands) -> None:
    from edge_runtime import gateway_cli  # with its settings, which the others do not need

    gateway_cli.add_arguments(
        _command(commands, "gateway", gateway_cli.run, "run many wearables in one process, until told to stop")
    )


def _add_replay(commands: Commands) -> None:
    replay = _command(
        commands,
        "replay",
        _replay,
        "read a source to its end, as fast as possible",
        "edge-runtime replay BUNDLE 'synthetic:?heart_rate=72&pvc=0.05' --json",
        "edge-runtime replay BUNDLE 'npy:record.npy?rate_hz=250'",
    )
    replay.add_argument("source", help=SOURCE)


def _add_bench(commands: Commands) -> None:
    bench = _command(
        commands,
        "bench",
        _bench,
        "replay stored records and measure latency, memory, readings",
        "edge-runtime bench BUNDLE RECORDS --out report.json",
    )
    bench.add_argument("records", type=Path, help="folder with records.json, as `vitaledge bench` sends it")
    bench.add_argument("--out", type=Path, required=True, help="where to write the report (JSON); its folder is made")


def _add_check(commands: Commands) -> None:
    check = _command(
        commands,
        "check",
        _check,
        "verify hashes and answer the golden vectors",
        "edge-runtime check BUNDLE",
        "edge-runtime check BUNDLE --choose --memory-limit 64",
        "edge-runtime check ~/.local/share/vitaledge/current --timing --json",
    )
    check.add_argument("--timing", action="store_true", help="also say how long blocks of them take, and the memory")
    check.add_argument(
        "--choose", action="store_true", help="measure all forms and let `run` use the fastest from now on"
    )
    check.add_argument("--memory-limit", type=_count, metavar="MB", help="of a form to choose (default: half of all)")


def _add_info(commands: Commands) -> None:
    _command(
        commands,
        "info",
        _info,
        "what the bundle is and what this machine offers",
        "edge-runtime info BUNDLE",
        "edge-runtime info BUNDLE --json",
    )


def _add_sources(commands: Commands) -> None:
    sources = _plain(
        commands,
        "sources",
        _sources,
        "list this machine's ports and the protocols that can be read",
        "edge-runtime sources",
        "edge-runtime sources --json",
    )
    sources.add_argument("--json", action="store_true", help="one JSON object on standard output")


def _add_probe(commands: Commands) -> None:
    probe = _plain(
        commands,
        "probe",
        _probe,
        "listen on a port and say which protocol is speaking, and how well",
        "edge-runtime probe /dev/ttyUSB0",
        "edge-runtime probe /dev/ttyUSB0 --baud 57600 --json",
    )
    probe.add_argument("port", help="such as /dev/ttyUSB0, or a URL that pyserial knows")
    probe.add_argument("--baud", type=_count, help="only at this speed (default: at each protocol's own)")
    probe.add_argument("--seconds", type=float, default=3.0, help="how long to listen at each setting (default: 3)")
    probe.add_argument("--json", action="store_true", help="one JSON object a line on standard output")


def _add_simulate(commands: Commands) -> None:
    simulate = _plain(
        commands,
        "simulate",
        _simulate,
        "play a record or a synthetic heart as a wearable would send it",
        "edge-runtime simulate cyton --to pty:/tmp/wearable",
        "edge-runtime simulate csv --to tcp:7000 --source 'synthetic:?pvc=0.1' --faults drop=0.001,unplug=0.002",
    )
    simulate.add_argument("protocol", help="a name from `edge-runtime sources`")
    simulate.add_argument("--to", required=True, help="pty, pty:LINK, tcp, tcp:PORT, tcp:HOST:PORT or unix:PATH")
    simulate.add_argument("--source", default="synthetic:?seconds=max", help="what is played (default: a calm heart)")
    simulate.add_argument("--faults", default="", help="such as drop=0.001,flip=0.001,stall=0.01,drift_ppm=50,wrap")
    simulate.add_argument("--seed", type=int, default=1, help="of the faults (default: 1)")
    simulate.add_argument("--speed", type=float, default=1.0, help="times real time (default: 1)")


COMMANDS = {
    "run": _add_run,
    "gateway": _add_gateway,
    "replay": _add_replay,
    "bench": _add_bench,
    "check": _add_check,
    "info": _add_info,
    "sources": _add_sources,
    "probe": _add_probe,
    "simulate": _add_simulate,
}


def _plain(commands: Commands, name: str, act: object, text: str, *examples: str) -> argparse.ArgumentParser:
    """A command without a bundle."""
    command: argparse.ArgumentParser = commands.add_parser(
        name,
        help=text,
        description=text,
        epilog="\n  ".join(["examples:", *examples]),
        formatter_class=_Help,
    )
    command.set_defaults(act=act)
    return command


def _command(commands: Commands, name: str, act: object, text: str, *examples: str) -> argparse.ArgumentParser:
    command = _plain(commands, name, act, text, *examples)
    command.add_argument("bundle", type=Path, help="bundle directory (with manifest.json)")
    command.add_argument("--threads", type=_count, default=1, help="threads of the inference engine (default: 1)")
    command.add_argument(
        "--provider", choices=("cpu", "xnnpack", "cuda", "tensorrt"), default="cpu", help="what runs it (default: cpu)"
    )
    command.add_argument("--allow-fallback", action="store_true", help="the CPU may run what the provider cannot")
    command.add_argument(
        "--engine",
        choices=("auto", "onnxruntime", "litert"),
        default="auto",
        help="inference engine (default: the one that `check --choose` found best, else the first that is installed)",
    )
    command.add_argument("--precision", choices=("fp32", "fp16", "int8"), help="form of the model (default: as above)")
    command.add_argument("--json", action="store_true", help="one JSON object a line on standard output")
    return command


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"found {text!r}; a whole number from 1 on wanted")
    return int(text)


def _run(options: argparse.Namespace) -> int:
    from contextlib import closing

    from edge_runtime.service import systemd_notifier

    try:
        if options.follow:
            from edge_runtime.gateway_cli import follow

            return follow(options)
        if options.capture is None:
            return _stream(options, realtime=True)
        from edge_runtime.sensors.capture import CaptureWriter  # it knows all protocols, which takes time to load

        with closing(CaptureWriter(options.capture)) as recorder:
            return _stream(options, realtime=True, recorder=recorder)
    except EdgeError as error:
        # Whoever looks at the service, and may not read its journal, is told why it ended.
        systemd_notifier()(f"STATUS={error}")
        raise


def _replay(options: argparse.Namespace) -> int:
    return _stream(options, realtime=False)


def _stream(options: argparse.Namespace, *, realtime: bool, recorder: Recorder | None = None) -> int:
    from edge_runtime.assemble import open_pipeline
    from edge_runtime.sensors.source import open_source
    from edge_runtime.service import run_service, stop_on_signals, systemd_notifier
    from edge_runtime.sinks.jsonlines import JsonLines
    from edge_runtime.sinks.text import TextLines
    from edge_runtime.streams import StreamNote, notes_folder

    bundle, engine = _opened(options)
    sink = JsonLines(sys.stdout) if options.json else TextLines(sys.stdout)
    note = StreamNote(options.source, bundle.id, notes_folder())
    notify = systemd_notifier()

    def opened(spec: StreamSpec) -> Pipeline:
        pipeline = open_pipeline(bundle, spec, engine)
        note.follow(pipeline)
        return pipeline

    with stop_on_signals() as stop:
        run_service(
            lambda: open_source(options.source, realtime=realtime, recorder=recorder),
            opened,
            sink,
            stop=stop,
            notify=note.beside(notify) if realtime else notify,
            waits=realtime and options.wait,
        )
    return 0


def _opened(options: argparse.Namespace) -> tuple[Bundle, Engine]:
    """The bundle in the form to run, and its engine."""
    from edge_runtime.contract.bundle import open_bundle
    from edge_runtime.forms import open_form

    return open_form(
        open_bundle(options.bundle),
        options.engine,
        options.precision,
        options.threads,
        provider=options.provider,
        allow_fallback=options.allow_fallback,
    )


def _bench(options: argparse.Namespace) -> int:
    from edge_runtime import bench
    from edge_runtime.contract.report import claimed, to_json

    def progress(name: str, done: int, total: int) -> None:
        sys.stderr.write(f"{done}/{total} record {name}\n")

    with claimed(options.out):
        report = bench.measure(
            options.bundle,
            options.records,
            threads=options.threads,
            provider=options.provider,
            allow_fallback=options.allow_fallback,
            engine=options.engine,
            precision=options.precision,
            progress=progress,
        )
        options.out.write_text(to_json(report))
    for found in report.latencies:
        figures = {"stage": found.stage, "n": found.n, "p50_ns": found.p50_ns, "p95_ns": found.p95_ns}
        figures |= {"p99_ns": found.p99_ns, "max_ns": found.max_ns}
        _say(options, figures, "  ".join(f"{k} {v}" for k, v in figures.items()))
    for record in report.records:
        told = {"record": record.name} | record.ledger.to_json()
        _say(options, told, "  ".join(f"{k} {v}" for k, v in told.items() if k != "name"))
    return 0


def _check(options: argparse.Namespace) -> int:
    from edge_runtime.cost import measure_cost
    from edge_runtime.golden import check

    if options.choose:
        return _choose(options)
    bundle, engine = _opened(options)
    result = check(bundle, engine)
    verdict = "passed" if result.is_passed else "FAILED"
    text = (
        f"{bundle.id}: hashes hold; golden vectors {verdict} on {engine.name} {engine.version}: "
        f"{result.given} of {result.wanted} readings, largest difference {result.worst_sample} samples, "
        f"{result.worst_confidence:.2g} confidence"
    )
    if result.worst_value is not None:
        text += f", {result.worst_value:.2g} of value"
    cost: dict[str, object] = {}
    if options.timing:
        found = measure_cost(bundle, engine)
        cost = asdict(found)
        text += f"; {found.to_text()}"
    _say(
        options,
        {
            "bundle": bundle.id,
            "engine": engine.name,
            "version": engine.version,
            "provider": engine.provider,
            "precision": bundle.manifest.step_graph.precision,
            **asdict(result),
            **cost,
        },
        text,
    )
    if result.is_passed:
        return 0
    sys.stderr.write(
        f"edge-runtime: {options.bundle}: golden vectors failed: {result.given} of {result.wanted} readings on "
        f"{engine.name} {engine.version}; do not use it here: try another version of {engine.name}, or pack it anew\n"
    )
    return 1


def _choose(options: argparse.Namespace) -> int:
    from edge_runtime.choose import choose
    from edge_runtime.contract.bundle import open_bundle

    def progress(text: str) -> None:
        sys.stderr.write(f"{text}\n")

    measured, chosen, why, place = choose(
        open_bundle(options.bundle),
        threads=options.threads,
        limit_bytes=None if options.memory_limit is None else options.memory_limit * 1_000_000,
        progress=progress,
    )
    value = {"chosen": chosen.form.name, "why": why, "remembered": str(place)}
    lines = [*(m.to_text() for m in measured), f"chosen: {why}", f"remembered in {place}"]
    _say(options, {**value, "forms": [m.to_json() for m in measured]}, "\n".join(lines))
    return 0


def _info(options: argparse.Namespace) -> int:
    from edge_runtime import probes
    from edge_runtime.contract.bundle import open_bundle
    from edge_runtime.forms import read_choice
    from edge_runtime.streams import noted_streams, notes_folder

    bundle = open_bundle(options.bundle)
    m, choice = bundle.manifest, read_choice(bundle)
    facts: dict[str, object] = {
        "bundle": bundle.id,
        "created": m.created,
        "task": m.task,
        **_kind_facts(m),
        "graphs": {
            g.name: {"runs": g.runs, "precision": g.precision, "parameters": g.parameters, "macs": g.macs}
            for g in m.graphs
        },
        "forms": [f.name for f in m.all_forms],
        "chosen": None if choice is None else choice.why,
        "trained_on": m.training.records,
        "simulated": m.training.simulated,
        "training": {k: v for k, v in asdict(m.training).items() if k not in ("records", "simulated")},
        "metrics": m.metrics,
        "machine": asdict(probes.machine()),
        "state": probes.machine_state().to_json(),
    }
    streams = noted_streams(notes_folder())
    told = {"streams": {f"stream {i}": note for i, note in enumerate(streams, 1)} or None}
    _say(options, facts | {"streams": streams}, "\n".join(_lines(facts | told)))
    return 0


def _sources(options: argparse.Namespace) -> int:
    from edge_runtime.sensors.probe import ports, protocols

    found: dict[str, list[dict[str, object]]] = {"ports": ports(), "protocols": protocols()}
    lines = [f"{p['port']}  {p['description'] or ''}" for p in found["ports"]] or ["no serial port"]
    for p in found["protocols"]:
        way = "Bluetooth LE" if p["baud"] is None else f"{p['baud']} baud"
        lines.append(f"{p['protocol']:14} {p['title']}: {p['rate_hz']:g} Hz, {way}")
    _say(options, dict(found), "\n".join(lines))
    return 0


def _simulate(options: argparse.Namespace) -> int:
    import time
    from contextlib import closing

    from edge_runtime.contract.errors import SettingsError
    from edge_runtime.sensors.faults import parse_faults
    from edge_runtime.sensors.source import open_source
    from edge_runtime.sensors.wearable import outlet, play, url
    from edge_runtime.service import stop_on_signals

    if not options.speed > 0.0:
        raise SettingsError(f"--speed is {options.speed:g}; a positive number wanted")
    faults = parse_faults(options.faults)
    with stop_on_signals() as stop, closing(open_source(options.source)) as source, closing(outlet(options.to)) as out:
        sys.stdout.write(url(options.protocol, out) + "\n")
        sys.stdout.flush()
        play(
            options.protocol,
            source,
            out,
            faults,
            seed=options.seed,
            speed=options.speed,
            is_stopped=stop.is_set,
            clock=time.monotonic_ns,
            sleep=time.sleep,
        )
    return 0


def _probe(options: argparse.Namespace) -> int:
    import time

    from edge_runtime.sensors.probe import probe

    found = probe(options.port, baud=options.baud, seconds=options.seconds, clock=time.monotonic_ns)
    heard = [v for v in found if v.is_speaking] or [v for v in found if v.good]
    for v in heard:
        rate = "" if v.rate_hz != v.rate_hz else f", {v.rate_hz:.1f} Hz"
        text = f"{v.protocol:12} {v.good} good, {v.damaged} damaged, at {v.baud} baud{rate}"
        _say(options, v.to_json(), text)
    if heard and heard[0].is_speaking:
        return 0
    n_bytes = max((v.n_bytes for v in found), default=0)
    wanted = "is the sensor on, and at another speed (--baud)?" if n_bytes else "is the sensor on?"
    sys.stderr.write(f"edge-runtime: {options.port}: no known protocol in {n_bytes} bytes; {wanted}\n")
    return 1


def _kind_facts(m: Manifest) -> dict[str, object]:
    """What only one kind of bundle has."""
    from edge_runtime.contract.manifest import WindowManifest, beats_of

    if isinstance(m, WindowManifest):
        w = m.window
        return {
            "reading": f"{w.reading}, {w.reading_unit}" if w.reading_unit else w.reading,
            "classes": list(m.classes),
            "range": [w.values[0], w.values[-1]] if w.values else [],
            "refuse_below": w.refuse_below,
            "missing": w.missing,
            "unit": m.unit,
            "channels": list(w.channels),
            "hop_s": m.hop_samples / w.rate_hz,
            "window_s": w.window_samples / w.rate_hz,
        }
    b = beats_of(m)
    return {
        "classes": list(b.classes),
        "lead": b.lead,
        "hop_s": b.hop_samples / b.rate_hz,
        "delay_s": b.delay_samples / b.rate_hz,
        "receptive_field_s": b.receptive_field_samples / b.rate_hz,
    }


def _lines(facts: Mapping[str, object], indent: str = "") -> Iterator[str]:
    """A table of facts as lines for people; what is not known says so."""
    for name, value in facts.items():
        label = f"{indent}{name.replace('_', ' '):{20 - len(indent)}} "
        if isinstance(value, Mapping):
            yield label.rstrip()
            yield from _lines(value, indent + "  ")
        else:
            yield label + _words(value)


def _words(value: object) -> str:
    if value is None:
        return "not known"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _say(options: argparse.Namespace, value: dict[str, object], text: str) -> None:
    sys.stdout.write((json.dumps(value) if options.json else text) + "\n")
