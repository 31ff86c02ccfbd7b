"""What a gateway gets: the project with only the device's extras, in a virtual environment of its own."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from edge_runtime.contract.bundle import Bundle
from edge_runtime.sensors.synthetic import simulate

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = ROOT / "deploy" / "bundles" / "ecg-beats"
NO_INDEX = re.compile(r"No matching distribution|Could not fetch|Connection|resolve|timed out|No space", re.IGNORECASE)
# Distributions that training, other engines and data sets need, and that no gateway should get.
HOST_ONLY = ("torch", "wfdb", "onnx", "asyncssh", "sklearn", "rich", "torch_pruning", "pandas", "pytest")


def run(command: Sequence[str | Path], **more: object) -> subprocess.CompletedProcess[str]:
    # Away from the source tree, and without what leads back to it.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    return subprocess.run(
        [str(c) for c in command], capture_output=True, text=True, check=False, env=environment, **more
    )


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment in which `vitaledge[onnx]` was installed, and no more."""
    folder = tmp_path_factory.mktemp("gateway")
    source = folder / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "edge_runtime", "host_tools"):
        place = ROOT / name
        if place.is_dir():
            shutil.copytree(place, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(place, source / name)
    made = run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"])
    assert made.returncode == 0, made.stderr
    interpreter = folder / "venv" / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", interpreter, "install", "-q", "--no-compile"]
    done = run([*pip, "-c", ROOT / "constraints.txt", f"{source}[onnx]"], cwd=folder)
    if done.returncode and NO_INDEX.search(done.stderr):
        pytest.skip("needs pip's index, or its wheels in the cache")
    assert done.returncode == 0, done.stderr
    return interpreter


@pytest.fixture(scope="module")
def bundle(int8_bundle: Bundle) -> Path:
    """The bundle that users get, or a tiny one before there is one."""
    return SHIPPED if (SHIPPED / "manifest.json").is_file() else int8_bundle.path


def device(python: Path, *arguments: str | Path) -> list[str]:
    done = run([python.with_name("edge-runtime"), *arguments], cwd=python.parent)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_gateway_gets_the_engine_and_nothing_of_the_host(python: Path) -> None:
    code = (
        "import importlib.util as u, importlib.metadata as m, json, sys; "
        f"print(json.dumps([[n for n in {HOST_ONLY} if u.find_spec(n)], "
        "sorted(d.name.lower() for d in m.distributions())]))"
    )
    done = run([python, "-c", code], cwd=python.parent)
    there, distributions = json.loads(done.stdout)
    assert there == []
    assert {"vitaledge", "numpy", "psutil", "pyserial", "onnxruntime"} <= set(distributions)
    assert len(distributions) < 12


def test_the_golden_vectors_are_answered_there(python: Path, bundle: Path) -> None:
    (line,) = device(python, "check", bundle, "--json")
    assert json.loads(line)["is_passed"] is True


def test_a_stream_is_read_there_to_its_last_sample(python: Path, bundle: Path) -> None:
    lines = device(python, "replay", bundle, "synthetic:?seconds=20&pvc=0.1", "--json")
    *beats, ledger = [json.loads(line) for line in lines]
    assert ledger == {
        "name": "ledger", "received": 5000, "scored": 5000, "dropped": 0, "gap": 0, "simulated": True,
    }  # fmt: skip
    assert 15 < len(beats) < 35
    assert all(beat["name"] == "beat" for beat in beats)


def test_a_physionet_record_is_replayed_there(python: Path, bundle: Path) -> None:
    record = python.parent / "r"
    samples = simulate(20, rate_hz=360, seed=3).samples[:, 0] * 200 + 1024
    record.with_suffix(".dat").write_bytes(samples.round().astype("<i2").tobytes())
    record.with_suffix(".hea").write_text("r 1 360\nr.dat 16 200 11 1024 0 0 0 MLII\n")
    *beats, ledger = [json.loads(line) for line in device(python, "replay", bundle, f"wfdb:{record}", "--json")]
    assert (ledger["received"], ledger["scored"]) == (7200, 7200)
    assert 15 < len(beats) < 35


def test_the_hosts_command_says_what_is_missing_only_when_it_is_used(python: Path) -> None:
    host = python.with_name("vitaledge")
    assert run([host, "--help"], cwd=python.parent).returncode == 0
