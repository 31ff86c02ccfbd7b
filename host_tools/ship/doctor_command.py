"""The command line of the doctor: `vitaledge doctor TARGET`."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable

from host_tools.ship.options import ShipOptions

AddCommand = Callable[..., argparse.ArgumentParser]
AddOptions = Callable[[argparse.ArgumentParser], None]


def add_doctor_command(
    command: AddCommand,
    target_options: AddOptions,
    wheels_option: AddOptions,
    ship_options: Callable[[argparse.Namespace], ShipOptions],
) -> None:
    """Register `doctor`; `command` makes a parser, the others are the options of every verb that ships."""
    doctor = command(
        "doctor",
        lambda options: _doctor(options, ship_options(options)),
        "look at a target, write nothing, and say what would be shipped there or why nothing can be",
        "vitaledge doctor ssh://pi@gateway",
        "vitaledge doctor ssh://nano --python-archive cpython-3.12.8-aarch64-unknown-linux-gnu-install_only.tar.gz",
        "vitaledge doctor local:/tmp/gateway --json",
    )
    target_options(doctor)
    wheels_option(doctor)


def _doctor(options: argparse.Namespace, ship: ShipOptions) -> int:
    from host_tools.ship.device import open_transport
    from host_tools.ship.doctor import ask, diagnose, to_json
    from host_tools.ship.offers import pip_offer
    from host_tools.ship.python_archive import open_python_archive
    from host_tools.ship.targets import parse_target

    archive = open_python_archive(ship.python_archive) if ship.python_archive else None
    target = parse_target(options.target)
    transport = open_transport(target, ship)
    try:
        facts, now_s = ask(transport, target.root, str(target)), time.time()
    finally:
        transport.close()
    found = diagnose(str(target), facts, pip_offer(ship.wheels), ship.requirements, archive, now_s=now_s)
    sys.stdout.write((json.dumps(to_json(found)) if options.json else found.to_text()) + "\n")
    return 0 if found.fits else 1
