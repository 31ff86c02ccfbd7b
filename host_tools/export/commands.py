"""The command line of exports: `vitaledge forms`."""

from __future__ import annotations

import argparse
from pathlib import Path

from host_tools.command_line import BUNDLE, Commands, command, say


def add_forms(commands: Commands) -> None:
    """Register `forms`."""
    parser = command(
        commands,
        "forms",
        _forms,
        "give a bundle its LiteRT files, made from its ONNX files and compared with them",
        "vitaledge forms runs/mine/bundle",
        "vitaledge forms runs/int8/bundle --also runs/fp32/bundle --to deploy/bundles/mine",
    )
    parser.add_argument("bundle", type=Path, help=BUNDLE)
    parser.add_argument("--also", type=Path, metavar="BUNDLE", help="the same model in another precision, put in too")
    parser.add_argument("--to", type=Path, metavar="DIR", help="write there (default: in its own place)")


def _forms(options: argparse.Namespace) -> int:
    from edge_runtime.contract.bundle import open_bundle
    from host_tools.export.forms import form_of, litert_forms, with_forms

    bundle = open_bundle(options.bundle)
    parities = []
    place = options.to or bundle.path
    if options.also is not None:
        done = with_forms(bundle, [form_of(open_bundle(options.also))], place)
        bundle, parities = done.bundle, [*done.parities]
    done = with_forms(bundle, litert_forms(bundle), place)
    value = done.to_json()
    value["parity"] = [*(p.to_json() for p in parities), *(p.to_json() for p in done.parities)]
    say(options, value, "\n".join([done.to_text(), *(p.to_text() for p in parities)]))
    return 0
