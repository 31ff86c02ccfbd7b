"""Killed, cut off, stalled and out of disk at random points: the old or the new release is whole and serves.

VITALEDGE_FAULT_POINTS (default 30), VITALEDGE_FAULT_SEED and VITALEDGE_FAULT_OUT, a file for what was hit, make a long
run of it.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest
from deploy_faults import KINDS, Faults

N_POINTS = int(os.environ.get("VITALEDGE_FAULT_POINTS", "30"))
DISK_BYTES = 64 << 20


@pytest.fixture
def faults(gateway, tmp_path):
    """A device on a disk of its own if this user may mount one."""
    root = gateway.folder / "disk"
    root.mkdir()
    root.chmod(0o777)
    argv = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES},mode=0777", "tmpfs", str(root)]
    is_mounted = os.getuid() == 0 and subprocess.run(argv, capture_output=True, check=False).returncode == 0

    def options(port):
        name = tmp_path / f"known{port or gateway.port}"
        return gateway.options(known_hosts=gateway.known_hosts(name, port or gateway.port))

    made = Faults(
        folder=tmp_path,
        url=lambda place, port: gateway.url(port=port, root=place),
        options=options,
        port=gateway.port,
        root=root,
        sshd=psutil.Process(int((gateway.folder / "sshd.pid").read_text())),
        seed=int(os.environ.get("VITALEDGE_FAULT_SEED", "0")),
    )
    yield made, [kind for kind in KINDS if kind != "full" or is_mounted]
    if is_mounted:
        subprocess.run(["umount", "--lazy", str(root)], check=True)
    with contextlib.suppress(OSError):
        Path(root).rmdir()


def test_wherever_a_deployment_is_broken_the_old_or_the_new_release_is_whole_and_serves(faults):
    made, kinds = faults
    started = time.monotonic()
    ends = [made.point(number, kinds[number % len(kinds)]) for number in range(N_POINTS)]
    if out := os.environ.get("VITALEDGE_FAULT_OUT"):
        found = {"points": len(ends), "ends": Counter(ends), "kinds": made.counts, "steps": made.steps}
        Path(out).write_text(json.dumps({**found, "seconds": time.monotonic() - started}))
    # Faults that hit nothing would show nothing.
    assert "old" in ends
    assert len(made.steps) > 2, made.steps
