"""A run of `make bench` as a file to keep: `python -m benchmarks.publish benchmarks/out/bench.json KEPT.json`.

What was measured, with all raw ratios, on what, and of which commit; a benchmark a line. What says nothing about the
figures (the machine's name, statistics over a single round) is left out.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

MACHINE = ("machine", "python_version", "system", "release")


def published(run: dict[str, Any]) -> str:
    """The text of the file to keep, of pytest-benchmark's own."""
    machine, commit = run["machine_info"], run["commit_info"]
    conditions = {
        "measured": run["datetime"],
        "commit": commit["id"] + (" and changes" if commit["dirty"] else ""),
        **{name: machine[name] for name in MACHINE},
        **run["conditions"],
    }
    lines = [json.dumps({"name": b["name"], **b["extra_info"]}) for b in run["benchmarks"]]
    return f'{{"conditions": {json.dumps(conditions)},\n"benchmarks": [\n' + ",\n".join(lines) + "\n]}\n"


def main(source: str, kept: str) -> int:
    """Write the file."""
    Path(kept).write_text(published(json.loads(Path(source).read_text())))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
