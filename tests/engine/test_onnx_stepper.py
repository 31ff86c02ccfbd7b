"""ONNX Runtime behind the engine protocol: state is what naive copying gives; a wrong model is refused."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import tiny_models
from onnx import TensorProto, helper

from edge_runtime.contract.bundle import Bundle
from edge_runtime.contract.errors import EngineError
from edge_runtime.contract.manifest import Graph, State, Tensor
from edge_runtime.engine.engine import StreamingTrunk
from edge_runtime.engine.onnx import OnnxEngine
from tests.engine.stepper_runs import check_state, tail


class Naive:
    """`run` with fresh arrays each time, the state's tail copied."""

    def __init__(self, bundle: Bundle, graph: Graph) -> None:
        self.session = onnxruntime.InferenceSession(str(bundle.file(graph.file)), providers=["CPUExecutionProvider"])
        self.graph = graph
        self.state = {s.input: np.full(s.shape, s.initial, s.dtype) for s in graph.states}

    def step(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        names = [t.name for t in self.graph.outputs] + [s.output for s in self.graph.states]
        found = dict(zip(names, self.session.run(names, {**inputs, **self.state}), strict=True))
        for s in self.graph.states:
            self.state[s.input] = tail(s, found[s.output])
        return {t.name: found[t.name] for t in self.graph.outputs}


@pytest.mark.parametrize("graph_name", ["trunk", "head"])
@pytest.mark.parametrize("which", ["int8_bundle", "fp32_bundle"])
def test_state_in_place_is_state_by_copying(
    request: pytest.FixtureRequest, engine: OnnxEngine, which: str, graph_name: str
) -> None:
    bundle: Bundle = request.getfixturevalue(which)
    graph = bundle.manifest.graph(graph_name)
    check_state(engine.load(bundle, graph), Naive(bundle, graph).step, graph)


def test_an_empty_past_is_the_zero_point_where_zero_is_not_zero(int8_bundle: Bundle) -> None:
    """Silence before the stream is zero mV, whose integer is the input's zero point."""
    first = int8_bundle.manifest.graph("trunk").states[0]
    scales = tiny_models.scales_of(tiny_models.fold(tiny_models.trained_student().trunk))
    assert first.dtype == "uint8"
    assert first.initial == scales["x"].zero_point > 0
    assert all(s.initial == 0 for s in int8_bundle.manifest.graph("trunk").states[1:])


def test_it_says_what_it_is(engine: OnnxEngine) -> None:
    assert (engine.name, engine.version, engine.provider) == (
        "onnxruntime",
        onnxruntime.__version__,
        "CPUExecutionProvider",
    )


def refused(engine: OnnxEngine, bundle: Bundle, graph: Graph) -> str:
    with pytest.raises(EngineError) as found:
        engine.load(bundle, graph)
    text = str(found.value)
    assert "\n" not in text
    return text


def test_a_graph_that_is_not_as_the_manifest_says_is_refused(int8_bundle: Bundle, engine: OnnxEngine) -> None:
    graph = int8_bundle.manifest.graph("trunk")
    longer = replace(graph.inputs[0], shape=(1, 1, 1, 50))
    assert "manifest says" in refused(engine, int8_bundle, replace(graph, inputs=(longer,)))
    renamed = replace(graph.outputs[0], name="points")
    assert "outputs are" in refused(engine, int8_bundle, replace(graph, outputs=(renamed,)))
    assert "inputs are" in refused(engine, int8_bundle, replace(graph, states=graph.states[1:]))
    assert "trunk.onnx" in refused(engine, int8_bundle, replace(graph, inputs=()))


@pytest.mark.parametrize("content", [b"", b"no model", bytes(500)])
def test_what_is_no_model_is_refused(
    int8_bundle: Bundle, engine: OnnxEngine, copied: Callable[[Bundle], Path], content: bytes
) -> None:
    folder = copied(int8_bundle)
    (folder / "trunk.onnx").write_bytes(content)
    graph = int8_bundle.manifest.graph("trunk")
    text = refused(engine, replace(int8_bundle, path=folder), graph)
    assert "trunk.onnx: onnxruntime" in text
    assert "refuses it" in text


def test_a_file_that_is_not_there_is_refused(int8_bundle: Bundle, engine: OnnxEngine) -> None:
    graph = replace(int8_bundle.manifest.graph("trunk"), file="gone.onnx")
    assert "gone.onnx" in refused(engine, int8_bundle, graph)


def test_a_trunk_of_another_hop_is_refused(int8_bundle: Bundle, engine: OnnxEngine) -> None:
    graph = int8_bundle.manifest.graph("trunk")
    with pytest.raises(EngineError, match=r"gives 5 frames a step; 10 wanted"):
        StreamingTrunk(engine.load(int8_bundle, graph), graph, 50, 5)
    with pytest.raises(EngineError, match=r"takes 25 samples a step; manifest says 20"):
        StreamingTrunk(engine.load(int8_bundle, graph), graph, 20, 4)


def test_a_state_whose_tail_is_scattered_in_memory_is_refused(
    tmp_path: Path, int8_bundle: Bundle, engine: OnnxEngine
) -> None:
    info = helper.make_tensor_value_info
    node = helper.make_node("Concat", ["s_i", "x"], ["s_o"], axis=1)
    graph = helper.make_graph(
        [node, helper.make_node("Identity", ["x"], ["y"])],
        "scattered",
        [info("x", TensorProto.FLOAT, (2, 3)), info("s_i", TensorProto.FLOAT, (2, 4))],
        [info("y", TensorProto.FLOAT, (2, 3)), info("s_o", TensorProto.FLOAT, (2, 7))],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    (tmp_path / "g.onnx").write_bytes(model.SerializeToString())
    onnx.checker.check_model(model)
    entry = replace(
        int8_bundle.manifest.graph("trunk"),
        file="g.onnx",
        inputs=(Tensor(name="x", shape=(2, 3), dtype="float32"),),
        outputs=(Tensor(name="y", shape=(2, 3), dtype="float32"),),
        states=(State(input="s_i", output="s_o", shape=(2, 4), output_shape=(2, 7), dtype="float32", initial=0.0),),
    )
    assert "its tail in s_o is not one piece" in refused(engine, replace(int8_bundle, path=tmp_path), entry)


LOAD = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from edge_runtime.assemble import open_engine
from edge_runtime.contract.bundle import open_bundle
from edge_runtime.contract.errors import EngineError
bundle = open_bundle(Path(sys.argv[2]))
try:
    open_engine().load(bundle, bundle.manifest.graph("trunk"))
except EngineError as error:
    print(error)
"""
ABSENT = "raise ImportError('blocked')"
ON_A_GPU = """
__version__ = "9.9"
class SessionOptions:
    def add_session_config_entry(self, key, value): pass
    def add_free_dimension_override_by_name(self, name, value): pass
class InferenceSession:
    def __init__(self, *more, **named): pass
    def get_providers(self): return ["CUDAExecutionProvider", "CPUExecutionProvider"]
"""


@pytest.mark.parametrize(
    ("library", "words"),
    [
        (ABSENT, "onnxruntime cannot be imported (blocked); install it with `pip install 'vitaledge[onnx]'`"),
        (ON_A_GPU, "runs on ['CUDAExecutionProvider', 'CPUExecutionProvider']; CPUExecutionProvider wanted"),
    ],
    ids=["absent", "other provider"],
)
def test_a_library_that_is_absent_or_runs_elsewhere_is_an_error_of_the_engine(
    tmp_path: Path, int8_bundle: Bundle, library: str, words: str
) -> None:
    (tmp_path / "onnxruntime.py").write_text(library)
    command = [sys.executable, "-c", LOAD, str(tmp_path), str(int8_bundle.path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert words in done.stdout
    assert done.stdout.count("\n") == 1
