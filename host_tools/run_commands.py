"""The command line of the main job: `vitaledge demo`, `run` and `data`."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from edge_runtime.contract.errors import EdgeError
from host_tools.command_line import Commands, command, runtime_options, say, ship_options, target_options


def add_demo(commands: Commands) -> None:
    """Register `demo`."""
    parser = command(
        commands,
        "demo",
        _demo,
        "the main job with a short recipe",
        "vitaledge demo",
        "vitaledge demo --data simulated --target ssh://pi@gateway",
        goes_on=True,
    )
    _study_options(parser, "runs/demo")


def add_run(commands: Commands) -> None:
    """Register `run`."""
    parser = command(
        commands,
        "run",
        _run,
        "the main job with a recipe of your own",
        "vitaledge run ecg-beats",
        "vitaledge run mine.toml --out runs/mine --target ssh://pi@gateway",
        goes_on=True,
    )
    parser.add_argument("recipe", type=Path, help="TOML file, or the name of a recipe that comes with vitaledge")
    _study_options(parser, None)


def add_data(commands: Commands) -> None:
    """Register `data`."""
    parser = command(
        commands,
        "data",
        _fetch,
        "download a data set from its original source",
        "vitaledge data fetch mitdb --root ~/ecg",
        goes_on=True,
    )
    parser.add_argument("verb", choices=["fetch"], help="download what is not there yet, and check every file")
    parser.add_argument(
        "set",
        choices=["mitdb", "nstdb"],
        help="MIT-BIH Arrhythmia Database, about 86 MB from PhysioNet; or the noise of its stress test, about 6 MB",
    )
    parser.add_argument("--root", type=Path, help="folder in which SET/ is made (default: VITALEDGE_DATA)")


def _study_options(parser: argparse.ArgumentParser, out: str | None) -> None:
    default = "runs/NAME of the recipe" if out is None else out
    parser.add_argument(
        "--out", type=Path, default=None if out is None else Path(out), help=f"run folder (default: {default})"
    )
    parser.add_argument("--data", choices=["mitdb", "simulated"], help="default: the recipe's, or what there is")
    target_options(parser, default=True)
    runtime_options(parser)


def _demo(options: argparse.Namespace) -> int:
    from host_tools.data.sets import data_root
    from host_tools.recipe import RECIPES

    if options.data is None:
        options.data = "mitdb" if data_root() is not None else "simulated"
    options.recipe = RECIPES / "demo.toml"
    return _run(options)


def _run(options: argparse.Namespace) -> int:
    from rich.console import Console

    from host_tools.bars import console_bars
    from host_tools.data.sets import data_root
    from host_tools.main_job import Wish, run_study
    from host_tools.measure.report import console_table
    from host_tools.recipe import RECIPES

    out = options.out or Path("runs") / options.recipe.stem
    known = RECIPES / f"{options.recipe}.toml"
    wish = Wish(
        recipe=known if known.is_file() else options.recipe,
        out=out,
        target=options.target or f"local:{out / 'target'}",
        command=options.command_line,
        data_root=data_root(),
        data=options.data,
        ship=ship_options(options),
    )
    done = run_study(wish, console_bars())
    if options.json:
        summary = {
            "report_html": str(done.report_html),
            "report_json": str(done.report_json),
            "bundle": str(done.bundle.path),
            "bundle_id": done.bundle.id,
            "simulated": done.report.simulated,
            "seconds": round(done.seconds, 1),
            "requirements": [{**asdict(r), "verdict": r.verdict} for r in done.report.requirements],
        }
        sys.stdout.write(json.dumps(summary) + "\n")
        return 0
    console = Console()
    console.print(console_table(done.report))
    console.print(f"bundle  {done.bundle.path}  ({done.bundle.id})", soft_wrap=True)
    console.print(f"report  {done.report_html}  ({done.seconds:.0f} s)", soft_wrap=True)
    return 0


def _fetch(options: argparse.Namespace) -> int:
    from host_tools.bars import console_bars
    from host_tools.data.fetch import fetch_mitdb, fetch_nstdb
    from host_tools.data.sets import ROOT_VARIABLE, data_root

    root = options.root or data_root()
    if root is None:
        raise EdgeError(f"no data root; give --root DIR or set {ROOT_VARIABLE}")
    with console_bars()(f"download {options.set}") as tick:
        {"mitdb": fetch_mitdb, "nstdb": fetch_nstdb}[options.set](root, tick)
    say(options, {"root": str(root)}, f"{options.set} is complete in {root}; export {ROOT_VARIABLE}={root}")
    return 0
