"""Bytes that a runtime costs: the first one, one with a changed line, and one of an older commit.

    python benchmarks/runtime_bytes.py [COMMIT]

Deploys a bundle to a folder of this machine, again and again, with another `edge_runtime` each time. Wheels come from
pip's index, or from the cache.
"""

# A script: what it prints is its result.
# ruff: noqa: T201

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import edge_runtime
from host_tools.ship.deploy import deploy
from host_tools.ship.options import ShipOptions

PROJECT = Path(__file__).resolve().parents[1]
BUNDLE = PROJECT / "deploy" / "bundles" / "ecg-beats"
CHANGED = ("cli.py", "service.py", "pipeline.py")


def main(commit: str | None) -> None:
    """A line for each runtime."""
    with tempfile.TemporaryDirectory() as folder:
        target = f"local:{folder}/device"
        print(f"the first runtime: {deploy(BUNDLE, target).bytes_sent} bytes, with the bundle")
        package = Path(folder) / "edge_runtime"
        shutil.copytree(Path(next(iter(edge_runtime.__path__))), package)
        for name in CHANGED:
            with (package / name).open("a") as stream:
                stream.write("# changed\n")
            sent = deploy(BUNDLE, target, options=ShipOptions(runtime_package=package)).bytes_sent
            print(f"a line more in {name}: {sent} bytes")
        if commit is not None:
            archive = subprocess.run(
                ["git", "archive", commit, "edge_runtime"], cwd=PROJECT, capture_output=True, check=True
            ).stdout
            older = Path(folder) / "older"
            older.mkdir()
            subprocess.run(["tar", "-x", "-C", older], input=archive, check=True)
            sent = deploy(
                BUNDLE, target, options=ShipOptions(runtime_package=older / "edge_runtime", allow_downgrade=True)
            ).bytes_sent
            print(f"edge_runtime of {commit}: {sent} bytes")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)
