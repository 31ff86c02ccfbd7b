"""The command line of what is on a device: `vitaledge rollback` and `status`."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from host_tools.command_line import Commands, command, limit_options, say, ship_options, target_options


def add_rollback(commands: Commands) -> None:
    """Register `rollback`."""
    parser = command(
        commands,
        "rollback",
        _rollback,
        "make the previous release current again",
        "vitaledge rollback ssh://pi@gateway",
        "vitaledge rollback ssh://pi@gateway --to ecg-beats-d175f075fcbb-048c5ae8",
    )
    target_options(parser)
    limit_options(parser)
    parser.add_argument("--to", help="a release's name, as `vitaledge status` shows it (default: the one before)")


def add_status(commands: Commands) -> None:
    """Register `status`."""
    parser = command(commands, "status", _status, "what a target has", "vitaledge status ssh://pi@gateway")
    target_options(parser)


def _rollback(options: argparse.Namespace) -> int:
    from host_tools.ship.deploy import rollback

    done = rollback(options.target, to=options.to, options=ship_options(options))
    say(options, asdict(done), f"{done.release} is active again on {options.target} (was {done.previous})")
    return 0


def _status(options: argparse.Namespace) -> int:
    from host_tools.ship.deploy import status

    facts = status(options.target, options=ship_options(options))
    say(options, asdict(facts), facts.to_text())
    return 0
