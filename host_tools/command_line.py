"""What the verbs of `vitaledge` share: how one is made, the options of all that ship, what is said in the end."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from host_tools.ship.options import Limits, ShipOptions

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
Act = Callable[[argparse.Namespace], int]
BUNDLE = "bundle directory (with manifest.json)"
BUNDLE_SUCH_AS = f"{BUNDLE}, such as deploy/bundles/ecg-beats"
ENGINES = {"onnxruntime": ("onnxruntime",), "litert": ("ai-edge-litert",), "both": ("onnxruntime", "ai-edge-litert")}


def command(
    commands: Commands, name: str, act: Act, text: str, *examples: str, goes_on: bool = False
) -> argparse.ArgumentParser:
    """A verb; `act` gives its exit code.

    goes_on  what was interrupted is taken up again by the same command
    """
    made: argparse.ArgumentParser = commands.add_parser(
        name,
        help=text,
        description=text,
        epilog="\n  ".join(["examples:", *examples]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.set_defaults(act=act, goes_on=goes_on)
    made.add_argument("--json", action="store_true", help="results as JSON on standard output")
    return made


def count(text: str) -> int:
    """The type of an option that is a whole number from 1 on."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"found {text!r}; a whole number from 1 on wanted")
    return int(text)


def say(options: argparse.Namespace, value: object, text: str) -> None:
    """The result: `value` with --json, `text` for people."""
    sys.stdout.write((json.dumps(value) if options.json else text) + "\n")


def target_options(parser: argparse.ArgumentParser, *, default: bool = False, several: bool = False) -> None:
    """One target, or as many as are named, and how to connect with it."""
    text = (
        "local:DIR or ssh://[user@]host[:port][/root-dir]; without a root-dir (such as /srv/vitaledge, or /~/vitaledge "
        "below the home) it is ~/.local/share/vitaledge there"
    )
    if default:
        parser.add_argument("--target", help=f"{text} (default: local:, in the run folder)")
    elif several:
        parser.add_argument("targets", nargs="+", metavar="target", help=f"{text}; several, one after the other")
    else:
        parser.add_argument("target", help=text)
    connection_options(parser)


def connection_options(parser: argparse.ArgumentParser) -> None:
    """How to connect, with one target or many."""
    parser.add_argument("--known-hosts", type=Path, help="trusted host keys (default: ~/.ssh/known_hosts)")
    parser.add_argument("--key", type=Path, help="private key (default: agent and ~/.ssh/config)")
    parser.add_argument(
        "--accept-new", action="store_true", help="take and note the key of a host that is not known yet"
    )


def runtime_options(parser: argparse.ArgumentParser) -> None:
    """What a shipped runtime is made of."""
    parser.add_argument(
        "--engine", choices=tuple(ENGINES), default="onnxruntime", help="engine to ship (default: onnxruntime)"
    )
    parser.add_argument(
        "--wheels", type=Path, help="folder of wheels for the device (default: pip's index, over the network)"
    )
    parser.add_argument(
        "--python-archive",
        type=Path,
        metavar="FILE",
        help="standalone CPython (.tar.gz of python-build-standalone) for a device whose own Python is too old",
    )


def signing_options(parser: argparse.ArgumentParser) -> None:
    """What trust adds to shipping a bundle."""
    parser.add_argument("--sign", type=Path, metavar="KEY", help="sign the runtime, and the bundle if it is not signed")
    parser.add_argument("--allow-downgrade", action="store_true", help="let an older bundle replace a newer one")


def limit_options(parser: argparse.ArgumentParser) -> None:
    """What a release must hold on its device."""
    parser.add_argument("--max-hop-ms", type=float, metavar="MS", help="budget of a hop's computation there (p99)")
    parser.add_argument("--max-memory", type=float, metavar="MIB", help="budget of its memory there")
    parser.add_argument(
        "--reading-within",
        type=float,
        default=Limits().reading_s,
        metavar="S",
        help="its service gives its first reading by then (default: 60; 0: none is waited for)",
    )
    parser.add_argument("--exact", action="store_true", help="golden vectors to the last bit, on any processor")


def ship_options(options: argparse.Namespace) -> ShipOptions:
    """All of them as one value; of options that a verb does not have, the usual ones."""
    return ShipOptions(
        known_hosts=options.known_hosts,
        key_file=options.key,
        wheels=getattr(options, "wheels", None),
        python_archive=getattr(options, "python_archive", None),
        requirements=("numpy", "psutil", "pyserial", *ENGINES[getattr(options, "engine", "onnxruntime")]),
        accept_new=options.accept_new,
        sign_key=getattr(options, "sign", None),
        allow_downgrade=getattr(options, "allow_downgrade", False),
        limits=_limits(options),
    )


def _limits(options: argparse.Namespace) -> Limits:
    if not hasattr(options, "reading_within"):
        return Limits()
    return Limits(
        reading_s=options.reading_within,
        max_block_ms=options.max_hop_ms,
        max_memory_mib=options.max_memory,
        exact=options.exact,
    )
