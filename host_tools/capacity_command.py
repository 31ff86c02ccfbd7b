"""The command `vitaledge capacity`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

from edge_runtime.contract.bundle import open_bundle
from edge_runtime.contract.errors import SettingsError

AddCommand = Callable[..., argparse.ArgumentParser]


def add_capacity_command(command: AddCommand) -> None:
    """Register the verb."""
    capacity = command(
        "capacity",
        _capacity,
        "how many patients a core of a gateway could carry: an estimate, from the bundle and a measurement here",
        "vitaledge capacity deploy/bundles/ecg-beats",
        "vitaledge capacity deploy/bundles/ecg-beats --share-of-peak 0.1 --json",
    )
    capacity.add_argument("bundle", type=Path, help="bundle directory (with manifest.json)")
    capacity.add_argument(
        "--share-of-peak", type=float, default=0.2, help="of a core's peak that the engine reaches (default: 0.2)"
    )


def _capacity(options: argparse.Namespace) -> int:
    from edge_runtime.assemble import open_engine
    from host_tools.capacity import capacities, measure, to_json, to_markdown

    share = options.share_of_peak
    if not 0.0 < share <= 1.0:
        raise SettingsError(f"--share-of-peak is {share:g}; more than 0 and at most 1 wanted")
    measured = measure(open_bundle(options.bundle), open_engine())
    found = capacities(measured, share)
    text = json.dumps(to_json(measured, found)) if options.json else to_markdown(measured, found, share)
    sys.stdout.write(text + "\n")
    return 0
