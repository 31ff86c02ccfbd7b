"""The commands of one stream: `edge-runtime run` and `replay`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from edge_runtime.command_line import Commands, bundle_command, opened
from edge_runtime.contract.errors import EdgeError

if TYPE_CHECKING:
    from edge_runtime.contract.signal import StreamSpec
    from edge_runtime.pipeline import Pipeline
    from edge_runtime.sensors.bytestream import Recorder

SOURCE = (
    "where samples come from: SCHEME:PATH?key=value&key=value in quotes; schemes are serial, tcp, stdin, ble, "
    "replay, csv, edf, wfdb, npy, synthetic"
)


def add_run(commands: Commands) -> None:
    """`edge-runtime run`."""
    command = bundle_command(
        commands,
        "run",
        run,
        "read a live source until told to stop; reconnect when it is lost",
        "edge-runtime run BUNDLE 'serial:///dev/ttyUSB0?protocol=csv&rate_hz=250' --json",
        "edge-runtime run BUNDLE 'synthetic:?heart_rate=72'",
    )
    command.add_argument("source", help=SOURCE)
    command.add_argument(
        "--capture", type=Path, metavar="FILE", help="take the wearable's bytes down (replay:FILE plays)"
    )
    command.add_argument("--wait", action="store_true", help="wait for a source that is not there yet, too")
    command.add_argument(
        "--follow", action="store_true", help="go on with a newer bundle when `current` names one, or on SIGHUP"
    )


def add_replay(commands: Commands) -> None:
    """`edge-runtime replay`."""
    command = bundle_command(
        commands,
        "replay",
        replay,
        "read a source to its end, as fast as possible",
        "edge-runtime replay BUNDLE 'synthetic:?heart_rate=72&pvc=0.05' --json",
        "edge-runtime replay BUNDLE 'npy:record.npy?rate_hz=250'",
    )
    command.add_argument("source", help=SOURCE)


def run(options: argparse.Namespace) -> int:
    """Until told to stop."""
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


def replay(options: argparse.Namespace) -> int:
    """To the source's end."""
    return _stream(options, realtime=False)


def _stream(options: argparse.Namespace, *, realtime: bool, recorder: Recorder | None = None) -> int:
    from edge_runtime.assemble import open_pipeline
    from edge_runtime.sensors.source import open_source
    from edge_runtime.service import run_service, stop_on_signals, systemd_notifier
    from edge_runtime.sinks.jsonlines import JsonLines
    from edge_runtime.sinks.text import TextLines
    from edge_runtime.streams import StreamNote, notes_folder

    bundle, engine = opened(options)
    sink = JsonLines(sys.stdout) if options.json else TextLines(sys.stdout)
    note = StreamNote(options.source, bundle.id, notes_folder())
    notify = systemd_notifier()

    def make_pipeline(spec: StreamSpec) -> Pipeline:
        pipeline = open_pipeline(bundle, spec, engine)
        note.follow(pipeline)
        return pipeline

    with stop_on_signals() as stop:
        run_service(
            lambda: open_source(options.source, realtime=realtime, recorder=recorder),
            make_pipeline,
            sink,
            stop=stop,
            notify=note.beside(notify) if realtime else notify,
            waits=realtime and options.wait,
        )
    return 0
