"""The example of `edge-runtime replay` in docs/runtime.md is what the command says."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from edge_runtime.cli import main

ROOT = Path(__file__).parents[1]


def test_the_lines_of_the_example_are_those_of_the_command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Confidences to 0.01, as processors round; all else as it stands there."""
    found = re.search(r"^\$ edge-runtime (replay .*)\n((?:.+\n)+?)```", (ROOT / "docs/runtime.md").read_text(), re.M)
    assert found is not None
    before, _, behind = found[2].partition("...\n")
    first, last = ([json.loads(line) for line in part.splitlines()] for part in (before, behind))
    monkeypatch.chdir(ROOT)
    assert main(shlex.split(found[1])) == 0
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert first
    assert last
    for line, wanted in zip(said[: len(first)] + said[-len(last) :], first + last, strict=True):
        assert line.pop("confidence", 0.0) == pytest.approx(wanted.pop("confidence", 0.0), abs=0.01)
        assert line == wanted
