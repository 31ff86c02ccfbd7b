"""The command line of the doctor: `vitaledge doctor TARGET`."""

from __future__ import annotations

import argparse
import time

from host_tools.command_line import Commands, command, runtime_options, say, ship_options, target_options


def add_doctor(commands: Commands) -> None:
    """Register `doctor`."""
    parser = command(
        commands,
        "doctor",
        _doctor,
        "look at a target, write nothing, and say what would be shipped there or why nothing can be",
        "vitaledge doctor ssh://pi@gateway",
        "vitaledge doctor ssh://nano --python-archive cpython-3.12.8-aarch64-unknown-linux-gnu-install_only.tar.gz",
        "vitaledge doctor local:/tmp/gateway --json",
    )
    target_options(parser)
    runtime_options(parser)


def _doctor(options: argparse.Namespace) -> int:
    from host_tools.ship.device import open_transport
    from host_tools.ship.doctor import ask, diagnose, to_json
    from host_tools.ship.offers import pip_offer
    from host_tools.ship.python_archive import open_python_archive
    from host_tools.ship.targets import parse_target

    ship = ship_options(options)
    archive = open_python_archive(ship.python_archive) if ship.python_archive else None
    target = parse_target(options.target)
    transport = open_transport(target, ship)
    try:
        facts, now_s = ask(transport, target.root, str(target)), time.time()
    finally:
        transport.close()
    found = diagnose(str(target), facts, pip_offer(ship.wheels), ship.requirements, archive, now_s=now_s)
    say(options, to_json(found), found.to_text())
    return 0 if found.fits else 1
