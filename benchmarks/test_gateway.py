"""Many streams in one process against one windowed call each, against the bare engine call, and what a stream costs.

Both sides run in turns in one process, in CPU time of the one thread that computes: what a core can carry does not
depend on what else the machine does. `make bench` keeps the raw values; docs/gateway.md tells what was found.
"""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import peers
from benchmarks.interleaved import compare, keep
from edge_runtime.assemble import open_engine
from edge_runtime.contract.bundle import Bundle
from edge_runtime.contract.rows import rows_of
from edge_runtime.contract.signal import Block, Reading, StreamSpec
from edge_runtime.gateway import Gateway, Stream
from edge_runtime.sensors.synthetic import simulate
from edge_runtime.slots import open_model

RATE_HZ, HOP, MV_PER_COUNT = 125.0, 25, 0.005
SECONDS = 60
WARM_UP = 20


class Ward:
    """N wearables' bytes, int16 little-endian counts, 25 samples of each at a time, into one gateway."""

    def __init__(self, bundle: Bundle, n: int) -> None:
        self.gateway = Gateway(open_model(bundle, open_engine(), n), n_slots=n)
        joined = [self.gateway.join(f"bed{i}", StreamSpec(rate_hz=RATE_HZ)) for i in range(n)]
        self.streams = sorted(joined, key=lambda s: s.slot)
        self.rows = rows_of(np.array([s.slot for s in self.streams]))
        counts = [
            np.rint(simulate(SECONDS, rate_hz=RATE_HZ, seed=i % 32, pvc=0.05, pac=0.05).samples[:, 0] / MV_PER_COUNT)
            for i in range(min(n, 32))
        ]
        # The same bytes serve many streams, so that they do not count as what a stream takes.
        hops = [[h.tobytes() for h in np.asarray(c, "<i2").reshape(-1, HOP)] for c in counts]
        self._chunks = [[h[k] for h in hops] for k in range(len(hops[0]))]
        self.hop = self.n_readings = 0
        self._start = np.zeros(n, np.int64)

    def together(self) -> None:
        """A receiver that hears all: the bytes of all streams are decoded and offered in one piece."""
        counts = np.frombuffer(b"".join(self._next()), "<i2").reshape(len(self.streams), HOP)
        samples = counts * np.float32(MV_PER_COUNT)
        self.gateway.offer_rows(self.streams, self.rows, self._start, samples, self.hop * 200_000_000)
        self._start += HOP
        self._read()

    def each(self) -> None:
        """A source for each: bytes are decoded and offered stream by stream."""
        for stream, chunk in zip(self.streams, self._next(), strict=True):
            samples = np.frombuffer(chunk, "<i2") * np.float32(MV_PER_COUNT)
            stream.offer(Block(start=HOP * self.hop, samples=samples.reshape(-1, 1), t_ns=self.hop * 200_000_000))
        self._read()

    def _next(self) -> list[bytes]:
        some = self._chunks[self.hop % len(self._chunks)]
        return some * (len(self.streams) // len(some))

    def _read(self) -> None:
        said: list[tuple[Stream, Reading]] = self.gateway.step(self.hop * 200_000_000)
        self.n_readings += len(said)
        self.hop += 1


@pytest.mark.parametrize(
    ("n", "way", "least"), [(32, "together", 6.0), (256, "together", 10.0), (32, "each", 4.5), (256, "each", 7.0)]
)
def test_streams_per_core_against_a_windowed_call_each(
    benchmark: Any, bundle: Bundle, window_model: Path, n: int, way: str, least: float
) -> None:
    """25 more samples of N streams: bytes to readings in the gateway, or a 10 s window in fp32 for each stream."""
    window, ward = peers.windowed(window_model), Ward(bundle, n)

    def windows() -> None:
        for _ in range(n):
            window()

    found = benchmark.pedantic(
        lambda: compare(
            windows,
            getattr(ward, way),
            rounds=80 if n == 32 else 40,
            calls=160 // n + 1,
            warm_up=WARM_UP,
            clock=time.thread_time_ns,
        ),
        rounds=1,
        iterations=1,
    )
    middle = keep(benchmark, found, floor=10.0, goal=25.0)
    benchmark.extra_info["readings"] = ward.n_readings
    assert ward.n_readings > ward.hop * n / 8
    assert ward.gateway.n_steps == ward.hop * n
    # Below the floor with few streams, where what a step costs once outweighs what a stream costs.
    assert middle >= least


@pytest.mark.parametrize("way", ["together", "each"])
def test_bytes_in_readings_out_of_32_streams_against_the_bare_engine_call(
    benchmark: Any, bundle: Bundle, way: str
) -> None:
    """The bare call is the same batch of 32 streams through the trunk; the head's calls count on our side only."""
    ward = Ward(bundle, 32)
    bare = bare_trunk(bundle, 32)
    found = benchmark.pedantic(
        lambda: compare(bare, getattr(ward, way), rounds=80, calls=5, warm_up=WARM_UP, clock=time.thread_time_ns),
        rounds=1,
        iterations=1,
    )
    # Far above the floor: see docs/gateway.md.
    assert keep(benchmark, found, floor=1.5, goal=1.15) <= {"together": 13.0, "each": 16.0}[way]


def bare_trunk(bundle: Bundle, n: int) -> Callable[[], None]:
    """The engine's call alone, over its own buffers."""
    batch = open_engine().load_batch(bundle, bundle.manifest.graph("trunk"), n)  # type: ignore[attr-defined]
    x = next(iter(batch.reads.values()))
    x[...] = np.random.default_rng(1).standard_normal(x.shape)
    return lambda keep=batch: keep.run()  # type: ignore[misc]


MEMORY = """
import gc, json, sys
from pathlib import Path
from benchmarks.test_gateway import Ward
from edge_runtime.contract.bundle import open_bundle
ward = Ward(open_bundle(Path(sys.argv[1])), int(sys.argv[2]))
for _ in range(100):
    ward.each()
gc.collect()
lines = dict(line.split(":") for line in open("/proc/self/smaps_rollup").read().splitlines()[1:])
print(json.dumps({"rss_bytes": int(lines["Rss"].split()[0]) * 1024, "readings": ward.n_readings}))
"""


def state_bytes(bundle: Bundle) -> int:
    """What a model itself keeps of one stream."""
    states = [s for graph in bundle.manifest.graphs for s in graph.states]
    return sum(int(np.prod(s.shape)) * np.dtype(s.dtype).itemsize for s in states)


def test_memory_per_further_stream(benchmark: Any, bundle: Bundle) -> None:
    """Resident memory of a process with 512 streams and of one with 64, after 20 s; less the models' state."""

    def measured(n: int) -> int:
        command = [sys.executable, "-c", MEMORY, str(bundle.path), str(n)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return int(json.loads(done.stdout)["rss_bytes"])

    def per_stream() -> list[float]:
        return [(measured(512) - measured(64)) / 448 for _ in range(3)]

    gc.collect()
    found = benchmark.pedantic(per_stream, rounds=1, iterations=1)
    above = float(np.median(found)) - state_bytes(bundle)
    benchmark.extra_info["memory"] = {
        "bytes_per_stream": [round(f) for f in found],
        "state_bytes": state_bytes(bundle),
        "above_state_bytes": round(above),
        "floor": 32_000,
        "goal": 8_000,
    }
    assert above <= 32_000


PIPED = """
import gc, json, sys
from pathlib import Path
import numpy as np
from edge_runtime.assemble import open_engine
from edge_runtime.contract.bundle import open_bundle
from edge_runtime.contract.signal import Block, StreamSpec
from edge_runtime.one_by_one import OneByOne, open_alone
from edge_runtime.sensors.synthetic import simulate
n = int(sys.argv[2])
gateway = OneByOne(open_alone(open_bundle(Path(sys.argv[1])), open_engine()), n_slots=n)
streams = [gateway.join(str(i), StreamSpec(rate_hz=125.0)) for i in range(n)]
x = simulate(32, rate_hz=125.0, seed=1).samples[:, :1]
said = 0
for at in range(0, len(x), 25):
    for stream in streams:
        stream.offer(Block(start=at, samples=x[at : at + 25]))
    said += len(gateway.step(0))
gc.collect()
lines = dict(line.split(":") for line in open("/proc/self/smaps_rollup").read().splitlines()[1:])
print(json.dumps({"rss_bytes": int(lines["Rss"].split()[0]) * 1024, "readings": said}))
"""


@pytest.mark.parametrize("name", ["ecg-rhythm", "ecg-beats"])
def test_memory_per_further_stream_with_a_pipeline_of_its_own(benchmark: Any, name: str) -> None:
    """Resident memory of a process with 80 streams one by one and of one with 16, after 32 s."""
    path = Path(__file__).parents[1] / "deploy" / "bundles" / name

    def measured(n: int) -> int:
        done = subprocess.run([sys.executable, "-c", PIPED, str(path), str(n)], capture_output=True, check=True)
        value = json.loads(done.stdout)
        assert value["readings"] >= n
        return int(value["rss_bytes"])

    found = benchmark.pedantic(lambda: [(measured(80) - measured(16)) / 64 for _ in range(3)], rounds=1, iterations=1)
    benchmark.extra_info["memory"] = {"bytes_per_stream": [round(f) for f in found]}
    assert float(np.median(found)) <= {"ecg-rhythm": 100_000, "ecg-beats": 4_000_000}[name]
