"""The commands of a bundle: `edge-runtime check` and `info`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING

from edge_runtime.command_line import Commands, bundle_command, count, opened, say

if TYPE_CHECKING:
    from edge_runtime.contract.manifest import Manifest


def add_check(commands: Commands) -> None:
    """`edge-runtime check`."""
    command = bundle_command(
        commands,
        "check",
        check,
        "verify hashes and answer the golden vectors",
        "edge-runtime check BUNDLE",
        "edge-runtime check BUNDLE --choose --memory-limit 64",
        "edge-runtime check ~/.local/share/vitaledge/current --timing --json",
    )
    command.add_argument("--timing", action="store_true", help="also say how long blocks of them take, and the memory")
    command.add_argument(
        "--choose", action="store_true", help="measure all forms and let `run` use the fastest from now on"
    )
    command.add_argument("--memory-limit", type=count, metavar="MB", help="of a form to choose (default: half of all)")


def add_info(commands: Commands) -> None:
    """`edge-runtime info`."""
    bundle_command(
        commands,
        "info",
        info,
        "what the bundle is and what this machine offers",
        "edge-runtime info BUNDLE",
        "edge-runtime info BUNDLE --json",
    )


def check(options: argparse.Namespace) -> int:
    """1 if the golden vectors fail."""
    from edge_runtime.cost import measure_cost
    from edge_runtime.golden import check as answer

    if options.choose:
        return _choose(options)
    bundle, engine = opened(options)
    result = answer(bundle, engine)
    verdict = "passed" if result.is_passed else "FAILED"
    text = (
        f"{bundle.id}: hashes hold; golden vectors {verdict} on {engine.name} {engine.version}: "
        f"{result.given} of {result.wanted} readings, largest difference {result.worst_sample} samples, "
        f"{result.worst_confidence:.2g} confidence"
    )
    if result.worst_value is not None:
        text += f", {result.worst_value:.2g} of value"
    cost: dict[str, object] = {}
    if options.timing:
        found = measure_cost(bundle, engine)
        cost = asdict(found)
        text += f"; {found.to_text()}"
    say(
        options,
        {
            "bundle": bundle.id,
            "engine": engine.name,
            "version": engine.version,
            "provider": engine.provider,
            "precision": bundle.manifest.step_graph.precision,
            **asdict(result),
            **cost,
        },
        text,
    )
    if result.is_passed:
        return 0
    sys.stderr.write(
        f"edge-runtime: {options.bundle}: golden vectors failed: {result.given} of {result.wanted} readings on "
        f"{engine.name} {engine.version}; do not use it here: try another version of {engine.name}, or pack it anew\n"
    )
    return 1


def _choose(options: argparse.Namespace) -> int:
    from edge_runtime.choose import choose
    from edge_runtime.contract.bundle import open_bundle

    def progress(text: str) -> None:
        sys.stderr.write(f"{text}\n")

    measured, chosen, why, place = choose(
        open_bundle(options.bundle),
        threads=options.threads,
        limit_bytes=None if options.memory_limit is None else options.memory_limit * 1_000_000,
        progress=progress,
    )
    value = {"chosen": chosen.form.name, "why": why, "remembered": str(place)}
    lines = [*(m.to_text() for m in measured), f"chosen: {why}", f"remembered in {place}"]
    say(options, {**value, "forms": [m.to_json() for m in measured]}, "\n".join(lines))
    return 0


def info(options: argparse.Namespace) -> int:
    """The bundle, this machine, its streams."""
    from edge_runtime import probes
    from edge_runtime.contract.bundle import open_bundle
    from edge_runtime.forms import read_choice
    from edge_runtime.streams import noted_streams, notes_folder

    bundle = open_bundle(options.bundle)
    m, choice = bundle.manifest, read_choice(bundle)
    facts: dict[str, object] = {
        "bundle": bundle.id,
        "created": m.created,
        "task": m.task,
        **_kind_facts(m),
        "graphs": {
            g.name: {"runs": g.runs, "precision": g.precision, "parameters": g.parameters, "macs": g.macs}
            for g in m.graphs
        },
        "forms": [f.name for f in m.all_forms],
        "budget": None if m.budget is None else m.budget.to_text(),
        "chosen": None if choice is None else choice.why,
        "trained_on": m.training.records,
        "simulated": m.training.simulated,
        "training": {k: v for k, v in asdict(m.training).items() if k not in ("records", "simulated")},
        "metrics": m.metrics,
        "machine": asdict(probes.machine()),
        "state": probes.machine_state().to_json(),
    }
    streams = noted_streams(notes_folder())
    told = {"streams": {f"stream {i}": note for i, note in enumerate(streams, 1)} or None}
    say(options, facts | {"streams": streams}, "\n".join(_lines(facts | told)))
    return 0


def _kind_facts(m: Manifest) -> dict[str, object]:
    """What only one kind of bundle has."""
    from edge_runtime.contract.manifest import WindowManifest, beats_of

    if isinstance(m, WindowManifest):
        w = m.window
        return {
            "reading": f"{w.reading}, {w.reading_unit}" if w.reading_unit else w.reading,
            "classes": list(m.classes),
            "range": [w.values[0], w.values[-1]] if w.values else [],
            "refuse_below": w.refuse_below,
            "missing": w.missing,
            "unit": m.unit,
            "channels": list(w.channels),
            "hop_s": m.hop_samples / w.rate_hz,
            "window_s": w.window_samples / w.rate_hz,
        }
    b = beats_of(m)
    return {
        "classes": list(b.classes),
        "lead": b.lead,
        "hop_s": b.hop_samples / b.rate_hz,
        "delay_s": b.delay_samples / b.rate_hz,
        "receptive_field_s": b.receptive_field_samples / b.rate_hz,
    }


def _lines(facts: Mapping[str, object], indent: str = "") -> Iterator[str]:
    """A table of facts as lines for people; what is not known says so."""
    for name, value in facts.items():
        label = f"{indent}{name.replace('_', ' '):{20 - len(indent)}} "
        if isinstance(value, Mapping):
            yield label.rstrip()
            yield from _lines(value, indent + "  ")
        else:
            yield label + _words(value)


def _words(value: object) -> str:
    if value is None:
        return "not known"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
