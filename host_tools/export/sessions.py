"""ONNX Runtime sessions on the host, with the device's settings: one thread, no spinning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import onnxruntime


def session(graph: onnx.ModelProto, optimized: Path | None = None) -> Any:
    """A CPU session; `optimized` keeps the graph as the engine will run it."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if optimized is not None:
        options.optimized_model_filepath = str(optimized)
    return onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
