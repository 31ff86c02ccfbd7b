"""The command line of the service: `vitaledge service install`, `remove` and `status`."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from edge_runtime.contract.errors import SettingsError
from host_tools.command_line import Commands, command, count, say, ship_options, target_options


def add_service(commands: Commands) -> None:
    """Register `service`."""
    parser = command(
        commands,
        "service",
        _service,
        "have systemd run the active release on a wearable",
        "vitaledge service install ssh://pi@gateway --source 'serial:///dev/vitaledge-wearable?protocol=cyton'",
        "vitaledge service status ssh://pi@gateway",
        "vitaledge service remove ssh://pi@gateway",
    )
    parser.add_argument("verb", choices=["install", "remove", "status"], help="what to do")
    target_options(parser)
    parser.add_argument("--source", help="where samples come from, as `edge-runtime run` takes it")
    parser.add_argument(
        "--scope",
        choices=["system", "user"],
        help="system: sandboxed, with an account of its own; user: needs no root (default: system if we may)",
    )
    parser.add_argument("--memory", type=count, default=512, metavar="MIB", help="most it may have (default: 512)")
    parser.add_argument(
        "--watchdog", type=count, default=10, metavar="S", help="a loop that hangs so long is ended (default: 10)"
    )


def _service(options: argparse.Namespace) -> int:
    from host_tools.ship import service

    ship = ship_options(options)
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
        say(options, asdict(state), state.to_text())
    elif options.verb == "remove":
        removed = service.remove(options.target, options=ship)
        say(options, {"removed": removed}, f"removed: {', '.join(removed) or 'nothing was installed'}")
    else:
        state = service.state(options.target, options=ship)
        say(options, asdict(state), state.to_text())
    return 0
