"""The command line of emulated gateways: `vitaledge emulator`."""

from __future__ import annotations

import argparse
import time
from dataclasses import asdict

from host_tools.command_line import Commands, command, say

VERBS = {
    "create": "make a gateway; the first of its kind downloads Debian and takes minutes",
    "start": "start it and say how to reach it",
    "stop": "power it off",
    "status": "say how to reach it, or list all",
    "remove": "forget it and its disk",
}


def add_emulator(commands: Commands) -> None:
    """Register `emulator`."""
    parser = command(
        commands,
        "emulator",
        _emulator,
        "make and run a gateway without hardware",
        "vitaledge emulator create gateway1",
        "vitaledge emulator start gateway1",
        "edge-runtime simulate cyton --to unix:SOCKET   (as `start` prints it; plugs the wearable in)",
        "vitaledge emulator stop gateway1 --cut         (as if its plug was pulled)",
        "vitaledge emulator create quick --kind container",
        goes_on=True,
    )
    parser.add_argument("verb", choices=list(VERBS), help="; ".join(f"{k}: {v}" for k, v in VERBS.items()))
    parser.add_argument("name", nargs="?", help="of the gateway, which becomes its host name")
    parser.add_argument(
        "--kind",
        choices=["aarch64", "container"],
        default="aarch64",
        help="of create: a whole aarch64 machine in QEMU, or a fast container with systemd (default: aarch64)",
    )
    parser.add_argument("--fresh", action="store_true", help="of start: as it was made, without what happened since")
    parser.add_argument("--cut", action="store_true", help="of stop: cut its power")


def _emulator(options: argparse.Namespace) -> int:
    from host_tools.bars import console_bars
    from host_tools.emulator import gateways
    from host_tools.emulator.gateway import EmulatorError

    if options.name is None:
        if options.verb != "status":
            raise EmulatorError(f"{options.verb} wants a name: vitaledge emulator {options.verb} gateway1")
        found = gateways.all_statuses()
        say(options, [asdict(s) for s in found], "\n".join(s.to_text() for s in found) or "no emulated gateway")
        return 0
    begun = time.monotonic()
    with console_bars()(f"{options.verb} {options.name}") as tick:

        def progress(text: str, done: int, total: int) -> None:
            tick(done, total, text)

        if options.verb == "create":
            gateways.create(options.name, options.kind, progress)
        elif options.verb == "start":
            gateways.start(options.name, is_fresh=options.fresh, progress=progress)
        elif options.verb == "stop":
            gateways.stop(options.name, is_cut=options.cut)
        elif options.verb == "remove":
            gateways.remove(options.name)
            say(options, {"name": options.name, "state": "removed"}, f"{options.name}: removed")
            return 0
    status = gateways.status(options.name)
    say(options, {**asdict(status), "seconds": round(time.monotonic() - begun, 1)}, status.to_text())
    return 0
