"""Latency of ONNX graphs side by side: one thread, one example a call, called in turns in one process."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx

from host_tools.export.sessions import session

ROUNDS, WARM_UP_ROUNDS = 200, 20
ROUND_NS = 200_000  # calls of one graph are repeated until a round takes about as long


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """How many times faster; the median over rounds, and its 95 % interval by the order statistics of the rounds."""

    value: float
    low: float
    high: float
    n_rounds: int


def interleaved_ns(
    graphs: Mapping[str, onnx.ModelProto], shape: tuple[int, ...], *, rounds: int = ROUNDS, seed: int = 0
) -> dict[str, np.ndarray]:
    """Nanoseconds of one call per round and graph, float64 (rounds,); inputs (1, *shape), bound and the same for all.

    Each round calls every graph, so that a busy moment of the machine meets all of them.
    """
    x = np.random.default_rng(seed).standard_normal((1, *shape)).astype(np.float32)
    calls = {name: _call(graph, x) for name, graph in graphs.items()}
    for call in calls.values():
        for _ in range(WARM_UP_ROUNDS):
            call()
    repeats = {name: max(1, round(ROUND_NS / max(_time(call, 3), 1.0))) for name, call in calls.items()}
    spent: dict[str, list[float]] = {name: [] for name in graphs}
    for _ in range(rounds):
        for name, call in calls.items():
            spent[name].append(_time(call, repeats[name]))
    return {name: np.asarray(values) for name, values in spent.items()}


def ratio(ns: Mapping[str, np.ndarray], slower: str, faster: str) -> Ratio:
    """Time of `slower` over time of `faster`, paired by round.

    The interval is that of a median: ranks n/2 -+ 0.98 sqrt(n) (Conover, Practical Nonparametric Statistics, 3.2).
    """
    ratios = np.sort(ns[slower] / ns[faster])
    n = len(ratios)
    reach = 0.98 * np.sqrt(n)
    low, high = max(0, int(np.floor(n / 2 - reach))), min(n - 1, int(np.ceil(n / 2 + reach)))
    return Ratio(value=float(np.median(ratios)), low=float(ratios[low]), high=float(ratios[high]), n_rounds=n)


def _call(graph: onnx.ModelProto, x: np.ndarray) -> Callable[[], None]:
    import onnxruntime

    run = session(graph)
    (given,), (wanted,) = run.get_inputs(), run.get_outputs()
    binding = run.io_binding()
    value = onnxruntime.OrtValue.ortvalue_from_numpy(x)
    binding.bind_ortvalue_input(given.name, value)
    binding.bind_output(wanted.name, "cpu")

    def call(keep: object = value) -> None:
        run.run_with_iobinding(binding)

    return call


def _time(call: Callable[[], None], n: int) -> float:
    begun = time.perf_counter_ns()
    for _ in range(n):
        call()
    return (time.perf_counter_ns() - begun) / n
