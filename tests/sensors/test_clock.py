"""A device's clock on the monotonic one: drift and jitter against the truth, wraps against brute force."""

from __future__ import annotations

import itertools
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from edge_runtime.sensors.bytestream import Connection
from edge_runtime.sensors.clock import N_BINS, DeviceClock, line_below, line_through, skew, unwrap
from edge_runtime.sensors.protocols import PROTOCOLS
from edge_runtime.sensors.wired import parse_wired

RATE_HZ = 250.0
EPOCH_NS = 7_000_000_000_000
Delays = Callable[[np.random.Generator, int], np.ndarray]
LATE: dict[str, Delays] = {
    "exponential, mean 5 ms": lambda rng, n: rng.exponential(5e6, n),
    "half normal, 5 ms": lambda rng, n: np.abs(rng.normal(0.0, 5e6, n)),
    "stalls": lambda rng, n: rng.exponential(5e6, n) + 3e8 * (np.arange(n) % 97 < 7),
}
EVEN: Delays = lambda rng, n: rng.uniform(0.0, 5e6, n)  # noqa: E731 - like its neighbours
BOTH: dict[str, Delays] = {
    "uniform, 5 ms either way": lambda rng, n: rng.uniform(-5e6, 5e6, n),
    "normal, deviation 5 ms": lambda rng, n: rng.normal(0.0, 5e6, n),
}


def pairs(delays: Delays, *, ppm: float = 50.0, seconds: float = 60.0, seed: int = 0, per_chunk: int = 10):
    """(tick, true time, arrival) of each chunk's newest sample; a fast device has a high ppm."""
    rng = np.random.default_rng(seed)
    ticks = np.arange(per_chunk - 1, int(seconds * RATE_HZ), per_chunk)
    true_ns = EPOCH_NS + ticks / (RATE_HZ * (1.0 + ppm * 1e-6)) * 1e9
    arrival_ns = true_ns + delays(rng, len(ticks))
    if delays not in BOTH.values():
        arrival_ns = np.maximum.accumulate(arrival_ns)  # a stream keeps its order
    return [(int(a), float(b), round(float(c))) for a, b, c in zip(ticks, true_ns, arrival_ns, strict=True)]


def error_ms(delays: Delays, **more: float) -> float:
    """How wrong the newest sample's time is at the end."""
    clock, found = DeviceClock(RATE_HZ), pairs(delays, **more)
    stamps = [clock.observe(tick, arrival_ns) for tick, _, arrival_ns in found]
    return (stamps[-1] - found[-1][1]) / 1e6


@pytest.mark.parametrize("ppm", [-50.0, 50.0, 300.0])
@pytest.mark.parametrize("name", LATE)
def test_after_a_minute_of_late_arrivals_the_time_is_right_to_a_millisecond(name: str, ppm: float) -> None:
    worst = max(abs(error_ms(LATE[name], ppm=ppm, seed=seed)) for seed in range(8))
    assert worst <= 1.0


@pytest.mark.parametrize("name", BOTH)
def test_after_a_minute_of_jitter_either_way_the_time_is_right_to_a_millisecond(name: str) -> None:
    worst = max(abs(error_ms(BOTH[name], seed=seed)) for seed in range(8))
    assert worst <= 1.0


def test_an_even_spread_of_lateness_costs_half_its_width_and_no_drift() -> None:
    """Nobody can tell 0 to 5 ms late from 2.5 ms either way of 2.5 ms late."""
    errors = [error_ms(EVEN, seed=seed) for seed in range(8)]
    assert np.allclose(errors, 2.5, atol=0.5)


@pytest.mark.parametrize("name", [*LATE, *BOTH])
def test_the_clock_sees_for_itself_whether_arrivals_are_late(name: str) -> None:
    clock = DeviceClock(RATE_HZ)
    for tick, _, arrival_ns in pairs({**LATE, **BOTH}[name]):
        clock.observe(tick, arrival_ns)
    assert clock.is_late == (name in LATE)


def test_skew_is_that_of_the_distribution() -> None:
    """Outer tenths of an exponential distribution: -ln 0.9, ln 2, -ln 0.1."""
    low, middle, high = -np.log(0.9), np.log(2.0), -np.log(0.1)
    at = (np.arange(100_000) + 0.5) / 100_000
    assert skew(-np.log(1.0 - at)) == pytest.approx((high + low - 2.0 * middle) / (high - low), abs=1e-3)
    assert skew(at) == pytest.approx(0.0, abs=1e-9)
    assert skew(np.log(at)) < -0.4
    assert skew(np.ones(5)) == 0.0


def test_the_drift_is_measured() -> None:
    clock = DeviceClock(RATE_HZ)
    for tick, _, arrival_ns in pairs(LATE["exponential, mean 5 ms"], ppm=50.0):
        clock.observe(tick, arrival_ns)
    assert clock.drift_ppm == pytest.approx(50.0, abs=10.0)
    assert clock.rate_hz == pytest.approx(RATE_HZ * 1.00005, rel=1e-5)


@settings(derandomize=True, max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 20), st.integers(-50, 50)), min_size=2, max_size=12))
def test_the_line_below_is_the_linear_programs(steps: list[tuple[int, int]]) -> None:
    """Moon, Skelly and Towsley 1999: maximize the sum of the line's heights, no point below it."""
    x = np.cumsum([dx for dx, _ in steps]).astype(float)
    y = np.array([dy for _, dy in steps], float)
    slope, intercept = line_below(x, y)
    assert np.all(slope * x + intercept <= y + 1e-9)
    wanted = linprog([-x.sum(), -len(x)], A_ub=np.c_[x, np.ones(len(x))], b_ub=y, bounds=[(None, None)] * 2)
    assert np.sum(slope * x + intercept) == pytest.approx(-wanted.fun, abs=1e-6)


def test_the_line_through_is_theil_and_sens_and_bears_outliers() -> None:
    x = np.arange(20.0)
    y = 3.0 * x + 7.0
    y[[2, 9, 17]] = [900.0, -400.0, 1e4]
    assert line_through(x, y) == pytest.approx((3.0, 7.0))


@settings(derandomize=True, max_examples=200, deadline=None)
@given(st.integers(2, 300), st.integers(0, 2000), st.integers(0, 299), st.floats(-100, 2000))
def test_a_wrap_is_the_position_nearest_to_the_arrival(wrap: int, last: int, count: int, ahead: float) -> None:
    count %= wrap
    candidates = [p for p in range(last + 1, last + 3000) if p % wrap == count]
    best = min(abs(p - (last + ahead)) for p in candidates)
    found = unwrap(count, last, ahead, wrap)
    assert found in candidates
    assert abs(found - (last + ahead)) == pytest.approx(best)


@pytest.mark.parametrize(("wrap", "rate_hz"), [(256, 250.0), (2**24, 32768.0)], ids=["Cyton", "Shimmer"])
@pytest.mark.parametrize("away_s", [0.004, 0.9, 1.03, 5.0, 600.0, 1300.0])
def test_a_silence_of_many_wraps_is_counted(wrap: int, rate_hz: float, away_s: float) -> None:
    """A byte at 250 Hz wraps in 1.02 s, 24 bits at 32768 Hz in 512 s; 0.3 s of lateness leave both certain."""
    last = 12_345
    for late_s in (-0.3, 0.0, 0.3):
        position = last + round(away_s * rate_hz)
        assert unwrap(position % wrap, last, max(0.0, away_s + late_s) * rate_hz, wrap) == position


@pytest.mark.parametrize("name", [*LATE, *BOTH])
def test_times_never_go_back(name: str) -> None:
    clock = DeviceClock(RATE_HZ)
    stamps = [clock.observe(tick, arrival_ns) for tick, _, arrival_ns in pairs({**LATE, **BOTH}[name], seconds=200.0)]
    assert all(a <= b for a, b in itertools.pairwise(stamps))


def test_where_arrivals_are_late_no_time_is_later_than_its_arrival() -> None:
    clock = DeviceClock(RATE_HZ)
    for tick, true_ns, arrival_ns in pairs(LATE["stalls"], seconds=200.0):
        stamp = clock.observe(tick, arrival_ns)
        assert stamp <= arrival_ns or true_ns < EPOCH_NS + 20e9  # at first nobody knows
    assert clock.is_late


def test_a_backlog_after_a_stall_moves_no_time() -> None:
    """4 s in which the system held all back, then everything at once."""
    clock = DeviceClock(RATE_HZ)
    for tick, true_ns, arrival_ns in pairs(EVEN, seconds=60.0):
        held_until = EPOCH_NS + 34e9
        is_held = EPOCH_NS + 30e9 <= true_ns < held_until
        stamp = clock.observe(tick, round(held_until) + tick if is_held else arrival_ns)
        if tick > 20 * RATE_HZ:
            assert abs(stamp - true_ns - 2.5e6) < 3e6
    assert clock.n_restarts == 0


@pytest.mark.parametrize("first_tick", [0, 10**9], ids=["counter from 0", "counter far ahead"])
def test_a_device_that_starts_again_gets_a_new_offset_on_the_same_timeline(first_tick: int) -> None:
    clock, found = DeviceClock(RATE_HZ), pairs(EVEN)
    stamps = [clock.observe(tick, arrival_ns) for tick, _, arrival_ns in found]
    drift = clock.drift_ppm
    again_ns = 90 * 10**9
    for tick, true_ns, arrival_ns in found[:50]:
        stamps.append(clock.observe(first_tick + tick, arrival_ns + again_ns))
        assert abs(stamps[-1] - true_ns - again_ns) < 6e6
    assert clock.n_restarts == 1
    assert clock.drift_ppm == drift
    assert stamps == sorted(stamps)


def test_ticks_that_stood_still_are_noticed_within_seconds() -> None:
    clock, found, pause_ns = DeviceClock(RATE_HZ), pairs(EVEN), 2 * 10**9
    for tick, _, arrival_ns in found:
        stamp = clock.observe(tick, arrival_ns + (pause_ns if tick > 30 * RATE_HZ else 0))
    assert abs(stamp - found[-1][1] - pause_ns - 2.5e6) < 2e6
    assert clock.n_restarts == 1


def test_reset_forgets() -> None:
    clock, found = DeviceClock(RATE_HZ), pairs(LATE["exponential, mean 5 ms"], seconds=20.0)
    first = [clock.observe(tick, arrival_ns) for tick, _, arrival_ns in found]
    clock.reset()
    assert [clock.observe(tick, arrival_ns) for tick, _, arrival_ns in found] == first


def test_memory_is_bounded() -> None:
    clock = DeviceClock(RATE_HZ)
    found = pairs(BOTH["normal, deviation 5 ms"], seconds=3.0 * N_BINS)
    half = len(found) // 2
    for tick, _, arrival_ns in found[:half]:
        clock.observe(tick, arrival_ns)
    tracemalloc.start()
    for tick, _, arrival_ns in found[half:]:
        clock.observe(tick, arrival_ns)
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert grown < 60_000


def test_a_time_before_any_pair_is_refused() -> None:
    with pytest.raises(ValueError, match="no pair"):
        DeviceClock(RATE_HZ).time_ns(3)


@pytest.mark.parametrize("name", [*LATE, *BOTH])
def test_blocks_of_a_wire_carry_fitted_times_and_not_those_of_arrival(name: str) -> None:
    """Ten Cyton frames a chunk, 50 ppm fast, through the real decoder; the truth is the simulated device's clock."""
    rows = np.zeros((10, 8), np.float32)
    connection = Connection("test", parse_wired("protocol=cyton", "test"))
    errors_ms, from_arrival_ms = [], []
    for tick, true_ns, arrival_ns in pairs({**LATE, **BOTH}[name], seconds=60.0, seed=3):
        blocks = connection.feed(PROTOCOLS["cyton"].encode(rows, (tick - 9) % 256), arrival_ns)
        assert blocks[-1].stop == tick + 1
        if tick > 50 * RATE_HZ:
            errors_ms.append(abs(blocks[-1].t_ns - true_ns) / 1e6)
            from_arrival_ms.append(abs(arrival_ns - true_ns) / 1e6)
    assert max(errors_ms) <= 1.0
    assert max(from_arrival_ms) > 4.0


def test_blocks_of_one_chunk_are_as_far_apart_as_their_samples() -> None:
    """A gap inside a chunk makes two blocks; the first one's newest sample is older than the chunk."""
    connection = Connection("test", parse_wired("protocol=cyton", "test"))
    encode, rows = PROTOCOLS["cyton"].encode, np.zeros((10, 8), np.float32)
    for i in range(30):
        connection.feed(encode(rows, 10 * i % 256), EPOCH_NS + i * 40_000_000)
    first = encode(rows, 300 % 256)
    second = encode(rows, 314 % 256)  # four frames are missing between them
    blocks = connection.feed(first + second, EPOCH_NS + 30 * 40_000_000 + 56_000_000)
    a, b = blocks[0], blocks[-1]
    assert (a.start, a.stop, blocks[1].start, b.stop) == (300, 310, 314, 324)
    assert b.t_ns - a.t_ns == pytest.approx(14 / RATE_HZ * 1e9, abs=1e5)
