"""The commands of ports and wearables: `edge-runtime sources`, `probe` and `simulate`."""

from __future__ import annotations

import argparse
import sys

from edge_runtime.command_line import Commands, command, count, positive, say
from edge_runtime.contract.errors import SettingsError


def add_sources(commands: Commands) -> None:
    """`edge-runtime sources`."""
    made = command(
        commands,
        "sources",
        sources,
        "list this machine's ports and the protocols that can be read",
        "edge-runtime sources",
        "edge-runtime sources --json",
    )
    made.add_argument("--json", action="store_true", help="one JSON object on standard output")


def add_probe(commands: Commands) -> None:
    """`edge-runtime probe`."""
    made = command(
        commands,
        "probe",
        probe,
        "listen on a port and say which protocol is speaking, and how well",
        "edge-runtime probe /dev/ttyUSB0",
        "edge-runtime probe /dev/ttyUSB0 --baud 57600 --json",
    )
    made.add_argument("port", help="such as /dev/ttyUSB0, a serial: or tcp: URL, or one that pyserial knows")
    made.add_argument("--baud", type=count, help="only at this speed (default: at each protocol's own)")
    made.add_argument(
        "--seconds",
        type=positive,
        default=3.0,
        help="how long to listen at each setting (default: 3; up to 7 more where too few frames come)",
    )
    made.add_argument("--json", action="store_true", help="one JSON object a line on standard output")


def add_simulate(commands: Commands) -> None:
    """`edge-runtime simulate`."""
    made = command(
        commands,
        "simulate",
        simulate,
        "play a record or a synthetic heart as a wearable would send it",
        "edge-runtime simulate cyton --to pty:/tmp/wearable",
        "edge-runtime simulate csv --to tcp:7000 --source 'synthetic:?pvc=0.1' --faults drop=0.001,unplug=0.002",
    )
    made.add_argument("protocol", help="a name from `edge-runtime sources`")
    made.add_argument("--to", required=True, help="pty, pty:LINK, tcp, tcp:PORT, tcp:HOST:PORT or unix:PATH")
    made.add_argument("--source", default="synthetic:?seconds=max", help="what is played (default: a calm heart)")
    made.add_argument("--faults", default="", help="such as drop=0.001,flip=0.001,stall=0.01,drift_ppm=50,wrap")
    made.add_argument("--seed", type=int, default=1, help="of the faults (default: 1)")
    made.add_argument("--speed", type=float, default=1.0, help="times real time (default: 1)")


def sources(options: argparse.Namespace) -> int:
    """What there is to read."""
    from edge_runtime.sensors.probe import ports, protocols

    found: dict[str, list[dict[str, object]]] = {"ports": ports(), "protocols": protocols()}
    lines = [f"{p['port']}  {p['description'] or ''}" for p in found["ports"]] or ["no serial port"]
    for p in found["protocols"]:
        way = "Bluetooth LE" if p["baud"] is None else f"{p['baud']} baud"
        lines.append(f"{p['protocol']:14} {p['title']}: {p['rate_hz']:g} Hz, {way}")
    say(options, dict(found), "\n".join(lines))
    return 0


def probe(options: argparse.Namespace) -> int:
    """1 if nobody known is speaking."""
    import time

    from edge_runtime.sensors.probe import probe as listen

    found = listen(options.port, baud=options.baud, seconds=options.seconds, clock=time.monotonic_ns)
    heard = [v for v in found if v.is_speaking] or [v for v in found if v.good]
    for v in heard:
        rate = "" if v.rate_hz != v.rate_hz else f", {v.rate_hz:.1f} Hz"
        text = f"{v.protocol:12} {v.good} good, {v.damaged} damaged, at {v.baud} baud{rate}"
        say(options, v.to_json(), text)
    if heard and heard[0].is_speaking:
        return 0
    n_bytes = max((v.n_bytes for v in found), default=0)
    known = "not enough to believe one of these" if heard else "no known protocol"
    wanted = "is the sensor on, and at another speed (--baud)?" if n_bytes else "is the sensor on?"
    sys.stderr.write(f"edge-runtime: {options.port}: {known} in {n_bytes} bytes; {wanted}\n")
    return 1


def simulate(options: argparse.Namespace) -> int:
    """Until told to stop, or to the end of what is played."""
    import time
    from contextlib import closing

    from edge_runtime.sensors.faults import parse_faults
    from edge_runtime.sensors.source import open_source
    from edge_runtime.sensors.wearable import outlet, play, url
    from edge_runtime.service import stop_on_signals

    if not options.speed > 0.0:
        raise SettingsError(f"--speed is {options.speed:g}; a positive number wanted")
    faults = parse_faults(options.faults)
    with stop_on_signals() as stop, closing(open_source(options.source)) as source, closing(outlet(options.to)) as out:
        sys.stdout.write(url(options.protocol, out) + "\n")
        sys.stdout.flush()
        play(
            options.protocol,
            source,
            out,
            faults,
            seed=options.seed,
            speed=options.speed,
            is_stopped=stop.is_set,
            clock=time.monotonic_ns,
            sleep=time.sleep,
        )
    return 0
