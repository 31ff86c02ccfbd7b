"""ONNX Runtime against LiteRT, same weights, one thread, calls in turns: steps and windows, fp32 and INT8."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from benchmarks.interleaved import compare
from edge_runtime.contract.bundle import Bundle, open_bundle
from edge_runtime.engine.engine import Stepper
from edge_runtime.forms import open_form
from host_tools.export.litert import entry_of, to_litert

pytest.importorskip("ai_edge_litert.interpreter", reason="needs ai_edge_litert (pip install 'vitaledge[host]')")

HERE = Path(__file__).resolve().parent
BUNDLES = HERE.parent / "deploy" / "bundles"


def shipped(name: str, engine: str) -> Stepper:
    """The graph that runs every hop of a shipped bundle, INT8, filled with noise."""
    bundle, library = open_form(open_bundle(BUNDLES / name), engine, "int8")  # type: ignore[arg-type]
    return noisy(library.load(bundle, bundle.manifest.step_graph))


def noisy(stepper: Stepper) -> Stepper:
    for value in stepper.inputs.values():
        value[...] = np.random.default_rng(1).standard_normal(value.shape)
    return stepper


def window_fp32(path: Path, folder: Path) -> tuple[Stepper, Stepper]:
    """The shipped student over 10 s, fp32, lifted to 2-D, for both engines."""
    from edge_runtime.engine.onnx import OnnxEngine
    from edge_runtime.engine.tflite import LiteRtEngine

    model = onnx.load(path)
    made = to_litert(model, entry_of(model))
    (folder / "model.onnx").write_bytes(path.read_bytes())
    (folder / made.graph.file).write_bytes(made.data)
    draft = Bundle(path=folder, manifest=open_bundle(BUNDLES / "ecg-beats").manifest, id="draft")
    return noisy(OnnxEngine().load(draft, entry_of(model))), noisy(LiteRtEngine().load(draft, made.graph))


@pytest.mark.parametrize("name", ["ecg-beats", "ecg-rhythm", "heart-disease", "ppg-respiration"])
def test_int8_of_a_shipped_bundle(benchmark: Any, name: str) -> None:
    """Of `ecg-beats` a 25-sample step with its state, of the others a window; time of ONNX Runtime over LiteRT's."""
    _compare(benchmark, f"{name} int8", shipped(name, "onnxruntime").step, shipped(name, "litert").step)


def test_fp32_window(benchmark: Any, window_model: Path, tmp_path: Path) -> None:
    """10 s of ECG recomputed."""
    ort, litert = window_fp32(window_model, tmp_path)
    _compare(benchmark, "ecg-beats 10 s window fp32", ort.step, litert.step)


def test_fp32_step(benchmark: Any, window_model: Path, tmp_path: Path) -> None:
    """A 25-sample step of the same weights in floats, with its state."""
    from edge_runtime.engine.onnx import OnnxEngine
    from edge_runtime.engine.tflite import LiteRtEngine
    from host_tools.export.onnx_trunk import write_trunk

    model, graph = write_trunk(_program(window_model), "streaming", 25)
    made = to_litert(model, graph)
    (tmp_path / graph.file).write_bytes(model.SerializeToString())
    (tmp_path / made.graph.file).write_bytes(made.data)
    draft = Bundle(path=tmp_path, manifest=open_bundle(BUNDLES / "ecg-beats").manifest, id="draft")
    ort, litert = OnnxEngine().load(draft, graph), LiteRtEngine().load(draft, made.graph)
    _compare(benchmark, "ecg-beats 25-sample step fp32", noisy(ort).step, noisy(litert).step)


def _program(path: Path) -> Any:
    """The windowed file's convolutions as a program."""
    from host_tools.export.program import Conv, Program

    model = onnx.load(path)
    constants = {c.name: onnx.numpy_helper.to_array(c) for c in model.graph.initializer}
    convolutions, last = [], "x"
    nodes = [n for n in model.graph.node if n.op_type == "Conv"]
    for i, node in enumerate(nodes):
        settings = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        is_last = i == len(nodes) - 1
        name = "y" if is_last else f"c{i}"
        convolutions.append(
            Conv(
                name=name,
                input=last,
                weight=constants[node.input[1]][:, :, 0],
                bias=constants[node.input[2]],
                stride=int(settings.get("strides", [1, 1])[1]),
                dilation=int(settings.get("dilations", [1, 1])[1]),
                history=int(settings.get("pads", [0, 0])[1]),
                is_relu=not is_last,
            )
        )
        last = name
    return Program(operators=tuple(convolutions))


def _compare(benchmark: Any, what: str, ort: Callable[[], None], litert: Callable[[], None]) -> None:
    """Keep the ratio, ONNX Runtime's time over LiteRT's, its spread, and both sides' times a call; no floor is set."""
    found = benchmark.pedantic(lambda: compare(ort, litert), rounds=1, iterations=1)
    low, middle, high = (round(float(p), 3) for p in np.percentile(found.ratios, [2.5, 50, 97.5]))
    benchmark.extra_info["what"] = what
    benchmark.extra_info["ratio"] = {"p2.5": low, "p50": middle, "p97.5": high, "rounds": len(found.ratios)}
    benchmark.extra_info["ratios"] = [round(float(r), 3) for r in found.ratios]
    for name, spent in (("onnxruntime_us", found.other_ns), ("litert_us", found.ours_ns)):
        times = np.array(spent) / found.calls / 1e3
        percentiles = {f"p{p}": round(float(np.percentile(times, p)), 2) for p in (50, 95, 99)}
        benchmark.extra_info[name] = percentiles | {"max": round(float(times.max()), 2)}
    assert low > 0.0
