"""Runs a verb of one of the device's own scripts there, and gives its answer."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import cache
from importlib.resources import files

from host_tools.ship.device import Device
from host_tools.ship.errors import ShipError


def ask(
    device: Device, script: str, verb: str, *, timeout_s: float | None = None, **arguments: object
) -> dict[str, object]:
    """Run `verb` of the script there with arguments as JSON; raises ShipError with what the device said.

    What a device is told goes through standard input: nothing of it can be read in its list of processes.
    """
    # -I -S: nothing that is installed or set there can change what the script does.
    argv = [device.executable, "-I", "-S", "-c", _text(script), verb]
    done = device.transport.run(argv, _told(arguments), timeout_s=timeout_s)
    try:
        answer = json.loads(done.stdout.decode("utf-8", "replace").strip().splitlines()[-1])
    except (ValueError, IndexError) as error:
        raise ShipError(f"{device.name}: {verb} failed on the device ({done.last_words})") from error
    if done.rc != 0 or "error" in answer:
        raise ShipError(f"{device.name}: {answer.get('error', done.last_words)}")
    return dict(answer)


def _told(arguments: dict[str, object]) -> Iterable[bytes]:
    yield json.dumps(arguments).encode()


@cache
def _text(script: str) -> str:
    return files("host_tools.ship").joinpath(script).read_text()
