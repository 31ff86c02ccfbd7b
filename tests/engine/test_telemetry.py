"""What runs on patients' gateways tells nobody."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    "code",
    ["from edge_runtime.engine.onnx import OnnxEngine; OnnxEngine()", "import host_tools.export.sessions"],
)
def test_onnxruntime_leaves_no_identity_behind(code: str, tmp_path: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if k not in ("ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME")}
    subprocess.run([sys.executable, "-c", code], env={**environment, "HOME": str(tmp_path)}, check=True)
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []
