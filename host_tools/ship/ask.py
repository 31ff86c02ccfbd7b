"""Runs a verb of a script on a device in a process of its own, as root if need be, and gives its answer."""

from __future__ import annotations

import json
from collections.abc import Sequence

from host_tools.ship.device import Device
from host_tools.ship.errors import ShipError
from host_tools.ship.sources import ALONE, program


def ask(
    device: Device, script: Sequence[str], verb: str, *, by_sudo: bool = False, **arguments: object
) -> dict[str, object]:
    """Run `verb` of a script of these files there with arguments as JSON; raises ShipError with what the device said.

    What a device is told goes through standard input: nothing of it can be read in its list of processes.
    """
    argv = [*(["sudo", "-n"] if by_sudo else []), device.executable, *ALONE, "-c", program(*script), verb]
    done = device.transport.run(argv, [json.dumps(arguments).encode()], timeout_s=180.0)
    try:
        answer = json.loads(done.stdout.decode("utf-8", "replace").strip().splitlines()[-1])
    except (ValueError, IndexError) as error:
        raise ShipError(f"{device.name}: {verb} failed on the device ({done.last_words})") from error
    if done.rc != 0 or "error" in answer:
        raise ShipError(f"{device.name}: {answer.get('error', done.last_words)}")
    return dict(answer)
