"""Host toolkit: distill, prune, quantize, export, verify, ship, measure."""

import os

# Before anything imports onnxruntime, which from 1.31 on would keep a machine's identity and could report what it runs.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
