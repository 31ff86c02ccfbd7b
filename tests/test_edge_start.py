"""What `edge-runtime` loads at its start: the commands' modules that are asked for, no more."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ALL = sorted(p.stem for p in (ROOT / "edge_runtime").glob("*_cli.py"))
PROGRAM = """
import sys
from edge_runtime.cli import main
try:
    main(sys.argv[1:])
finally:
    sys.stderr.write(" ".join(sorted(m for m in sys.modules if m.startswith("edge_runtime."))))
"""


def loaded(*words: str) -> set[str]:
    """Names of edge_runtime's modules that a command loads for its --help."""
    command = [sys.executable, "-c", PROGRAM, *words, "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.startswith("usage: edge-runtime")
    return {name.removeprefix("edge_runtime.") for name in done.stderr.split()}


@pytest.mark.parametrize(
    ("command", "module"),
    [
        ("run", "stream_cli"),
        ("replay", "stream_cli"),
        ("gateway", "gateway_cli"),
        ("bench", "bench_cli"),
        ("check", "bundle_cli"),
        ("info", "bundle_cli"),
        ("sources", "sensor_cli"),
        ("probe", "sensor_cli"),
        ("simulate", "sensor_cli"),
    ],
)
def test_a_command_loads_its_own_module_alone(command: str, module: str) -> None:
    found = loaded(command)
    assert [name for name in ALL if name in found] == [module]


@pytest.mark.parametrize("command", ["run", "replay", "bench", "check", "info", "sources", "probe", "simulate"])
def test_a_command_that_only_parses_loads_no_more_than_that_takes(command: str) -> None:
    assert {name for name in loaded(command) if name not in ALL} == {
        "cli",
        "command_line",
        "contract",
        "contract.errors",
    }


def test_the_help_of_all_loads_every_command() -> None:
    found = loaded()
    assert [name for name in ALL if name in found] == ALL
