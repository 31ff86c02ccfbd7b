"""The words of `probe`, `simulate` and of sources on a command line: what is refused, in one line that says why."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from edge_runtime.cli import main
from edge_runtime.sensors.serial import port_name

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


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("/dev/ttyUSB0", "/dev/ttyUSB0"),
        ("serial:///dev/ttyUSB0", "/dev/ttyUSB0"),
        ("serial:///tmp/wearable?protocol=cyton", "/tmp/wearable"),
        ("serial:socket://10.0.0.7:7000?protocol=csv&rate_hz=250", "socket://10.0.0.7:7000"),
        ("tcp://10.0.0.7:7000?protocol=edge&rate_hz=125", "socket://10.0.0.7:7000"),
        ("socket://10.0.0.7:7000", "socket://10.0.0.7:7000"),
        ("rfc2217://10.0.0.7:7000", "rfc2217://10.0.0.7:7000"),
    ],
)
def test_the_url_of_a_source_names_its_port(text: str, name: str) -> None:
    assert port_name(text) == name


def test_a_port_that_is_not_there_is_named_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["probe", "serial:///no/such/port?protocol=cyton"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("edge-runtime: serial:///no/such/port: cannot be opened (")


@pytest.mark.parametrize("place", ["pty:{}", "tcp"])
def test_what_simulate_prints_can_be_probed(place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [sys.executable, "-m", "edge_runtime", "simulate", "edge", "--to", place.format(tmp_path / "wearable")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        try:
            assert main(["probe", url, "--seconds", "2"]) == 0
        finally:
            process.terminate()
    assert capsys.readouterr().out.startswith("edge ")
