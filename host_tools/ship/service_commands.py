"""The command line of the service: `vitaledge service install`, `remove` and `status`; the limits of `deploy`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import asdict

from host_tools.ship.options import Limits, ShipOptions

AddCommand = Callable[..., argparse.ArgumentParser]


def add_service_command(
    command: AddCommand,
    target_options: Callable[[argparse.ArgumentParser], None],
    ship_options: Callable[[argparse.Namespace], ShipOptions],
) -> None:
    """Register it; `command` makes a parser, the others are those of every verb with a target."""
    service = command(
        "service",
        lambda options: _service(options, ship_options(options)),
        "have systemd run the active release on a wearable",
        "vitaledge service install ssh://pi@gateway --source 'serial:///dev/vitaledge-wearable?protocol=cyton'",
        "vitaledge service status ssh://pi@gateway",
        "vitaledge service remove ssh://pi@gateway",
    )
    service.add_argument("verb", choices=["install", "remove", "status"], help="what to do")
    target_options(service)
    service.add_argument("--source", help="where samples come from, as `edge-runtime run` takes it")
    service.add_argument(
        "--scope",
        choices=["system", "user"],
        help="system: sandboxed, with an account of its own; user: needs no root (default: system if we may)",
    )
    service.add_argument("--memory", type=_positive, default=512, metavar="MIB", help="most it may have (default: 512)")
    service.add_argument(
        "--watchdog", type=_positive, default=10, metavar="S", help="a loop that hangs so long is ended (default: 10)"
    )


def add_limit_options(parser: argparse.ArgumentParser) -> None:
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


def limits_of(options: argparse.Namespace) -> Limits:
    """The limits that the user gave; commands without such options have the usual ones."""
    if not hasattr(options, "reading_within"):
        return Limits()
    return Limits(
        reading_s=options.reading_within,
        max_block_ms=options.max_hop_ms,
        max_memory_mib=options.max_memory,
        exact=options.exact,
    )


def _service(options: argparse.Namespace, ship: ShipOptions) -> int:
    from edge_runtime.contract.errors import SettingsError
    from host_tools.ship import service

    if options.verb == "install":
        if not options.source:
            raise SettingsError("service install: --source URL is missing, such as serial:///dev/vitaledge-wearable")
        state = service.install(
            options.target,
            options.source,
            scope=options.scope,
            memory_mib=options.memory,
            watchdog_s=options.watchdog,
            options=ship,
        )
        _say(options, asdict(state), state.to_text())
    elif options.verb == "remove":
        removed = service.remove(options.target, options=ship)
        _say(options, {"removed": removed}, f"removed: {', '.join(removed) or 'nothing was installed'}")
    else:
        state = service.state(options.target, options=ship)
        _say(options, asdict(state), state.to_text())
    return 0


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"found {text!r}; a whole number from 1 on wanted")
    return int(text)


def _say(options: argparse.Namespace, value: object, text: str) -> None:
    sys.stdout.write((json.dumps(value) if options.json else text) + "\n")
