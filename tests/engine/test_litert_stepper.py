"""LiteRT behind the engine protocol: state is what naive copying gives, memory holds, a wrong model is refused."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import litert_runs
import numpy as np
import pytest

from edge_runtime.contract.bundle import Bundle
from edge_runtime.contract.errors import EngineError
from edge_runtime.contract.manifest import Graph
from edge_runtime.engine.onnx import OnnxEngine
from edge_runtime.engine.tflite import LiteRtEngine
from tests.engine.stepper_runs import check_state, tail

litert_runs.needs_litert()

PRECISIONS = ["int8", "fp32"]


def litert_form(bundle: Bundle, precision: str) -> Bundle:
    form = next(f for f in bundle.manifest.all_forms if f.name == f"litert {precision}")
    return bundle.in_form(form)


class Naive:
    """The library's own calls: tensors set and got by value, the state's tail copied."""

    def __init__(self, bundle: Bundle, graph: Graph) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self.interpreter = Interpreter(model_path=str(bundle.file(graph.file)), num_threads=1)
        self.interpreter.allocate_tensors()
        self.graph = graph
        details = [*self.interpreter.get_input_details(), *self.interpreter.get_output_details()]
        self.index = {d["name"]: d["index"] for d in details}
        self.state = {s.input: np.full(s.shape, s.initial, s.dtype) for s in graph.states}

    def step(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        for name, value in {**inputs, **self.state}.items():
            self.interpreter.set_tensor(self.index[name], value)
        self.interpreter.invoke()
        for s in self.graph.states:
            self.state[s.input] = tail(s, self.interpreter.get_tensor(self.index[s.output]))
        return {t.name: self.interpreter.get_tensor(self.index[t.name]) for t in self.graph.outputs}


@pytest.mark.parametrize("graph_name", ["trunk", "head"])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_state_in_the_librarys_memory_is_state_by_copying(
    all_forms_bundle: Bundle, precision: str, graph_name: str
) -> None:
    bundle = litert_form(all_forms_bundle, precision)
    graph = bundle.manifest.graph(graph_name)
    check_state(LiteRtEngine().load(bundle, graph), Naive(bundle, graph).step, graph)


def test_an_empty_past_is_the_zero_point_of_signed_integers(all_forms_bundle: Bundle) -> None:
    """LiteRT's integers are int8 where ONNX's are uint8: 128 less."""
    onnx = all_forms_bundle.manifest.graph("trunk").states
    states = litert_form(all_forms_bundle, "int8").manifest.graph("trunk").states
    assert [s.dtype for s in states] == ["int8"] * len(onnx)
    assert [s.initial for s in states] == [s.initial - 128 for s in onnx]
    assert states[0].initial != 0


def test_arrays_keep_the_memory_that_they_show(all_forms_bundle: Bundle) -> None:
    bundle = litert_form(all_forms_bundle, "fp32")
    graph = bundle.manifest.graph("trunk")
    stepper = LiteRtEngine().load(bundle, graph)
    stepper.inputs["x"][...] = 1.0
    stepper.step()
    scores = stepper.outputs["scores"]
    kept = scores.copy()
    del stepper
    gc.collect()
    others = [LiteRtEngine().load(bundle, graph) for _ in range(3)]
    for other in others:
        other.inputs["x"][...] = -3.0
        other.step()
    np.testing.assert_array_equal(scores, kept)


def test_it_says_what_it_is_and_who_runs_the_operators(all_forms_bundle: Bundle) -> None:
    import ai_edge_litert

    engine = LiteRtEngine()
    assert (engine.name, engine.version) == ("litert", ai_edge_litert.__version__)
    bundle = litert_form(all_forms_bundle, "fp32")
    engine.load(bundle, bundle.manifest.graph("trunk"))
    found = engine.provider
    assert found in ("XNNPACK", "XNNPACK in part", "built-in kernels")
    # The library's own log of operators is the oracle: with a delegate there are operators that nobody wrote.
    steps = LiteRtEngine().load(bundle, bundle.manifest.graph("trunk"))
    names = [o["op_name"] for o in steps._interpreter._get_ops_details()]
    assert (found == "built-in kernels") == ("DELEGATE" not in names)


def test_a_graph_that_runs_in_parts_makes_the_whole_run_in_part(all_forms_bundle: Bundle) -> None:
    engine = LiteRtEngine()
    engine._found = {"built-in kernels"}
    bundle = litert_form(all_forms_bundle, "fp32")
    engine.load(bundle, bundle.manifest.graph("trunk"))
    assert engine.provider in ("XNNPACK in part", "built-in kernels")


def refused(bundle: Bundle, graph: Graph) -> str:
    with pytest.raises(EngineError) as found:
        LiteRtEngine().load(bundle, graph)
    text = str(found.value)
    assert "\n" not in text
    return text


def test_a_graph_that_is_not_as_the_manifest_says_is_refused(all_forms_bundle: Bundle) -> None:
    bundle = litert_form(all_forms_bundle, "int8")
    graph = bundle.manifest.graph("trunk")
    longer = replace(graph.inputs[0], shape=(1, 1, 50, 5))
    assert "manifest says" in refused(bundle, replace(graph, inputs=(longer,)))
    renamed = replace(graph.outputs[0], name="points")
    assert "outputs are" in refused(bundle, replace(graph, outputs=(renamed,)))
    assert "inputs are" in refused(bundle, replace(graph, states=graph.states[1:]))
    unsigned = replace(graph.states[0], dtype="uint8")
    assert "is int8; manifest says uint8" in refused(bundle, replace(graph, states=(unsigned, *graph.states[1:])))


@pytest.mark.parametrize("content", [b"", b"no model", bytes(500)])
def test_what_is_no_model_is_refused(
    all_forms_bundle: Bundle, copied: Callable[[Bundle], Path], content: bytes
) -> None:
    folder = copied(all_forms_bundle)
    bundle = litert_form(all_forms_bundle, "int8")
    graph = bundle.manifest.graph("trunk")
    (folder / graph.file).write_bytes(content)
    assert graph.file in refused(replace(bundle, path=folder), graph)


def test_a_file_of_the_other_engine_is_refused_by_each(all_forms_bundle: Bundle) -> None:
    assert "trunk.onnx" in refused(all_forms_bundle, all_forms_bundle.manifest.graph("trunk"))
    bundle = litert_form(all_forms_bundle, "int8")
    with pytest.raises(EngineError, match=r"trunk\.tflite"):
        OnnxEngine().load(bundle, bundle.manifest.graph("trunk"))


def test_a_file_that_is_not_there_is_refused(all_forms_bundle: Bundle) -> None:
    bundle = litert_form(all_forms_bundle, "int8")
    assert "other.tflite" in refused(bundle, replace(bundle.manifest.graph("trunk"), file="other.tflite"))


def test_without_the_library_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    blocked: Any = None
    for name in ("ai_edge_litert", "ai_edge_litert.interpreter", "tflite_runtime", "tflite_runtime.interpreter"):
        monkeypatch.setitem(sys.modules, name, blocked)
    with pytest.raises(EngineError, match=r"pip install 'vitaledge\[tflite\]'"):
        LiteRtEngine()
