"""What runs a graph: asked for, verified with the session, and never silently the CPU."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from edge_runtime.contract.bundle import Bundle
from edge_runtime.contract.errors import EngineError
from edge_runtime.engine.onnx import CPU, PROVIDERS, OnnxEngine

HERE = onnxruntime.get_available_providers()
ABSENT = [name for name, provider in PROVIDERS.items() if provider not in HERE]


def test_the_cpu_runs_what_nobody_asked_anything_for() -> None:
    assert OnnxEngine().provider == CPU == "CPUExecutionProvider"


@pytest.mark.parametrize("name", ABSENT)
def test_a_provider_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(EngineError, match=rf"was built without {PROVIDERS[name]}; use --provider cpu, or --allow"):
        OnnxEngine(provider=name)


@pytest.mark.parametrize("name", ABSENT)
def test_a_fall_back_that_is_allowed_is_told(name: str, int8_bundle: Bundle, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        engine = OnnxEngine(provider=name, allow_fallback=True)
    assert engine.provider == CPU
    assert [r.message for r in caplog.records] == [
        f"onnxruntime {onnxruntime.__version__} was built without {PROVIDERS[name]}; graphs run on the CPU"
    ]
    engine.load(int8_bundle, int8_bundle.manifest.graph("trunk")).step()


def test_a_provider_that_nobody_knows_is_refused() -> None:
    with pytest.raises(EngineError, match=r"provider is 'abacus'; one of cpu, xnnpack, cuda, tensorrt wanted"):
        OnnxEngine(provider="abacus")


@pytest.mark.parametrize("name", [n for n in PROVIDERS if n != "cpu"])
def test_a_provider_that_is_there_gives_the_same_scores(name: str, fp32_bundle: Bundle) -> None:
    if PROVIDERS[name] not in HERE:
        pytest.skip(f"needs an onnxruntime with {PROVIDERS[name]} and its hardware; here are {', '.join(HERE)}")
    graph = fp32_bundle.manifest.graph("trunk")
    found = []
    for engine in (OnnxEngine(), OnnxEngine(provider=name, allow_fallback=True)):
        stepper = engine.load(fp32_bundle, graph)
        stepper.inputs[graph.inputs[0].name][...] = 1.0
        stepper.step()
        found.append(stepper.outputs[graph.outputs[0].name].copy())
    assert engine.provider == PROVIDERS[name]
    np.testing.assert_allclose(found[1], found[0], atol=1e-3 * np.abs(found[0]).max())


LOAD = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from edge_runtime.contract.bundle import open_bundle
from edge_runtime.contract.errors import EngineError
from edge_runtime.engine.onnx import OnnxEngine
bundle = open_bundle(Path(sys.argv[2]))
engine = OnnxEngine(provider="cuda", allow_fallback=sys.argv[3] == "allowed")
try:
    engine._open(bundle, bundle.manifest.graph("trunk"), 1)
    print(engine.provider)
except EngineError as error:
    print(error)
"""
LIBRARY = """
__version__ = "9.9"
class SessionOptions:
    entries = {}
    def add_session_config_entry(self, key, value): SessionOptions.entries[key] = value
    def add_free_dimension_override_by_name(self, name, value): pass
def get_available_providers(): return ["CUDAExecutionProvider", "CPUExecutionProvider"]
class InferenceSession:
    def __init__(self, path, options, providers):
        self.found = PROVIDERS_FOUND
        if SessionOptions.entries.get("session.disable_cpu_ep_fallback") == "1" and "CPU" in self.found[0]:
            raise RuntimeError("nodes were assigned to the CPU")
    def get_providers(self): return self.found
"""
GPU, FELL_BACK = "['CUDAExecutionProvider', 'CPUExecutionProvider']", "['CPUExecutionProvider']"


@pytest.mark.parametrize(
    ("found", "allowed", "words"),
    [
        (GPU, "refused", "CUDAExecutionProvider\n"),
        (FELL_BACK, "refused", "refuses it (nodes were assigned to the CPU)\n"),
        (FELL_BACK, "allowed", "CPUExecutionProvider\n"),
    ],
    ids=["the GPU runs it", "a silent fall-back", "a fall-back that is allowed"],
)
def test_the_session_is_asked_what_it_runs_on(
    tmp_path: Path, int8_bundle: Bundle, found: str, allowed: str, words: str
) -> None:
    (tmp_path / "onnxruntime.py").write_text(LIBRARY.replace("PROVIDERS_FOUND", found))
    command = [sys.executable, "-c", LOAD, str(tmp_path), str(int8_bundle.path), allowed]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(words)
