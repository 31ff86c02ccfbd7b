"""The command line of deployments: `vitaledge deploy BUNDLE TARGET ...`, one target after the other."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from edge_runtime.contract.errors import EdgeError, SettingsError, one_line
from host_tools.command_line import (
    BUNDLE_SUCH_AS,
    Commands,
    command,
    limit_options,
    runtime_options,
    say,
    ship_options,
    signing_options,
    target_options,
)
from host_tools.ship.options import ShipOptions


def add_deploy(commands: Commands) -> None:
    """Register `deploy`."""
    parser = command(
        commands,
        "deploy",
        _deploy,
        "ship a bundle and its runtime, check it there, make it current",
        "vitaledge deploy deploy/bundles/ecg-beats ssh://pi@gateway --plan",
        "vitaledge deploy deploy/bundles/ecg-beats ssh://pi@gateway:2222/srv/vitaledge",
        "vitaledge deploy deploy/bundles/ecg-beats ssh://pi@gw1 ssh://pi@gw2",
        "vitaledge deploy runs/demo/bundle local:/tmp/gateway",
        goes_on=True,
    )
    parser.add_argument("bundle", type=Path, help=BUNDLE_SUCH_AS)
    target_options(parser, several=True)
    runtime_options(parser)
    parser.add_argument("--plan", action="store_true", help="only say what would be done")
    signing_options(parser)
    limit_options(parser)


def _deploy(options: argparse.Namespace) -> int:
    return deploy_each(options, ship_options(options))


def deploy_each(options: argparse.Namespace, ship: ShipOptions) -> int:
    """Deploy to `options.targets`, or plan it; one that fails is told and stops no other. Gives the exit code.

    Raises SettingsError and BundleError for what no target could take, and of a single target whatever it raises.
    """
    from edge_runtime.contract.bundle import open_bundle

    names = _names(options.targets)
    open_bundle(options.bundle)
    one = _plan_one if options.plan else _deploy_one
    if len(options.targets) == 1:
        one(options, options.targets[0], ship)
        return 0
    n_failed = 0
    for target, name in zip(options.targets, names, strict=True):
        try:
            one(options, target, ship)
        except (EdgeError, OSError) as error:
            n_failed += 1
            text = one_line(error) if isinstance(error, OSError) else str(error).removeprefix(f"{name}: ")
            sys.stderr.write(f"vitaledge: {target}: {text}\n")
            if options.json:
                sys.stdout.write(json.dumps({"target": target, "error": text}) + "\n")
    return 1 if n_failed else 0


def _names(targets: Sequence[str]) -> list[str]:
    """How messages name each target; a target that cannot be read is refused before the first is touched."""
    from host_tools.ship.targets import parse_target

    parsed = [parse_target(target) for target in targets]
    for number, target in enumerate(parsed):
        if target in parsed[:number]:
            raise SettingsError(f"{target} is named twice; each target once wanted")
    return [str(target) for target in parsed]


def _plan_one(options: argparse.Namespace, target: str, ship: ShipOptions) -> None:
    from host_tools.ship.deploy import steps_for

    steps = [str(step) for step in steps_for(options.bundle, target, options=ship)]
    head = f"{target}: " if len(options.targets) > 1 else ""
    text = "\n".join(head + step for step in steps or ["nothing to do"])
    say(options, {"target": target, "steps": steps}, text)


def _deploy_one(options: argparse.Namespace, target: str, ship: ShipOptions) -> None:
    from host_tools.bars import console_bars
    from host_tools.ship.deploy import deploy

    with console_bars()(f"deploy to {target}") as tick:
        done = deploy(options.bundle, target, options=ship, progress=lambda t, d, n: tick(d, n, t))
    text = (
        f"{done.release} is active on {target}: {len(done.steps)} steps, "
        f"{done.bytes_sent} bytes sent, {done.seconds:.1f} s"
        + (f"; {done.first_reading}" if done.first_reading else "")
        + ("" if done.signers else "; nobody's signature was asked for: no allowed signers there")
    )
    say(options, {"target": target, **asdict(done)}, text)
