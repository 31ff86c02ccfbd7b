"""The words of `probe`, `simulate` and of sources on a command line: what is refused, in one line that says why."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from edge_runtime.cli import main

ROOT = Path(__file__).parents[2]
BUNDLE = ROOT / "deploy" / "bundles" / "ecg-beats"


@pytest.mark.parametrize("seconds", ["nan", "inf", "0", "-1", "1e300", "soon"])
def test_a_probe_of_no_length_is_refused(seconds: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["probe", "/dev/null", f"--seconds={seconds}"])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("usage: edge-runtime probe ")
    assert f"argument --seconds: found '{seconds}'; a positive number" in said.splitlines()[-1]


def test_a_standard_input_that_is_closed_is_one_line() -> None:
    command = f"exec {sys.executable} -m edge_runtime run {BUNDLE} 'stdin:?protocol=cyton&unit=mV&channel=EXG1' <&-"
    done = subprocess.run(["sh", "-c", command], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr == "edge-runtime: stdin: it is closed; bytes from a file or another program wanted\n"
