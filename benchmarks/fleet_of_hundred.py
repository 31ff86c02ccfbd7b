"""A hundred simulated hosts, three dead and five on slow links: how much longer all take than the slowest live one.

    python benchmarks/fleet_of_hundred.py [--delay-s 0.4] [--rounds 3] [--out FILE]

A host is a root folder of its own behind one of ten sshd on loopback; a slow one is behind a proxy that holds back
everything that passes, a dead one behind a port that accepts and never answers. The runtime is a stand-in.
"""

# A script: what it prints is its result.
# ruff: noqa: T201

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from fleet_against_pyinfra import OURS, ROOT, hosts

N_HOSTS, N_SLOW, N_DEAD, N_SSHD = 100, 5, 3, 10
SAY = OURS.replace(
    'print(json.dumps([[o.state, len(o.answer.get("steps", [])), o.message] for o in outcomes]))',
    "print(json.dumps([[o.host, o.state, o.seconds, o.message] for o in outcomes]))",
).replace("key_file=key,", "key_file=key, connect_timeout_s=20.0,")


def main() -> int:
    """Measure and print; 1 if a live host was not done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--delay-s", type=float, default=0.4, help="by which a slow link holds everything back")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="all times as JSON")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fleet-bench-") as text, contextlib.ExitStack() as stack:
        folder = Path(text)
        ports = stack.enter_context(hosts(folder, N_SSHD))
        slow = [stack.enter_context(delayed(port, options.delay_s)) for port in ports[:N_SLOW]]
        dead = [stack.enter_context(silent()) for _ in range(N_DEAD)]
        known = (folder / "known_hosts").read_text()
        key = known.split("\n")[0].split(" ", 1)[1]
        (folder / "known_hosts").write_text(known + "".join(f"[127.0.0.1]:{p} {key}\n" for p in slow))
        rounds = [one_round(folder, number, ports, slow, dead) for number in range(options.rounds)]
    ratios = [r["ratio"] for r in rounds]
    for r in rounds:
        print(f"all {r['all_s']:.2f} s, slowest live host {r['slowest_s']:.2f} s, ratio {r['ratio']:.2f}")
    print(f"ratio {statistics.median(ratios):.2f} [{min(ratios):.2f}, {max(ratios):.2f}] over {len(rounds)} rounds")
    if options.out:
        options.out.write_text(json.dumps({"rounds": rounds, "cpus": os.cpu_count(), "load": os.getloadavg()[0]}))
    return 0


def one_round(folder: Path, number: int, ports: list[int], slow: list[int], dead: list[int]) -> dict[str, float]:
    """A deployment to all."""
    sys.path.insert(0, str(ROOT / "tests" / "ship"))
    from shipping_fakes import FAKE_RUNTIME, make_bundle

    live = N_HOSTS - N_SLOW - N_DEAD
    places = [*slow, *dead, *(ports[i % len(ports)] for i in range(live))]
    tables = [
        f'[hosts.h{i}]\ntarget = "ssh://root@127.0.0.1:{port}{folder}/root{number}-{i}"\n'
        for i, port in enumerate(places)
    ]
    inventory = folder / "inventory.toml"
    inventory.write_text("schema = 1\n" + "".join(tables))
    bundle = make_bundle(folder / f"bundle{number}", model=os.urandom(200_000))
    paths = [inventory, bundle, folder / "known_hosts", folder / "keys/client", FAKE_RUNTIME]
    started = time.perf_counter()
    argv = [sys.executable, "-c", SAY, *map(str, paths)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=ROOT)
    seconds = time.perf_counter() - started
    if done.returncode:
        sys.exit(done.stderr[-2000:])
    outcomes = json.loads(done.stdout.strip().splitlines()[-1])
    states = [state for _, state, _, _ in outcomes]
    if (states.count("done"), states.count("away")) != (N_HOSTS - N_DEAD, N_DEAD):
        sys.exit(f"not as wished: {[o for o in outcomes if o[1] != 'done']}")
    slowest = max(seconds for _, state, seconds, _ in outcomes if state == "done")
    return {"all_s": seconds, "slowest_s": slowest, "ratio": seconds / slowest}


@contextlib.contextmanager
def silent() -> Iterator[int]:
    """A port that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@contextlib.contextmanager
def delayed(port: int, delay_s: float) -> Iterator[int]:
    """A proxy before `port` that holds back everything for `delay_s`."""
    listener = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                server = socket.create_connection(("127.0.0.1", port))
                for source, sink in ((client, server), (server, client)):
                    threading.Thread(target=carry, args=(source, sink), daemon=True).start()

    def carry(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 20):
                time.sleep(delay_s)
                sink.sendall(data)
        for one in (source, sink):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.close()


if __name__ == "__main__":
    sys.exit(main())
