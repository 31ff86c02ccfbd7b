"""How many weighted layers ONNX Runtime really runs as integers: counted in the graph that it makes of a file."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path

import onnx

from host_tools.export.sessions import session

INTEGER = (
    "QLinearConv",
    "ConvInteger",
    "QGemm",
    "QLinearMatMul",
    "MatMulInteger",
    "MatMulInteger16",
    "MatMulIntegerToFloat",
    "DynamicQuantizeMatMul",
    "DynamicQuantizeLSTM",
    "QAttention",
    "QConv",
)
FLOAT = (
    "Conv",
    "ConvTranspose",
    "FusedConv",
    "NhwcConv",
    "NhwcFusedConv",
    "Gemm",
    "FusedGemm",
    "MatMul",
    "FusedMatMul",
    "TransposeMatMul",
    "LSTM",
    "GRU",
    "RNN",
    "Attention",
    "MultiHeadAttention",
)


def integer_layers(graph: onnx.ModelProto) -> tuple[int, int]:
    """Convolutions, matrix products and recurrent layers that run as integers on this machine, and all of them."""
    kinds = engine_operators(graph)
    integer, real = (sum(kinds[k] for k in names) for names in (INTEGER, FLOAT))
    return integer, integer + real


def engine_operators(graph: onnx.ModelProto) -> Counter[str]:
    """How often each operator is in the graph as the engine runs it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "optimized.onnx"
        session(graph, path)
        return Counter(node.op_type for node in onnx.load(path).graph.node)
