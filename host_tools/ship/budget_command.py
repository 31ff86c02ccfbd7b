"""The command line of budgets: `vitaledge budget`."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from host_tools.command_line import BUNDLE, Commands, command, say


def add_budget(commands: Commands) -> None:
    """Register it."""
    parser = command(
        commands,
        "budget",
        _budget,
        "say what a bundle may cost on the devices it is deployed to, or set it",
        "vitaledge budget runs/mine/bundle",
        "vitaledge budget runs/mine/bundle --max-hop-ms 20 --max-memory 150",
        "vitaledge budget runs/mine/bundle --none",
    )
    parser.add_argument("bundle", type=Path, help=BUNDLE)
    parser.add_argument("--max-hop-ms", type=float, metavar="MS", help="p99 of a hop's computation")
    parser.add_argument("--max-memory", type=float, metavar="MIB", help="memory of the check and of the service")
    parser.add_argument("--none", action="store_true", help="take the budget away")


def _budget(options: argparse.Namespace) -> int:
    from edge_runtime.contract.budget import Budget
    from edge_runtime.contract.bundle import open_bundle
    from edge_runtime.contract.errors import SettingsError
    from host_tools.ship.budget import set_budget

    is_given = options.max_hop_ms is not None or options.max_memory is not None
    if options.none and is_given:
        raise SettingsError("--none takes the budget away; no number beside it wanted")
    if is_given:
        budget = Budget(max_hop_ms=options.max_hop_ms, max_memory_mib=options.max_memory)
        bundle = set_budget(options.bundle, budget)
    else:
        bundle = set_budget(options.bundle, None) if options.none else open_bundle(options.bundle)
    found = bundle.manifest.budget
    value = {"bundle": bundle.id, "budget": None if found is None else asdict(found)}
    say(options, value, f"{bundle.id}: {found.to_text() if found else 'no budget'}")
    return 0
