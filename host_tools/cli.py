"""The host's command line: which verbs `vitaledge` has, and what becomes of their failures."""

from __future__ import annotations

import argparse
import json
import logging
import shlex
import sys
from collections.abc import Sequence

from edge_runtime import __version__
from edge_runtime.contract.errors import EdgeError, one_line
from host_tools.emulator.commands import add_emulator
from host_tools.export.commands import add_forms
from host_tools.fleet.commands import add_fleet
from host_tools.measure.commands import add_bench, add_capacity, add_report, add_stress
from host_tools.run_commands import add_data, add_demo, add_run
from host_tools.ship.budget_command import add_budget
from host_tools.ship.commands import add_rollback, add_status
from host_tools.ship.deploy_command import add_deploy
from host_tools.ship.doctor_command import add_doctor
from host_tools.ship.service_commands import add_service
from host_tools.ship.trust_commands import add_sign, add_trust
from host_tools.study.commands import add_pack, add_study

EXAMPLES = """examples:
  vitaledge demo                                       the main job, here, in a few minutes
  vitaledge data fetch mitdb --root ~/ecg              download MIT-BIH (asks PhysioNet)
  vitaledge run ecg-beats                              train, shrink, ship, measure, report
  vitaledge deploy deploy/bundles/ecg-beats ssh://pi@gateway
  vitaledge bench deploy/bundles/ecg-beats ssh://pi@gateway
  vitaledge study breast-cancer                        a table of techniques on a health task
  vitaledge report runs/ecg-beats/report.json --out page
"""
# In the order of the help.
VERBS = (
    add_demo,
    add_run,
    add_data,
    add_deploy,
    add_budget,
    add_sign,
    add_trust,
    add_service,
    add_forms,
    add_capacity,
    add_rollback,
    add_doctor,
    add_fleet,
    add_emulator,
    add_status,
    add_bench,
    add_stress,
    add_study,
    add_pack,
    add_report,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, act, and turn expected failures into one line and exit code 1."""
    options = _parser().parse_args(arguments)
    options.command_line = shlex.join(["vitaledge", *(sys.argv[1:] if arguments is None else arguments)])
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s", stream=sys.stderr)
    try:
        return int(options.act(options))
    except BrokenPipeError:
        return 1
    except (EdgeError, OSError) as error:
        text = one_line(error) if isinstance(error, OSError) else str(error)
        sys.stderr.write(f"vitaledge: {text}\n")
        if getattr(options, "json", False):
            sys.stdout.write(json.dumps({"error": text}) + "\n")
        return 1
    except KeyboardInterrupt:
        then = "; run the same command again to go on" if options.goes_on else ""
        sys.stderr.write(f"vitaledge: interrupted{then}\n")
        return 130  # 128 and the number of SIGINT, as shells have it


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="vitaledge",
        description="Distill, shrink and ship health models to gateways, and prove them there.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"vitaledge {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for add_verb in VERBS:
        add_verb(commands)
    return parser
