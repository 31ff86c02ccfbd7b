"""The host's command line: demo, run, data, deploy, rollback, status, bench, study, pack, report."""

from __future__ import annotations

import argparse
import json
import logging
import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from edge_runtime import __version__
from edge_runtime.contract.errors import EdgeError, one_line
from host_tools.capacity_command import add_capacity_command
from host_tools.emulator.commands import add_emulator_command
from host_tools.fleet.commands import add_fleet_command
from host_tools.forms_command import add_engine_option, add_forms_command, engine_requirements
from host_tools.ship.doctor_command import add_doctor_command
from host_tools.ship.service_commands import add_limit_options, add_service_command, limits_of
from host_tools.ship.trust_commands import add_deploy_options, add_trust_commands

if TYPE_CHECKING:
    from host_tools.ship.options import ShipOptions

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
EXAMPLES = """examples:
  vitaledge demo                                       the main job, here, in a few minutes
  vitaledge data fetch mitdb --root ~/ecg              download MIT-BIH (asks PhysioNet)
  vitaledge run ecg-beats                              train, shrink, ship, measure, report
  vitaledge deploy deploy/bundles/ecg-beats ssh://pi@gateway
  vitaledge bench deploy/bundles/ecg-beats ssh://pi@gateway
  vitaledge study breast-cancer                        a table of techniques on a health task
  vitaledge report runs/ecg-beats/report.json --out page
"""
BUNDLE = "bundle directory (with manifest.json), such as deploy/bundles/ecg-beats"
RECIPES = Path(__file__).resolve().parent / "recipes"


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, act, and turn expected failures into one line and exit code 1."""
    options = _parser().parse_args(arguments)
    options.command_line = shlex.join(["vitaledge", *(sys.argv[1:] if arguments is None else arguments)])
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s", stream=sys.stderr)
    try:
        return int(options.act(options))
    except EdgeError as error:
        sys.stderr.write(f"vitaledge: {error}\n")
        return 1
    except BrokenPipeError:
        return 1
    except OSError as error:
        sys.stderr.write(f"vitaledge: {one_line(error)}\n")
        return 1
    except KeyboardInterrupt:
        then = "; run the same command again to go on" if options.goes_on else ""
        sys.stderr.write(f"vitaledge: interrupted{then}\n")
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="vitaledge",
        description="Distill, shrink and ship health models to gateways, and prove them there.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"vitaledge {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    demo = _command(
        commands,
        "demo",
        _demo,
        "the main job with a short recipe",
        "vitaledge demo",
        "vitaledge demo --data simulated --target ssh://pi@gateway",
        goes_on=True,
    )
    _study_options(demo, "runs/demo")
    run = _command(
        commands,
        "run",
        _run,
        "the main job with a recipe of your own",
        "vitaledge run ecg-beats",
        "vitaledge run mine.toml --out runs/mine --target ssh://pi@gateway",
        goes_on=True,
    )
    run.add_argument("recipe", type=Path, help="TOML file, or the name of a recipe that comes with vitaledge")
    _study_options(run, None)

    data = _command(
        commands,
        "data",
        _fetch,
        "download a data set from its original source",
        "vitaledge data fetch mitdb --root ~/ecg",
        goes_on=True,
    )
    data.add_argument("verb", choices=["fetch"], help="download what is not there yet, and check every file")
    data.add_argument(
        "set",
        choices=["mitdb", "nstdb"],
        help="MIT-BIH Arrhythmia Database, about 86 MB from PhysioNet; or the noise of its stress test, about 6 MB",
    )
    data.add_argument("--root", type=Path, help="folder in which SET/ is made (default: VITALEDGE_DATA)")

    deploy = _command(
        commands,
        "deploy",
        _deploy,
        "ship a bundle and its runtime, check it there, make it current",
        "vitaledge deploy deploy/bundles/ecg-beats ssh://pi@gateway --plan",
        "vitaledge deploy deploy/bundles/ecg-beats ssh://pi@gateway:2222/srv/vitaledge",
        "vitaledge deploy runs/demo/bundle local:/tmp/gateway",
        goes_on=True,
    )
    deploy.add_argument("bundle", type=Path, help=BUNDLE)
    _target_options(deploy)
    _wheels_option(deploy)
    deploy.add_argument("--plan", action="store_true", help="only say what would be done")
    add_deploy_options(deploy)
    add_limit_options(deploy)
    add_trust_commands(partial(_command, commands), _target_options, _ship_options)
    add_service_command(partial(_command, commands), _target_options, _ship_options)
    add_forms_command(partial(_command, commands))
    add_capacity_command(partial(_command, commands))
    rollback = _command(
        commands,
        "rollback",
        _rollback,
        "make the previous release current again",
        "vitaledge rollback ssh://pi@gateway",
        "vitaledge rollback ssh://pi@gateway --to ecg-beats-1df824c8d2d9-048c5ae8",
    )
    _target_options(rollback)
    add_limit_options(rollback)
    rollback.add_argument("--to", help="a release's name, as `vitaledge status` shows it (default: the one before)")
    add_doctor_command(partial(_command, commands), _target_options, _wheels_option, _ship_options)
    add_fleet_command(partial(_command, commands), _connection_options, _wheels_option, _ship_options)
    add_emulator_command(partial(_command, commands))
    status = _command(commands, "status", _status, "what a target has", "vitaledge status ssh://pi@gateway")
    _target_options(status)

    bench = _command(
        commands,
        "bench",
        _bench,
        "deploy, replay labelled records on the target, bring figures back",
        "vitaledge bench deploy/bundles/ecg-beats ssh://pi@gateway --out gateway.json",
        "vitaledge bench runs/demo/bundle local:/tmp/gateway --data simulated --records sim16",
    )
    bench.add_argument("bundle", type=Path, help=BUNDLE)
    _target_options(bench)
    _wheels_option(bench)
    bench.add_argument("--data", choices=["mitdb", "simulated"], help="default: mitdb if VITALEDGE_DATA is set")
    bench.add_argument(
        "--records", nargs="+", help="record names (default: the test split); .npy files for a bundle of windows"
    )
    bench.add_argument(
        "--threads", type=_count, default=1, help="threads of the inference engine, there and here (default: 1)"
    )
    bench.add_argument(
        "--out", type=Path, default=Path("bench.json"), help="the device's report (JSON; default: bench.json)"
    )

    stress = _command(
        commands,
        "stress",
        _stress,
        "stream records with added electrode noise and score the beats",
        "vitaledge stress deploy/bundles/ecg-beats",
        "vitaledge stress runs/mine/bundle --snr 12 0 --out mine-stress.json",
    )
    stress.add_argument("bundle", type=Path, help=BUNDLE)
    stress.add_argument(
        "--snr", type=float, nargs="+", default=[24.0, 12.0, 6.0, 0.0], metavar="DB", help="default: 24 12 6 0"
    )
    stress.add_argument("--seed", type=int, default=0, help="draws where each test record's noise begins (default: 0)")
    stress.add_argument("--out", type=Path, default=Path("stress.json"), help="JSON; default: stress.json")

    study = _command(
        commands,
        "study",
        _study,
        "run a table of compression techniques on a health task",
        "vitaledge study list",
        "vitaledge study breast-cancer",
        "vitaledge study mine.toml --jobs 2 --publish docs/results",
        goes_on=True,
    )
    study.add_argument("study", help="TOML file, or the name of a study that comes with vitaledge; `list` names them")
    study.add_argument("--out", type=Path, help="folder for models, cells and report (default: runs/studies/NAME)")
    study.add_argument("--jobs", type=_count, help="processes side by side (default: one per CPU)")
    study.add_argument("--publish", type=Path, metavar="DIR", help="also write NAME.md, NAME.html and NAME.json there")

    pack = _command(
        commands,
        "pack",
        _pack,
        "pack a model of a finished study as a bundle with a model card",
        'vitaledge pack ecg-rhythm "distilled, INT8" --to deploy/bundles/ecg-rhythm',
        "vitaledge pack mine.toml student --out runs/mine --fold 2 --seed 2 --to bundle",
    )
    pack.add_argument("study", help="TOML file, or the name of a study that comes with vitaledge")
    pack.add_argument("row", help="a line of the study's table, by its name")
    pack.add_argument(
        "--to", type=Path, required=True, metavar="FOLDER", help="the bundle; one that is there is replaced"
    )
    pack.add_argument("--out", type=Path, help="folder of the study's models and report (default: runs/studies/NAME)")
    pack.add_argument("--fold", help="by name (default: that of the row's first model)")
    pack.add_argument("--seed", type=int, help="default: that of the row's first model")

    report = _command(
        commands,
        "report",
        _report,
        "write report.json and report.html from a study",
        "vitaledge report runs/ecg-beats/report.json --out page",
        "vitaledge report runs/ecg-beats/report.json --bench gateway.json --out page",
    )
    report.add_argument("study", type=Path, help="report.json of a run")
    report.add_argument("--bench", type=Path, help="a bench report of another device, to be shown instead")
    report.add_argument("--publish", action="store_true", help="leave out strips of recordings and raw times")
    report.add_argument("--out", type=Path, default=Path("report"), help="folder, which is made (default: report)")
    return parser


def _command(
    commands: Commands, name: str, act: object, text: str, *examples: str, goes_on: bool = False
) -> argparse.ArgumentParser:
    """`goes_on`: what was interrupted is taken up again by the same command."""
    command: argparse.ArgumentParser = commands.add_parser(
        name,
        help=text,
        description=text,
        epilog="\n  ".join(["examples:", *examples]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(act=act, goes_on=goes_on)
    command.add_argument("--json", action="store_true", help="results as JSON on standard output")
    return command


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"found {text!r}; a whole number from 1 on wanted")
    return int(text)


def _study_options(command: argparse.ArgumentParser, out: str | None) -> None:
    default = "runs/NAME of the recipe" if out is None else out
    command.add_argument(
        "--out", type=Path, default=None if out is None else Path(out), help=f"run folder (default: {default})"
    )
    command.add_argument("--data", choices=["mitdb", "simulated"], help="default: the recipe's, or what there is")
    _target_options(command, default=True)
    _wheels_option(command)


def _target_options(command: argparse.ArgumentParser, *, default: bool = False) -> None:
    text = (
        "local:DIR or ssh://[user@]host[:port][/root-dir]; without a root-dir (such as /srv/vitaledge, or /~/vitaledge "
        "below the home) it is ~/.local/share/vitaledge there"
    )
    if default:
        command.add_argument("--target", help=f"{text} (default: local:, in the run folder)")
    else:
        command.add_argument("target", help=text)
    _connection_options(command)


def _connection_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--known-hosts", type=Path, help="trusted host keys (default: ~/.ssh/known_hosts)")
    command.add_argument("--key", type=Path, help="private key (default: agent and ~/.ssh/config)")
    command.add_argument(
        "--accept-new", action="store_true", help="take and note the key of a host that is not known yet"
    )


def _wheels_option(command: argparse.ArgumentParser) -> None:
    add_engine_option(command)
    command.add_argument(
        "--wheels", type=Path, help="folder of wheels for the device (default: pip's index, over the network)"
    )
    command.add_argument(
        "--python-archive",
        type=Path,
        metavar="FILE",
        help="standalone CPython (.tar.gz of python-build-standalone) for a device whose own Python is too old",
    )


def _ship_options(options: argparse.Namespace) -> ShipOptions:
    from host_tools.ship.options import ShipOptions

    # Only commands that ship a runtime have --wheels, and only `deploy` those of trust.
    return ShipOptions(
        known_hosts=options.known_hosts,
        key_file=options.key,
        wheels=getattr(options, "wheels", None),
        python_archive=getattr(options, "python_archive", None),
        requirements=engine_requirements(options),
        accept_new=options.accept_new,
        sign_key=getattr(options, "sign", None),
        allow_downgrade=getattr(options, "allow_downgrade", False),
        limits=limits_of(options),
    )


def _demo(options: argparse.Namespace) -> int:
    from host_tools.data.sets import data_root

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

    out = options.out or Path("runs") / options.recipe.stem
    known = RECIPES / f"{options.recipe}.toml"
    wish = Wish(
        recipe=known if known.is_file() else options.recipe,
        out=out,
        target=options.target or f"local:{out / 'target'}",
        command=options.command_line,
        data_root=data_root(),
        data=options.data,
        ship=_ship_options(options),
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
    _say(options, {"root": str(root)}, f"{options.set} is complete in {root}; export {ROOT_VARIABLE}={root}")
    return 0


def _deploy(options: argparse.Namespace) -> int:
    from host_tools.bars import console_bars
    from host_tools.ship.deploy import deploy, steps_for

    ship = _ship_options(options)
    if options.plan:
        steps = [str(step) for step in steps_for(options.bundle, options.target, options=ship)]
        _say(options, {"steps": steps}, "\n".join(steps) or "nothing to do")
        return 0
    with console_bars()(f"deploy to {options.target}") as tick:
        done = deploy(options.bundle, options.target, options=ship, progress=lambda t, d, n: tick(d, n, t))
    text = (
        f"{done.release} is active on {options.target}: {len(done.steps)} steps, "
        f"{done.bytes_sent} bytes sent, {done.seconds:.1f} s"
        + (f"; {done.first_reading}" if done.first_reading else "")
        + ("" if done.signers else "; nobody's signature was asked for: no allowed signers there")
    )
    _say(options, asdict(done), text)
    return 0


def _rollback(options: argparse.Namespace) -> int:
    from host_tools.ship.deploy import rollback

    done = rollback(options.target, to=options.to, options=_ship_options(options))
    _say(options, asdict(done), f"{done.release} is active again on {options.target} (was {done.previous})")
    return 0


def _status(options: argparse.Namespace) -> int:
    from host_tools.ship.deploy import status

    facts = status(options.target, options=_ship_options(options))
    _say(options, asdict(facts), facts.to_text())
    return 0


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
            ship=_ship_options(options),
            out=options.out,
            progress=lambda text, done, total: tick(done, total, text),
        )
    _say(options, result.to_json(), result.to_text())
    return 0


def _stress(options: argparse.Namespace) -> int:
    from edge_runtime.contract.report import claimed
    from host_tools.bars import console_bars
    from host_tools.data.sets import data_root
    from host_tools.measure.noise import stress_bundle

    with claimed(options.out), console_bars()("noise stress test") as tick:
        found = stress_bundle(options.bundle, data_root(), options.snr, seed=options.seed, tick=tick)
        options.out.write_text(found.to_json())
    _say(options, json.loads(found.to_json()), f"{found.to_text()}\n\nreport  {options.out}")
    return 0


def _study(options: argparse.Namespace) -> int:
    from host_tools.bars import console_bars
    from host_tools.data.sets import data_root
    from host_tools.study.plan import STUDIES, load_study
    from host_tools.study.report import verdicts, write_reports
    from host_tools.study.run import Place, run_study

    if options.study == "list":
        names = sorted(p.stem for p in STUDIES.glob("*.toml"))
        _say(options, {"studies": names}, "\n".join(names))
        return 0
    study = load_study(options.study)
    place = Place(root=data_root(), out=options.out or Path("runs") / "studies" / study.name)
    with console_bars()(f"study {study.name}") as tick:
        jobs = options.jobs or os.cpu_count() or 1
        result = run_study(study, place, jobs=jobs, command=options.command_line, tick=tick)
    files = write_reports(result, place.out, options.publish)
    text = "\n".join(f"{c['verdict']:12} {c['title']}" for c in verdicts(result))
    _say(options, {"files": [str(f) for f in files], "claims": verdicts(result)}, f"{text}\nreport  {files[1]}")
    return 0


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
    _say(options, done.to_json(), done.to_text())
    return 0


def _report(options: argparse.Namespace) -> int:
    from host_tools.measure.report import rewrite_report

    data, html = rewrite_report(options.study, options.bench, options.out, publish=options.publish)
    _say(options, {"report_json": str(data), "report_html": str(html)}, f"report  {html}")
    return 0


def _say(options: argparse.Namespace, value: object, text: str) -> None:
    sys.stdout.write((json.dumps(value) if options.json else text) + "\n")
