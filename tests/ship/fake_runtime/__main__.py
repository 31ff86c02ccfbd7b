import json
import os
import sys
import time
from pathlib import Path

if __name__ == "__main__":
    verb, folder, *_ = sys.argv[1:]
    path = Path(folder)
    if verb != "check":
        sys.stdout.write(json.dumps({"argv": sys.argv[1:], "stdin": sys.stdin.read()}) + "\n")
        sys.exit(0)
    metrics = json.loads((path / "manifest.json").read_text())["metrics"]
    time.sleep(metrics.get("check_takes_s", 0.0))
    if metrics.get("fails") or (metrics.get("fails_as_current") and path.name == "current"):
        sys.stderr.write("edge-runtime: golden vector 3: beat at 812 expected, none found\n")
        sys.exit(1)
    site = Path(__file__).resolve().parents[1]
    cost = {}
    if "hop_ms" in metrics:
        hop_ms = metrics["hop_ms"] * (metrics.get("as_current", 1.0) if path.name == "current" else 1.0)
        cost = {"block_p99_ns": int(hop_ms * 1e6), "peak_rss_bytes": int(metrics["memory_mib"] * (1 << 20))}
    sys.stdout.write(json.dumps({"ok": True, "site": str(site), "user": os.getuid(), **cost}) + "\n")
