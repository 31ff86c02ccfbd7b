"""How much sooner `edge-runtime` starts where a deployment made bytecode.

    python benchmarks/start_bytecode.py [BUNDLE]

Deploys a bundle to a folder of this machine, copies that folder without its bytecode, and starts both in turns.
"""

# A script: what it prints is its result.
# ruff: noqa: T201

from __future__ import annotations

import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.interleaved import compare
from host_tools.ship.deploy import deploy

BUNDLE = Path(__file__).resolve().parents[1] / "deploy" / "bundles" / "ecg-beats"
ROUNDS = 60


def start(root: Path, *argv: str) -> Callable[[], object]:
    """A call that waits for the end of `edge-runtime ARGV`."""
    command = [root / "bin" / "edge-runtime", *argv]
    return lambda: subprocess.run(command, check=True, capture_output=True)


def children_ns() -> int:
    """CPU time of all programs that have ended: other load on the machine matters less for it than for the clock."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return int((used.ru_utime + used.ru_stime) * 1e9)


def main(bundle: Path) -> None:
    """A line for the bytecode, and one for each command."""
    with tempfile.TemporaryDirectory() as folder:
        with_it, without = Path(folder) / "with", Path(folder) / "without"
        deploy(bundle, f"local:{with_it}")
        # Times of sources are kept: the copy differs in its bytecode alone.
        shutil.copytree(with_it, without, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        made = list(with_it.rglob("*.pyc"))
        print(f"{len(made)} files of bytecode, {sum(p.stat().st_size for p in made) / 1e6:.1f} MB")
        for name, argv in (("--help", ["--help"]), ("check", ["check", "current"])):
            sides = [
                start(root, *(str(root / word) if word == "current" else word for word in argv))
                for root in (without, with_it)
            ]
            found = compare(*sides, rounds=ROUNDS, calls=1, warm_up=2, clock=children_ns)
            low, middle, high = np.percentile(found.ratios, [2.5, 50, 97.5])
            before, after = np.median(found.other_ns) / 1e6, np.median(found.ours_ns) / 1e6
            print(
                f"edge-runtime {name}: {before:.0f} ms of CPU time without, {after:.0f} ms with it; "
                f"{middle:.2f} times as long without [{low:.2f}, {high:.2f}], {ROUNDS} rounds"
            )


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else BUNDLE)
