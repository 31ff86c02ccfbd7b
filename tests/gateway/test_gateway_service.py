"""The loop of a gateway: sources that break or get lost; the real command with signals; the link to follow."""

from __future__ import annotations

import io
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.contract.bundle import Bundle, open_bundle
from edge_runtime.contract.errors import SettingsError, SourceError
from edge_runtime.contract.signal import Block, StreamSpec
from edge_runtime.engine.onnx import OnnxEngine
from edge_runtime.gateway import Gateway
from edge_runtime.gateway_cli import read_settings
from edge_runtime.gateway_service import GatewayService
from edge_runtime.hot_swap import Watcher, active_link
from edge_runtime.sensors.lost import SourceLost
from edge_runtime.sinks.named import NamedJsonLines, NamedTextLines
from edge_runtime.slots import Model, open_model

BUNDLE = Path(__file__).parents[2] / "deploy" / "bundles" / "ecg-beats"
SPEC = StreamSpec(rate_hz=125.0)


class Played:
    """A source of some hops of nothing, then `end`."""

    def __init__(self, n: int, end: Exception | None = None, spec: StreamSpec = SPEC) -> None:
        self.spec, self._n, self._end, self.is_closed = spec, n, end, False

    def blocks(self) -> Iterator[Block]:
        for i in range(self._n):
            yield Block(start=25 * i, samples=np.zeros((25, 1), np.float32))
        if self._end is not None:
            raise self._end

    def close(self) -> None:
        self.is_closed = True


def served(
    int8_bundle: Bundle, engine: OnnxEngine, sources: dict[str, Callable[[], object]], **named: object
) -> tuple[list[dict[str, object]], GatewayService]:
    """Lines of a service over these sources, until they have all ended."""
    out = io.StringIO()
    gateway = Gateway(open_model(int8_bundle, engine, len(sources)), n_slots=len(sources))
    service = GatewayService(
        gateway,
        sources,  # type: ignore[arg-type]
        lambda name: NamedJsonLines(out, name),
        stop=threading.Event(),
        **named,  # type: ignore[arg-type]
    )
    service.run()
    return [json.loads(line) for line in out.getvalue().splitlines()], service


def test_every_stream_ends_with_its_ledger_and_one_that_breaks_stops_no_other(
    int8_bundle: Bundle, engine: OnnxEngine, caplog: pytest.LogCaptureFixture
) -> None:
    def unknown() -> Played:
        raise SettingsError("no such source")

    said: list[str] = []
    lines, service = served(
        int8_bundle,
        engine,
        {
            "good": lambda: Played(10),
            "breaks": lambda: Played(4, SourceError("made up")),
            "volts": lambda: Played(4, spec=StreamSpec(rate_hz=125.0, unit="V")),
            "unknown": unknown,
        },
        notify=said.append,
    )
    assert {str(x["stream"]): x["received"] for x in lines if x["name"] == "ledger"} == {"good": 250, "breaks": 100}
    assert service.n_broken == 3
    for words in ("stream breaks ends: made up", "stream volts ends: volts: 1 channels in V", "no such source"):
        assert words in caplog.text
    assert said[0] == "READY=1"
    assert said[-1] == "STOPPING=1"


def test_a_source_that_is_lost_comes_back_behind_a_gap(int8_bundle: Bundle, engine: OnnxEngine) -> None:
    opened = iter([Played(4, SourceLost("unplugged")), Played(3)])
    lines, _ = served(int8_bundle, engine, {"bed": lambda: next(opened)}, sleep=lambda s: time.sleep(min(s, 0.01) / 10))
    ledger = next(x for x in lines if x["name"] == "ledger")
    gap = ledger["gap"]
    assert isinstance(gap, int)
    assert gap >= 1
    assert (ledger["scored"], ledger["received"]) == (175, 175 + gap)


def test_if_no_stream_can_be_read_the_first_reason_is_raised(int8_bundle: Bundle, engine: OnnxEngine) -> None:
    def unknown() -> Played:
        raise SettingsError("no such source")

    with pytest.raises(SettingsError, match="no such source"):
        served(int8_bundle, engine, {"bed": unknown})


def test_the_command_ends_cleanly_on_a_signal_with_all_ledgers(tmp_path: Path) -> None:
    ward = tmp_path / "ward.toml"
    ward.write_text(
        'deadline_s = 0.01\n[streams]\nbed1 = "synthetic:?heart_rate=72"\nbed2 = "synthetic:?rate_hz=125&seed=4"\n'
    )
    command = [sys.executable, "-m", "edge_runtime", "gateway", str(BUNDLE), "bed3=synthetic:?seed=5"]
    with subprocess.Popen(
        [*command, "--streams", str(ward), "--json", "--status", "0.2"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        lines = []
        seen: set[str] = set()
        while len(seen) < 3:
            lines.append(json.loads(process.stdout.readline()))
            if lines[-1]["name"] == "status":
                seen.add(lines[-1]["stream"])
        process.send_signal(signal.SIGTERM)
        rest, errors = process.communicate(timeout=60)
    lines += [json.loads(line) for line in rest.splitlines()]
    assert process.returncode == 0, errors
    ledgers = {x["stream"]: x for x in lines if x["name"] == "ledger"}
    assert sorted(ledgers) == ["bed1", "bed2", "bed3"]
    for x in ledgers.values():
        assert x["received"] == x["scored"] + x["dropped"] + x["gap"] > 0
    assert {x["stream"] for x in lines if x["name"] == "beat"} == set(ledgers)
    assert all(x["lag_s"] < 60 for x in lines if x["name"] == "status")


@pytest.mark.parametrize(
    ("text", "arguments", "words"),
    [
        ("", [], "no streams; NAME=URL or --streams FILE wanted"),
        ("", ["bed1"], "stream is 'bed1'; NAME=URL wanted"),
        ("", ["tcp://x?a=b"], "NAME=URL wanted"),
        ('[streams]\na = "stdin:"', ["a=stdin:"], "stream a is named twice"),
        ("[streams]\na = 1", [], "streams.a is 1; str wanted"),
        ("queue = 1", [], "unknown key 'queue'; keys are deadline_s, queue_s, streams"),
        ("queue_s = 0.1", ["a=stdin:"], "queue_s is 0.1; 0.5 to 600 s wanted"),
        ("[streams", [], "not TOML"),
    ],
)
def test_settings_that_are_wrong_are_named(tmp_path: Path, text: str, arguments: list[str], words: str) -> None:
    pytest.importorskip("tomllib")
    file = tmp_path / "ward.toml"
    file.write_text(text)
    with pytest.raises(SettingsError) as refused:
        read_settings(file, arguments)
    assert words in str(refused.value)


def test_lines_say_whose_they_are() -> None:
    from edge_runtime.contract.signal import Ledger

    out = io.StringIO()
    for sink in (NamedJsonLines(out, "bed1"), NamedTextLines(out, "bed2")):
        sink.begin(StreamSpec(rate_hz=125.0, simulated=True))
        sink.write(Ledger(received=5, scored=4, dropped=1))
    first, second = out.getvalue().splitlines()
    assert json.loads(first) == {
        "stream": "bed1", "name": "ledger", "received": 5, "scored": 4, "dropped": 1, "gap": 0, "simulated": True
    }  # fmt: skip
    assert second == "bed2: 5 samples received: 4 scored, 1 dropped, 0 missing  (simulated)"


class Clock:
    """Seconds pass when told."""

    now_ns = 0

    def __call__(self) -> int:
        return self.now_ns

    def second(self) -> None:
        self.now_ns += 1_100_000_000


@pytest.fixture
def releases(tmp_path: Path, int8_bundle: Bundle, fp32_bundle: Bundle) -> Path:
    """Two releases of one runtime, one of another, one damaged; `current` names the first."""
    for name, bundle, runtime in (("a", int8_bundle, "r1"), ("b", fp32_bundle, "r1"), ("c", fp32_bundle, "r2")):
        shutil.copytree(bundle.path, tmp_path / "releases" / name)
        (tmp_path / "releases" / name / "release.json").write_text(json.dumps({"runtime": runtime}))
    shutil.copytree(tmp_path / "releases" / "b", tmp_path / "releases" / "damaged")
    (tmp_path / "releases" / "damaged" / "trunk.onnx").write_bytes(b"")
    point(tmp_path, "a")
    return tmp_path


def point(root: Path, name: str) -> None:
    """Switch `current` as a deployment does: by one rename."""
    (root / "next").symlink_to(Path("releases") / name)
    os.replace(root / "next", root / "current")


def watcher_of(root: Path, engine: OnnxEngine, clock: Clock) -> Watcher:
    running = (root / "releases" / "a").resolve()
    return Watcher(running, running, lambda bundle: open_model(bundle, engine, 2), clock)


def awaited(watcher: Watcher, patience_s: float = 20.0) -> Model | None:
    """What comes of the look that was just begun."""
    until = time.monotonic() + patience_s
    found = watcher.next_model()
    while found is None and watcher.is_opening and time.monotonic() < until:
        time.sleep(0.005)
        found = watcher.next_model()
    return found


def test_a_release_that_becomes_active_is_opened_once(releases: Path, engine: OnnxEngine) -> None:
    clock = Clock()
    watcher = watcher_of(releases, engine, clock)
    clock.second()
    assert awaited(watcher) is None
    point(releases, "b")
    clock.second()
    model = awaited(watcher)
    assert model is not None
    assert model.bundle.id == open_bundle(releases / "releases" / "b").id
    clock.second()
    assert awaited(watcher) is None
    watcher.ask()
    assert awaited(watcher) is not None


@pytest.mark.parametrize(("name", "words"), [("damaged", "sha256 is"), ("c", "wants runtime r2; r1 is running")])
def test_a_release_that_does_not_open_is_refused_and_not_tried_again(
    releases: Path, engine: OnnxEngine, caplog: pytest.LogCaptureFixture, name: str, words: str
) -> None:
    clock = Clock()
    watcher = watcher_of(releases, engine, clock)
    point(releases, name)
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            clock.second()
            assert awaited(watcher) is None
    assert caplog.text.count(words) == 1
    assert "a goes on" in caplog.text


def test_a_release_is_followed_by_the_link_beside_it(releases: Path, tmp_path: Path) -> None:
    assert active_link(releases / "releases" / "a") == releases.resolve() / "current"
    assert active_link(releases / "current") == releases.resolve() / "current"
    assert active_link(BUNDLE) == BUNDLE


@pytest.mark.parametrize("command", [["run", "--follow"], ["gateway"]])
def test_a_release_takes_over_in_a_running_process(releases: Path, command: list[str]) -> None:
    """The link is switched by a rename, as a deployment does; then one that does not open is asked for by SIGHUP."""
    verb, *flags = command
    source = "synthetic:?heart_rate=72&speed=4"
    argv = [verb, str(releases / "releases" / "a"), source if verb == "run" else f"bed={source}", "--json", *flags]
    with subprocess.Popen(
        [sys.executable, "-m", "edge_runtime", *argv], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        if verb == "gateway":
            assert "streams share the engine's calls" in process.stderr.readline()
        first = [json.loads(process.stdout.readline()) for _ in range(3)]
        point(releases, "b")
        told = process.stderr.readline()
        point(releases, "damaged")
        refused = process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        rest, errors = process.communicate(timeout=60)
    lines = first + [json.loads(line) for line in rest.splitlines()]
    assert process.returncode == 0, errors
    assert "takes over" in told
    assert "goes on" in refused
    ledger = lines[-1]
    assert ledger["name"] == "ledger"
    assert ledger["received"] == ledger["scored"] > 0
    assert (ledger["dropped"], ledger["gap"]) == (0, 0)
    beats = [x["sample"] for x in lines if x["name"] == "beat"]
    assert beats == sorted(set(beats))
