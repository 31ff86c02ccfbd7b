"""The command line of fleets: `vitaledge fleet INVENTORY.toml VERB`."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from edge_runtime.contract.errors import SettingsError
from host_tools.command_line import (
    BUNDLE,
    Commands,
    command,
    connection_options,
    count,
    limit_options,
    runtime_options,
    ship_options,
    signing_options,
)

if TYPE_CHECKING:
    from host_tools.fleet.run import Outcome, Work

# Which part of an answer a verb's table shows.
COLUMNS = {
    "deploy": "release",
    "status": "current",
    "rollback": "release",
    "logs": "lines",
    "collect": "folder",
    "exec": "output",
}


def add_fleet(commands: Commands) -> None:
    """Register `fleet`."""
    fleet = command(
        commands,
        "fleet",
        _fleet,
        "deploy, status, rollback, logs, collect and exec on all hosts of an inventory",
        "vitaledge fleet ward.toml deploy deploy/bundles/ecg-beats --plan",
        "vitaledge fleet ward.toml deploy deploy/bundles/ecg-beats",
        "vitaledge fleet ward.toml deploy deploy/bundles/ecg-beats --waves 1 5 25% all --failures 1",
        "vitaledge fleet ward.toml status --only icu 'gw1*' --json",
        "vitaledge fleet ward.toml exec -- check {current} --timing",
        "vitaledge fleet ward.toml collect --out figures --files 'work/report-*.json'",
        goes_on=True,
    )
    fleet.add_argument("inventory", type=Path, help="TOML file of hosts, groups and variables")
    verbs: Commands = fleet.add_subparsers(required=True, metavar="VERB", dest="verb", help="what to do on all of them")
    verb = partial(_verb, verbs)
    deploy = verb(
        "deploy",
        "ship a bundle in waves: a canary, a share, all; stops by itself",
        " deploy/bundles/ecg-beats --waves 1 10% all",
    )
    deploy.add_argument("bundle", type=Path, help=BUNDLE)
    deploy.add_argument(
        "--waves", nargs="+", metavar="N", help="hosts in each wave: a number, a share, all (default: 1 10%% all)"
    )
    deploy.add_argument("--failures", type=int, default=0, help="hosts that may fail before it stops (default: 0)")
    deploy.add_argument(
        "--slower", type=float, default=1.5, help="how many times slower a block may become (default: 1.5)"
    )
    deploy.add_argument("--plan", action="store_true", help="only say what would be done on each host")
    deploy.add_argument("--no-compare", action="store_true", help="do not measure the old release and the new one")
    runtime_options(deploy)
    signing_options(deploy)
    limit_options(deploy)
    verb("status", "what each host has", " --only icu")
    rollback = verb("rollback", "make the previous release current again, everywhere", " --only 'gw1*'")
    rollback.add_argument("--to", help="a release's name (default: the one before)")
    limit_options(rollback)
    logs = verb("logs", "the last lines of each service's log", " --lines 50")
    logs.add_argument("--lines", type=count, default=20, help="of each host (default: 20)")
    collect = verb(
        "collect", "bring back what each host says of itself, and files", " --out figures --files 'work/report-*.json'"
    )
    collect.add_argument("--out", type=Path, required=True, help="folder; each host gets one in it")
    collect.add_argument("--files", nargs="+", default=[], metavar="PATTERN", help="below the root folder there")
    collect.add_argument("--timeout", type=float, default=300.0, metavar="S", help="of the check (default: 300)")
    run = verb(
        "exec",
        "run edge-runtime on each host; {name} is a variable, {current} the active release",
        " -- check {current} --timing",
    )
    run.add_argument("--timeout", type=float, default=300.0, metavar="S", help="seconds (default: 300)")
    run.add_argument("arguments", nargs="+", help="of edge-runtime, after --")


def _verb(verbs: Commands, name: str, text: str, example: str) -> argparse.ArgumentParser:
    verb: argparse.ArgumentParser = verbs.add_parser(
        name, help=text, description=text, epilog=f"example:  vitaledge fleet ward.toml {name}{example}"
    )
    verb.add_argument("--only", nargs="+", default=[], metavar="NAME", help="hosts or groups; * and ? match")
    verb.add_argument("--at-once", type=int, default=64, metavar="N", help="connections at a time (default: 64)")
    verb.add_argument("--connect-timeout", type=float, default=5.0, metavar="S", help="seconds (default: 5)")
    verb.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="results as JSON")
    connection_options(verb)
    return verb


def _fleet(options: argparse.Namespace) -> int:
    from host_tools.fleet import verbs
    from host_tools.fleet.deploy import Rollout, deploy_to, plans_for
    from host_tools.fleet.inventory import chosen, load_inventory
    from host_tools.fleet.run import run_on
    from host_tools.fleet.table import live_table
    from host_tools.fleet.waves import DEFAULT_WAVES, Limits

    for name in ("at_once", "connect_timeout", "timeout"):
        # Not a number is no more than 0 either.
        if not getattr(options, name, 1) > 0:
            raise SettingsError(f"--{name.replace('_', '-')} is {getattr(options, name):g}; more than 0 wanted")
    ship = replace(ship_options(options), connect_timeout_s=options.connect_timeout)
    hosts = chosen(load_inventory(options.inventory), options.only)
    if options.verb == "exec":
        # A word that cannot be filled in is told before anything runs anywhere.
        for host in hosts:
            verbs.filled(host, options.arguments, "")
    started, stopped = time.monotonic(), ""
    outcomes: list[Outcome]
    with live_table(hosts) as say:
        if options.verb == "deploy":
            rollout = Rollout(
                waves=tuple(options.waves or DEFAULT_WAVES),
                limits=Limits(failures=options.failures, slower=options.slower),
                compare=not options.no_compare,
                at_once=options.at_once,
            )
            if options.plan:
                outcomes = plans_for(options.bundle, hosts, ship, rollout, say)
            else:
                outcomes, stopped = deploy_to(options.bundle, hosts, ship, rollout, say)
        else:
            works: dict[str, Callable[[], Work]] = {
                "status": lambda: verbs.status,
                "rollback": lambda: verbs.rollback(options.to, ship),
                "logs": lambda: verbs.logs(options.lines),
                "collect": lambda: verbs.collect(options.out, options.files, options.timeout),
                "exec": lambda: verbs.execute(options.arguments, options.timeout),
            }
            outcomes = run_on(hosts, works[options.verb](), ship, at_once=options.at_once, say=say)
    verb = "plan" if getattr(options, "plan", False) else options.verb
    _print(verb, options.json, outcomes, stopped, time.monotonic() - started)
    nowhere = verbs.matched_nowhere([one.answer for one in outcomes])
    for pattern in nowhere:
        sys.stderr.write(f"vitaledge: --files {pattern}: no file of any host matches; patterns are below its root\n")
    return 0 if all(one.state == "done" for one in outcomes) and not nowhere else 1


def _print(verb: str, as_json: bool, outcomes: Sequence[Outcome], stopped: str, seconds: float) -> None:
    from rich.console import Console

    from host_tools.fleet.table import result_table

    if as_json:
        result = {
            "schema": 1,
            "verb": verb,
            "stopped": stopped or None,
            "seconds": round(seconds, 3),
            "hosts": [asdict(one) for one in outcomes],
        }
        sys.stdout.write(json.dumps(result) + "\n")
        return
    if verb in ("logs", "exec", "plan"):
        for one in outcomes:
            for line in _lines(one):
                sys.stdout.write(f"{one.host}: {line}\n")
    else:
        Console().print(result_table(outcomes, COLUMNS[verb]))
    if stopped:
        sys.stderr.write(f"vitaledge: stopped: {stopped}\n")


def _lines(outcome: Outcome) -> list[str]:
    """What a host's log or program said, or would be done there; what went wrong was told when it did."""
    if outcome.state != "done":
        return []
    steps = outcome.answer.get("steps")
    if isinstance(steps, list):
        return [f"wave {outcome.wave}: {step}" for step in steps or ["nothing to do"]]
    lines = outcome.answer.get("lines")
    if isinstance(lines, list):
        return lines or ["no line of the service, or none that this user may read"]
    return str(outcome.answer.get("output", "")).splitlines()
