"""A network of one input and one output as an ONNX graph: batch norm folded, any number of examples a call."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import warnings

import onnx
import torch
from torch import nn

INPUT, OUTPUT = "x", "logits"
OPSET = 18


def export_plain(network: nn.Module, shape: tuple[int, ...], batch: int | None = None) -> onnx.ModelProto:
    """Export `network` for inputs (n, *shape); `batch` fixes n.

    Signals should run through 2-D convolutions (1, K) inside the network: ONNX Runtime's blocked kernels exist for
    4-D tensors only, and the same arithmetic in 1-D took 1.8 to 3.1 times as long.
    """
    model = copy.deepcopy(network).cpu().float().eval()
    example = torch.zeros(batch or 2, *shape)
    dynamic = None if batch is not None else ({0: torch.export.Dim("n", min=1)},)
    with _quiet():
        program = torch.onnx.export(
            model,
            (example,),
            dynamo=True,
            opset_version=OPSET,
            external_data=False,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=dynamic,
            verbose=False,
        )
    if program is None:
        raise RuntimeError("torch.onnx.export gave nothing")
    graph: onnx.ModelProto = program.model_proto
    del graph.graph.value_info[:]  # shapes of initializers among them confuse the quantizer
    for kept in (graph, graph.graph, *graph.graph.node, *graph.graph.input, *graph.graph.output):
        del kept.metadata_props[:]  # names of files of this machine
    onnx.checker.check_model(graph)
    return graph


@contextlib.contextmanager
def _quiet():  # type: ignore[no-untyped-def]
    """Without the exporter's remarks about packages that are not there and its own deprecations."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            log.setLevel(level)
