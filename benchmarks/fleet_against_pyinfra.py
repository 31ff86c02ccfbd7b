"""Twenty hosts, this project against pyinfra, in turn: deploying something new, and nothing to do.

    python benchmarks/fleet_against_pyinfra.py --pyinfra VENV/bin/pyinfra [--hosts 20] [--rounds 5] [--out FILE]

Each host is an sshd of its own on loopback. pyinfra makes a folder and puts a file of 200 kB. This project takes the
lock, gathers facts, sends the 200 kB as a bundle, hashes it there, has the device check it before and after the
switch, writes its history, and lets go. The check of the stand-in runtime reads the manifest: it says what shipping
costs, and nothing of a model. Both are started as programs, so both pay for their imports.
"""

# A script: what it prints is its result.
# ruff: noqa: T201

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Name, command, and whether what it printed and did is what was wanted.
Side = tuple[str, list[str], Callable[[str, str], bool]]
SSHD = shutil.which("sshd", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
CONFIG = """Port {port}
ListenAddress 127.0.0.1
HostKey {keys}/host
PidFile {folder}/sshd.pid
AuthorizedKeysFile {keys}/client.pub
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
StrictModes no
PermitRootLogin prohibit-password
Subsystem sftp internal-sftp
MaxStartups 100
LogLevel ERROR
"""
# Public names only; `requirements=()`: the stand-in needs no wheels.
OURS = """
import json, sys
from pathlib import Path
from host_tools.fleet.deploy import Rollout, deploy_to
from host_tools.fleet.inventory import load_inventory
from host_tools.ship.options import ShipOptions
inventory, bundle, known, key, runtime = map(Path, sys.argv[1:])
ship = ShipOptions(known_hosts=known, key_file=key, runtime_package=runtime, requirements=())
outcomes, stopped = deploy_to(bundle, load_inventory(inventory), ship, Rollout(waves=("all",)))
print(json.dumps([[o.state, len(o.answer.get("steps", [])), o.message] for o in outcomes]))
"""


def main() -> int:
    """Measure and print; 1 if a host was not done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pyinfra", type=Path, required=True, help="the program, in an environment of its own")
    parser.add_argument("--hosts", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="all times as JSON")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fleet-bench-") as text:
        folder = Path(text)
        with hosts(folder, options.hosts) as ports:
            times = measure(folder, ports, options.pyinfra, options.rounds)
    result = {"hosts": options.hosts, "rounds": options.rounds, "cpus": os.cpu_count(), "load_1min": os.getloadavg()[0]}
    for what in ("something new", "nothing to do"):
        ours, theirs = times[f"vitaledge, {what}"], times[f"pyinfra, {what}"]
        ratios = sorted(a / b for a, b in zip(ours, theirs, strict=True))
        print(
            f"{what}: vitaledge {statistics.median(ours):.2f} s, pyinfra {statistics.median(theirs):.2f} s, ratio "
            f"{statistics.median(ratios):.2f} [{ratios[0]:.2f}, {ratios[-1]:.2f}] over {options.rounds} rounds"
        )
        result[what] = {"vitaledge_s": ours, "pyinfra_s": theirs, "ratios": ratios}
    if options.out:
        options.out.write_text(json.dumps(result, indent=1))
    return 0


def measure(folder: Path, ports: list[int], pyinfra: Path, rounds: int) -> dict[str, list[float]]:
    """Seconds of each round; sides alternate in who begins."""
    times: dict[str, list[float]] = {}
    for number in range(rounds + 1):
        sides = [ours(folder, ports, number), theirs(folder, ports, number, pyinfra)]
        for what in ("something new", "nothing to do"):
            for name, argv, expected in sides if number % 2 else sides[::-1]:
                started = time.perf_counter()
                done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=ROOT)
                seconds = time.perf_counter() - started
                if done.returncode or not expected(done.stdout + done.stderr, what):
                    sys.exit(f"{name}, {what}: {done.returncode}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
                # The first round warms up: compiled files, caches.
                if number:
                    times.setdefault(f"{name}, {what}", []).append(seconds)
    return times


def ours(folder: Path, ports: list[int], number: int) -> Side:
    """A root folder of its own for each host and round, and a bundle of 200 kB."""
    sys.path.insert(0, str(ROOT / "tests" / "ship"))
    from shipping_fakes import FAKE_RUNTIME, make_bundle

    bundle = make_bundle(folder / f"bundle{number}", model=os.urandom(200_000))
    inventory = folder / f"inventory{number}.toml"
    tables = "".join(
        f'[hosts.h{i}]\ntarget = "ssh://root@127.0.0.1:{port}{folder}/h{i}/ours{number}"\n'
        for i, port in enumerate(ports)
    )
    inventory.write_text(f"schema = 1\n{tables}")
    paths = [inventory, bundle, folder / "known_hosts", folder / "keys/client", FAKE_RUNTIME]

    def is_done(output: str, what: str) -> bool:
        states = json.loads(output.strip().splitlines()[-1])
        return all(state == "done" and (n == 0) == (what == "nothing to do") for state, n, _ in states)

    return "vitaledge", [sys.executable, "-c", OURS, *map(str, paths)], is_done


def theirs(folder: Path, ports: list[int], number: int, pyinfra: Path) -> Side:
    """mkdir and put."""
    (folder / "payload").write_bytes(os.urandom(200_000))
    inventory = folder / f"inventory{number}.py"
    hosts = [
        (f"h{i}", {"ssh_hostname": "127.0.0.1", "ssh_port": port, "ssh_user": "root", "number": i})
        for i, port in enumerate(ports)
    ]
    common = {
        "ssh_key": str(folder / "keys/client"),
        "ssh_known_hosts_file": str(folder / "known_hosts"),
        "ssh_strict_host_key_checking": "yes",
    }
    inventory.write_text(f"hosts = ({hosts!r}, {common!r})\n")
    deploy = folder / f"deploy{number}.py"
    deploy.write_text(
        "from pyinfra import host\nfrom pyinfra.operations import files\n"
        f"place = f'{folder}/h{{host.data.number}}/theirs{number}'\n"
        "files.directory(path=place)\n"
        f"files.put(src='{folder}/payload', dest=place + '/payload')\n"
    )

    def is_done(output: str, what: str) -> bool:
        places = [folder / f"h{i}/theirs{number}/payload" for i in range(len(ports))]
        return all(place.read_bytes() == (folder / "payload").read_bytes() for place in places)

    return "pyinfra", [str(pyinfra), "-y", str(inventory), str(deploy)], is_done


@contextlib.contextmanager
def hosts(folder: Path, n: int) -> Iterator[list[int]]:
    """So many running sshd, with keys that they share."""
    if SSHD is None or os.getuid() != 0:
        sys.exit("needs root and sshd: apt-get install openssh-server")
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    keys = folder / "keys"
    keys.mkdir()
    for name in ("host", "client"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", keys / name], check=True)
    algorithm, key, *_ = (keys / "host.pub").read_text().split()
    ports, known, running = [], "", []
    try:
        for i in range(n):
            with socket.create_server(("127.0.0.1", 0)) as listener:
                port = listener.getsockname()[1]
            own = folder / f"h{i}"
            own.mkdir()
            (own / "sshd_config").write_text(CONFIG.format(port=port, folder=own, keys=keys))
            running.append(subprocess.Popen([str(SSHD), "-D", "-f", str(own / "sshd_config")]))
            ports.append(port)
            known += f"[127.0.0.1]:{port} {algorithm} {key}\n"
        (folder / "known_hosts").write_text(known)
        for port in ports:
            for _ in range(200):
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                    break
                time.sleep(0.02)
        yield ports
    finally:
        for one in running:
            one.terminate()
        for one in running:
            one.wait()


if __name__ == "__main__":
    sys.exit(main())
