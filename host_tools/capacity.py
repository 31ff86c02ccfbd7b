"""How many patients a core of a gateway could carry: on paper, from a bundle's arithmetic and a measurement here."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np

from edge_runtime.contract.bundle import Bundle
from edge_runtime.contract.manifest import beats_of
from edge_runtime.contract.signal import Block, StreamSpec
from edge_runtime.engine.engine import BatchEngine, Engine
from edge_runtime.gateway import Gateway
from edge_runtime.sensors.synthetic import simulate
from edge_runtime.slots import open_model

N_STREAMS, SECONDS = 64, 40
USED = 0.7  # of a core; the rest is the system's, the network's and what comes at once


@dataclass(frozen=True, kw_only=True)
class Core:
    """A processor core as published, and how much slower this project's Python runs on it than here: an estimate.

    int8_macs_per_cycle  most that its vector instructions do, by the vendor's optimization guide
    slowdown             of a single thread of numpy and Python, against the machine the rest is measured on
    """

    device: str
    core: str
    clock_hz: float
    cores: int
    int8_macs_per_cycle: int
    slowdown: float


# Clocks: the vendors' product pages. Rates: Arm's software optimization guides for the A72 (SMLAL, one a cycle, 8
# products) and A76 (SDOT, two a cycle, 16 products each), taken for the A78AE too; for the A53, which has no guide, as
# the A72.
# Slowdowns: 2.5 for the A76 is a guess; the others follow from published single-thread sysbench events a second of
# 2737 (Pi 5), 1478 (Pi 4) and 687 at 1.4 GHz (Pi 3+, the Zero 2 W's core), and the A78AE by its clock and 10 % a cycle.
CORES = (
    Core(
        device="Raspberry Pi Zero 2 W", core="Cortex-A53", clock_hz=1.0e9, cores=4, int8_macs_per_cycle=8, slowdown=13.9
    ),
    Core(device="Raspberry Pi 4", core="Cortex-A72", clock_hz=1.8e9, cores=4, int8_macs_per_cycle=8, slowdown=4.6),
    Core(device="Raspberry Pi 5", core="Cortex-A76", clock_hz=2.4e9, cores=4, int8_macs_per_cycle=32, slowdown=2.5),
    Core(device="Jetson AGX Orin", core="Cortex-A78AE", clock_hz=2.2e9, cores=12, int8_macs_per_cycle=32, slowdown=2.5),
)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One stream's step on this machine, in CPU time of one thread, medians.

    engine_s    its share of a bare call of the trunk for many streams
    overhead_s  all the rest: conditioning, state, beats, head, readings
    """

    engine_s: float
    overhead_s: float
    macs: int
    steps_per_s: float


@dataclass(frozen=True, kw_only=True)
class Capacity:
    """Patients that a core could carry.

    at_peak   if its vector units were always busy: a bound that nothing reaches
    likely    at the share of the peak that is asked for
    """

    core: Core
    at_peak: int
    likely: int


def measure(bundle: Bundle, engine: Engine, clock: Callable[[], int] = time.thread_time_ns) -> Measured:
    """Run a gateway of 64 synthetic patients for 40 s of signal, and the bare call beside it, in turns."""
    m = beats_of(bundle.manifest)
    rate, hop = m.rate_hz, m.hop_samples
    gateway = Gateway(open_model(bundle, engine, N_STREAMS), n_slots=N_STREAMS)
    streams = [gateway.join(str(i), StreamSpec(rate_hz=rate)) for i in range(N_STREAMS)]
    hearts = [simulate(SECONDS, rate_hz=rate, seed=i, pvc=0.05, pac=0.05).samples[:, :1] for i in range(8)]
    assert isinstance(engine, BatchEngine)  # open_model refuses another
    bare = engine.load_batch(bundle, m.graph("trunk"), N_STREAMS)
    spent: tuple[list[int], list[int]] = ([], [])
    for k, start in enumerate(range(0, len(hearts[0]) - hop, hop)):
        begun = clock()
        for i, stream in enumerate(streams):
            stream.offer(Block(start=start, samples=hearts[i % 8][start : start + hop]))
        gateway.step(k * round(1e9 * hop / rate))
        between = clock()
        bare.run()
        spent[0].append(between - begun)
        spent[1].append(clock() - between)
    whole, alone = (float(np.median(s)) / N_STREAMS * 1e-9 for s in spent)
    return Measured(
        engine_s=alone, overhead_s=max(0.0, whole - alone), macs=m.graph("trunk").macs, steps_per_s=rate / hop
    )


def capacities(measured: Measured, share_of_peak: float) -> list[Capacity]:
    """Patients per core of each device."""
    found = []
    for core in CORES:
        peak = core.clock_hz * core.int8_macs_per_cycle
        rest_s = measured.overhead_s * core.slowdown
        step_s = [measured.macs / (peak * share) + rest_s for share in (1.0, share_of_peak)]
        at_peak, likely = (int(USED / (measured.steps_per_s * s)) for s in step_s)
        found.append(Capacity(core=core, at_peak=at_peak, likely=likely))
    return found


def to_json(measured: Measured, found: list[Capacity]) -> dict[str, object]:
    """Everything, for programs."""
    return {"measured": asdict(measured), "capacities": [asdict(c) for c in found]}


def to_markdown(measured: Measured, found: list[Capacity], share_of_peak: float) -> str:
    """The table of docs/capacity.md."""
    lines = [
        f"Measured here: {measured.engine_s * 1e6:.1f} us of engine and {measured.overhead_s * 1e6:.1f} us of all else "
        f"a stream and step of {measured.macs} multiply-accumulates.",
        "",
        f"| device | core | patients a core, at {share_of_peak:.0%} of its peak | bound, at its peak | of the device |",
        "|---|---|---|---|---|",
    ]
    for c in found:
        lines.append(
            f"| {c.core.device} | {c.core.core}, {c.core.clock_hz / 1e9:g} GHz | {c.likely} | {c.at_peak} "
            f"| {c.core.cores} cores: {c.core.cores * c.likely} |"
        )
    return "\n".join(lines)
