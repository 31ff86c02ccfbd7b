"""The command line of releases: `vitaledge deploy`, `rollback` and `status`."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

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


def add_deploy(commands: Commands) -> None:
    """Register `deploy`."""
    parser = command(
        commands,
        "deploy",
        _deploy,
        "ship a bundle and its runtime, check it there, make it current",
        "vitaledge deploy deploy/bundles/ecg-beats ssh://pi@gateway --plan",
        "vitaledge deploy deploy/bundles/ecg-beats ssh://pi@gateway:2222/srv/vitaledge",
        "vitaledge deploy runs/demo/bundle local:/tmp/gateway",
        goes_on=True,
    )
    parser.add_argument("bundle", type=Path, help=BUNDLE_SUCH_AS)
    target_options(parser)
    runtime_options(parser)
    parser.add_argument("--plan", action="store_true", help="only say what would be done")
    signing_options(parser)
    limit_options(parser)


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


def _deploy(options: argparse.Namespace) -> int:
    from host_tools.bars import console_bars
    from host_tools.ship.deploy import deploy, steps_for

    ship = ship_options(options)
    if options.plan:
        steps = [str(step) for step in steps_for(options.bundle, options.target, options=ship)]
        say(options, {"steps": steps}, "\n".join(steps) or "nothing to do")
        return 0
    with console_bars()(f"deploy to {options.target}") as tick:
        done = deploy(options.bundle, options.target, options=ship, progress=lambda t, d, n: tick(d, n, t))
    text = (
        f"{done.release} is active on {options.target}: {len(done.steps)} steps, "
        f"{done.bytes_sent} bytes sent, {done.seconds:.1f} s"
        + (f"; {done.first_reading}" if done.first_reading else "")
        + ("" if done.signers else "; nobody's signature was asked for: no allowed signers there")
    )
    say(options, asdict(done), text)
    return 0


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
