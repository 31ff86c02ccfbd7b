"""The command line of measurements: `vitaledge bench`, `stress`, `report` and `capacity`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from edge_runtime.contract.errors import SettingsError
from host_tools.command_line import (
    BUNDLE,
    BUNDLE_SUCH_AS,
    Commands,
    command,
    count,
    runtime_options,
    say,
    ship_options,
    target_options,
)


def add_bench(commands: Commands) -> None:
    """Register `bench`."""
    parser = command(
        commands,
        "bench",
        _bench,
        "deploy, replay labelled records on the target, bring figures back",
        "vitaledge bench deploy/bundles/ecg-beats ssh://pi@gateway --out gateway.json",
        "vitaledge bench runs/demo/bundle local:/tmp/gateway --data simulated --records sim16",
    )
    parser.add_argument("bundle", type=Path, help=BUNDLE_SUCH_AS)
    target_options(parser)
    runtime_options(parser)
    parser.add_argument("--data", choices=["mitdb", "simulated"], help="default: mitdb if VITALEDGE_DATA is set")
    parser.add_argument(
        "--records", nargs="+", help="record names (default: the test split); .npy files for a bundle of windows"
    )
    parser.add_argument(
        "--threads", type=count, default=1, help="threads of the inference engine, there and here (default: 1)"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("bench.json"), help="the device's report (JSON; default: bench.json)"
    )


def add_stress(commands: Commands) -> None:
    """Register `stress`."""
    parser = command(
        commands,
        "stress",
        _stress,
        "stream records with added electrode noise and score the beats",
        "vitaledge stress deploy/bundles/ecg-beats",
        "vitaledge stress runs/mine/bundle --snr 12 0 --out mine-stress.json",
    )
    parser.add_argument("bundle", type=Path, help=BUNDLE_SUCH_AS)
    parser.add_argument(
        "--snr", type=float, nargs="+", default=[24.0, 12.0, 6.0, 0.0], metavar="DB", help="default: 24 12 6 0"
    )
    parser.add_argument("--seed", type=int, default=0, help="draws where each test record's noise begins (default: 0)")
    parser.add_argument("--out", type=Path, default=Path("stress.json"), help="JSON; default: stress.json")


def add_report(commands: Commands) -> None:
    """Register `report`."""
    parser = command(
        commands,
        "report",
        _report,
        "write report.json and report.html from a study",
        "vitaledge report runs/ecg-beats/report.json --out page",
        "vitaledge report runs/ecg-beats/report.json --bench gateway.json --out page",
    )
    parser.add_argument("study", type=Path, help="report.json of a run")
    parser.add_argument("--bench", type=Path, help="a bench report of another device, to be shown instead")
    parser.add_argument("--publish", action="store_true", help="leave out strips of recordings and raw times")
    parser.add_argument("--out", type=Path, default=Path("report"), help="folder, which is made (default: report)")


def add_capacity(commands: Commands) -> None:
    """Register `capacity`."""
    parser = command(
        commands,
        "capacity",
        _capacity,
        "how many patients a core of a gateway could carry: an estimate, from the bundle and a measurement here",
        "vitaledge capacity deploy/bundles/ecg-beats",
        "vitaledge capacity deploy/bundles/ecg-beats --share-of-peak 0.1 --json",
    )
    parser.add_argument("bundle", type=Path, help=BUNDLE)
    parser.add_argument(
        "--share-of-peak", type=float, default=0.2, help="of a core's peak that the engine reaches (default: 0.2)"
    )


def _bench(options: argparse.Namespace) -> int:
    from host_tools.bars import console_bars
    from host_tools.bench import bench_bundle

    with console_bars()(f"bench on {options.target}") as tick:
        result = bench_bundle(
            options.bundle,
            options.target,
            data=options.data,
            names=options.records,
            threads=options.threads,
            ship=ship_options(options),
            out=options.out,
            progress=lambda text, done, total: tick(done, total, text),
        )
    say(options, result.to_json(), result.to_text())
    return 0


def _stress(options: argparse.Namespace) -> int:
    from edge_runtime.contract.report import claimed
    from host_tools.bars import console_bars
    from host_tools.data.sets import data_root
    from host_tools.measure.noise import stress_bundle

    with claimed(options.out), console_bars()("noise stress test") as tick:
        found = stress_bundle(options.bundle, data_root(), options.snr, seed=options.seed, tick=tick)
        options.out.write_text(found.to_json())
    say(options, json.loads(found.to_json()), f"{found.to_text()}\n\nreport  {options.out}")
    return 0


def _report(options: argparse.Namespace) -> int:
    from host_tools.measure.report import rewrite_report

    data, html = rewrite_report(options.study, options.bench, options.out, publish=options.publish)
    say(options, {"report_json": str(data), "report_html": str(html)}, f"report  {html}")
    return 0


def _capacity(options: argparse.Namespace) -> int:
    from edge_runtime.assemble import open_engine
    from edge_runtime.contract.bundle import open_bundle
    from host_tools.capacity import capacities, measure, to_json, to_markdown

    share = options.share_of_peak
    if not 0.0 < share <= 1.0:
        raise SettingsError(f"--share-of-peak is {share:g}; more than 0 and at most 1 wanted")
    measured = measure(open_bundle(options.bundle), open_engine())
    found = capacities(measured, share)
    say(options, to_json(measured, found), to_markdown(measured, found, share))
    return 0
