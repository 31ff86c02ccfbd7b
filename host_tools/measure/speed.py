"""How much a streaming step saves: one hop with carried state against recomputing a window, in one run."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from edge_runtime.contract.bundle import Bundle
from edge_runtime.engine.engine import Engine
from host_tools.export.onnx_trunk import OUTPUT, write_trunk
from host_tools.export.program import INPUT, Program
from host_tools.export.verify import session
from host_tools.measure.intervals import Interval

WINDOW_SAMPLES = 1250  # 10 s at 125 Hz
ROUNDS, CALLS = 300, 5


def step_speedup(program: Program, bundle: Bundle, engine: Engine) -> Interval:
    """Time of a windowed fp32 call over the time of the bundle's streaming step.

    Both sides in their best form: the window lifted to 2-D, fully optimized, inputs and outputs bound; one
    thread each; called in turns. The value is the median of the rounds' ratios, the interval their 2.5th and
    97.5th percentile: the spread of single rounds, not of the median.
    """
    window, step = _windowed(program), _step(bundle, engine)
    for _ in range(50):
        window()
        step()
    ratios = [_time(window) / _time(step) for _ in range(ROUNDS)]
    low, middle, high = np.percentile(ratios, [2.5, 50, 97.5])
    return Interval(value=float(middle), low=float(low), high=float(high), n_records=ROUNDS)


def _time(call: Callable[[], None]) -> int:
    begun = time.perf_counter_ns()
    for _ in range(CALLS):
        call()
    return time.perf_counter_ns() - begun


def _windowed(program: Program) -> Callable[[], None]:
    import onnxruntime

    model, graph = write_trunk(program, "windowed", WINDOW_SAMPLES)
    loaded = session(model)
    binding: Any = loaded.io_binding()
    value = onnxruntime.OrtValue.ortvalue_from_numpy
    x = np.random.default_rng(0).standard_normal(graph.inputs[0].shape).astype(np.float32)
    owned = value(x), value(np.zeros(graph.outputs[0].shape, np.float32))
    binding.bind_ortvalue_input(INPUT, owned[0])
    binding.bind_ortvalue_output(OUTPUT, owned[1])

    def call(keep: object = owned) -> None:
        loaded.run_with_iobinding(binding)

    return call


def _step(bundle: Bundle, engine: Engine) -> Callable[[], None]:
    graph = bundle.manifest.graph("trunk")
    stepper = engine.load(bundle, graph)
    hop = stepper.inputs[graph.inputs[0].name]
    hop[...] = np.random.default_rng(1).standard_normal(hop.shape)
    return stepper.step
