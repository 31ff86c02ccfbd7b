"""The forerunner of LiteRT, in a virtual environment of its own: it wants numpy 1 and ends at Python 3.11."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from edge_runtime.contract.bundle import Bundle

ROOT = Path(__file__).parents[2]
REQUIREMENTS = ("tflite-runtime==2.14.0", "numpy<2", "psutil")


@pytest.fixture(scope="session")
def older_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python with tflite-runtime; skipped, with the reason, where it cannot be installed."""
    if sys.version_info[:2] > (3, 11):
        pytest.skip(f"tflite-runtime 2.14 has no wheel for Python {sys.version_info[0]}.{sys.version_info[1]}")
    folder = tmp_path_factory.mktemp("tflite") / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True, capture_output=True)
    python = folder / "bin" / "python"
    command = [
        str(python),
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-input",
        *REQUIREMENTS,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    if done.returncode:
        pytest.skip(f"tflite-runtime cannot be installed: {(done.stderr.strip().splitlines() or ['?'])[-1]}")
    return python


def check(python: Path, bundle: Bundle, *words: str) -> dict[str, object]:
    program = "import sys; sys.path.insert(0, sys.argv.pop(1)); from edge_runtime.cli import main; sys.exit(main())"
    argv = [str(python), "-I", "-c", program, str(ROOT), "check", str(bundle.path), "--json", *words]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("precision", ["int8", "fp32"])
def test_it_answers_the_golden_vectors_of_the_litert_files(
    older_python: Path, all_forms_bundle: Bundle, precision: str
) -> None:
    found = check(older_python, all_forms_bundle, "--engine", "litert", "--precision", precision)
    assert found["is_passed"] is True
    assert found["version"] == "2.14.0 (tflite_runtime)"
    assert found["given"] == found["wanted"] != 0
    if precision == "int8":  # its default delegate takes floats alone, and it says so
        assert found["provider"] != "XNNPACK"


def test_where_it_is_the_only_engine_it_is_the_one_that_runs(older_python: Path, all_forms_bundle: Bundle) -> None:
    found = check(older_python, all_forms_bundle)
    assert (found["engine"], found["precision"]) == ("litert", "int8")


def test_beside_numpy_2_it_is_refused_in_one_line(older_python: Path, tmp_path: Path) -> None:
    """The library is there and a newer numpy in front of it: a stub, of which only the version is looked at."""
    (tmp_path / "ask.py").write_text(
        "import sys; sys.path.insert(0, sys.argv[1]); import numpy; numpy.__version__ = '2.4.0'\n"
        "from edge_runtime.contract.errors import EngineError\n"
        "from edge_runtime.engine.tflite import LiteRtEngine\n"
        "try:\n    LiteRtEngine()\nexcept EngineError as error:\n    print(error)\n"
    )
    argv = [str(older_python), "-I", str(tmp_path / "ask.py"), str(ROOT)]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "tflite_runtime needs numpy < 2; 2.4.0 is installed\n"
