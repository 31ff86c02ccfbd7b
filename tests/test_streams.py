"""Ledgers of running streams: noted by `run`, shown by `info`, balanced at any moment."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.assemble import open_engine, open_pipeline
from edge_runtime.cli import main
from edge_runtime.contract.bundle import open_bundle
from edge_runtime.contract.signal import Block, Ledger, StreamSpec
from edge_runtime.streams import StreamNote, noted_streams, notes_folder

BUNDLE = Path(__file__).parents[1] / "deploy" / "bundles" / "ecg-beats"


class Some:
    def so_far(self) -> Ledger:
        return Ledger(received=10, scored=7, dropped=1, gap=2)


def test_the_ledger_balances_at_any_moment_and_not_only_at_the_end() -> None:
    pipeline = open_pipeline(open_bundle(BUNDLE), StreamSpec(rate_hz=250.0), open_engine())
    x, rng, at, lost = np.zeros((4000, 1), np.float32), np.random.default_rng(1), 0, 0
    while at < len(x):
        size = int(rng.integers(1, 300))
        pipeline.feed(Block(start=at + lost, samples=x[at : at + size]))
        at, lost = at + size, lost + (100 if rng.random() < 0.2 else 0)
        now = pipeline.so_far()
        assert now.is_balanced
        assert now.received - now.gap == min(at, len(x))
    pipeline.finish()
    assert pipeline.so_far() == pipeline.ledger


def test_a_note_is_read_back_and_says_whether_its_process_lives(tmp_path: Path) -> None:
    note = StreamNote("tcp://gateway:7000?protocol=cyton", "ecg-beats-1", tmp_path / "made")
    note.write()
    assert noted_streams(tmp_path / "made") == []  # nothing to tell yet
    note.follow(Some())
    said: list[str] = []
    note.beside(said.append)("WATCHDOG=1")
    assert said == ["WATCHDOG=1"]
    (found,) = noted_streams(tmp_path / "made")
    assert found["source"] == "tcp://gateway:7000?protocol=cyton"
    assert [found[k] for k in ("received", "scored", "dropped", "gap", "is_running")] == [10, 7, 1, 2, True]
    assert noted_streams(tmp_path / "made", proc=tmp_path)[0]["is_running"] is False
    (tmp_path / "made" / "stream-0.json").write_text("{")
    assert len(noted_streams(tmp_path / "made")) == 1


def test_a_folder_that_cannot_be_written_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    (tmp_path / "file").write_text("")
    note = StreamNote("stdin:", "b", tmp_path / "file")
    note.follow(Some())
    note.write()
    note.write()
    assert caplog.text.count("will not show") == 1


def test_notes_lie_where_the_system_keeps_such_things() -> None:
    assert notes_folder({"RUNTIME_DIRECTORY": "/run/a:/run/b", "XDG_RUNTIME_DIR": "/run/user/1"}) == Path("/run/a")
    assert notes_folder({"XDG_RUNTIME_DIR": "/run/user/1"}) == Path("/run/user/1/vitaledge")
    assert notes_folder({}).name == f"vitaledge-{os.getuid()}"


def test_info_shows_the_ledger_of_a_run_while_it_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)
    url = "synthetic:?seed=7"
    command = [sys.executable, "-m", "edge_runtime", "run", str(BUNDLE), url, "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        until = time.monotonic() + 60
        seen: dict = {}
        while not seen.get("received") and run.poll() is None and time.monotonic() < until:
            time.sleep(0.2)
            assert main(["info", str(BUNDLE), "--json"]) == 0
            seen = next(iter(json.loads(capsys.readouterr().out)["streams"]), {})
        run.send_signal(signal.SIGTERM)
        out, said = run.communicate(timeout=30)
    assert run.returncode == 0, said
    assert (seen["source"], seen["is_running"]) == (url, True)
    assert seen["received"] == seen["scored"] + seen["dropped"] + seen["gap"] > 0
    last = json.loads(out.splitlines()[-1])
    assert main(["info", str(BUNDLE)]) == 0
    text = capsys.readouterr().out
    assert url in text
    assert f"received         {last['received']}" in text
