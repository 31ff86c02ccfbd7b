"""The command `edge-runtime bench`: stored records replayed and measured."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from edge_runtime.command_line import Commands, bundle_command, say


def add_bench(commands: Commands) -> None:
    """`edge-runtime bench`."""
    command = bundle_command(
        commands,
        "bench",
        bench,
        "replay stored records and measure latency, memory, readings",
        "edge-runtime bench BUNDLE RECORDS --out report.json",
    )
    command.add_argument("records", type=Path, help="folder with records.json, as `vitaledge bench` sends it")
    command.add_argument("--out", type=Path, required=True, help="where to write the report (JSON); its folder is made")


def bench(options: argparse.Namespace) -> int:
    """Measure, write the report, say its figures."""
    from edge_runtime.bench import measure
    from edge_runtime.contract.report import claimed, to_json

    def progress(name: str, done: int, total: int) -> None:
        sys.stderr.write(f"{done}/{total} record {name}\n")

    with claimed(options.out):
        report = measure(
            options.bundle,
            options.records,
            threads=options.threads,
            provider=options.provider,
            allow_fallback=options.allow_fallback,
            engine=options.engine,
            precision=options.precision,
            progress=progress,
        )
        options.out.write_text(to_json(report))
    for found in report.latencies:
        figures = {"stage": found.stage, "n": found.n, "p50_ns": found.p50_ns, "p95_ns": found.p95_ns}
        figures |= {"p99_ns": found.p99_ns, "max_ns": found.max_ns}
        say(options, figures, "  ".join(f"{k} {v}" for k, v in figures.items()))
    for record in report.records:
        told = {"record": record.name} | record.ledger.to_json()
        say(options, told, "  ".join(f"{k} {v}" for k, v in told.items() if k != "name"))
    return 0
