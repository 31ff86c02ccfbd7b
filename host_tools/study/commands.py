"""The command line of studies: `vitaledge study` and `pack`."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import asdict
from pathlib import Path

from host_tools.command_line import Commands, command, count, say


def add_study(commands: Commands) -> None:
    """Register `study`."""
    parser = command(
        commands,
        "study",
        _study,
        "run a table of compression techniques on a health task",
        "vitaledge study list",
        "vitaledge study breast-cancer",
        "vitaledge study mine.toml --jobs 2 --publish docs/results",
        "vitaledge study sizes --published docs/results",
        goes_on=True,
    )
    parser.add_argument(
        "study",
        help="TOML file, or the name of a study that comes with vitaledge; `list` names them, `sizes` prints the bytes "
        "and points of published ones as Markdown",
    )
    parser.add_argument("--out", type=Path, help="folder for models, cells and report (default: runs/studies/NAME)")
    parser.add_argument("--jobs", type=count, help="processes side by side (default: one per CPU)")
    parser.add_argument("--publish", type=Path, metavar="DIR", help="also write NAME.md, NAME.html and NAME.json there")
    parser.add_argument(
        "--published",
        type=Path,
        metavar="DIR",
        default=Path("docs/results"),
        help="of `sizes`: where published JSON lies (default: docs/results)",
    )


def add_pack(commands: Commands) -> None:
    """Register `pack`."""
    parser = command(
        commands,
        "pack",
        _pack,
        "pack a model of a finished study as a bundle with a model card",
        'vitaledge pack ecg-rhythm "distilled, INT8" --to deploy/bundles/ecg-rhythm',
        "vitaledge pack mine.toml student --out runs/mine --fold 2 --seed 2 --to bundle",
    )
    parser.add_argument("study", help="TOML file, or the name of a study that comes with vitaledge")
    parser.add_argument("row", help="a line of the study's table, by its name")
    parser.add_argument(
        "--to", type=Path, required=True, metavar="FOLDER", help="the bundle; one that is there is replaced"
    )
    parser.add_argument("--out", type=Path, help="folder of the study's models and report (default: runs/studies/NAME)")
    parser.add_argument("--fold", help="by name (default: that of the row's first model)")
    parser.add_argument("--seed", type=int, help="default: that of the row's first model")


def _study(options: argparse.Namespace) -> int:
    from host_tools.bars import console_bars
    from host_tools.data.sets import data_root
    from host_tools.study.place import Place
    from host_tools.study.plan import STUDIES, load_study
    from host_tools.study.report import verdicts, write_reports
    from host_tools.study.run import run_study

    if options.study == "list":
        names = sorted(p.stem for p in STUDIES.glob("*.toml"))
        say(options, {"studies": names}, "\n".join(names))
        return 0
    if options.study == "sizes":
        from host_tools.study.sizes import size_tables

        text = size_tables(options.published)
        say(options, {"markdown": text}, text)
        return 0
    study = load_study(options.study)
    place = Place(root=data_root(), out=options.out or Path("runs") / "studies" / study.name)
    with console_bars()(f"study {study.name}") as tick:
        jobs = options.jobs or os.cpu_count() or 1
        result = run_study(study, place, jobs=jobs, command=options.command_line, tick=tick)
    files = write_reports(result, place.out, options.publish)
    lines = [f"{c['verdict']:12} {c['title']}" for c in verdicts(result)]
    lines += [f"{'refused':12} row {r.name!r}: {r.why}" for r in result.refused]
    found = {
        "files": [str(f) for f in files],
        "claims": verdicts(result),
        "refused": [asdict(r) for r in result.refused],
    }
    say(options, found, "\n".join([*lines, f"report  {files[1]}"]))
    if result.refused:
        n, m = len(result.refused), len(study.row)
        sys.stderr.write(f"vitaledge: {n} of {m} rows refused; mend them and run the same command: the rest is kept\n")
    return 1 if result.refused else 0


def _pack(options: argparse.Namespace) -> int:
    from edge_runtime.engine.onnx import OnnxEngine
    from host_tools.study.pack_row import Choice, pack_row
    from host_tools.study.plan import load_study

    study = load_study(options.study)
    out = options.out or Path("runs") / "studies" / study.name
    choice = Choice(row=options.row, fold=options.fold, seed=options.seed)
    done = pack_row(study, out, choice, options.to, OnnxEngine())
    for warning in done.warnings:
        sys.stderr.write(f"vitaledge: warning: {warning}\n")
    say(options, done.to_json(), done.to_text())
    return 0
