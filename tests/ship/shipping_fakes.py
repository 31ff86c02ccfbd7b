"""Bundles without a model, and a TCP proxy that cuts, stalls or flips, for the tests of shipping."""

from __future__ import annotations

import hashlib
import socket
import subprocess
import threading
from dataclasses import dataclass, field
from pathlib import Path

from edge_runtime.contract.beats import BeatTiming
from edge_runtime.contract.budget import Budget
from edge_runtime.contract.manifest import BEATS_SCHEMA, BeatManifest, Golden, Graph, Training, to_json
from edge_runtime.contract.preprocess import Conditioning
from host_tools.ship.options import ShipOptions

FAKE_RUNTIME = Path(__file__).with_name("fake_runtime")


# A manifest names a graph that runs every hop; the fake runtime runs none.
STEP = Graph(
    name="trunk",
    file="model.onnx",
    runs="every hop",
    precision="int8",
    inputs=(),
    outputs=(),
    states=(),
    parameters=1,
    macs=1,
    integer_operators=0,
    operators=1,
)


def make_bundle(
    folder: Path,
    model: bytes = b"a model",
    golden: bytes = b"golden",
    budget: Budget | None = None,
    **metrics: float,
) -> Path:
    """A bundle that `open_bundle` accepts; `metrics` tell the fake runtime what to do."""
    folder.mkdir(parents=True)
    contents = {"model.onnx": model, "golden/vectors.npz": golden}
    for name, data in contents.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(data)
    timing, conditioning = BeatTiming(), Conditioning()
    manifest = BeatManifest(
        schema=BEATS_SCHEMA,
        name="fake",
        task="ecg-beats",
        created="2026-01-01T00:00:00Z",
        unit="mV",
        lead="MLII",
        conditioning=conditioning,
        conditioning_sha256=conditioning.sha256(),
        timing=timing,
        hop_samples=25,
        receptive_field_samples=100,
        delay_samples=timing.delay_samples(25),
        classes=("N", "S", "V", "F", "Q"),
        detection_threshold=0.5,
        graphs=(STEP,),
        golden=Golden(file="golden/vectors.npz", rate_hz=360.0, sample_tolerance=1, confidence_tolerance=0.01),
        files={name: hashlib.sha256(data).hexdigest() for name, data in contents.items()},
        training=Training(commit="0" * 40, recipe="r", recipe_sha256="0" * 64, seed=0, records="none", simulated=True),
        metrics=metrics,
        budget=budget,
    )
    (folder / "manifest.json").write_text(to_json(manifest))
    return folder


def fake_options(**changes: object) -> ShipOptions:
    """Options that ship the fake runtime and no wheels."""
    return ShipOptions(**{"runtime_package": FAKE_RUNTIME, "requirements": (), **changes})  # type: ignore[arg-type]


@dataclass
class Proxy:
    """Passes TCP on to `port`; after `n_bytes` from the client it does `then`: cut, stall, flip."""

    port: int
    then: str
    n_bytes: int
    reached: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Proxy:
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.own_port = self._listener.getsockname()[1]
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        for one in [self._listener, *self._sockets]:
            _hang_up(one)
        for thread in self._threads:
            thread.join(5)
        for one in [self._listener, *self._sockets]:
            one.close()

    def break_now(self) -> None:
        """Do what there is to do without waiting for more bytes."""
        self.n_bytes = 0
        if self.then == "cut":
            for one in self._sockets:
                _hang_up(one)

    def _start(self, work: object, *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self.port))
            self._sockets += [client, server]
            self._start(self._pass_on, client, server, True)
            self._start(self._pass_on, server, client, False)

    def _pass_on(self, source: socket.socket, sink: socket.socket, counted: bool) -> None:
        passed = 0
        try:
            while data := source.recv(1 << 14):
                passed += len(data)
                if counted and passed >= self.n_bytes and not self.reached.is_set():
                    self.reached.set()
                    if self.then == "flip":
                        middle = len(data) // 2
                        data = data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
                    elif self.then == "stall":
                        return
                    else:
                        break
                sink.sendall(data)
        except OSError:
            pass
        _hang_up(source)
        _hang_up(sink)


def _hang_up(one: socket.socket) -> None:
    try:
        one.shutdown(socket.SHUT_RDWR)
    except OSError:
        # Not connected any more, or a listener that some systems do not shut down.
        return


def make_key(path: Path) -> None:
    """An ed25519 key pair without a passphrase."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", path], check=True)


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
