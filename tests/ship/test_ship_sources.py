"""What is sent to a device as one text, or lies there as one file, needs nothing of this package."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest

from host_tools.ship.service import SCRIPT
from host_tools.ship.sources import ALONE, program


def run_alone(folder, names, *arguments):
    """What a joined text says, in a folder where nothing else lies."""
    text = program(*names)
    assert "host_tools" not in text
    (folder / "whole.py").write_text(text)
    argv = [sys.executable, *ALONE, folder / "whole.py", *arguments]
    asked = json.dumps({"root": str(folder)})
    done = subprocess.run(argv, input=asked, capture_output=True, text=True, check=False, cwd=folder)
    assert "Traceback" not in done.stderr
    return done


def test_the_verbs_of_the_service_are_one_text(tmp_path):
    assert json.loads(run_alone(tmp_path, SCRIPT, "look").stdout)["is_root"] == (os.getuid() == 0)


@pytest.mark.skipif(shutil.which("systemctl") is None, reason="needs systemctl: systemd")
def test_what_falls_back_is_one_file(tmp_path):
    done = run_alone(tmp_path, ("device_files.py", "device_fallback.py"), tmp_path)
    assert (done.returncode, done.stdout) == (1, "the service is not in need any more\n")


def test_a_program_there_writes_no_bytecode_and_takes_nothing_from_its_surroundings():
    asked = "import sys; print(sys.flags.isolated, sys.flags.no_site, sys.dont_write_bytecode)"
    argv = [sys.executable, *ALONE, "-c", asked]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, env={})
    assert done.stdout.split() == ["1", "1", "True"]
