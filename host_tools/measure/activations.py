"""The values inside an ONNX graph, batch by batch, so that memory does not grow with the number of examples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import onnx

from edge_runtime.contract.signal import Float32Array
from host_tools.export.sessions import session

BATCH = 32


def inside(
    graph: onnx.ModelProto, tensors: Sequence[str], inputs: Float32Array, batch: int = BATCH
) -> Iterator[dict[str, Float32Array]]:
    """The named tensors for each batch of inputs (n, channels, *size)."""
    shown = onnx.ModelProto()
    shown.CopyFrom(graph)
    own = {o.name for o in graph.graph.output}
    given = {i.name for i in graph.graph.input}
    shown.graph.output.extend(onnx.ValueInfoProto(name=t) for t in tensors if t not in own | given)
    run = session(shown)
    name = run.get_inputs()[0].name
    asked = [t for t in tensors if t not in given]
    for start in range(0, len(inputs), batch):
        x = np.ascontiguousarray(inputs[start : start + batch])
        values = dict(zip(asked, run.run(asked, {name: x}) if asked else [], strict=True))
        yield values | {t: x for t in tensors if t in given}
