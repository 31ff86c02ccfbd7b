"""The command line of engines: `vitaledge forms`, and what other commands ask about engines."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

from edge_runtime.contract.bundle import open_bundle

AddCommand = Callable[..., argparse.ArgumentParser]
ENGINES = {"onnxruntime": ("onnxruntime",), "litert": ("ai-edge-litert",), "both": ("onnxruntime", "ai-edge-litert")}


def add_forms_command(command: AddCommand) -> None:
    """Register the verb."""
    forms = command(
        "forms",
        _forms,
        "give a bundle its LiteRT files, made from its ONNX files and compared with them",
        "vitaledge forms runs/mine/bundle",
        "vitaledge forms runs/int8/bundle --also runs/fp32/bundle --to deploy/bundles/mine",
    )
    forms.add_argument("bundle", type=Path, help="bundle directory (with manifest.json)")
    forms.add_argument("--also", type=Path, metavar="BUNDLE", help="the same model in another precision, put in too")
    forms.add_argument("--to", type=Path, metavar="DIR", help="write there (default: in its own place)")


def add_engine_option(command: argparse.ArgumentParser) -> None:
    """What commands that ship a runtime ask."""
    command.add_argument(
        "--engine", choices=tuple(ENGINES), default="onnxruntime", help="engine to ship (default: onnxruntime)"
    )


def engine_requirements(options: argparse.Namespace) -> tuple[str, ...]:
    """What the device needs besides the runtime; commands that ship none have no such option."""
    return ("numpy", "psutil", "pyserial", *ENGINES[getattr(options, "engine", "onnxruntime")])


def _forms(options: argparse.Namespace) -> int:
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
    lines = [done.to_text(), *(p.to_text() for p in parities)]
    sys.stdout.write((json.dumps(value) if options.json else "\n".join(lines)) + "\n")
    return 0
