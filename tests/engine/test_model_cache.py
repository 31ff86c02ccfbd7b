"""Graphs as this device optimized them: kept, used, thrown away when damaged, made anew for another device."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.contract.bundle import Bundle
from edge_runtime.contract.errors import EngineError
from edge_runtime.engine.onnx import OnnxEngine
from edge_runtime.engine.onnx_cache import KEPT_ENTRIES, ModelCache, processor


def scores(bundle: Bundle, cache: ModelCache | None) -> np.ndarray:
    """Of a few steps of the trunk."""
    graph = bundle.manifest.graph("trunk")
    stepper = OnnxEngine(cache=cache).load(bundle, graph)
    rng, rows = np.random.default_rng(0), []
    for _ in range(5):
        x = stepper.inputs[graph.inputs[0].name]
        x[...] = rng.standard_normal(x.shape)
        stepper.step()
        rows.append(stepper.outputs[graph.outputs[0].name].copy())
    return np.array(rows)


def entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def test_the_second_load_uses_what_the_first_one_kept(int8_bundle: Bundle, tmp_path: Path) -> None:
    wanted = scores(int8_bundle, None)
    cache = ModelCache(tmp_path / "kept", "this")
    np.testing.assert_array_equal(scores(int8_bundle, cache), wanted)
    (entry,) = entries(tmp_path / "kept")
    before = entry.stat().st_mtime_ns
    np.testing.assert_array_equal(scores(int8_bundle, cache), wanted)
    assert entries(tmp_path / "kept") == [entry]
    assert entry.stat().st_mtime_ns == before


def test_the_kept_graph_is_what_is_opened(tmp_path: Path) -> None:
    opened = []

    def open_session(path: Path, target: Path | None, *, is_optimized: bool = False) -> str:
        opened.append((path, is_optimized))
        if target is not None:
            target.write_bytes(b"optimized")
        return "session"

    cache, source = ModelCache(tmp_path / "kept", "this"), tmp_path / "model.onnx"
    for _ in range(2):
        assert cache.open(("key",), source, open_session) == "session"
    assert opened == [(source, False), (entries(tmp_path / "kept")[0], True)]
    assert opened[1][0].read_bytes() == b"optimized"


@pytest.mark.parametrize("damage", [b"", b"no graph"], ids=["empty", "overwritten"])
def test_a_damaged_entry_is_made_anew(int8_bundle: Bundle, tmp_path: Path, damage: bytes) -> None:
    cache = ModelCache(tmp_path, "this")
    wanted = scores(int8_bundle, cache)
    (entry,) = entries(tmp_path)
    whole = entry.read_bytes()
    entry.write_bytes(damage)
    np.testing.assert_array_equal(scores(int8_bundle, cache), wanted)
    assert [p.read_bytes() for p in entries(tmp_path)] == [whole]


def test_an_entry_that_the_engine_refuses_is_made_anew(tmp_path: Path) -> None:
    def open_session(path: Path, target: Path | None, *, is_optimized: bool = False) -> str:
        if is_optimized:
            raise EngineError("not this one")
        assert target is not None
        target.write_bytes(b"optimized")
        return "from the source"

    cache = ModelCache(tmp_path, "this")
    for _ in range(2):
        assert cache.open(("key",), tmp_path / "model.onnx", open_session) == "from the source"
    assert len(entries(tmp_path)) == 1


def test_another_processor_version_or_model_has_an_entry_of_its_own(tmp_path: Path) -> None:
    def open_session(path: Path, target: Path | None, *, is_optimized: bool = False) -> bool:
        if target is not None:
            target.write_bytes(b"optimized")
        return is_optimized

    source = tmp_path / "model.onnx"
    keys = [("this", ("sha", "1.0")), ("other", ("sha", "1.0")), ("this", ("sha", "1.1")), ("this", ("ahs", "1.0"))]
    for device, key in keys:
        assert not ModelCache(tmp_path / "kept", device).open(key, source, open_session)
    assert len(entries(tmp_path / "kept")) == len(keys)
    assert all(ModelCache(tmp_path / "kept", device).open(key, source, open_session) for device, key in keys)


def test_only_the_newest_entries_stay(tmp_path: Path) -> None:
    def open_session(path: Path, target: Path | None, *, is_optimized: bool = False) -> None:
        if target is not None:
            target.write_bytes(b"optimized")

    for i in range(KEPT_ENTRIES + 5):
        ModelCache(tmp_path, "this").open((i,), tmp_path / "model.onnx", open_session)
    assert len(entries(tmp_path)) == KEPT_ENTRIES


def test_a_folder_that_cannot_be_made_is_done_without(int8_bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    cache = ModelCache(tmp_path / "file" / "kept", "this")
    np.testing.assert_array_equal(scores(int8_bundle, cache), scores(int8_bundle, None))


def test_a_load_that_fails_leaves_nothing(int8_bundle: Bundle, tmp_path: Path) -> None:
    def refuse(path: Path, target: Path | None, *, is_optimized: bool = False) -> None:
        raise EngineError("refused")

    with pytest.raises(EngineError):
        ModelCache(tmp_path, "this").open(("key",), tmp_path / "model.onnx", refuse)
    assert entries(tmp_path) == []


def test_the_bundle_stays_as_it_was(int8_bundle: Bundle, tmp_path: Path) -> None:
    before = {p.name: p.read_bytes() for p in int8_bundle.path.iterdir()}
    scores(int8_bundle, ModelCache(tmp_path, "this"))
    assert {p.name: p.read_bytes() for p in int8_bundle.path.iterdir()} == before


def test_the_processor_is_told_by_its_model_and_instructions(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    cpuinfo = "processor\t: 0\nmodel name\t: A\nflags\t\t: avx2\ncpu MHz\t\t: 1000\n\nprocessor\t: 1\nflags\t: other\n"
    (tmp_path / "proc/cpuinfo").write_text(cpuinfo)
    told = processor(tmp_path)
    assert told == f"{os.uname().machine}model name\t: A\nflags\t\t: avx2\n"
    (tmp_path / "proc/cpuinfo").write_text(cpuinfo.replace("1000", "3000"))
    assert processor(tmp_path) == told
    assert processor(tmp_path / "nothing") == os.uname().machine
