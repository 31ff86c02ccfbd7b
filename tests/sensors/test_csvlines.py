"""Lines of numbers -> blocks: the laws of a stage, layouts, damage, counters."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.contract.signal import Block
from edge_runtime.sensors.csvlines import MAX_LINE_BYTES, CsvLines

VALUES = [round(1000 * float(np.sin(0.3 * i))) for i in range(60)]


def checked(body: str) -> str:
    """The line with its checksum, written independently of the decoder: XOR of all bytes, two hex digits."""
    total = 0
    for byte in body.encode():
        total = total ^ byte
    return f"{body}*{total:02X}"


def stream(lines: Sequence[str], end: str = "\n") -> bytes:
    return "".join(line + end for line in ["header", *lines]).encode()


def samples(blocks: Sequence[Block]) -> dict[int, float]:
    """Position -> value; positions must rise."""
    found: dict[int, float] = {}
    for block in blocks:
        assert block.samples.dtype == np.float32
        assert block.samples.shape[1] == 1
        assert block.start > max(found, default=-1)
        found.update(zip(range(block.start, block.stop), block.samples[:, 0].tolist(), strict=True))
    return found


def same(left: dict[int, float], right: dict[int, float]) -> bool:
    return left.keys() == right.keys() and np.array_equal(list(left.values()), [right[k] for k in left], equal_nan=True)


LOSSY = [
    *(checked(f"{i},{v}") for i, v in enumerate(VALUES[:20])),
    "rubbish",
    checked("30,!"),
    checked("31,7"),
]
STREAMS = {
    "plain": (CsvLines(250.0), stream([str(v) for v in VALUES])),
    "chatter": (CsvLines(250.0), b"\xff\x00boot\r\nready\r\n" + stream([f"{v}" for v in VALUES], "\r\n")),
    "damaged": (CsvLines(250.0), stream(["1", "2", "x", "!", "4,5", "6", "x" * 3000, "7"])),
    "counter": (CsvLines(250.0, column=1, counter=0), stream(LOSSY)),
    "unchecked counter": (
        CsvLines(250.0, column=1, counter=0, counter_wrap=256),
        stream([f"{i % 256} {i}" for i in range(240, 300) if i not in (250, 251, 270)]),
    ),
}


@pytest.fixture(params=STREAMS)
def case(request: pytest.FixtureRequest) -> tuple[CsvLines, bytes]:
    stage, data = STREAMS[request.param]
    stage.reset()
    return stage, data


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 100_000])
def test_cutting_the_input_differently_changes_nothing(case: tuple[CsvLines, bytes], size: int) -> None:
    stage, data = case
    whole, counts = samples(stage.feed(data)), (stage.good, stage.damaged, stage.chatter)
    stage.reset()
    parts = samples([b for i in range(0, len(data), size) for b in stage.feed(data[i : i + size])])
    assert whole
    assert same(parts, whole)
    assert (stage.good, stage.damaged, stage.chatter) == counts


def test_reset_forgets(case: tuple[CsvLines, bytes]) -> None:
    stage, data = case
    first = samples(stage.feed(data))
    stage.feed(b"9,9,9\n1")
    stage.reset()
    assert same(samples(stage.feed(data)), first)


def test_input_is_left_alone_and_output_stays(case: tuple[CsvLines, bytes]) -> None:
    stage, data = case
    chunk = bytearray(data)
    blocks = stage.feed(bytes(chunk))
    kept = [b.samples.copy() for b in blocks]
    stage.feed(data)
    assert bytes(chunk) == data
    for block, copy in zip(blocks, kept, strict=True):
        assert block.samples.base is None
        np.testing.assert_array_equal(block.samples, copy)


def test_an_ignored_result_still_advances() -> None:
    stage = CsvLines(250.0)
    stage.feed(b"h\n1\n2\n")
    assert samples(stage.feed(b"3\n")) == {2: 3.0}


@pytest.mark.parametrize("separator", [",", ";", "\t", " ", ", ", "  "])
@pytest.mark.parametrize("end", ["\n", "\r\n", ",\n"])
def test_every_usual_separator_and_line_end(separator: str, end: str) -> None:
    stage = CsvLines(250.0, column=1, scale=0.5, offset=10.0)
    data = stream([separator.join(("7", str(v), "-1e-3")) for v in VALUES], end)
    assert samples(stage.feed(data)) == {i: (v - 10) * 0.5 for i, v in enumerate(VALUES)}
    assert (stage.good, stage.damaged, stage.columns) == (len(VALUES), 0, 3)


def test_the_first_line_may_be_the_end_of_a_longer_one_and_is_left_out() -> None:
    assert samples(CsvLines(250.0).feed(b"23\n500\n501\n")) == {0: 500.0, 1: 501.0}


def test_a_damaged_line_is_one_missing_sample() -> None:
    stage = CsvLines(250.0)
    assert samples(stage.feed(stream(["1", "2", "3x", "4", "1_0", "inf", "7"]))) == {0: 1, 1: 2, 3: 4, 6: 7}
    assert (stage.good, stage.damaged) == (4, 3)


def test_no_value_is_nan_and_not_zero() -> None:
    found = samples(CsvLines(250.0).feed(stream(["1", "!", "nan", "NaN", "2"])))
    np.testing.assert_array_equal(list(found.values()), [1, np.nan, np.nan, np.nan, 2])
    found = samples(CsvLines(250.0, column=1).feed(stream(["1,2", "!", "1,!", "1,3"])))
    np.testing.assert_array_equal(list(found.values()), [2, np.nan, np.nan, 3])


def test_a_value_beyond_float32_is_damage() -> None:
    stage = CsvLines(250.0)
    assert samples(stage.feed(stream(["1", "1e39", "9e999", "2"]))) == {0: 1, 3: 2}


def test_remarks_are_no_samples() -> None:
    stage = CsvLines(250.0)
    assert samples(stage.feed(stream(["1", "# battery 3.9", "", "2"]))) == {0: 1, 1: 2}
    assert (stage.chatter, stage.damaged) == (1, 0)


def test_a_line_without_end_needs_no_memory() -> None:
    stage = CsvLines(250.0)
    stage.feed(stream(["1"]))
    for _ in range(200):
        stage.feed(b"5" * 1000)
        assert len(stage._buffer) <= MAX_LINE_BYTES
    assert samples(stage.feed(b"\n2\n")) == {2: 2.0}


def test_a_number_in_the_boot_chatter_does_not_fix_the_layout() -> None:
    stage = CsvLines(250.0, column=1)
    stage.feed(b"\n115200\n" + stream([f"{i},5" for i in range(10)]))
    assert stage.columns == 2
    assert stage.good >= 8


def test_a_counter_column_tells_what_was_lost() -> None:
    stage = CsvLines(250.0, column=1, counter=0)
    lines = [f"{c},{10 * c}" for c in range(5000, 5100) if c not in (5007, 5008, 5050)]
    found = samples(stage.feed(stream(lines)))
    wanted = {c - 5000: 10.0 * c for c in range(5000, 5100) if c not in (5007, 5008, 5050)}
    assert found == wanted


def test_a_damaged_counter_moves_nothing() -> None:
    stage = CsvLines(250.0, column=1, counter=0)
    lines = [f"{c if c != 20 else 9020},{c}" for c in range(40)]
    assert samples(stage.feed(stream(lines))) == {c: float(c) for c in range(40) if c != 20}
    assert stage.damaged == 1


def test_a_counter_that_went_round_during_a_silence_is_told_by_time() -> None:
    stage = CsvLines(250.0, column=1, counter=0, counter_wrap=256)
    first = samples(stage.feed(stream([f"{c},{c}" for c in range(100)]), 0))
    # 10.3 s later: 2575 positions on, which is ten times round and 15 more.
    later = samples(stage.feed(b"114,1\n115,2\n", round(2575 / 250 * 1e9)))
    assert max(first) == 99
    assert later == {99 + 2575: 1.0, 99 + 2576: 2.0}


def test_a_device_that_starts_again_is_a_gap() -> None:
    stage = CsvLines(100.0, column=1, counter=0)
    stage.feed(stream([f"{c},{c}" for c in range(1000, 1100)]), 0)
    found = samples(stage.feed(b"0,1\n1,2\n2,3\n", 2_000_000_000))
    assert found == {299: 1.0, 300: 2.0, 301: 3.0}


def test_a_line_said_twice_counts_once() -> None:
    stage = CsvLines(250.0, column=1, counter=0)
    lines = [checked(f"{c},{c}") for c in range(10)]
    assert samples(stage.feed(stream([*lines[:5], lines[4], *lines[5:]]))) == {c: float(c) for c in range(10)}


damage = st.lists(
    st.tuples(st.integers(0, 10**6), st.sampled_from(["replace", "delete", "insert"]), st.integers(0, 255)),
    min_size=1,
    max_size=6,
)


@settings(deadline=None, max_examples=100, derandomize=True)
@given(st.binary(max_size=3000))
def test_no_bytes_break_it(data: bytes) -> None:
    for stage in (CsvLines(250.0), CsvLines(250.0, column=1, counter=0, counter_wrap=256)):
        found = samples(stage.feed(data) + stage.feed(b"\n1,2\n" + data))
        assert len(found) == stage.good


@settings(deadline=None, max_examples=100, derandomize=True)
@given(st.integers(0, 10**6), st.integers(1, 255))
def test_with_checksum_and_counter_one_wrong_byte_never_gives_a_wrong_sample(where: int, flip: int) -> None:
    lines = [checked(f"{c},{(c * 37) % 1000}") for c in range(100)]
    data = bytearray(stream(lines))
    intact = len(stream(lines[:1]))
    data[intact + where % (len(data) - intact)] ^= flip
    stage = CsvLines(250.0, column=1, counter=0)
    found = samples(stage.feed(bytes(data)))
    assert all(value == (c * 37) % 1000 for c, value in found.items())
    # One wrong byte harms one line, or two where it was or became the end of one.
    assert len(found) >= 98


@settings(deadline=None, max_examples=100, derandomize=True)
@given(damage)
def test_damage_costs_the_damaged_lines_and_no_others(hits: list[tuple[int, str, int]]) -> None:
    lines = [f"{c},{c}" for c in range(200)]
    data = bytearray(stream(lines))
    start = len(stream(lines[:2]))
    for where, how, byte in hits:
        at = start + where % (len(data) - start)
        if how == "replace":
            data[at] = byte
        elif how == "delete":
            del data[at]
        else:
            data.insert(at, byte)
    stage = CsvLines(250.0, column=1, counter=0)
    stage.feed(bytes(data))
    # A hit harms two lines at most; one more waits where nothing follows to confirm it.
    assert stage.good >= len(lines) - 2 * len(hits) - 3 * len(hits)
    assert stage.good + stage.damaged <= len(lines) + 2 * len(hits)


def test_a_counter_that_lost_a_digit_is_not_believed_although_it_wraps() -> None:
    """15 reads as 1: what follows is a whole turn less 14 behind, and is not what the line would go on to."""
    stage = CsvLines(250.0, column=1, counter=0, counter_wrap=256)
    lines = [f"{i},{i * 10}" for i in range(40)]
    lines[15] = "1 ,150"
    found = samples(stage.feed(stream(lines)))
    assert found == {i: i * 10.0 for i in range(40) if i != 15}


def test_a_damaged_line_behind_a_gap_does_not_cost_the_line_before_it() -> None:
    stage = CsvLines(250.0, column=1, counter=0, counter_wrap=256)
    lines = [f"{i},{i * 10}" for i in (0, 1, 2, 20, 21, 22, 23)]
    lines[4] = "2x,210"
    assert samples(stage.feed(stream(lines))) == {i: i * 10.0 for i in (0, 1, 2, 20, 22, 23)}
