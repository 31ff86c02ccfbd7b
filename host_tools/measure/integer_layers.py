"""How many weighted layers an engine really runs as integers: counted in what the engine makes of a file."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import onnx

from host_tools.export.litert import entry_of, to_litert
from host_tools.export.pack_window import one_window
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


LITERT = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "BATCH_MATMUL")


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


def litert_integer_layers(graph: onnx.ModelProto) -> tuple[int, int]:
    """The same of the LiteRT file that is made of a graph over windows; asked of the interpreter that loaded it.

    Raises SettingsError for an operator that such files cannot have, EngineError where LiteRT is not installed.
    """
    model = one_window(graph)
    made = to_litert(model, entry_of(model))
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=made.data, num_threads=1)
    interpreter.allocate_tensors()
    dtypes = {t["index"]: np.dtype(t["dtype"]) for t in interpreter.get_tensor_details()}
    layers = [o for o in interpreter._get_ops_details() if o["op_name"] in LITERT]
    integer = [o for o in layers if all(dtypes[i] == np.int8 for i in (*o["inputs"][:2], *o["outputs"]))]
    return len(integer), len(layers)
