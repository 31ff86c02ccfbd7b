"""The device's command line: run, gateway, replay, bench, check, info, sources, probe, simulate."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence

from edge_runtime import __version__
from edge_runtime.command_line import CommandParser, Commands, Help
from edge_runtime.contract.errors import EdgeError, one_line

EXAMPLES = """examples:
  edge-runtime check BUNDLE
  edge-runtime replay BUNDLE 'synthetic:?heart_rate=72&pvc=0.05' --json
  edge-runtime replay BUNDLE 'wfdb:mitdb/100?channel=MLII'
  edge-runtime run BUNDLE 'serial:///dev/ttyUSB0?protocol=csv&rate_hz=250'
  edge-runtime bench BUNDLE RECORDS --out report.json
"""
INTERRUPTED = 128 + 2  # as shells tell it of what SIGINT ended


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, act, and turn expected failures into one line and exit code 1."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    asked = words[0] if words and words[0] in COMMANDS else None
    try:
        options = _parser(asked).parse_args(words)
        logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stderr)
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


def _parser(asked: str | None = None) -> argparse.ArgumentParser:
    """Of all commands; of one only if it is asked for, for each takes time at every start."""
    parser = argparse.ArgumentParser(
        prog="edge-runtime",
        description="Turn a wearable's samples into readings.",
        epilog=EXAMPLES,
        formatter_class=Help,
    )
    parser.add_argument("--version", action="version", version=f"edge-runtime {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=CommandParser)
    for name, add in COMMANDS.items():
        if asked in (None, name):
            add(commands)
    return parser


def _run(commands: Commands) -> None:
    from edge_runtime.stream_cli import add_run

    add_run(commands)


def _gateway(commands: Commands) -> None:
    from edge_runtime.gateway_cli import add_gateway

    add_gateway(commands)


def _replay(commands: Commands) -> None:
    from edge_runtime.stream_cli import add_replay

    add_replay(commands)


def _bench(commands: Commands) -> None:
    from edge_runtime.bench_cli import add_bench

    add_bench(commands)


def _check(commands: Commands) -> None:
    from edge_runtime.bundle_cli import add_check

    add_check(commands)


def _info(commands: Commands) -> None:
    from edge_runtime.bundle_cli import add_info

    add_info(commands)


def _sources(commands: Commands) -> None:
    from edge_runtime.sensor_cli import add_sources

    add_sources(commands)


def _probe(commands: Commands) -> None:
    from edge_runtime.sensor_cli import add_probe

    add_probe(commands)


def _simulate(commands: Commands) -> None:
    from edge_runtime.sensor_cli import add_simulate

    add_simulate(commands)


# In the order of --help. A command's module is loaded only if the command is asked for, or all are.
COMMANDS = {
    "run": _run,
    "gateway": _gateway,
    "replay": _replay,
    "bench": _bench,
    "check": _check,
    "info": _info,
    "sources": _sources,
    "probe": _probe,
    "simulate": _simulate,
}
