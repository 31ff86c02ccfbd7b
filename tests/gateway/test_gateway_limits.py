"""What waits in a gateway and for how long, what is dropped, what is refused; the others go on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from wearables import MS, Wearable, alone, assert_equal, cut, drain, ecg

from edge_runtime.contract.bundle import Bundle
from edge_runtime.contract.errors import SettingsError, SourceError
from edge_runtime.contract.signal import Block, StreamSpec
from edge_runtime.engine.onnx import OnnxEngine
from edge_runtime.gateway import Gateway
from edge_runtime.inbox import Inbox, Lost
from edge_runtime.slots import open_model


def test_what_finds_no_room_is_dropped_counted_and_a_gap(
    int8_bundle: Bundle, engine: OnnxEngine, gateway_of: Callable[..., Gateway]
) -> None:
    gateway = gateway_of(int8_bundle, queue_s=2.0)  # 250 samples
    stream = gateway.join("bed", StreamSpec(rate_hz=125.0))
    x = ecg(16.0, 125.0, seed=2)
    blocks = cut(x, [50])
    taken, said, now_ns = [], [], 0
    for i, block in enumerate(blocks):
        if stream.offer(block):
            taken.append(block)
        if not 10 <= i < 22:  # the gateway does not come to it for 13 blocks: 5 fit
            for _ in range(20):
                now_ns += 50 * MS
                said += [r for _, r in gateway.step(now_ns)]
    stream.end()
    while not stream.is_over:
        now_ns += 50 * MS
        said += [r for _, r in gateway.step(now_ns)]
    assert len(blocks) - len(taken) == 8
    readings, ledger = alone(int8_bundle, engine, StreamSpec(rate_hz=125.0), taken)
    assert_equal(said, readings)
    assert (ledger.gap, stream.ledger.dropped, stream.ledger.gap) == (400, 400, 0)
    assert stream.ledger.scored == ledger.scored
    assert stream.ledger.is_balanced


def test_lost_blocks_that_follow_each_other_take_no_room() -> None:
    inbox = Inbox(10)
    for start in range(0, 5000, 5):
        inbox.offer(Block(start=start, samples=np.zeros((5, 1), np.float32)))
    inbox.offer(Block(start=6000, samples=np.zeros((5, 1), np.float32)))
    items = [inbox.take() for _ in range(len(inbox))]
    assert len(items) == 3
    assert items[2] == Lost(10, 6005, 4995)
    assert inbox.queued == 0


def test_a_partial_batch_runs_at_the_deadline_and_a_full_one_at_once(
    int8_bundle: Bundle, gateway_of: Callable[..., Gateway]
) -> None:
    gateway = gateway_of(int8_bundle, deadline_s=0.02)
    a, b = (gateway.join(name, StreamSpec(rate_hz=125.0)) for name in "ab")

    def hop(i: int) -> Block:
        return Block(start=25 * i, samples=np.zeros((25, 1), np.float32))

    for stream in (a, b):
        stream.offer(hop(0))
    gateway.step(0)
    assert (gateway.n_calls, gateway.n_steps) == (1, 2)
    a.offer(hop(1))
    gateway.step(100 * MS)
    assert gateway.n_calls == 1
    assert gateway.wait_s(105 * MS) == pytest.approx(0.015)
    gateway.step(119 * MS)
    assert gateway.n_calls == 1
    gateway.step(120 * MS)
    assert (gateway.n_calls, gateway.n_steps) == (2, 3)
    # The other comes in time: one call for both.
    a.offer(hop(2))
    gateway.step(200 * MS)
    b.offer(hop(1))
    gateway.step(210 * MS)
    assert (gateway.n_calls, gateway.n_steps) == (3, 5)
    # Who has been silent for a second is not waited for.
    a.offer(hop(3))
    gateway.step(1300 * MS)
    assert (gateway.n_calls, gateway.n_steps) == (4, 6)
    assert gateway.wait_s(1300 * MS) is None


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (Block(start=5, samples=np.zeros((9, 1), np.float32)), "goes back from 130 to 5"),
        (Block(start=130, samples=np.zeros((9, 2), np.float32)), "has 2 columns; 1 wanted"),
        (Block(start=130, samples=np.full((1500, 1), np.nan, np.float32)), "1500 of 1630 samples are not numbers"),
    ],
)
def test_a_stream_that_breaks_ends_with_its_ledger_and_the_others_go_on(
    int8_bundle: Bundle, engine: OnnxEngine, gateway_of: Callable[..., Gateway], broken: Block, words: str
) -> None:
    gateway = gateway_of(int8_bundle, queue_s=30.0)
    bad, good = (gateway.join(name, StreamSpec(rate_hz=125.0)) for name in ("bad", "good"))
    x = ecg(8.0, 125.0, seed=1)
    bad.offer(Block(start=0, samples=x[:130]))
    bad.offer(broken)
    bad.offer(Block(start=5000, samples=x[:10]))
    w = Wearable(good, cut(x, [40]), [])
    drain(gateway, [w])
    assert isinstance(bad.error, SourceError)
    assert words in str(bad.error)
    assert bad.ledger.is_balanced
    assert bad.ledger.scored == 130
    assert not bad.offer(Block(start=9000, samples=x[:10]))
    assert_equal(w.said, alone(int8_bundle, engine, StreamSpec(rate_hz=125.0), w.blocks)[0])


def test_who_does_not_suit_or_finds_no_room_is_refused(int8_bundle: Bundle, gateway_of: Callable[..., Gateway]) -> None:
    gateway = gateway_of(int8_bundle, n_slots=1)
    with pytest.raises(SettingsError, match="1 channels in V; the bundle ecg-beats wants 1 in mV"):
        gateway.join("bed", StreamSpec(rate_hz=125.0, unit="V"))
    with pytest.raises(SettingsError, match="stream rate is 10 Hz"):
        gateway.join("bed", StreamSpec(rate_hz=10.0))
    gateway.join("bed", StreamSpec(rate_hz=125.0))
    with pytest.raises(SettingsError, match="of this name is there already"):
        gateway.join("bed", StreamSpec(rate_hz=125.0))
    with pytest.raises(SettingsError, match="1 streams are there; no more is allowed"):
        gateway.join("other", StreamSpec(rate_hz=125.0))


def test_a_bundle_of_one_stream_only_says_what_to_do(int8_bundle: Bundle, engine: OnnxEngine, tmp_path: Path) -> None:
    import onnx

    model = onnx.load(int8_bundle.file("trunk.onnx"))
    for value in [*model.graph.input, *model.graph.output]:
        for dimension in value.type.tensor_type.shape.dim:
            if dimension.dim_param == "streams":
                dimension.dim_value = 1
    onnx.save(model, tmp_path / "trunk.onnx")
    with pytest.raises(Exception, match="so pack it anew"):
        open_model(replace(int8_bundle, path=tmp_path), engine, 2)
