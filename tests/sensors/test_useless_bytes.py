"""A source that ends and brought bytes, but not one sample, is an error that says so; one without bytes is not."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from wire_streams import stream

from edge_runtime.contract.errors import SourceError
from edge_runtime.sensors.capture import CaptureWriter
from edge_runtime.sensors.lost import SourceLost
from edge_runtime.sensors.source import open_source

ROOT = Path(__file__).parents[2]
BUNDLE = ROOT / "deploy" / "bundles" / "ecg-beats"
NOISE = np.random.default_rng(5).integers(0, 256, 3000, np.uint8).tobytes()
CYTON = "protocol=cyton&unit=mV&channel=EXG1"
EDGE = "protocol=edge&rate_hz=250&columns=ECG,RESP&type=i24&scale=0.0001&channel=ECG"


def run(data: bytes, query: str = CYTON, command: str = "run") -> subprocess.CompletedProcess[bytes]:
    words = [sys.executable, "-m", "edge_runtime", command, str(BUNDLE), f"stdin:?{query}"]
    return subprocess.run(words, input=data, cwd=ROOT, capture_output=True, timeout=60, check=False)


@pytest.mark.parametrize("command", ["run", "replay"])
def test_bytes_of_which_nothing_can_be_decoded_end_with_one_line(command: str) -> None:
    done = run(NOISE, command=command)
    assert done.returncode == 1
    wanted = b"edge-runtime: stdin: 3000 bytes hold no frames that can be used; check protocol, baud and"
    assert done.stderr.splitlines()[-1].startswith(wanted)
    assert b"received" not in done.stdout


def test_lines_without_the_column_and_frames_of_another_stream_are_told_apart() -> None:
    assert b"lines of 1 numbers that can be used" in run(b"1\n2\n3\n" * 50, "protocol=csv&rate_hz=250&column=3").stderr
    said = run(stream("edge", 20), f"{EDGE}&stream=7")
    assert said.returncode == 1
    assert b" bytes hold 20 frames, none of this stream; check " in said.stderr


@pytest.mark.parametrize(("data", "query"), [(b"", CYTON), (NOISE + stream("edge", 20), EDGE)])
def test_no_bytes_at_all_and_frames_behind_noise_are_no_error(data: bytes, query: str) -> None:
    done = run(data, query)
    assert done.returncode == 0
    assert b"received" in done.stdout


def captured(path: Path, *connections: list[bytes]) -> str:
    writer = CaptureWriter(path)
    for i, chunks in enumerate(connections):
        writer.begin(i * 10**9, "edge", EDGE.partition("&")[2])
        for k, chunk in enumerate(chunks):
            writer.write(i * 10**9 + k * 10**8, chunk)
    writer.close()
    return f"replay:{path}"


def test_a_capture_is_useless_only_if_all_of_its_connections_are(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"noise\.vcap: 2000 bytes hold no frames that can be used"):
        list(open_source(captured(tmp_path / "noise.vcap", [NOISE], [NOISE[:2000]])).blocks())
    with pytest.raises(SourceError, match="3000 bytes hold no frames"):
        list(open_source(captured(tmp_path / "then-nothing.vcap", [NOISE], [])).blocks())
    for name, connections in {
        "before": [[stream("edge", 20)], [NOISE]],
        "after": [[NOISE], [stream("edge", 20)]],
        "empty": [[], []],
    }.items():
        found = list(open_source(captured(tmp_path / f"{name}.vcap", *connections)).blocks())
        assert sum(len(b.samples) for b in found) == (0 if name == "empty" else 20)


def test_a_connection_that_ends_after_useless_bytes_is_lost_and_says_why() -> None:
    """It may come back: a sensor that starts prints words first. What it was told is in the log of each attempt."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            client, _ = listener.accept()
            with client:
                client.sendall(NOISE)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        source = open_source(f"tcp://127.0.0.1:{listener.getsockname()[1]}?{CYTON}")
        thread.join(10)
        with pytest.raises(SourceLost, match=r"3000 bytes hold no frames that can be used; check protocol"):
            list(source.blocks())
        source.close()
